"""A pseudo-terminal: one side is a program's, at the other a test reads and types."""

import asyncio
import codecs
import fcntl
import os
import pty
import struct
import termios
import tty
from collections.abc import Callable

from tests.processes import until

ROWS, COLUMNS = 40, 100
BLOCK = 65536  # bytes


class Terminal:
    """What a program shows is in `shown`; `close` ends it."""

    def __init__(self, shown: Callable[[str], None]) -> None:
        self.shown = ""
        self._also = shown
        self._closed = False
        self._ours, self.theirs = pty.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        tty.setraw(self.theirs)  # as docker does: the container's own terminal does the rest
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def types(self, text: str) -> None:
        """Type *text*; a line ends with a newline."""
        os.write(self._ours, text.encode())

    async def shows(self, text: str, *, limit: float = 10.0) -> None:
        """Wait until *text* has been shown; fail after *limit* seconds."""
        await until(lambda: text in self.shown, limit=limit, what=f"for {text!r}: {self.shown!r}")

    def close(self) -> None:
        """Take what is left to read, and end it; once more does nothing."""
        if self._closed:
            return
        self._closed = True
        os.close(self.theirs)
        asyncio.get_running_loop().remove_reader(self._ours)
        while self._read():
            pass
        os.close(self._ours)

    def _read(self) -> bool:
        """Read what there is; tell whether there was something."""
        try:
            text = self._decoder.decode(os.read(self._ours, BLOCK))
        except OSError:  # nothing now, or nobody has the program's side any more
            return False
        self.shown += text
        self._also(text)
        return True
