"""The plots of the status page: what ended within each of the last hours. Pure.

They are drawn here, as SVG that scales with the page; what they show stands in their text as well.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from fondation_worker.history import Hour
from fondation_worker.web.phrases import money, utc

HEIGHT = 60.0  # of a plot, in its own units; each hour is as wide as one bar and one gap
BAR = 8.0
GAP = 2.0

_BAR = Markup('<rect class="{}" x="{:g}" y="{:.2f}" width="{:g}" height="{:.2f}"/>')
_HOUR = Markup(
    '<g><title>{}</title><rect class="hour" x="{:g}" y="0" width="{:g}" height="{:g}"/>{}</g>'
)
_FIGURE = Markup(
    "<figure><figcaption>{caption}</figcaption>"
    '<svg viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" role="img"'
    ' aria-labelledby="{name}-title" aria-describedby="{name}-text">'
    '<title id="{name}-title">{title}</title><desc id="{name}-text">{text}</desc>{bars}</svg>'
    '<p class="axis"><span>{first}</span><span>{peak}</span><span>now</span></p></figure>'
)


def plots(hours: Sequence[Hour]) -> Markup:
    """Return the section: jobs and dollars of *hours*, the oldest first."""
    template = Markup('<h2>Last {} hours</h2><div class="plots">{}{}</div>')
    return template.format(len(hours), _jobs(hours), _dollars(hours))


def _jobs(hours: Sequence[Hour]) -> Markup:
    completed, failed = sum(hour.completed for hour in hours), sum(hour.failed for hour in hours)
    highest = max((hour.completed + hour.failed for hour in hours), default=0)
    caption = Markup(
        '<b>Jobs</b> <span class="key completed">{} completed</span>'
        ' <span class="key failed">{} failed</span>'
    ).format(completed, failed)

    def stacked(hour: Hour) -> tuple[tuple[str, float], ...]:
        return ("completed", hour.completed), ("failed", hour.failed)

    return _figure(
        hours,
        name="jobs-plot",
        caption=caption,
        title="Jobs that ended, by the hour",
        words=lambda hour: f"{hour.completed} completed, {hour.failed} failed",
        values=stacked,
        highest=highest,
        peak=f"up to {highest} an hour" if highest else "",
    )


def _dollars(hours: Sequence[Hour]) -> Markup:
    highest = max((hour.dollars for hour in hours), default=0.0)
    caption = Markup('<b>Cost</b> <span class="key dollars">{}</span>')
    return _figure(
        hours,
        name="dollars-plot",
        caption=caption.format(money(sum(hour.dollars for hour in hours))),
        title="What runs cost, by the hour",
        words=lambda hour: money(hour.dollars),
        values=lambda hour: (("dollars", hour.dollars),),
        highest=highest,
        peak=f"up to {money(highest)} an hour" if highest else "",
    )


def _figure(
    hours: Sequence[Hour],
    *,
    name: str,
    caption: Markup,
    title: str,
    words: Callable[[Hour], str],
    values: Callable[[Hour], Iterable[tuple[str, float]]],
    highest: float,
    peak: str,
) -> Markup:
    spoken = (f"{_clock(hour)} {words(hour)}" for hour in hours if any(v for _, v in values(hour)))
    return _FIGURE.format(
        caption=caption,
        width=len(hours) * (BAR + GAP),
        height=HEIGHT,
        name=name,
        title=title,
        text="; ".join(spoken) or "none",
        bars=Markup("").join(
            _hour(n, f"{_clock(hour)}: {words(hour)}", values(hour), highest)
            for n, hour in enumerate(hours)
        ),
        first=utc(hours[0].begins_at, hours[0].begins_at) if hours else "",
        peak=peak,
    )


def _hour(number: int, words: str, values: Iterable[tuple[str, float]], highest: float) -> Markup:
    """Return one hour's bars, each upon the one before it."""
    left, floor, bars = number * (BAR + GAP) + GAP / 2, HEIGHT, Markup("")
    for kind, value in values:
        tall = value / highest * HEIGHT if highest > 0 else 0.0
        floor -= tall
        if tall:
            bars += _BAR.format(kind, left, floor, BAR, tall)
    return _HOUR.format(words, left - GAP / 2, BAR + GAP, HEIGHT, bars)


def _clock(hour: Hour) -> str:
    """Return when an hour begins, in UTC."""
    return f"{datetime.fromtimestamp(hour.begins_at, UTC):%H:%M} UTC"
