"""What a container says: a file of lines as Docker's `json-file` driver writes it."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LINE = 1 << 24  # bytes; longer lines are not expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line, with its end if it had one, and the stream it came from."""

    stream: str
    text: str


class Log:
    """The lines of both streams, in the order in which they arrived."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def add(self, stream: str, text: str) -> None:
        """Keep a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"log": text, "stream": stream}) + "\n")

    def lines(self, tail: int | None = None) -> list[Line]:
        """Return all lines so far, or the last *tail* of them."""
        with self._path.open(encoding="utf-8") as file:
            kept = [json.loads(line) for line in file]
        first = 0 if tail is None else max(len(kept) - tail, 0)
        return [Line(stream=line["stream"], text=line["log"]) for line in kept[first:]]

    def text(self, *streams: str) -> str:
        """Return what came from these streams, of all if none is named."""
        return text_of(self.lines(), *streams)

    async def read(self, stream: str, reader: asyncio.StreamReader) -> None:
        """Keep every line of *reader* until it ends."""
        async for line in reader:
            self.add(stream, line.decode(errors="replace"))


def text_of(lines: Iterable[Line], *streams: str) -> str:
    """Return what is in *lines* from these streams, of all if none is named."""
    return "".join(line.text for line in lines if not streams or line.stream in streams)
