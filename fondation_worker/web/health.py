"""How this worker is, for programs: `GET /health`, and the probes `/livez` and `/readyz`."""

import platform
from typing import Any

from aiohttp import web

from fondation_worker.admission import Level
from fondation_worker.snapshot import Host, Look, Running, Snapshot
from fondation_worker.web.server import Handler

_UNWELL = 503


def health_of(look: Look) -> Handler:
    """Return what answers with one *look*: 200, or 503 for an unhealthy worker."""

    async def answer(_: web.Request) -> web.Response:
        now = look()
        status = _UNWELL if now.level is Level.UNHEALTHY else 200
        return web.json_response(health(now), status=status)

    return answer


def aliveness_of(look: Look) -> Handler:
    """Return what answers 200: that it does is the proof. `?verbose` tells more."""

    async def answer(request: web.Request) -> web.Response:
        lines = ["alive"]
        if "verbose" in request.query:
            now = look()
            lines.append(f"up for {now.uptime:.0f} s")
            lines.append(f"the event loop was at most {now.lateness:.3f} s late within 5 min")
        return _text(lines)

    return answer


def readiness_of(look: Look) -> Handler:
    """Return what answers whether a job would be taken now: 200, or 503 and what is in the way.

    `?verbose` tells all of it, and what else is not well.
    """

    async def answer(request: web.Request) -> web.Response:
        now = look()
        in_the_way = [reason.words for reason in now.in_the_way]
        lines = in_the_way[:1] or ["ready"]
        if "verbose" in request.query:
            others = [f"also: {reason.words}" for reason in now.reasons if not reason.blocks]
            lines = [*(in_the_way or ["ready"]), *others]
        return _text(lines, status=_UNWELL if in_the_way else 200)

    return answer


def _text(lines: list[str], *, status: int = 200) -> web.Response:
    return web.Response(status=status, text="".join(f"{line}\n" for line in lines))


def health(now: Snapshot) -> dict[str, Any]:
    """Return the document of /health. The keys that the Node worker had keep name and unit."""
    return {
        "status": now.status,
        "reasons": [reason.words for reason in now.reasons],
        "ready": not now.in_the_way,
        "workerId": now.worker_id,
        "instance": now.instance,
        "version": now.version,
        "uptime": round(now.uptime, 3),
        # Until the first job this is the start, as it was.
        "lastJobTime": round((now.last_job_at or now.now - now.uptime) * 1000),
        "activeJobs": len(now.running),
        "maxConcurrentJobs": now.slots,
        "jobs": [_job(job) for job in now.running],
        "paused": now.paused,
        "leaseSlackSeconds": _rounded(now.slack),
        "convex": _convex(now),
        "claude": _claude(now),
        "outbox": _outbox(now),
        "disk": _disk(now.host),
        "memory": _memory(now),
        "cpu": {
            "loadAverage": [round(load, 2) for load in now.host.load],
            "cores": now.host.cores,
            "seconds": round(now.family.cpu, 2),
        },
        "system": {
            "platform": platform.system().lower(),
            "arch": platform.machine(),
            "pythonVersion": platform.python_version(),
            "totalMemory": now.host.memory,
            "freeMemory": now.host.memory_free,
        },
    }


def _job(job: Running) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "attempt": job.attempt,
        "repository": job.repository,
        "status": job.step,
        "progress": job.progress,
        "currentStep": job.step_number,
        "totalSteps": job.steps,
        "startedAt": round(job.started_at * 1000),
        "silentSeconds": _rounded(job.silent),
        "leaseSlackSeconds": _rounded(job.slack),
    }


def _convex(now: Snapshot) -> dict[str, Any]:
    return {
        "reachable": now.convex.is_reachable,
        "trouble": now.convex.trouble,
        "wakeUp": "push" if now.convex.push else "poll",
        "lastSuccessSeconds": _rounded(now.convex.answered),
        "skewSeconds": _rounded(now.convex.skew),
    }


def _claude(now: Snapshot) -> dict[str, Any]:
    paused = now.claude.paused
    return {
        "version": now.claude.version,
        "credential": now.claude.credential,
        "pausedUntil": None if paused is None else round((now.now + paused) * 1000),
    }


def _outbox(now: Snapshot) -> dict[str, Any]:
    outbox = now.outbox
    return {
        "waiting": outbox.waiting,
        "oldestSeconds": None if outbox.oldest is None else round(outbox.oldest),
        "inMemoryOnly": outbox.unkept,
        "refused": outbox.refused,
        "ofOtherDeployments": outbox.elsewhere,
    }


def _disk(host: Host) -> dict[str, Any]:
    free = {disk.setting: {"path": disk.path, "freeBytes": disk.free} for disk in host.disks}
    return {"floorBytes": host.disk_floor, "places": free}


def _memory(now: Snapshot) -> dict[str, Any]:
    """Return memory in bytes. A heap as Node's there is not: data stands for it."""
    family = now.family
    return {
        "rss": family.rss,
        "heapTotal": family.data,
        "heapUsed": family.anonymous,
        "external": family.rss - family.anonymous,
        "percentUsed": round(100 * family.anonymous / family.data, 2) if family.data else 0.0,
        "children": family.children,
        "childrenRss": family.children_rss,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
