"""The board: which attempt a cancellation ends, and how often heartbeats come."""

import pytest

from fondation_worker.board import Board
from fondation_worker.clock import boottime
from fondation_worker.job import Job, Token
from fondation_worker.queue import Claimed, Report
from fondation_worker.redact import Redactor
from fondation_worker.trace import Trace


class Held:
    """A lease that remembers why it was lost."""

    def __init__(self) -> None:
        self.told = Report(status="analyzing", progress="reading a-secret-name", step=2)
        self.lost: list[str] = []
        self.deadline = boottime() + 30
        self.cancels = True

    def lose(self, reason: str) -> None:
        """Remember *reason*."""
        self.lost.append(reason)


def claimed(job_id: str = "j1", attempt: int = 2) -> Claimed:
    """Return a claimed job."""
    document = {
        "id": job_id, "attempt": attempt, "attempts": 1, "maxAttempts": 5, "prompt": "look",
        "repository": "owner/name", "cloneUrl": "https://example.com/x", "priority": 0,
        "createdAt": 0,
    }  # fmt: skip
    token = Token(job_id=job_id, lease_token="t", attempt=attempt)
    return Claimed(job=Job.from_document(document), token=token, deadline=0.0)


def board(*, hears: bool = True, interval: float = 60.0) -> Board:
    """Return an empty board."""
    return Board(interval=lambda: interval, hears=lambda: hears)


def test_a_cancellation_ends_the_attempt_it_names_and_no_other() -> None:
    """A late word about an earlier attempt must not end this one."""
    shows, first, second = board(), Held(), Held()
    with shows.shown(claimed("j1"), first, Trace()), shows.shown(claimed("j2"), second, Trace()):
        shows.hear([("j1", 1), ("j3", 2)])
        assert (first.lost, second.lost) == ([], [])
        shows.hear([("j1", 1), ("j1", 2)])
        assert (first.lost, second.lost) == (["canceled"], [])


def test_a_list_that_comes_again_ends_nothing_again() -> None:
    """The whole list comes with every change of it."""
    shows, lease = board(), Held()
    with shows.shown(claimed(), lease, Trace()):
        shows.hear([("j1", 2)])
        shows.hear([("j1", 2), ("j2", 1)])
    assert lease.lost == ["canceled"]


def test_a_cancellation_that_came_before_the_first_heartbeat_counts() -> None:
    """Push can be quicker than the answer to the heartbeat."""
    shows, lease = board(), Held()
    shows.hear([("j1", 2)])
    with shows.shown(claimed(), lease, Trace()):
        assert lease.lost == ["canceled"]


@pytest.mark.parametrize(
    ("hears", "interval", "expected"),
    [(True, 60.0, 60.0), (False, 60.0, 10.0), (False, 1.0, 1.0), (True, 1.0, 1.0)],
)
def test_heartbeats_come_sooner_while_push_cannot_tell(
    *, hears: bool, interval: float, expected: float
) -> None:
    """Then they are what tells of a cancellation."""
    assert board(hears=hears, interval=interval).heartbeat_interval() == expected


def test_what_runs_is_shown_while_it_runs() -> None:
    """With what a person wants to know of it."""
    shows = board()
    with shows.shown(claimed(), Held(), Trace()):
        (shown,) = shows.jobs()
        job = shown.looked_at(now=1_000_000.0, redact=Redactor(["a-secret-name"]))
        assert (job.job_id, job.attempt, job.repository) == ("j1", 2, "owner/name")
        assert (job.step, job.step_number, job.progress) == ("analyzing", 2, "reading [redacted]")
        assert job.started_at == pytest.approx(1_000_000, abs=60)
        assert job.silent is None
        assert job.slack is not None
        assert 0 < job.slack <= 30
    assert shows.jobs() == ()
