"""What is not well with a worker: by what matters, and never by being idle."""

from dataclasses import replace
from typing import Any

import pytest

from fondation_worker.admission import Level
from fondation_worker.convex import KEY_REFUSED
from fondation_worker.diagnosis import Signs, reasons_in
from fondation_worker.snapshot import OutboxState
from tests.snapshots import JOB, WELL

SIGNS = Signs(
    trouble=None,
    trouble_for=0.0,
    push_down_for=0.0,
    no_port=None,
    outbox=WELL.outbox,
    running=(JOB, replace(JOB, job_id="j2", slack=None)),
    lease_time=300.0,
    skew=0.5,
    lateness=0.01,
    cli_trouble=None,
)
NO_ANSWER = "queue:claim: no answer from Convex"


def outbox(**changes: Any) -> OutboxState:
    """Return an outbox with one result."""
    return replace(WELL.outbox, waiting=1, **changes)


def test_a_worker_with_all_of_its_means_is_well() -> None:
    """Busy or idle, for however long."""
    well = replace(JOB, slack=295.0)
    assert reasons_in(replace(SIGNS, running=(well,))) == ()
    assert reasons_in(replace(SIGNS, running=())) == ()


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"trouble": NO_ANSWER, "trouble_for": 59.0}, Level.DEGRADED, "no answer"),
        ({"trouble": NO_ANSWER, "trouble_for": 60.0}, Level.UNHEALTHY, "no answer"),
        ({"trouble": KEY_REFUSED, "trouble_for": 0.0}, Level.UNHEALTHY, "WORKER_KEY"),
        ({"push_down_for": 301.0}, Level.DEGRADED, "has not woken this worker for 5 min"),
        ({"skew": -121.0}, Level.DEGRADED, "2 min apart"),
        ({"skew": 7200.0}, Level.DEGRADED, "2 h apart"),
        ({"running": (replace(JOB, slack=99.0),)}, Level.DEGRADED, "job j1 was not renewed"),
        ({"running": (replace(JOB, slack=49.0),)}, Level.UNHEALTHY, "given up in 49 s"),
        ({"running": (replace(JOB, slack=-1.0),)}, Level.UNHEALTHY, "given up in 0 s"),
        ({"outbox": outbox(oldest=300.0)}, Level.DEGRADED, "the oldest for 5 min"),
        ({"outbox": outbox(oldest=3600.0)}, Level.UNHEALTHY, "the oldest for 60 min"),
        ({"lateness": 5.0}, Level.DEGRADED, "stood still for 5 s"),
        ({"cli_trouble": "no word"}, Level.UNHEALTHY, "does not run: no word"),
        ({"no_port": "no health port: taken"}, Level.DEGRADED, "no health port"),
    ],
)
def test_what_matters_is_said(change: dict[str, Any], level: Level, words: str) -> None:
    """Once, in words, and as bad as it is."""
    (reason,) = reasons_in(replace(SIGNS, **{"running": ()} | change))
    assert reason.level is level
    assert words in reason.words


@pytest.mark.parametrize(
    "change",
    [
        {"push_down_for": 299.0},
        {"skew": 119.0},
        {"skew": None},
        {"running": (replace(JOB, slack=101.0),)},
        {"running": (replace(JOB, slack=None),)},
        {"outbox": outbox(oldest=299.0)},
        {"lateness": 4.9},
    ],
)
def test_what_passes_by_itself_is_not(change: dict[str, Any]) -> None:
    """A moment's trouble pages nobody."""
    assert reasons_in(replace(SIGNS, **{"running": ()} | change)) == ()


def test_polling_is_no_news_while_convex_is_away() -> None:
    """One cause is one reason."""
    signs = replace(SIGNS, trouble=NO_ANSWER, trouble_for=600.0, push_down_for=600.0)
    assert [reason.key for reason in reasons_in(replace(signs, running=()))] == ["trouble"]


def test_only_convex_keeps_from_claiming_here() -> None:
    """The rest is told, and the gate decides by itself; a lease or a late result stops no claim."""
    signs = replace(
        SIGNS, trouble=NO_ANSWER, lateness=9.0, cli_trouble="x", outbox=outbox(oldest=900.0)
    )
    assert [reason.key for reason in reasons_in(signs) if reason.blocks] == ["trouble"]
