"""What only this host can tell: of the settings, of its disks and memory, of our environment."""

import ctypes
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fondation_worker import advice, durable
from fondation_worker.admission import Place, Readings
from fondation_worker.config import CREDENTIAL_KINDS, LOGIN_KIND, Config, Survey
from fondation_worker.errors import BadSettings
from fondation_worker.login import Unusable, read_login
from fondation_worker.settings import label

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4  # prctl(2)
PRESSURE_OF_THE_HOST = Path("/proc/pressure/memory")  # absent where the kernel has no PSI
OWN_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
MEMORY_INFO = Path("/proc/meminfo")
_MEMORY = re.compile(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", re.MULTILINE)
_SOME = re.compile(r"^some avg10=([0-9.]+) ", re.MULTILINE)

# What git, the CLI and TLS need of the environment. Everything else is dropped as soon as the
# settings are read, so that no child, and no library that reads os.environ, is handed a secret.
ENVIRONMENT = {
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
}


def drop_environment() -> None:
    """Empty this process's environment down to what its children need, and hide what it was.

    PATH keeps only absolute entries: git and the CLI are started in directories that a repository
    fills. Not being dumpable hides the environment that the kernel remembers from our own user.
    """
    for name in set(os.environ) - ENVIRONMENT:
        del os.environ[name]
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # without git, GitPython would end the program
    os.environ["PATH"] = os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def settled_on_this_host(config: Config) -> Config:
    """Check what only this host can tell; return the settings with their paths made plain.

    Raises BadSettings with every fault.
    """
    login = Path(config.credential.value) if config.credential.is_login else None
    faults = _faults(config.state_dir, config.temp_dir, config.claude_cli, login)
    if faults or (claude_cli := shutil.which(config.claude_cli)) is None:
        raise BadSettings(faults)
    # Absolute, and without links: both are used from within directories that a repository fills.
    return replace(
        config, claude_cli=str(Path(claude_cli).absolute()), temp_dir=config.temp_dir.resolve()
    )


def faults_of_this_host(found: Survey) -> list[str]:
    """Return what is wrong here with those of the settings that are known, while others are not."""
    known, said = found.values, " ".join(found.faults)
    has_other = any(kind in known or kind in said for kind in CREDENTIAL_KINDS)
    login = None if has_other else known.get(LOGIN_KIND)
    return _faults(known["STATE_DIR"], known.get("TEMP_DIR"), known.get("CLAUDE_CLI"), login)


def _faults(
    state_dir: Path, temp_dir: Path | None, claude_cli: str | None, login: Path | None
) -> list[str]:
    """Return what is wrong with these, and with git; None is not looked at."""
    faults: list[str] = []
    for name, directory in (("STATE_DIR", state_dir), ("TEMP_DIR", temp_dir)):
        faults += _directory_faults(name, directory) if directory else ()
    if claude_cli and shutil.which(claude_cli) is None:
        how = advice.to_have_the_cli()
        faults.append(f"CLAUDE_CLI: {claude_cli!r} is not a program here; {how}")
    faults += _login_faults(login) if login else ()
    if shutil.which("git") is None:
        faults.append("PATH: there is no git on it; for example: apt-get install git")
    return faults


def _login_faults(directory: Path) -> Iterator[str]:
    """Yield why there is no login of the CLI in *directory* that this user could use."""
    try:
        read_login(directory)
    except Unusable as trouble:
        yield (
            "the model's credential: no ANTHROPIC_API_KEY and no CLAUDE_CODE_OAUTH_TOKEN is set,"
            f" and {trouble}"
        )


def _directory_faults(name: str, directory: Path) -> Iterator[str]:
    """Make *directory* for this user alone, if it is not there; yield what is wrong with it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        how = advice.to_write(name, directory, error)
        yield f"{name}: {str(directory)!r} cannot be made: {error.strerror}; {how}"
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        how = advice.to_write(name, directory)
        yield f"{name}: {str(directory)!r} cannot be written to by this user; {how}"
    elif found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        how = advice.to_own(name, directory, is_own=found.st_uid == os.geteuid())
        state = "belongs to another user, or others may write to it"
        yield f"{name}: {str(directory)!r} {state}; {how}"


def kept_label(state_dir: Path) -> str:
    """Return the label in the state directory; made the first time. Raises BadSettings.

    Where the disk refuses it, it is good for this process only.
    """
    kept = state_dir / "worker-id"
    try:
        if kept.exists() and (known := kept.read_text(encoding="utf-8").strip()):
            return label(known)
    except (OSError, ValueError) as error:
        fault = f"STATE_DIR: {str(kept)!r} holds no label, or cannot be used: {error}; remove it"
        raise BadSettings([fault]) from error
    made = f"worker-{secrets.token_hex(8)}"
    try:
        durable.put(kept, f"{made}\n".encode())
    except OSError as error:  # a full disk: the gate keeps such a host from claiming
        logger.warning("%s: %s; this label is for this start only: %s", kept, error.strerror, made)
    return made


def readings(config: Config) -> Readings:
    """Return what this host has left for a job. Cheap: it is read before every claim."""
    pressures = [_pressure(file) for file in (PRESSURE_OF_THE_HOST, *_pressure_of_cgroup())]
    return Readings(
        places=(place("TEMP_DIR", config.temp_dir), place("STATE_DIR", config.state_dir)),
        memory_pressure=max((found for found in pressures if found is not None), default=None),
    )


def place(setting: str, directory: Path) -> Place:
    """Return what is left of the file system below *directory*, which *setting* names."""
    free, inodes, trouble = 0, None, None
    try:
        found = os.statvfs(directory)
    except OSError as error:
        trouble = error.strerror
    else:
        free = found.f_bavail * found.f_frsize
        inodes = found.f_favail if found.f_files else None  # some file systems do not count them
        if found.f_flag & os.ST_RDONLY:
            trouble = "it is read-only"
        elif not os.access(directory, os.W_OK | os.X_OK):
            trouble = "this user may not write to it"
    return Place(setting=setting, path=str(directory), free=free, inodes=inodes, trouble=trouble)


def memory() -> tuple[int, int]:
    """Return the bytes of memory that this host has, and those that are available."""
    found = dict(_MEMORY.findall(MEMORY_INFO.read_text(encoding="ascii")))
    return int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024


def _pressure(file: Path) -> float | None:
    """Return the share of the last 10 s in which some task waited for memory, in per cent."""
    try:
        found = _SOME.search(file.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):  # no PSI: nothing to judge by
        return None
    return float(found[1]) if found else None


def _pressure_of_cgroup() -> Iterator[Path]:
    """Yield the file of our own control group, whose limit may be tighter than the host's."""
    try:
        lines = OWN_CGROUP.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::/"):
            yield CGROUPS / line.removeprefix("0::/") / "memory.pressure"
