"""Small questions to the Claude CLI, beside the jobs: its version, and whether it may be used."""

import asyncio
from pathlib import Path

from fondation_worker.claude import Limits, Listeners, Setup, analyse, order_for
from fondation_worker.claude_package import version_in
from fondation_worker.errors import ClaudeFailed, DiskTrouble, TimedOut
from fondation_worker.runner import Order, Room
from fondation_worker.words import first_line
from fondation_worker.workspace import Workspace

PROBE_LIMIT = 60.0  # seconds
MOST_SAID = 65536  # bytes that a program may print before its version


async def probe(
    room: Room,
    setup: Setup,
    scratch: Path,
    listeners: Listeners,
    *,
    limit: float = PROBE_LIMIT,
) -> None:
    """Ask the model for one word, to learn whether it can be asked at all, within *limit* seconds.

    In *scratch*, an empty directory, with the CLI, the environment and the room of every run, and
    without tools. Raises CredentialRefused or another JobError.
    """
    places = Workspace(tree=scratch / "tree", home=scratch / "home", scratch=scratch / "tmp")
    try:
        for place in (places.tree, places.home, places.scratch):
            place.mkdir(mode=0o700)
    except OSError as error:
        raise DiskTrouble(f"{scratch}: nothing could be made in it: {error.strerror}") from error
    order = order_for(setup, "Answer with the word: ready", None, places.tree, places, tools="")
    limits = Limits(stall=limit, tool=limit, after_result=1.0)
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            await analyse(room, order, listeners=listeners, limits=limits)
    except TimeoutError:
        if not scope.expired():
            raise
        raise TimedOut(f"the model did not answer a test within {limit:g} s") from None


async def version_of(room: Room, cli: Path, directory: Path) -> str:
    """Return the version that *cli* tells, in the room that runs have, in an empty *directory*.

    Raises ClaudeFailed for one that tells none, and DiskTrouble.
    """
    order = Order(
        argv=(str(cli), "--version"),
        environment={"PATH": "/usr/bin:/bin", "HOME": str(directory), "DISABLE_AUTOUPDATER": "1"},
        directory=directory,
        scratch=directory,
        standard_input=b"",
    )
    said, complaint = b"", ""
    scope = asyncio.timeout(PROBE_LIMIT)
    try:
        async with scope, room.run(order) as run:
            async for chunk in run.output():
                said += chunk
                if len(said) > MOST_SAID:
                    break
            else:
                ended = await run.ended()
                complaint = ended.complaint if ended else "it was killed"
    except TimeoutError:
        if not scope.expired():
            raise
        complaint = f"not within {PROBE_LIMIT:g} s"
    if (version := version_in(said.decode(errors="replace"))) is None:
        words = first_line(said.decode(errors="replace") or complaint) or "no word"
        raise ClaudeFailed(f"{cli} does not tell its version: {words}")
    return version
