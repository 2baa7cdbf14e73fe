"""How long the other side has been in trouble: what an alarm that waits goes by."""

from fondation_worker.trouble import FRESH, Trouble


def test_trouble_is_as_old_as_its_first_failure() -> None:
    """Whatever it says later."""
    trouble = Trouble("not asked", 0.0)
    assert (trouble.words, trouble.since, trouble.well) == ("not asked", 0.0, None)
    trouble.end(5.0)
    assert (trouble.words, trouble.well) == (None, 5.0)
    trouble.meet("no answer", 60.0)
    trouble.meet("another error", 90.0)
    assert (trouble.words, trouble.since, trouble.well) == ("another error", 60.0, 5.0)


def test_a_call_aside_begins_no_trouble() -> None:
    """But before the first answer it is the only one that was asked."""
    trouble = Trouble("not asked", 0.0)
    trouble.meet("no answer", 1.0, aside=True)
    assert trouble.words == "no answer"
    trouble.end(2.0)
    trouble.meet("a report was refused", 3.0, aside=True)
    assert trouble.words is None


def test_a_call_aside_does_not_end_what_the_work_meets_again_and_again() -> None:
    """Every report would begin the trouble anew, and no alarm that waits would ever come."""
    trouble, now = Trouble("not asked", 0.0), 0.0
    for _ in range(2):
        trouble.meet("no claim", now)
        trouble.end(now, aside=True)
        assert trouble.words
        now += 15
    assert now - trouble.since >= 30


def test_a_call_aside_ends_what_nobody_asks_for_any_more() -> None:
    """A worker that is paused by then claims no more."""
    trouble = Trouble("not asked", 0.0)
    trouble.meet("no claim", 10.0)
    trouble.end(10.0 + FRESH, aside=True)
    assert trouble.words
    trouble.end(11.0 + FRESH, aside=True)
    assert trouble.words is None
