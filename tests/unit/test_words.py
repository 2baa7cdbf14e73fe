"""Times and foreign text in words, and back."""

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from fondation_worker.words import ago, duration, first_line, length, plain, point_in_time, size


@given(text=st.text(), lines=st.booleans())
def test_nothing_that_plays_with_a_terminal_is_left(text: str, *, lines: bool) -> None:
    """Escapes, bells, bidirectional overrides, halves of characters."""
    for char in plain(text, lines=lines):
        if lines and char in "\n\t":
            continue
        assert char in "\u200c\u200d" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"}


def test_what_is_hidden_is_shown_and_the_rest_left_alone() -> None:
    """People see that something was there."""
    assert plain("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert plain("one\ntwo\t3") == "one two 3"
    assert plain("one\r\ntwo", lines=True) == "one\ntwo"
    assert plain("name\u202egnp.exe\x9b") == "name\\u202egnp.exe\\x9b"
    assert plain("Grüße, 漢字, [bold]") == "Grüße, 漢字, [bold]"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (-3, "0 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (3 * 86400, "3 d")],
)
def test_lengths_have_a_fitting_unit(seconds: float, said: str) -> None:
    """The largest of which there are two."""
    assert length(seconds) == said


def test_times_are_told_from_now() -> None:
    """Past and future."""
    assert ago(0, 180_000) == "3 min ago"
    assert ago(7_200_000, 0) == "in 2 h"
    assert ago(500, 0) == "now"


def test_first_lines_say_something() -> None:
    """Blank ones before are passed over."""
    assert first_line("\n  \nfatal: \x1bx\nmore") == "fatal: \\x1bx"
    assert first_line(None) == ""


def test_sizes_are_in_words() -> None:
    """In binary units."""
    assert (size(900), size(20 * 1024), size(500 * 1024**2)) == ("900 bytes", "20 KiB", "500 MiB")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5min", 300), ("5 m", 300), ("2h", 7200), ("1.5d", 129600)]
)
def test_a_duration_has_its_unit(text: str, seconds: float) -> None:
    """On a command line, unlike in the settings, a bare number would be a riddle."""
    assert duration(text) == seconds


@pytest.mark.parametrize("digits", [7, 30, 400])
def test_a_duration_has_an_end(digits: int) -> None:
    """A number of 400 digits is infinite to a computer."""
    for read in (duration, lambda text: point_in_time(text, 0)):
        with pytest.raises(ValueError, match="is longer than anybody waits"):
            read(f"{'9' * digits}d")


@pytest.mark.parametrize("text", ["30", "", "soon", "-5min", "5 parsecs"])
def test_anything_else_is_no_duration(text: str) -> None:
    """It is not guessed."""
    with pytest.raises(ValueError, match="as 30s"):
        duration(text)


def test_a_point_in_time_is_from_now_or_has_a_zone() -> None:
    """Whose zone would be a guess."""
    now = datetime(2031, 5, 1, 6, tzinfo=UTC).timestamp() * 1000
    assert point_in_time("30min", now) == now + 1_800_000
    assert point_in_time("+2h", now) == now + 7_200_000
    assert point_in_time("2031-05-01T06:00Z", 0) == now
    assert point_in_time("2031-05-01T08:00+02:00", 0) == now
    with pytest.raises(ValueError, match="has no time zone"):
        point_in_time("2031-05-01T06:00", now)
    with pytest.raises(ValueError, match="neither"):
        point_in_time("tomorrow", now)
