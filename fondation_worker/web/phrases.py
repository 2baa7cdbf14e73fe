"""How values read on the status page: times, money, and text that others wrote. Pure.

Whatever is told of a time says minutes where seconds would change the page for nobody's good.
"""

from datetime import UTC, datetime

from markupsafe import Markup

from fondation_worker.words import length, plain

MINUTE = 60  # seconds
_ENDLESS = Markup("<time>{}</time>")


def foreign(text: str, limit: int = 200) -> str:
    """Return *text* that others wrote on one line, at most *limit* characters of it.

    What would turn its neighbours' direction, or be seen by nobody, is written out.
    """
    shown = plain(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def path(text: str) -> Markup:
    """Return the same with a place to break the line after each slash."""
    return Markup("/<wbr>").join(foreign(text).split("/"))


def code(text: str) -> Markup:
    """Return a text of our own with each `name` in it as code."""
    template = (Markup("{}"), Markup("<code>{}</code>"))
    parts = text.split("`")
    return Markup("").join(template[n % 2].format(part) for n, part in enumerate(parts))


def about(seconds: float) -> str:
    """Return a length of time that goes on, to the minute."""
    minutes = int(seconds // MINUTE)
    if minutes <= 1:
        return "1 min" if minutes == 1 else "less than a minute"
    return length(minutes * MINUTE)


def moment(at: float, now: float) -> Markup:
    """Return when *at* was (both seconds since the epoch), in UTC; with its day if not today's."""
    try:
        day, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    except (OverflowError, ValueError, OSError):  # nothing that a calendar has
        return _ENDLESS.format(f"{at:.4g}")
    words = f"{day:%H:%M}" if day.date() == today.date() else f"{day.day} {day:%b %H:%M}"
    template = Markup('<time datetime="{}">{}</time>')
    return template.format(f"{day:%Y-%m-%dT%H:%M:%SZ}", words)


def utc(at: float, now: float) -> Markup:
    """Return the same with its zone; a script may put the reader's own in place of both."""
    return Markup('{}<span class="zone"> UTC</span>').format(moment(at, now))


def money(dollars: float | None) -> str:
    """Return an amount; nothing where none is known."""
    if dollars is None:
        return ""
    return "under $0.01" if 0 < dollars < 0.01 else f"${dollars:,.2f}"  # noqa: PLR2004 a cent


def counted(count: int, one: str, more: str | None = None) -> str:
    """Return *count* with its noun."""
    return f"{count} {one if count == 1 else more or one + 's'}"
