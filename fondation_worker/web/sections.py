"""The sections of the status page, but for vital signs and plots: values in, HTML out. Pure.

All that is put into HTML passes `Markup.format`, which escapes it; what others wrote passes
`phrases.foreign` before.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from fondation_worker.admission import Level, Reason
from fondation_worker.history import Past
from fondation_worker.snapshot import Running, Snapshot
from fondation_worker.verdict import ADVICE
from fondation_worker.web.phrases import about, code, counted, foreign, moment, money, path, utc
from fondation_worker.words import length

NOTABLE_SILENCE = 30.0  # seconds without a sign of life of a run before it is told
SILENCE_STEP = 10  # seconds by which that figure grows
MESSAGE_LIMIT = 500  # characters of an error's message

# What became of an attempt, in words; and the kind of its mark.
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "completed": ("completed", "good"),
    "pending": ("failed, tried again", "warn"),
    "dead": ("failed for good", "bad"),
    "kept": ("result waits for Convex", "warn"),
    "released": ("given back", "idle"),
    "canceled": ("cancelled", "idle"),
    "lost": ("lease lost", "warn"),
    "refused": ("result refused", "bad"),
    "fault": ("fault of the worker", "bad"),
}
_KINDS = {Level.HEALTHY: "good", Level.DEGRADED: "warn", Level.UNHEALTHY: "bad"}
_COLUMNS = ("Repository", "Outcome", "Error", "Duration", "Cost")  # and before them the time
_WORKS = "Everything is as it should be."
_ADVICE = {kind.failure: words for kind, words in ADVICE.items()}


def headline(now: Snapshot) -> Markup:
    """Return who this is, and how it is at one glance."""
    return Markup(
        '<p class="status {kind}">{status}</p><h1>{label}</h1>'
        '<p class="summary">{busy}, {claims}</p>{reasons}'
        '<p class="soft fine">Instance <code>{instance}</code>, version {version}, up {up}</p>'
    ).format(
        kind=_KINDS[now.level],
        status=now.status,
        label=foreign(now.worker_id),
        busy=f"{len(now.running)} of {counted(now.slots, 'slot')} busy",
        claims="claiming nothing" if now.in_the_way else "ready for work",
        up=about(now.uptime),
        reasons=_reasons(now.reasons),
        instance=foreign(now.instance),
        version=foreign(now.version),
    )


def _reasons(reasons: Sequence[Reason]) -> Markup:
    if not reasons:
        return Markup('<p class="well">{}</p>').format(_WORKS)
    return Markup('<ul class="reasons">{}</ul>').format(Markup("").join(map(_reason, reasons)))


def _reason(reason: Reason) -> Markup:
    meanwhile = Markup(' <span class="soft">· no job is claimed meanwhile</span>')
    return Markup('<li class="{}"><b>{}</b> {}{}</li>').format(
        _KINDS[reason.level],
        reason.level.word,
        foreign(reason.words, MESSAGE_LIMIT),
        meanwhile if reason.blocks else "",
    )


def slots(now: Snapshot) -> Markup:
    """Return what runs, and how many slots are free."""
    free = max(now.slots - len(now.running), 0)
    cards = Markup("").join(_running(job, now.now) for job in now.running)
    if free:
        why = "claims nothing now" if now.in_the_way else "waiting for work"
        idle = Markup('<li class="slot free"><p><b>{} free</b></p><p class="soft">{}</p></li>')
        cards += idle.format(counted(free, "slot"), why)
    return Markup('<h2>Slots</h2><ul class="slots">{}</ul>').format(cards)


def _running(job: Running, now: float) -> Markup:
    step = f"step {job.step_number} of {job.steps}"
    return Markup(
        '<li class="slot"><h3><bdi>{repository}</bdi></h3>'
        '<p class="fine soft"><code>{job}</code></p>'
        '<progress value="{number}" max="{steps}" aria-label="{step}: {word}"></progress>'
        '<p><b>{word}</b> <span class="soft">{step}</span></p>'
        '<p class="words"><bdi>{progress}</bdi></p>'
        '<p class="fine soft">attempt {attempt}, since {since}, {age}{silence}</p></li>'
    ).format(
        repository=foreign(job.repository),
        job=foreign(job.job_id),
        attempt=job.attempt,
        number=job.step_number,
        steps=job.steps,
        step=step,
        word=foreign(job.step),
        progress=path(job.progress),
        since=utc(job.started_at, now),
        age=about(job.age),
        silence=_silence(job.silent),
    )


def _silence(seconds: float | None) -> Markup:
    if seconds is None or seconds <= NOTABLE_SILENCE:
        return Markup("")
    words = Markup('; <span class="warn">no sign of life for {}</span>')
    return words.format(length(seconds - seconds % SILENCE_STEP))


def troubles(failures: Sequence[Past], now: float) -> Markup:
    """Return what went wrong lately, and what to do about it."""
    if not failures:
        return Markup('<h2>Recent errors</h2><p class="soft">None.</p>')
    template = Markup('<h2>Recent errors</h2><ul class="troubles">{}</ul>')
    return template.format(Markup("").join(_trouble(past, now) for past in failures))


def _trouble(past: Past, now: float) -> Markup:
    failure = past.error_class or ""
    advice = Markup('<p class="advice"><b>What to do:</b> {}</p>')
    return Markup(
        "<li><h3><code>{failure}</code> <bdi>{repository}</bdi></h3>"
        "<p>{message}</p>{advice}"
        '<p class="fine soft">{when}, job <code>{job}</code>,'
        " attempt {attempt}: {outcome}</p></li>"
    ).format(
        failure=foreign(failure),
        repository=foreign(past.repository),
        message=foreign(past.message, MESSAGE_LIMIT),
        advice=advice.format(code(_ADVICE[failure])) if failure in _ADVICE else "",
        when=utc(past.ended_at, now),
        job=foreign(past.job_id),
        attempt=past.attempt,
        outcome=_outcome(past)[0],
    )


def jobs(recent: Sequence[Past], now: float) -> Markup:
    """Return the table of the attempts that ended last, the newest first.

    Its roles are said, because a narrow page shows rows as cards, and browsers then forget them.
    """
    if not recent:
        return Markup('<h2>Last jobs</h2><p class="soft">No job has ended here yet.</p>')
    names = (Markup('Ended<span class="zone">, UTC</span>'), *_COLUMNS)
    heading = Markup('<th scope="col" role="columnheader">{}</th>')
    return Markup(
        '<h2>Last jobs</h2><table role="table">'
        "<caption>Attempts that ended here, the newest first</caption>"
        '<thead role="rowgroup"><tr role="row">{headings}</tr></thead>'
        '<tbody role="rowgroup">{rows}</tbody></table>'
    ).format(
        headings=Markup("").join(map(heading.format, names)),
        rows=Markup("").join(_row(past, now) for past in recent),
    )


def _row(past: Past, now: float) -> Markup:
    words, kind = _outcome(past)
    return Markup(
        '<tr role="row"><td role="cell" class="when">{when}</td>'
        '<th scope="row" role="rowheader"><bdi>{repository}</bdi>'
        ' <code class="id">{job}</code></th>'
        '<td role="cell" class="outcome"><span class="{kind}">{words}</span></td>'
        '<td role="cell" class="failure">{failure}</td>'
        '<td role="cell" class="figure">{duration}</td>'
        '<td role="cell" class="figure">{cost}</td></tr>'
    ).format(
        when=moment(past.ended_at, now),
        repository=foreign(past.repository),
        job=foreign(past.job_id),
        kind=kind,
        words=words,
        failure=Markup("<code>{}</code>").format(foreign(past.error_class))
        if past.error_class
        else "",
        duration=length(past.seconds),
        cost=money(past.dollars),
    )


def _outcome(past: Past) -> tuple[str, str]:
    return OUTCOMES.get(past.outcome, (foreign(past.outcome), "idle"))
