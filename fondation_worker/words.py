"""Times and foreign text in words that people read, and back: pure.

What a repository or a model wrote must not play with a terminal: `plain` shows its control
characters instead of sending them.
"""

import re
import unicodedata
from datetime import UTC, datetime

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)", re.IGNORECASE)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_NO_END = 100 * 366 * 86400  # seconds; far more cannot be reckoned with, as a number of 400 digits
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_TWO = 1.99  # of a unit: below, the next smaller one says more
_HARMLESS = {"\u200c", "\u200d"}  # joiners: scripts and emoji need them, and they move nothing
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # categories that a terminal may act upon


def plain(text: str, *, lines: bool = False) -> str:
    r"""Return *text* with what a terminal may act upon written out, as \x1b.

    With *lines*, line breaks and tabs stay; else they become blanks.
    """
    kept = "\n\t" if lines else ""
    shown = text.replace("\r\n", "\n")
    if not lines:
        shown = re.sub(r"[\n\t]+", " ", shown)
    return "".join(char if char in kept or _harmless(char) else _written(char) for char in shown)


def _harmless(char: str) -> bool:
    return char in _HARMLESS or unicodedata.category(char) not in _HIDDEN


def _written(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def last_words(text: str, limit: int) -> str:
    """Return the end of *text*, about *limit* characters at most, beginning with a whole word.

    A cut through a secret would leave a half that no redactor knows.
    """
    if len(text) <= limit:
        return text
    return "…" + re.sub(r"^\S*\s*", "", text[-limit - 1 :])


def first_line(text: str | None) -> str:
    """Return the first line of *text* that says something, on one line."""
    return next((plain(line.strip()) for line in (text or "").splitlines() if line.strip()), "")


def length(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: 45 s, 3 min, 2 h, 5 d."""
    for size, unit in _UNITS:
        if seconds >= _TWO * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def ago(at: float, now: float) -> str:
    """Return when *at* was or will be (both milliseconds): 3 min ago, in 2 h."""
    seconds = (now - at) / 1000
    if seconds < -1:
        return f"in {length(-seconds)}"
    return "now" if seconds < 1 else f"{length(seconds)} ago"


def moment(at: float) -> str:
    """Return *at* (milliseconds since the epoch) as this host's time, to the second."""
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} ms"


def size(count: float) -> str:
    """Return a number of bytes in words."""
    units = ("bytes", "KiB", "MiB", "GiB")
    power = 0
    while count >= 10 * 1024 and power < len(units) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} {units[power]}"


def duration(text: str) -> float:
    """Return the seconds of a duration with its unit: 30s, 5min, 2h, 3d; raise ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a duration with its unit, as 30s, 5min, 2h or 3d")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if not seconds < _NO_END:
        raise ValueError("is longer than anybody waits")
    return seconds


def point_in_time(text: str, now: float) -> float:
    """Return the milliseconds since the epoch that *text* names: a duration from *now*, or ISO.

    Raises ValueError; a time without its zone is one, because whose zone would be a guess.
    """
    if _DURATION.fullmatch(text.strip().removeprefix("+")):
        return now + duration(text.strip().removeprefix("+")) * 1000
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            "is neither a duration from now (30s, 5min, 2h, 3d) nor a time (2031-05-01T06:00Z)"
        ) from None
    if at.tzinfo is None:
        raise ValueError(f"has no time zone; for example: {text.strip()}Z, or +02:00 for Z")
    return at.timestamp() * 1000
