"""`GET /metrics`: for Prometheus as it asks for it, and as JSON for a plain `curl`."""

from typing import Any

from aiohttp import web

from fondation_worker.exposition import Exposition
from fondation_worker.history import History
from fondation_worker.snapshot import Look, Snapshot
from fondation_worker.web.server import Handler

# What Prometheus and its kin name in `Accept`; curl says */*, and a browser lists neither.
_SCRAPES = {"application/openmetrics-text", "text/plain"}
_FORMATS = ("json", "prometheus")


def figures_of(look: Look, history: History, exposition: Exposition) -> Handler:
    """Return what answers with the metrics; `?format=prometheus` or `json` decides."""

    async def answer(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        wanted = request.query.get("format", "prometheus" if is_scrape(accept) else "json")
        if wanted not in _FORMATS:
            error = {"error": f"format: one of {', '.join(_FORMATS)}"}
            return web.json_response(error, status=400)
        if wanted == "json":
            return web.json_response(figures(look(), history))
        body, content_type = exposition.render(accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    return answer


def is_scrape(accept: str) -> bool:
    """Whether a request's `Accept` asks for a format of Prometheus."""
    kinds = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return bool(kinds & _SCRAPES)


def figures(now: Snapshot, history: History) -> dict[str, Any]:
    """Return the figures that the Node worker gave, under its keys; times in seconds or ms."""
    totals, family = history.totals, now.family
    ended = totals.completed + totals.failed
    return {
        "jobs_total": totals.begun,
        "jobs_succeeded_total": totals.completed,
        "jobs_failed_total": totals.failed,
        "jobs_active": len(now.running),
        "jobs_duration_average_ms": round(1000 * totals.seconds / (totals.completed or 1)),
        "jobs_success_rate": totals.completed / ended if ended else 1,
        "jobs_failure_rate": totals.failed / ended if ended else 0,
        "process_uptime_seconds": round(now.uptime),
        "process_memory_heap_used_bytes": family.anonymous,
        "process_memory_heap_total_bytes": family.data,
        "process_memory_rss_bytes": family.rss,
        "worker_id": now.worker_id,
        "worker_start_time": round((now.now - now.uptime) * 1000),
        "worker_max_concurrent_jobs": now.slots,
        "timestamp": round(now.now * 1000),
    }
