"""What is remembered of jobs that ended: bounded, and kept over a restart as far as files allow."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fondation_worker.history import HOUR, History, Past


def past(number: int = 1, **changes: object) -> Past:
    """Return an attempt that ended."""
    fields = {
        "ended_at": 1_000_000.0 + number, "job_id": f"j{number}", "attempt": 1,
        "repository": "owner/name", "outcome": "completed", "seconds": 2.0, "dollars": 0.5,
    }  # fmt: skip
    return Past(**fields | changes)  # type: ignore[arg-type]


def failed(number: int) -> Past:
    """Return an attempt that failed."""
    return past(number, outcome="pending", error_class="timeout", message="too long", dollars=None)


def test_the_newest_come_first() -> None:
    """As an operator looks for them."""
    kept = History()
    for number in range(30):
        kept.add(past(number) if number % 2 else failed(number))
    assert [one.job_id for one in kept.recent(3)] == ["j29", "j28", "j27"]
    assert len(kept.recent()) == 20
    assert [one.job_id for one in kept.failures(2)] == ["j28", "j26"]


def test_the_totals_are_those_of_this_process(tmp_path: Path) -> None:
    """A counter begins anew with its process, as Prometheus expects it."""
    before = History(tmp_path / "h")
    before.add(past())
    kept = History(tmp_path / "h")
    kept.load()
    kept.begin()
    kept.begin()
    kept.add(past(2, seconds=4.0))
    kept.add(failed(3))
    kept.add(past(4, outcome="released"))
    totals = kept.totals
    assert (totals.begun, totals.completed, totals.failed, totals.seconds) == (2, 1, 1, 4.0)
    assert len(kept.recent()) == 4


def test_what_ended_outlives_the_process(tmp_path: Path) -> None:
    """In a file that is this user's alone."""
    file = tmp_path / "h"
    first = History(file)
    first.add(past(1, message="häßlich\u2028"))
    first.add(failed(2))
    second = History(file)
    second.load()
    assert second.recent() == first.recent()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_has_torn_costs_that_line_only(tmp_path: Path) -> None:
    """And the next does not grow together with it."""
    file = tmp_path / "h"
    first = History(file)
    first.add(past(1))
    first.add(past(2))
    file.write_bytes(file.read_bytes()[:-20])
    second = History(file)
    second.load()
    second.add(past(3))
    third = History(file)
    third.load()
    assert [one.job_id for one in third.recent()] == ["j3", "j1"]


@given(st.binary(max_size=300))
def test_any_file_can_be_met(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What somebody has put there is left out, and the file is good again after the next job."""
    file = tmp_path_factory.mktemp("history") / "h"
    file.write_bytes(content + b"\n")
    kept = History(file)
    kept.load()
    kept.add(past(7))
    again = History(file)
    again.load()
    assert again.recent(1)[0].job_id == "j7"


def test_a_line_of_no_text_costs_that_line_only(tmp_path: Path) -> None:
    """Half a letter before the next line, as a full disk leaves it, kept workers from starting."""
    file, first = tmp_path / "h", History(tmp_path / "h")
    first.add(past(1, repository="häuser"))
    torn = file.read_bytes().partition("ä".encode()[1:])[0]
    first.add(past(2))
    with file.open("ab") as more:
        more.write(torn + b'{}"}\n')
    second = History(file)
    second.load()
    assert [one.job_id for one in second.recent()] == ["j2", "j1"]


def test_what_a_full_disk_tore_does_not_take_the_next_line_along(tmp_path: Path) -> None:
    """The file is written anew after whatever refused a line."""
    file, kept = tmp_path / "h", History(tmp_path / "h")
    kept.add(past(1))
    with no_file_grows_over(file.stat().st_size + 12):
        kept.add(past(2))
    assert not file.read_bytes().endswith(b"\n")
    kept.add(past(3))
    again = History(file)
    again.load()
    assert [one.job_id for one in again.recent()] == ["j3", "j2", "j1"]


@contextmanager
def no_file_grows_over(size: int) -> Iterator[None]:
    """Let the kernel take so many bytes of a file, and refuse what follows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_holds_nobody_up(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Opening a pipe waits for its other end: at a start, or in the loop that renews leases."""
    make(tmp_path / "h")
    kept = History(tmp_path / "h")
    kept.load()
    kept.add(past(1))
    kept.add(past(2))
    assert [one.job_id for one in kept.recent()] == ["j2", "j1"]
    assert "cannot be read" in caplog.text
    assert "not remembered" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["h"]


def test_of_a_huge_file_its_end_is_read(tmp_path: Path) -> None:
    """The newest lines are those that are looked for."""
    kept = History(tmp_path / "h")
    for number in range(100):
        kept.add(past(number))
    again = History(tmp_path / "h", largest=1000)
    again.load()
    assert [one.job_id for one in again.recent(2)] == ["j99", "j98"]


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """It is written anew when it has twice as many lines as are remembered."""
    kept = History(tmp_path / "h", most=10)
    for number in range(95):
        kept.add(past(number))
        assert len((tmp_path / "h").read_bytes().splitlines()) <= 20
    assert [path.name for path in tmp_path.iterdir()] == ["h"]


def test_a_disk_that_refuses_costs_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and remembered in memory all the same."""
    kept = History(tmp_path / "no" / "such" / "h")
    kept.load()
    kept.add(past(1))
    assert kept.recent()[0].job_id == "j1"
    assert "not remembered" in caplog.text


def test_hours_are_counted_by_when_a_job_ended() -> None:
    """The last is the running one; what is older is not shown."""
    kept, now = History(), 10 * HOUR + 1800
    for at in (10 * HOUR, now, 9 * HOUR + 1, 8 * HOUR - 1):
        kept.add(past(1, ended_at=at))
    kept.add(past(2, ended_at=now, outcome="dead", error_class="timeout", dollars=2.0))
    hours = kept.hours(now, most=3)
    assert [hour.begins_at / HOUR for hour in hours] == [8, 9, 10]
    assert [hour.completed for hour in hours] == [0, 1, 2]
    assert [hour.failed for hour in hours] == [0, 0, 1]
    assert hours[2].dollars == 3.0
