"""The vital signs of the status page: what the worker stands on, each in one tile. Pure."""

from collections.abc import Iterable, Iterator

from markupsafe import Markup

from fondation_worker.admission import in_units
from fondation_worker.snapshot import ClaudeState, ConvexState, Host, OutboxState, Snapshot
from fondation_worker.web.phrases import MINUTE, about, counted, foreign, path, utc
from fondation_worker.words import length

NOTABLE_SKEW = 1.0  # seconds
NOTABLE_LATENESS = 0.5  # seconds
TROUBLE_LIMIT = 300  # characters
_CREDENTIALS = {"untested": "not used yet", "accepted": "accepted", "refused": "refused"}


def vitals(now: Snapshot) -> Markup:
    """Return the section."""
    tiles = (
        _tile("Claims", "paused" if now.paused is not None else "open", _claims(now)),
        _tile("Convex", _way(now.convex), _of_convex(now.convex), bad=not now.convex.is_reachable),
        _tile(
            "Claude",
            foreign(now.claude.version or "version not known yet"),
            _of_claude(now.claude, now.now),
            bad=now.claude.credential == "refused",
        ),
        _tile("Outbox", _waiting(now.outbox), _of_outbox(now.outbox), bad=bool(now.outbox.unkept)),
        *_disks(now.host),
        _tile("Memory free", _bytes(now.host.memory_free), _memory(now)),
        _tile("Load", f"{now.host.load[0]:.1f}", _load(now)),
    )
    return Markup('<h2>Vital signs</h2><dl class="tiles">{}</dl>').format(Markup("").join(tiles))


def _tile(name: str, value: str, more: Iterable[object], *, bad: bool = False) -> Markup:
    lines = Markup("").join(map(Markup("<dd>{}</dd>").format, more))
    template = Markup('<div><dt>{}</dt><dd class="value{}">{}</dd>{}</div>')
    return template.format(name, " bad" if bad else "", value, lines)


def _claims(now: Snapshot) -> Iterator[object]:
    if now.paused is not None:
        yield foreign(now.paused or "no reason was given", TROUBLE_LIMIT)
    if now.last_job_at is None:
        yield "no job claimed yet"
    else:
        yield Markup("last one {}").format(utc(now.last_job_at, now.now))


def _way(convex: ConvexState) -> str:
    if not convex.is_reachable:
        return "unreachable"
    return "push" if convex.push else "poll"


def _of_convex(convex: ConvexState) -> Iterator[str]:
    if convex.trouble:
        yield foreign(convex.trouble, TROUBLE_LIMIT)
    if convex.answered is None:
        yield "no answer yet"
    elif convex.answered < MINUTE:
        yield "answered within the last minute"
    else:
        yield f"last answered {about(convex.answered)} ago"
    if convex.skew is not None and abs(convex.skew) >= NOTABLE_SKEW:
        yield f"its clock is {length(abs(convex.skew))} {'ahead' if convex.skew > 0 else 'behind'}"


def _of_claude(claude: ClaudeState, now: float) -> Iterator[object]:
    yield f"credential {_CREDENTIALS.get(claude.credential, foreign(claude.credential))}"
    if claude.paused:
        yield f"left alone for {about(claude.paused)}"
    if claude.limit_resets_at is not None and claude.limit_resets_at > now:
        yield Markup("limit is renewed {}").format(utc(claude.limit_resets_at, now))


def _waiting(outbox: OutboxState) -> str:
    return f"{outbox.waiting} waiting" if outbox.waiting else "empty"


def _of_outbox(outbox: OutboxState) -> Iterator[str]:
    if not outbox.waiting:
        yield "every result is handed in"
    elif outbox.oldest is not None:
        yield f"the oldest for {about(outbox.oldest)}"
    if outbox.unkept:
        yield f"{outbox.unkept} in memory only"
    if outbox.refused:
        yield f"{outbox.refused} refused by Convex, kept"
    if outbox.elsewhere:
        yield f"{outbox.elsewhere} of another deployment"


def _disks(host: Host) -> Iterator[Markup]:
    for disk in host.disks:
        more = (Markup("below <code>{}</code>").format(path(disk.path)),)
        is_low = disk.free < host.disk_floor
        yield _tile(f"{foreign(disk.setting)} free", _bytes(disk.free), more, bad=is_low)


def _memory(now: Snapshot) -> Iterator[str]:
    yield f"of {_bytes(now.host.memory)}"
    family = now.family
    children = counted(family.children, "child", "children")
    yield f"worker {_bytes(family.rss)}, {children} {_bytes(family.children_rss)}"


def _load(now: Snapshot) -> Iterator[str]:
    _, five, fifteen = now.host.load
    yield f"{five:.1f} and {fifteen:.1f} over 5 and 15 min, on {counted(now.host.cores, 'core')}"
    if now.lateness >= NOTABLE_LATENESS:
        yield f"the worker stood still for {now.lateness:.1f} s"


def _bytes(count: int) -> str:
    """Return a size that does not change with each page of memory."""
    figure, unit = in_units(count).split()
    is_whole = unit == "bytes" or float(figure) >= 10  # noqa: PLR2004 two digits say enough
    return f"{float(figure):.{0 if is_whole else 1}f} {unit}"
