"""Asking again: what is repeated, what is final, and for how long."""

import pytest
from hypothesis import given, strategies as st

from fondation_worker.clock import boottime
from fondation_worker.convex import LONGEST_WAIT, until_answered, wait_before
from fondation_worker.errors import LeaseLost, Refused, Unreachable

UNKNOWN = Unreachable("no answer")
NO_KEY = Refused("unauthorized", "no")
INVALID = Refused("invalid", "no")


class Replies:
    """Raises or returns its replies, one for each call; the last one for ever."""

    def __init__(self, *replies: object) -> None:
        self.replies = list(replies)
        self.asked = 0

    async def __call__(self) -> object:
        """Give the next reply."""
        self.asked += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


async def test_an_unknown_outcome_is_asked_for_again() -> None:
    """Until there is an answer."""
    replies = Replies(UNKNOWN, UNKNOWN, "yes")
    assert await until_answered(replies) == "yes"
    assert replies.asked == 3


@pytest.mark.parametrize("final", [INVALID, NO_KEY, LeaseLost("gone")])
async def test_a_definite_no_is_final(final: Exception) -> None:
    """Asking again would not help."""
    replies = Replies(final)
    with pytest.raises(type(final)):
        await until_answered(replies)
    assert replies.asked == 1


async def test_a_hand_in_sits_out_a_refused_key() -> None:
    """An operator may be changing keys; a paid result must not be lost to that."""
    assert await until_answered(Replies(NO_KEY, NO_KEY, "taken"), patient=True) == "taken"
    with pytest.raises(Refused, match="invalid"):
        await until_answered(Replies(INVALID), patient=True)


async def test_a_deadline_ends_the_asking() -> None:
    """Then the lease is over, and Convex would not take it."""
    end = boottime() + 0.5
    with pytest.raises(LeaseLost):
        await until_answered(Replies(UNKNOWN), deadline=lambda: end)
    assert boottime() <= end + 10  # a busy machine may wake it late


@given(st.integers(1, 10_000))
def test_waits_grow_and_are_bounded(tries: int) -> None:
    """Neither a storm of calls nor an hour of silence."""
    assert 0.1 <= wait_before(tries) <= LONGEST_WAIT
