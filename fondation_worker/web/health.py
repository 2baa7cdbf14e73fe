"""`GET /health`: is this worker well, and if not, why."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

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
    address: tuple[str, int] | None, look: Callable[[], Health]
) -> AsyncIterator[None]:
    """Answer `GET /health` on *address* while the body runs.

    An address that cannot be had is said in the log, and the worker works on without.
    """
    if address is None:
        yield
        return
    application = web.Application()
    application.router.add_get("/health", health_of(look))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await _listen(runner, *address)
        yield
    finally:
        await runner.cleanup()


def health_of(look: Callable[[], Health]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return what answers a request with one *look*."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(look().to_document())

    return answer


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        logger.error("health: %s:%d: %s; set HEALTH_ADDRESS", host, port, error.strerror)  # noqa: TRY400 the words say all
        return
    bound = runner.addresses[0]
    logger.info("health: http://%s:%d/health", host, bound[1])
