"""The line of `systemctl status`."""

from dataclasses import replace

import pytest

from fondation_worker.statusline import Situation, in_one_line

FINE = Situation(
    ending=None, unreachable=False, trouble=None, push=True, busy=1, slots=2, reasons=(),
    no_port=None, past=(200.0, "completed"),
)  # fmt: skip


def test_a_worker_that_works_says_so_in_words() -> None:
    """What an operator reads first."""
    words = "1 of 2 slots busy · convex ok (push) · last job 3 min ago: completed"
    assert in_one_line(FINE) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"unreachable": True, "trouble": "no answer"},
            "Convex unreachable, retrying · 1 of 2 slots busy",
        ),
        ({"ending": "stopping"}, "stopping · 1 of 2 slots busy"),
        ({"reasons": ("paused: lunch", "disk")}, "claiming nothing: paused: lunch · 1 of 2"),
        ({"push": False}, "1 of 2 slots busy · convex ok (poll)"),
        ({"trouble": "it refuses"}, "1 of 2 slots busy · convex: it refuses · last"),
    ],
)
def test_what_matters_most_comes_first(change: dict[str, object], words: str) -> None:
    """Trouble, then what is usual."""
    assert in_one_line(replace(FINE, **change)).startswith(words)  # type: ignore[arg-type]


def test_a_port_that_somebody_else_has_is_told() -> None:
    """Else nobody would know why the probe fails."""
    line = in_one_line(replace(FINE, no_port="no health port: 127.0.0.1:8080: Address in use"))
    assert "no health port: 127.0.0.1:8080" in line


def test_the_line_does_not_change_with_each_second() -> None:
    """Each change is a message to systemd."""
    lines = {in_one_line(replace(FINE, past=(float(age), "completed"))) for age in range(300)}
    assert len(lines) <= 5
