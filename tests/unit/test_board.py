"""The board: which attempt a cancellation ends, and how often heartbeats come."""

import pytest

from fondation_worker.board import Board
from fondation_worker.job import Job, Token
from fondation_worker.queue import Claimed, Report
from fondation_worker.redact import Redactor


class Held:
    """A lease that remembers why it was lost."""

    def __init__(self) -> None:
        self.told = Report(status="analyzing", progress="reading a-secret-name", step=2)
        self.lost: list[str] = []

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
    with shows.shown(claimed("j1"), first), shows.shown(claimed("j2"), second):
        shows.hear([("j1", 1), ("j3", 2)])
        assert (first.lost, second.lost) == ([], [])
        shows.hear([("j1", 1), ("j1", 2)])
        assert (first.lost, second.lost) == (["canceled"], [])


def test_a_list_that_comes_again_ends_nothing_again() -> None:
    """The whole list comes with every change of it."""
    shows, lease = board(), Held()
    with shows.shown(claimed(), lease):
        shows.hear([("j1", 2)])
        shows.hear([("j1", 2), ("j2", 1)])
    assert lease.lost == ["canceled"]


def test_a_cancellation_that_came_before_the_first_heartbeat_counts() -> None:
    """Push can be quicker than the answer to the heartbeat."""
    shows, lease = board(), Held()
    shows.hear([("j1", 2)])
    with shows.shown(claimed(), lease):
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
    with shows.shown(claimed(), Held()):
        (shown,) = shows.jobs()
        document = shown.to_document(now=1_000_000.0, redact=Redactor(["a-secret-name"]))
        started = document.pop("startedAt")
        assert document == {
            "id": "j1", "attempt": 2, "repository": "owner/name", "status": "analyzing",
            "progress": "reading [redacted]", "currentStep": 2,
        }  # fmt: skip
        assert started == pytest.approx(1_000_000_000, abs=60_000)
    assert shows.jobs() == ()
