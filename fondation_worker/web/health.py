"""`GET /health`: is this worker well, and if not, why; `GET /readyz`: would it take a job now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web


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
