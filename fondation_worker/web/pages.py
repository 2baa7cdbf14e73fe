"""What is answered over HTTP, by path."""

from collections.abc import Mapping

from fondation_worker.exposition import Exposition
from fondation_worker.history import History
from fondation_worker.snapshot import Look
from fondation_worker.web.figures import figures_of
from fondation_worker.web.health import aliveness_of, health_of, readiness_of
from fondation_worker.web.server import Handler
from fondation_worker.web.status import StatusPage

STREAMS = frozenset({"/events"})  # pages that go on for ever


def pages_of(look: Look, history: History, exposition: Exposition) -> Mapping[str, Handler]:
    """Return the pages of the worker that *look* looks at."""
    status = StatusPage(look, history)
    return {
        "/": status.page,
        "/events": status.events,
        "/health": health_of(look),
        "/livez": aliveness_of(look),
        "/readyz": readiness_of(look),
        "/metrics": figures_of(look, history, exposition),
    }
