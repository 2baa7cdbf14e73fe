"""Serve a script by hand: python -m tests.fakes.messages_api --port 8911 --script explore."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.fakes.messages_api import (
    Explore,
    Rule,
    Script,
    Stall,
    Status,
    rules_from_json,
    say,
    scripted_api,
)

SCRIPTS: dict[str, Script | Explore] = {
    "explore": Explore(),
    "explore-slowly": Explore(delay=2),
    "hello": say("# Hello\n\nThe script says hello."),
    "stalled": say("never said", Stall(times=None)),
    "unauthorized": say("never said", Status(code=401, times=None)),
    "limited": say("never said", Status(code=429, reset_in=3600, times=None)),
    "overloaded": say("never said", Status(code=529, times=None)),
    "broken": say("never said", Status(code=500, times=None)),
}


def rules(script: str) -> Sequence[Rule]:
    """Return the rules of a script: one of the names above, or a JSON file."""
    if script in SCRIPTS:
        return [Rule(script=SCRIPTS[script])]
    return rules_from_json(Path(script).read_bytes())


async def serve(script: str, port: int) -> None:
    """Serve the script until a signal says stop; print the address first."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with scripted_api(rules(script), port=port) as api:
        print(api.url, flush=True)  # noqa: T201  the one line that whoever started it waits for
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.messages_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="a free one when none is named")
    names = ", ".join(SCRIPTS)
    parser.add_argument("--script", default="explore", help=f"{names}, or a JSON file of rules")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.script, arguments.port))


if __name__ == "__main__":
    main()
