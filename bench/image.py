"""`./dev bench image`: how large the container image is, and how soon a container of it is ready.

A worker's container is started again and again, by runc, as a container host does, with the local
backend for its Convex. From the start of its first process to the first 200 of /readyz, asked for
every few milliseconds, is its time. The exit status is 1 when a limit is not kept.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from devtools.image import built, compressed_size
from devtools.roots import SUITES
from tests.image.dock import HARDENED, Dock, dock

MOST_READY = 1.0  # seconds, the median
MOST_BYTES = 110_000_000  # of the layers of an image without the Claude CLI, compressed
LOOK = 0.005  # seconds between two questions

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one image came to."""

    suite: str
    whole: int  # bytes of its layers, compressed
    without_claude: int  # the same without the CLI
    times: list[float]  # seconds to ready, one for each start
    stops: list[float]  # seconds that `docker stop` took while it was idle

    @property
    def is_kept(self) -> bool:
        """Whether both limits are."""
        return median(self.times) <= MOST_READY and self.without_claude <= MOST_BYTES


def main() -> int:
    """Do what the arguments say; print what was found."""
    parser = argparse.ArgumentParser(prog="./dev bench image", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" or ".join(SUITES))
    parser.add_argument("--starts", type=int, default=20, help="of each image")
    arguments = parser.parse_args()
    found = []
    try:
        for suite in arguments.suites or SUITES:
            with tempfile.TemporaryDirectory(prefix="fondation-bench-") as home:
                found.append(asyncio.run(measured(suite, Path(home), arguments.starts)))
    except KeyboardInterrupt:
        return 130
    report(found)
    return 0 if all(one.is_kept for one in found) else 1


async def measured(suite: str, home: Path, starts: int) -> Findings:
    """Measure the image for *suite*, built now if need be."""
    whole = compressed_size(built(suite))
    without = compressed_size(built(suite, with_claude=False))
    async with dock(suite, home) as made:
        name = await made.start("measured", *HARDENED)
        await made.becomes_ready(name)
        times, stops = [], []
        for _ in range(starts):
            began = time.perf_counter()
            await made.docker("stop", name)
            stops.append(time.perf_counter() - began)
            times.append(await _ready(made, name))
        await made.remove(name)
    return Findings(suite=suite, whole=whole, without_claude=without, times=times, stops=stops)


async def _ready(made: Dock, name: str) -> float:
    """Start a container; return how many seconds later it was ready."""
    began = time.perf_counter()
    await made.docker("start", name)
    while (await made.page(name, "/readyz"))[0] != 200:  # noqa: PLR2004
        await asyncio.sleep(LOOK)
    return time.perf_counter() - began


def report(found: list[Findings]) -> None:
    """Print what was found."""
    table = Table("Debian", "layers", "without the CLI", "ready: median", "worst", "stop: median")
    for one in found:
        table.add_row(
            one.suite,
            f"{one.whole / 1e6:.0f} MB",
            f"{one.without_claude / 1e6:.0f} MB",
            f"{median(one.times):.2f} s",
            f"{max(one.times):.2f} s",
            f"{median(one.stops):.2f} s",
        )
    console.print(table)
    for one in found:
        verdict = "PASS" if one.is_kept else "OVER"
        console.print(
            f"{verdict}  {one.suite}: at most {MOST_READY:g} s to ready (median), and"
            f" {MOST_BYTES / 1e6:.0f} MB without the CLI (zstd -3)"
        )


if __name__ == "__main__":
    sys.exit(main())
