"""Puts the pinned Claude CLI on this host: fetched, checked, tried, then switched to.

    PREFIX/claude-VERSION/claude    the program; a directory that is there whole, or not at all
    PREFIX/bin/claude               a link to it, replaced in one step

Whoever runs `claude` there meanwhile has the old one or the new one, and never a part of one.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fondation_worker import durable
from fondation_worker.claude_package import Package, version_in
from fondation_worker.claude_tarball import Fetch, check_integrity, unpack
from fondation_worker.errors import OperatorError
from fondation_worker.privileges import child_rights
from fondation_worker.words import last_words

PREFIX = Path("/opt/fondation-worker")
PROGRAM = "claude"
TRIAL_LIMIT = 60.0  # seconds
_VERSION = re.compile(r"claude-\d+\.\d+\.\d+[\w.+-]*")  # what holds one version
_DRAFT = re.compile(rf"\.{_VERSION.pattern}\.[0-9a-f]{{8}}")  # what one is made in


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What came of an installation."""

    program: Path  # the link
    version: str
    was_there: bool
    removed: tuple[str, ...]  # names of directories of other versions
    kept: tuple[str, ...]  # those that a process runs from


def install(prefix: Path, package: Package, fetch: Fetch) -> Installed:
    """Have *package* below *prefix*, and the link point to it. Raises OperatorError.

    Other versions are removed, but for those that a process runs. A failure leaves what was there.
    """
    try:
        with _alone_in(prefix):
            place = prefix / f"claude-{package.version}"
            was_there = place.is_dir() and not _complaint(place / PROGRAM, package.version)
            if not was_there:
                _put(place, package, fetch)
            link = _switched(prefix, place)
            removed, kept = _without_others(prefix, place)
    except OSError as error:
        raise OperatorError(_in_words(error, prefix)) from error
    return Installed(
        program=link,
        version=package.version,
        was_there=was_there,
        removed=removed,
        kept=kept,
    )


def _put(place: Path, package: Package, fetch: Fetch) -> None:
    """Make the directory *place* with the program in it, whole and tried, or raise."""
    with _draft(place) as draft:
        tarball = fetch(_made(draft / "fetched"))
        check_integrity(tarball, package)
        unpack(tarball, draft / PROGRAM)
        shutil.rmtree(draft / "fetched")
        if complaint := _complaint(draft / PROGRAM, package.version):
            raise OperatorError(f"{package.spec} does not run here: {complaint}")
        if place.exists():  # one that does not answer
            shutil.rmtree(place)
        durable.settle(draft)
        draft.rename(place)
    durable.settle(place.parent)


def _complaint(program: Path, version: str) -> str | None:
    """Return why *program*, run, does not say that it is *version*; None when it does."""
    rights = child_rights()
    try:
        done = subprocess.run(
            (str(program), "--version"),
            cwd="/",
            env={"PATH": os.defpath, "HOME": "/nonexistent", "DISABLE_AUTOUPDATER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TRIAL_LIMIT,
            start_new_session=True,
            **rights,
        )
    except OSError as error:
        return f"{error.strerror} (user {rights.get('user', os.geteuid())})"
    except subprocess.TimeoutExpired:
        return f"`claude --version` does not end within {TRIAL_LIMIT:g} s"
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    if done.returncode == 0 and version_in(said) == version:
        return None
    return f"`claude --version` ended with status {done.returncode}: {last_words(said, 300)}"


def _switched(prefix: Path, place: Path) -> Path:
    """Let the link name *place*, at once for everybody; return the link."""
    link = _made(prefix / "bin") / PROGRAM
    target = os.path.relpath(place / PROGRAM, link.parent)
    if not (link.is_symlink() and os.readlink(link) == target):  # noqa: PTH115 as it is written
        new = link.with_name(f".{PROGRAM}.{secrets.token_hex(4)}")
        new.symlink_to(target)
        try:
            new.replace(link)
        except OSError:
            new.unlink()
            raise
        durable.settle(link.parent)
    return link


def _without_others(prefix: Path, place: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove other versions; return the names of those that went, and of those that are in use."""
    others = [each for each in _ours(prefix, _VERSION) if each != place]
    running = _running_programs()
    kept = [each for each in others if any(exe.is_relative_to(each) for exe in running)]
    for each in set(others) - set(kept):
        shutil.rmtree(each)
    return tuple(each.name for each in others if each not in kept), tuple(e.name for e in kept)


def _ours(prefix: Path, name: re.Pattern[str]) -> list[Path]:
    """Return the directories of a *name* that an installation gives: a prefix may be shared."""
    found = (each for each in prefix.iterdir() if name.fullmatch(each.name))
    return sorted(each for each in found if each.is_dir() and not each.is_symlink())


def _running_programs() -> set[Path]:
    """Return the programs of all processes that this user may look at: root, of all."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add((process / "exe").readlink())
        except OSError:  # it ended, or is somebody else's
            continue
    return found


@contextmanager
def _alone_in(prefix: Path) -> Iterator[None]:
    """Let nobody else install below *prefix* meanwhile, and clear what one that died has left."""
    opened = os.open(_made(prefix), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(f"{prefix}: another installation is at work there") from None
        for left in _ours(prefix, _DRAFT):
            shutil.rmtree(left)
        yield
    finally:
        os.close(opened)


@contextmanager
def _draft(place: Path) -> Iterator[Path]:
    """Give a new directory beside *place*; it is removed unless it got another name."""
    draft = _made(place.with_name(f".{place.name}.{secrets.token_hex(4)}"))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _made(directory: Path) -> Path:
    """Return *directory*, made for everybody to read where it was not there."""
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    return directory


def _in_words(error: OSError, prefix: Path) -> str:
    where = error.filename or prefix
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{prefix}: no space left: the Claude CLI takes 350 MiB while it is installed"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{where}: {error.strerror}; run it as root, or name another place by --prefix"
    return f"{where}: {error.strerror or error}"
