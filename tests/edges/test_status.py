"""The status page over HTTP: what is answered, and how long a stream lasts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web

from fondation_worker.clock import boottime
from fondation_worker.history import History
from fondation_worker.snapshot import Snapshot
from fondation_worker.web.page import POLICY
from fondation_worker.web.status import INTERVAL, StatusPage
from tests.processes import until
from tests.snapshots import WELL


@dataclass
class Site:
    """A page that is served, and how often the worker was looked at."""

    url: str = ""
    now: Snapshot = WELL
    looks: int = 0
    streams: int = 0  # that are open
    page: StatusPage = field(init=False)

    def __post_init__(self) -> None:
        self.page = StatusPage(self.look, History())

    def look(self) -> Snapshot:
        """Return the worker."""
        self.looks += 1
        return self.now

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer with a stream, and count it."""
        self.streams += 1
        try:
            return await self.page.events(request)
        finally:
            self.streams -= 1


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Serve a page on loopback."""
    made = Site()
    application = web.Application()
    application.router.add_get("/", made.page.page)
    application.router.add_get("/events", made.events)
    # As the worker's own server does: a client that goes ends what answers it.
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        made.url = f"http://{host}:{port}"
        yield made
    finally:
        await runner.cleanup()


async def message(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the next message of a stream that is news."""
    async with asyncio.timeout(20):
        while line := await answer.content.readline():
            if line.startswith(b"data: {"):
                found: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                return found
    raise AssertionError("the stream has ended")


async def test_the_page_comes_with_a_policy_and_is_kept_by_nobody() -> None:
    """Nothing but its own script and style is run, and no proxy shows yesterday's."""
    async with (
        site() as served,
        aiohttp.ClientSession() as session,
        session.get(f"{served.url}/") as answer,
    ):
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.content_type == "text/html"
        assert "<h1>w</h1>" in await answer.text()


async def test_a_stream_tells_everything_first_and_then_what_changes() -> None:
    """Who comes late has missed nothing."""
    async with (
        site() as served,
        aiohttp.ClientSession() as session,
        session.get(f"{served.url}/events") as answer,
    ):
        assert (await answer.content.readline()).startswith(b"retry: ")
        first = await message(answer)
        assert set(first["sections"]) == {"headline", "slots", "vitals", "plots", "errors", "jobs"}
        served.now = replace(served.now, slots=5)
        second = await message(answer)
        assert set(second["sections"]) == {"headline", "slots"}
        assert "5 slots free" in second["sections"]["slots"]


async def test_one_rendering_serves_all_and_nobody_costs_nothing() -> None:
    """However many look, the worker is looked at once a second; without any, never."""
    async with site() as served, aiohttp.ClientSession() as session:
        assert served.looks == 0
        begun = boottime()
        answers = [await session.get(f"{served.url}/events") for _ in range(20)]
        for answer in answers:
            await message(answer)
        for slots in (3, 4, 5):
            served.now = replace(served.now, slots=slots)
            for answer in answers:
                await message(answer)
        assert served.looks <= (boottime() - begun) / INTERVAL + 1
        for answer in answers:
            answer.close()
        await until(lambda: served.streams == 0)
        looks = served.looks
        await asyncio.sleep(2 * INTERVAL)
        assert served.looks == looks


async def test_a_stream_lives_in_silence(monkeypatch: Any) -> None:
    """A script, and every proxy on the way, hears that the worker is there."""
    monkeypatch.setattr("fondation_worker.web.status.SIGN_OF_LIFE", 0.0)
    async with (
        site() as served,
        aiohttp.ClientSession() as session,
        session.get(f"{served.url}/events") as answer,
    ):
        await message(answer)
        async with asyncio.timeout(20):
            while await answer.content.readline() != b"event: alive\n":
                pass
