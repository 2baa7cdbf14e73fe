"""Looks at results that are finished and not handed in: nothing of it is touched or locked."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fondation_worker import entry
from fondation_worker.claims import Deployment
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.entry import Damaged
from fondation_worker.life import LOCK
from fondation_worker.refused import REASON, RefusedResults
from fondation_worker.words import first_line, length

OUTBOX, REFUSED = "outbox", "refused results"
LONG = 600.0  # seconds that a result may wait while its worker runs: the grace of its lease
LOCKS = Path("/proc/locks")
MOST_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished result that waits."""

    place: Path
    age: float  # seconds that it lies there
    is_attended: bool  # its worker runs
    elsewhere: str | None  # the deployment that it belongs to, where that is another one
    damage: str | None


def look_at_outbox(state_dir: Path, deployment: Deployment | None) -> Sequence[Finding]:
    """Find out which results wait below *state_dir*, and which were refused."""
    if not os.access(state_dir, os.F_OK):
        return [ok(OUTBOX, "no result waits: there was no worker here yet")]
    if not os.access(state_dir, os.R_OK | os.X_OK):
        advice = "look with root's rights, or with the worker's user"
        return [warning(OUTBOX, f"{state_dir} cannot be looked into", advice)]
    results = tuple(results_in(state_dir, deployment, time.time()))
    return [*judge_results(results), *_of_refused(state_dir)]


def look_at_neighbours(states: Path, own: Path) -> Sequence[Finding]:
    """Find out whether results wait in the state of another instance that does not run."""
    findings = []
    for state_dir in sorted(each for each in states.glob("*") if each != own):
        left = [r for r in results_in(state_dir, None, time.time()) if not r.is_attended]
        if left:
            words = f"{len(left)} results of instance {state_dir.name} wait, and it does not run"
            advice = f"systemctl start fondation-worker@{state_dir.name} hands them in"
            findings.append(warning(OUTBOX, words, advice))
    return findings


def results_in(state_dir: Path, deployment: Deployment | None, now: float) -> Iterator[Result]:
    """Yield the results in all lives below *state_dir*; *now* is seconds since the epoch."""
    locked = _locked_inodes()
    for place in sorted(state_dir.glob("lives/*/outbox/*")):
        if place.name.startswith("."):  # never finished, or handed in already
            continue
        elsewhere = damage = None
        try:
            found = entry.read(place).deployment
            elsewhere = None if deployment in {None, found} else f"{found.url} {found.functions}"
        except Damaged as failure:
            damage = str(failure)
        try:
            age = now - place.stat().st_mtime
            lock = (place.parents[1] / LOCK).stat().st_ino
        except OSError:  # it was handed in meanwhile
            continue
        yield Result(
            place=place,
            age=age,
            is_attended=lock in locked,
            elsewhere=elsewhere,
            damage=damage,
        )


def judge_results(results: Sequence[Result]) -> list[Finding]:
    """Judge what waits."""
    findings = []
    for each in results:
        if each.damage:
            advice = "the worker moves it to refused/ at its next start; a backup may have it whole"
            findings.append(error(OUTBOX, f"{each.place} is damaged: {each.damage}", advice))
        elif each.elsewhere:
            advice = "start a worker with that CONVEX_URL and CONVEX_FUNCTIONS, and this STATE_DIR"
            words = f"{each.place} belongs to another deployment: {each.elsewhere.strip()}"
            findings.append(warning(OUTBOX, words, advice))
    sound = [each for each in results if not (each.damage or each.elsewhere)]
    left = [each for each in sound if not each.is_attended]
    attended = [each for each in sound if each.is_attended]
    if left:
        words = f"{_many(left)}, and no worker runs that would hand them in"
        findings.append(error(OUTBOX, words, "start the worker: it hands them in first"))
    if attended:
        findings.append(_of_attended(attended))
    return findings or [ok(OUTBOX, "no result waits")]


def _of_attended(attended: Sequence[Result]) -> Finding:
    words = f"{_many(attended)}; the worker that runs offers them every 30 s"
    if max(each.age for each in attended) <= LONG:
        return ok(OUTBOX, words)
    return warning(OUTBOX, words, "its log and its /health say why Convex does not take them")


def _of_refused(state_dir: Path) -> Sequence[Finding]:
    count = RefusedResults(state_dir).count()
    if not count:
        return [ok(REFUSED, "there are none")]
    kept = state_dir / "refused"
    reasons = {_reason(file) for file in sorted(kept.glob(f"*/{REASON}"))}
    said = "; ".join(sorted(reasons)[:MOST_REASONS]) or "without a reason"
    advice = f"they are kept for a week in {kept}: take what you need, and remove them"
    return [warning(REFUSED, f"{count} results could not be handed in: {said}", advice)]


def _reason(file: Path) -> str:
    try:
        return first_line(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "a reason that cannot be read"


def _locked_inodes() -> set[int]:
    """Return the inodes that somebody has locked.

    To try a lock would hold it for a moment, and a worker that starts then would leave the results
    alone. Devices are not compared: some file systems show another one here than stat(2) does.
    """
    try:
        lines = LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    fields = (line.split() for line in lines)
    return {int(each[5].rpartition(":")[2]) for each in fields if each[1] == "FLOCK"}


def _many(results: Sequence[Result]) -> str:
    oldest = length(max(each.age for each in results))
    count = "1 finished result waits" if len(results) == 1 else f"{len(results)} finished results"
    return f"{count} since {oldest}" if len(results) == 1 else f"{count} wait, the oldest {oldest}"
