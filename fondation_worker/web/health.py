"""`GET /health`: is this worker well, and if not, why; `GET /readyz`: would it take a job now."""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from fondation_worker import events

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One look at the worker."""

    worker_id: str
    instance: str
    uptime: float  # seconds
    active_jobs: int
    slots: int
    push: bool
    paused: str | None  # the operator's reason; None: not paused
    skew: float | None  # seconds that Convex's clock is ahead of this host's; None: not known yet
    outbox: dict[str, object]  # results that Convex has not taken yet
    jobs: tuple[dict[str, object], ...]  # what runs now
    reasons: tuple[str, ...]  # what keeps it from its work, in words; none: healthy

    def to_document(self) -> dict[str, object]:
        """Return the JSON answer; the keys that the Node worker had keep their names."""
        return {
            "status": "degraded" if self.reasons else "healthy",
            "reasons": list(self.reasons),
            "workerId": self.worker_id,
            "instance": self.instance,
            "uptime": round(self.uptime, 3),
            "activeJobs": self.active_jobs,
            "maxConcurrentJobs": self.slots,
            "wakeUp": "push" if self.push else "poll",
            "paused": self.paused,
            "skewSeconds": None if self.skew is None else round(self.skew, 3),
            "outbox": self.outbox,
            "jobs": list(self.jobs),
        }


@asynccontextmanager
async def health_server(
    address: tuple[str, int] | None,
    look: Callable[[], Health],
    inherited: Sequence[socket.socket] = (),
) -> AsyncIterator[str | None]:
    """Answer `GET /health` and `/readyz` while the body runs; give why that cannot be, or None.

    On the sockets *inherited* from systemd, which are closed at the end; without any, on *address*.
    One that cannot be had is said in the log, and the worker works on without.
    """
    if address is None and not inherited:
        yield None
        return
    application = web.Application()
    application.router.add_get("/health", health_of(look))
    application.router.add_get("/readyz", readiness_of(look))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        yield await _listen(runner, address, inherited)
    finally:
        await runner.cleanup()


def health_of(look: Callable[[], Health]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return what answers a request with one *look*."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(look().to_document())

    return answer


def readiness_of(look: Callable[[], Health]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return what answers a request with 200, or with 503 and what is in the way first."""

    async def answer(_: web.Request) -> web.Response:
        if reasons := look().reasons:
            return web.Response(status=503, text=f"{reasons[0]}\n")
        return web.Response(text="ready\n")

    return answer


async def _listen(
    runner: web.AppRunner, address: tuple[str, int] | None, inherited: Sequence[socket.socket]
) -> str | None:
    """Listen; return in words why not, or None."""
    for one in inherited:
        await web.SockSite(runner, one).start()
    if not inherited and address:
        try:
            await web.TCPSite(runner, *address).start()
        except OSError as error:
            words = f"{address[0]}:{address[1]}: {error.strerror}"
            extra = events.NO_PORT.extra
            logger.error("health: %s; set HEALTH_ADDRESS", words, extra=extra)  # noqa: TRY400 the words say all
            return f"no health port: {words}"
    for host, port, *_ in runner.addresses:
        logger.info("health: http://%s:%d/health", host, port)
    return None
