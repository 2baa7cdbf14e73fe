"""Looks at the programs that a worker starts: git and the Claude CLI."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fondation_worker.claude_package import is_tested, pinned_version, range_in_words
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.errors import JobError
from fondation_worker.probing import version_of
from fondation_worker.runner import Room
from fondation_worker.words import first_line

GIT, CLI = "git", "claude cli"
OLDEST_GIT = (2, 39)  # Debian 12's: older ones were never tried
GIT_LIMIT = 10.0  # seconds
_INSTALL = "fondation-worker install-claude puts the tested one in its place"


def look_at_git() -> Sequence[Finding]:
    """Find out whether git is there, and new enough."""
    git = shutil.which("git")
    if git is None:
        return [error(GIT, "there is no git on PATH", "apt-get install git")]
    try:
        argv = (git, "--version")
        done = subprocess.run(argv, capture_output=True, check=True, timeout=GIT_LIMIT)
    except (OSError, subprocess.SubprocessError) as failure:
        return [error(GIT, f"{git} does not run: {failure}", "apt-get install --reinstall git")]
    said = first_line(done.stdout.decode(errors="replace"))
    found = re.match(r"git version (\d+)\.(\d+)", said)
    words = f"{git}: {said}"
    if found and (int(found[1]), int(found[2])) >= OLDEST_GIT:
        return [ok(GIT, words)]
    oldest = ".".join(map(str, OLDEST_GIT))
    return [warning(GIT, f"{words}; older ones than {oldest} were never tried", "install a newer")]


def where_the_cli_is(name: str) -> Path | None:
    """Return the Claude CLI's path for the setting CLAUDE_CLI, as a worker's start finds it."""
    found = shutil.which(name)
    return Path(found).absolute() if found else None


def no_cli(name: str) -> Finding:
    """Return that there is none."""
    words = f"{name!r} (CLAUDE_CLI) is no program on this host"
    return error(CLI, words, f"{_INSTALL}; or name another by CLAUDE_CLI")


async def look_at_cli(room: Room, cli: Path, directory: Path) -> Finding:
    """Find out which version it is, in the room that runs have; *directory* is an empty one."""
    try:
        return judge_version(cli, await version_of(room, cli, directory))
    except JobError as failure:
        return error(CLI, str(failure), _INSTALL)


def judge_version(cli: Path, version: str) -> Finding:
    """Judge the *version* that `claude --version` tells."""
    if is_tested(version):
        return ok(CLI, f"{cli} is version {version}, which is tested")
    words = f"{cli} is version {version}; tested are {range_in_words()}"
    advice = f"{_INSTALL} ({pinned_version()}); until then, do the canaries below hold?"
    return warning(CLI, words, advice)
