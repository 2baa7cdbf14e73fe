"""Looks at the deployment: reached, key taken, functions there and fitting, clocks, crons.

Only queries are sent: nothing is claimed, and nothing written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fondation_worker import __version__
from fondation_worker.clock import wall_clock
from fondation_worker.convex import Convex, connect
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.errors import FunctionFailed, Refused, Unreachable
from fondation_worker.queue import LARGEST_SKEW
from fondation_worker.wakeup import PULSE_LIMIT
from fondation_worker.words import length

PROTOCOL = 1  # that this worker speaks; `convex/about.ts` says when it rises
CONVEX, KEY, FUNCTIONS, CLOCK, CRONS = "convex", "worker key", "functions", "clock", "crons"
OPERATOR = "operator key"
_DEPLOY = "deploy the functions of this version: README, Deploy the functions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is known of the deployment, and how to get in."""

    url: str | None
    functions: str
    worker_key: str | None
    operator_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the functions say of themselves; None where they are too old to."""

    protocol: float
    version: str
    skew: float  # seconds that Convex's clock is ahead of this host's
    now: float  # milliseconds, by Convex's clock


async def look_at_deployment(deployment: Deployment) -> Sequence[Finding]:
    """Find out how a worker would fare with it."""
    if deployment.url is None:
        return [_unseen(name, "CONVEX_URL") for name in (CONVEX, KEY, FUNCTIONS, CLOCK, CRONS)]
    async with connect(deployment.url, deployment.functions) as convex:
        try:
            about = await _about(convex, deployment.worker_key)
        except Refused as refusal:
            return [_reached(deployment.url), *_refused(refusal, deployment)]
        except FunctionFailed as failure:
            return [_reached(deployment.url), *_not_deployed(failure, deployment)]
        except Unreachable as silence:
            return [_silent(silence), *(_unseen(n, CONVEX) for n in (KEY, FUNCTIONS, CLOCK, CRONS))]
        pulse = await convex.query("queue:pulse", {"workerKey": deployment.worker_key})
    found = [_reached(deployment.url), ok(KEY, "is accepted")]
    if about is None:
        words = "they are older than this worker, and do not say how much"
        unknown = [warning(FUNCTIONS, words, _DEPLOY), _unseen(CLOCK, FUNCTIONS)]
        return [*found, *unknown, _unseen(CRONS, FUNCTIONS)]
    return [*found, fitting(about), clocks(about.skew), crons(_at(pulse), about.now)]


async def look_at_operator_key(deployment: Deployment) -> Sequence[Finding]:
    """Find out whether the operator's commands would get in; they may be used elsewhere only."""
    if deployment.operator_key is None:
        return [ok(OPERATOR, "is not set here: only the commands about jobs need it")]
    if deployment.url is None:
        return [_unseen(OPERATOR, "CONVEX_URL")]
    try:
        async with connect(deployment.url, deployment.functions) as convex:
            asked = {"operatorKey": deployment.operator_key, "limit": 1.0}
            await convex.query("jobs:list", asked)
    except Refused:
        advice = "its SHA-256 must be in the deployment's FONDATION_OPERATOR_KEY_SHA256"
        return [warning(OPERATOR, "the deployment refuses it", advice)]
    except Unreachable:
        return [_unseen(OPERATOR, CONVEX)]
    return [ok(OPERATOR, "is accepted")]


def fitting(about: About) -> Finding:
    """Judge whether the functions serve this worker: those of its protocol and newer ones do."""
    said = f"version {about.version}, protocol {about.protocol:g}"
    ours = f"this worker is version {__version__}, protocol {PROTOCOL}"
    if about.protocol < PROTOCOL:
        return error(FUNCTIONS, f"they are too old: {said}; {ours}", _DEPLOY)
    return ok(FUNCTIONS, said if about.version == __version__ else f"{said}; {ours}: they fit")


def clocks(skew: float) -> Finding:
    """Judge how far the clocks are apart: *skew* seconds, above 0 where Convex's is ahead."""
    way = "ahead of" if skew > 0 else "behind"
    words = f"Convex's is {length(abs(skew))} {way} this host's"
    if abs(skew) <= LARGEST_SKEW:
        return ok(CLOCK, words)
    advice = "set this host's clock, and keep it right: timedatectl set-ntp true"
    return warning(CLOCK, f"{words}; leases do not mind, but certificates and logs do", advice)


def crons(pulse: float | None, now: float) -> Finding:
    """Judge whether the deployment's crons run; both times are milliseconds by its clock."""
    if pulse is None:
        return ok(CRONS, "have not run yet, as in the first minute after a deploy")
    silence = (now - pulse) / 1000
    if silence <= PULSE_LIMIT:
        return ok(CRONS, f"ran {length(silence)} ago")
    advice = "are they in the deployment's crons.ts (addFondationCrons)? Its dashboard lists them"
    words = f"last ran {length(silence)} ago: expired jobs wait, and push does not work"
    return warning(CRONS, words, advice)


async def _about(convex: Convex, key: str | None) -> About | None:
    """Return what the functions are; None when they are there, and older than that question."""
    before = wall_clock()
    try:
        answer = await convex.query("queue:about", {"workerKey": key})
    except FunctionFailed:
        await convex.query("queue:pulse", {"workerKey": key})  # which every version has
        return None
    skew = answer["now"] / 1000 - (before + wall_clock()) / 2
    now, protocol, version = answer["now"], answer["protocol"], str(answer["version"])
    return About(protocol=protocol, version=version, skew=skew, now=now)


def _at(pulse: Any) -> float | None:
    return None if pulse is None else float(pulse["at"])


def _reached(url: str) -> Finding:
    return ok(CONVEX, f"{url} answers")


def _silent(silence: Unreachable) -> Finding:
    advice = (
        "is CONVEX_URL right (https://NAME.convex.cloud), and the way there open: network, proxy"
    )
    return error(CONVEX, str(silence), advice)


def _refused(refusal: Refused, deployment: Deployment) -> list[Finding]:
    """Return what a refused key means; that the functions refuse it shows that they are there."""
    advice = "its SHA-256 must be in the deployment's FONDATION_WORKER_KEY_SHA256"
    key = error(KEY, f"the deployment refuses it ({refusal.code})", advice)
    if deployment.worker_key is None:
        key = _unseen(KEY, "WORKER_KEY")
    there = ok(FUNCTIONS, "are deployed; which ones, they tell only to a key that they know")
    return [key, there, _unseen(CLOCK, KEY), _unseen(CRONS, KEY)]


def _not_deployed(failure: FunctionFailed, deployment: Deployment) -> list[Finding]:
    where = f"the folder {deployment.functions}" if deployment.functions else "the top folder"
    words = f"they do not answer in {where}: {str(failure).partition('; should it')[0]}"
    advice = f"{_DEPLOY}; or name their folder by CONVEX_FUNCTIONS"
    return [
        _unseen(KEY, FUNCTIONS),
        error(FUNCTIONS, words, advice),
        *(_unseen(name, FUNCTIONS) for name in (CLOCK, CRONS)),
    ]


def _unseen(name: str, because: str) -> Finding:
    return warning(name, f"was not looked at, because of {because}", f"mend {because} first")
