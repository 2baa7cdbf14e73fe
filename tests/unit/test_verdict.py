"""What follows from each error."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fondation_worker import errors
from fondation_worker.verdict import ACTIONS, ADVICE, MESSAGE_LIMIT, Action, verdict

ROOT = Path(__file__).parents[2]


def leaves(root: type[errors.JobError]) -> list[type[errors.JobError]]:
    """Return the classes below *root* that have none below them."""
    below = [leaf for child in root.__subclasses__() for leaf in leaves(child)]
    return below or [root]


@pytest.mark.parametrize("kind", leaves(errors.JobError), ids=lambda kind: kind.__name__)
def test_every_error_has_a_class_of_its_own_and_keeps_its_words(
    kind: type[errors.JobError],
) -> None:
    """Convex decides by the class, the product shows the words."""
    told = verdict(kind("what happened"), in_a_row=1, now=0.0)
    assert told.message == "what happened"
    assert [leaf for leaf in leaves(errors.JobError) if leaf.failure == told.failure] == [kind]


@pytest.mark.parametrize("kind", leaves(errors.JobError), ids=lambda kind: kind.__name__)
def test_only_what_every_job_would_meet_stops_the_worker(kind: type[errors.JobError]) -> None:
    """A broken repository is no reason to leave the next one waiting."""
    told = verdict(kind("what happened"), in_a_row=1, now=0.0)
    assert bool(told.pause) == issubclass(kind, errors.Wait)


def test_the_table_has_every_class_and_follows_the_tree() -> None:
    """A new class must be put into it."""
    assert set(ACTIONS) == set(ADVICE) == set(leaves(errors.JobError))
    for kind, action in ACTIONS.items():
        assert issubclass(kind, errors.GiveUp) == (action is Action.GIVE_UP)
        assert issubclass(kind, errors.Wait) == (action is Action.WAIT)


def test_operators_read_the_same_table() -> None:
    """In the same order."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|.*\| (.+) \|$", text, re.MULTILINE)
    assert rows == [(kind.failure, action.value, ADVICE[kind]) for kind, action in ACTIONS.items()]


def test_convex_decides_by_the_same_table() -> None:
    """It has its own, in another language."""
    text = (ROOT / "convex/verdicts.ts").read_text(encoding="utf-8")
    theirs = {
        name: set(re.findall(r'"(\w+)"', inside))
        for name, inside in re.findall(r"const (\w+) = new Set\(\[(.*?)\]\);", text, re.DOTALL)
    }
    names = {
        "FINAL": Action.GIVE_UP,
        "SNOOZED": Action.WAIT,
        "TRIED_ONCE_MORE": Action.TRY_ONCE_MORE,
    }
    for name, action in names.items():
        assert theirs[name] == {kind.failure for kind, its in ACTIONS.items() if its is action}


def test_a_bug_is_told_without_its_text() -> None:
    """An exception that nobody expected may hold anything."""
    told = verdict(ValueError("a secret"), in_a_row=1, now=0.0)
    assert told.failure == "internal"
    assert "ValueError" in told.message
    assert "a secret" not in told.message


@given(st.integers(1, 1000), st.sampled_from(leaves(errors.Wait)))
def test_pauses_grow_and_stay_bounded(in_a_row: int, kind: type[errors.Wait]) -> None:
    """Monotone up to an hour."""
    this = verdict(kind("x"), in_a_row=in_a_row, now=0.0).pause
    following = verdict(kind("x"), in_a_row=in_a_row + 1, now=0.0).pause
    assert 1 <= this <= following <= 3600


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_a_named_reset_is_kept_within_reason(until: float, now: float) -> None:
    """Neither a clock that is off nor a wild answer may stop a worker for ever."""
    told = verdict(errors.RateLimited("x", until=until), in_a_row=1, now=now)
    assert 1 <= told.pause <= 7 * 86400


def test_a_long_message_is_cut() -> None:
    """Convex takes 16 KiB."""
    told = verdict(errors.CloneFailed("x" * 100_000), in_a_row=1, now=0.0)
    assert len(told.message) == MESSAGE_LIMIT
