"""The list of checks, in the order in which their findings are read."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fondation_worker.claims import Deployment as Owner
from fondation_worker.clock import wall_clock
from fondation_worker.config import CREDENTIAL_KINDS
from fondation_worker.doctor.canaries import RUN, look_at_canaries
from fondation_worker.doctor.credentials import CREDENTIAL, look_at_credential
from fondation_worker.doctor.deployment import (
    CONVEX,
    OPERATOR,
    look_at_deployment,
    look_at_operator_key,
)
from fondation_worker.doctor.examination import Check, examine, in_a_thread
from fondation_worker.doctor.findings import Finding, error, ok
from fondation_worker.doctor.known import CONFIGURATION, Known, look_at_configuration
from fondation_worker.doctor.places import DISK, NAMES, look_at_directory, look_at_disk
from fondation_worker.doctor.programs import (
    CLI,
    GIT,
    look_at_cli,
    look_at_git,
    no_cli,
    where_the_cli_is,
)
from fondation_worker.doctor.units import UNIT, Units, judge_units, makes
from fondation_worker.doctor.waiting import OUTBOX, look_at_neighbours, look_at_outbox
from fondation_worker.installation import STATE
from fondation_worker.privileges import own_name
from fondation_worker.runner.process import ProcessRoom
from fondation_worker.sources import TOKEN_KIND
from fondation_worker.workspace import Workspace

USER = "user"
CLI_LIMIT = 150.0  # seconds: two starts of a large program, on a host that may be busy


async def check_up(known: Known, units: Units) -> list[Finding]:
    """Look at everything that a worker with these settings needs; never stop at what is wrong."""
    return await examine(
        (
            _quick(CONFIGURATION, partial(look_at_configuration, known)),
            _quick(USER, _who),
            Check(name=CONVEX, look=partial(look_at_deployment, known.deployment), limit=90.0),
            Check(name=OPERATOR, look=partial(look_at_operator_key, known.deployment)),
            _quick(CREDENTIAL, partial(look_at_credential, known.credential, wall_clock())),
            _quick(GIT, look_at_git),
            Check(name=CLI, look=partial(_cli, known), limit=CLI_LIMIT),
            *(_quick(NAMES[setting], look) for setting, look in _directories(known, units)),
            _quick(DISK, partial(_disk, known)),
            _quick(UNIT, partial(judge_units, units)),
            _quick(OUTBOX, partial(_outbox, known)),
        )
    )


def _quick(name: str, look: Callable[[], Sequence[Finding]]) -> Check:
    """Return the check of a function that may block."""
    return Check(name=name, look=partial(in_a_thread, look))


def _who() -> Sequence[Finding]:
    """Tell with whose rights all of this is looked at: a worker has those of its own user."""
    return [ok(USER, f"everything is looked at with the rights of {own_name()}")]


async def _cli(known: Known) -> Sequence[Finding]:
    """Look at the Claude CLI: which it is, and what it heeds of a repository."""
    name = known.claude_cli or "claude"
    cli = where_the_cli_is(name)
    if cli is None:
        return [no_cli(name)]
    is_secret = known.credential and known.credential.kind in CREDENTIAL_KINDS
    kind = known.credential.kind if known.credential and is_secret else TOKEN_KIND
    try:
        made = tempfile.TemporaryDirectory(prefix="fondation-doctor-", ignore_cleanup_errors=True)
        with made as top:
            places, empty, marks = _places(Path(top))
            version = await look_at_cli(ProcessRoom(), cli, empty)
            canaries = await look_at_canaries(ProcessRoom(), cli, kind, places, marks)
            return [version, *canaries]
    except OSError as failure:
        words = f"no run could be made: {failure}"
        return [error(RUN, words, "is there room for temporary files, below /tmp?")]


def _places(top: Path) -> tuple[Workspace, Path, Path]:
    """Make the places of a run, an empty directory, and one for marks."""
    places = Workspace(tree=top / "tree", home=top / "home", scratch=top / "tmp")
    empty, marks = top / "empty", top / "marks"
    for directory in (places.tree, places.home, places.scratch, empty, marks):
        directory.mkdir(mode=0o700)
    return places, empty, marks


def _directories(
    known: Known, units: Units
) -> Sequence[tuple[str, Callable[[], Sequence[Finding]]]]:
    return [
        (setting, partial(look_at_directory, setting, path, is_made=makes(units, path)))
        for setting, path in _paths(known)
    ]


def _disk(known: Known) -> Sequence[Finding]:
    return look_at_disk(_paths(known), known.disk_floor or 0)


def _paths(known: Known) -> Sequence[tuple[str, Path]]:
    paths = (("STATE_DIR", known.state_dir), ("TEMP_DIR", known.temp_dir))
    return [(setting, path) for setting, path in paths if path is not None]


def _outbox(known: Known) -> Sequence[Finding]:
    """Look at the results of this worker; of a packaged one also at those beside it."""
    url, functions = known.deployment.url, known.deployment.functions
    owner = Owner(url=url, functions=functions) if url else None
    findings = [*look_at_outbox(known.state_dir, owner)]
    if known.instance and known.state_dir.parent == STATE:
        findings += look_at_neighbours(STATE, known.state_dir)
    return findings
