"""Where a packaged worker has its things: one instance of the template unit, by its name.

`fondation-worker@N.service` runs with `--instance N`. What that stands for is here, and in the
units of `systemd/`, which must agree; a test compares them.
"""

import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.settings import OPERATOR_KEY

PREFIX = Path("/usr/lib/fondation-worker")  # the package's own Python environment
IMAGE_PREFIX = Path("/usr/local/lib/fondation-worker")  # the container image's
ETC = Path("/etc/fondation-worker")
STATE = Path("/var/lib/fondation-worker")
CACHE = Path("/var/cache/fondation-worker")
RUN = Path("/run/fondation-worker")
USER = "fondation-worker"  # and its group
FOR_ALL = ETC / "worker.conf"
KEPT_SECRETS = ETC / "credentials"
MOUNTED_SECRETS = Path("/run/secrets")  # where container hosts put files of secrets
LOGIN = STATE / "home" / ".claude"  # of the service user, by `claude auth login`
PORT = 8080
MOST_ADDRESSES = 254  # 127.0.0.1 to 127.0.0.254

# The file of each secret below KEPT_SECRETS. systemd hands all of them to the unit, each with the
# name of its LoadCredential= before it.
SECRET_FILES = {
    "WORKER_KEY": "worker-key",
    "OPERATOR_KEY": "operator-key",
    "ANTHROPIC_API_KEY": "anthropic-api-key",
    "CLAUDE_CODE_OAUTH_TOKEN": "claude-oauth-token",
}
CREDENTIAL = "fondation"


@dataclass(frozen=True, slots=True)
class Instance:
    """One worker of this host. *name* is what stands behind the @ of its unit."""

    name: str

    def __post_init__(self) -> None:
        """Raise ValueError for a name that could not be part of a path and of a label."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", self.name):
            raise ValueError(
                "is not the name of an instance: 1 to 32 letters, digits, dots, dashes, underscores"
            )
        if self.name in {FOR_ALL.stem, LOGIN.parent.name}:
            raise ValueError("is the name of something that all instances share")

    @property
    def unit(self) -> str:
        """The name of its service."""
        return f"fondation-worker@{self.name}.service"

    @property
    def files(self) -> tuple[Path, Path]:
        """Its settings: those of all workers here, and its own, which rule."""
        return FOR_ALL, ETC / f"{self.name}.conf"

    @property
    def control_socket(self) -> Path:
        """Where systemd listens for it."""
        return RUN / f"{self.name}.sock"

    def defaults(self, hostname: str) -> dict[str, str]:
        """Return what its settings are, by NAME, where nobody says otherwise."""
        host = re.sub(r"[^A-Za-z0-9._-]", "-", hostname)[: 64 - len(self.name) - 1]
        return {
            "STATE_DIR": str(STATE / self.name),
            "TEMP_DIR": str(CACHE / self.name),
            "CONTROL_SOCKET": str(self.control_socket),
            "HEALTH_ADDRESS": self._health_address(),
            "WORKER_ID": f"{host}-{self.name}" if host else self.name,
            "CLAUDE_CONFIG_DIR": str(LOGIN),
        }

    def _health_address(self) -> str:
        """Return its address: one of its own below 127.0.0.0/8, if its name is a number for it."""
        is_number = re.fullmatch(r"[1-9][0-9]{0,2}", self.name)
        if not is_number or int(self.name) > MOST_ADDRESSES:
            return "off"
        return f"127.0.0.{self.name}:{PORT}"


def is_packaged() -> bool:
    """Whether this program is the one that Debian's package installed."""
    return Path(sys.prefix) == PREFIX


def is_image() -> bool:
    """Whether this program is the one in the container image."""
    return Path(sys.prefix) == IMAGE_PREFIX


def hostname() -> str:
    """Return this host's name, without its domain."""
    return socket.gethostname().partition(".")[0]


def secret_files(environ: Mapping[str, str], *, on_host: bool) -> dict[str, str]:
    """Return NAME_FILE and path of every secret that lies ready.

    They are the unit's credentials (systemd.exec(5)), where there are any; in the container image
    what is mounted; else, for an operator's command *on_host*, what the unit's are made from, as
    far as this user may read it.
    """
    if is_image():
        return mounted_secrets(MOUNTED_SECRETS)
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        found = _there(Path(directory), f"{CREDENTIAL}_")
    else:
        found = _there(KEPT_SECRETS, "") if on_host else iter(())
    return {f"{name}_FILE": str(path) for name, path in found}


def mounted_secrets(directory: Path) -> dict[str, str]:
    """Return NAME_FILE and path of every secret below *directory*.

    Container hosts have rules of their own for names: beside the one of SECRET_FILES, the setting's
    own will do, in capitals or not. Of several the first in this order counts.
    """
    found: dict[str, str] = {}
    for name, file in SECRET_FILES.items():
        for spelling in (file, name, name.lower()):
            if os.access(path := directory / spelling, os.F_OK):
                found.setdefault(f"{name}_FILE", str(path))
    return found


def _there(directory: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for name, file in SECRET_FILES.items():
        path = directory / f"{prefix}{file}"
        if os.access(path, os.F_OK):
            yield name, path


def digests_of_kept() -> dict[str, str]:
    """Return name and SHA-256 of every secret that a worker uses, as far as they can be read."""
    files = [file for name, file in SECRET_FILES.items() if name != OPERATOR_KEY.name]
    digests = {file: _digest(KEPT_SECRETS / file) for file in files}
    return {file: digest for file, digest in digests.items() if digest is not None}


def differing(kept: Mapping[str, str], handed: Path) -> tuple[str, ...]:
    """Return those of the *kept* secrets, by SHA-256, that a process was *handed* otherwise.

    systemd hands them over at a start only. What was handed and is not kept comes from elsewhere: a
    drop-in of the operator's.
    """
    return tuple(
        file
        for file, digest in sorted(kept.items())
        if file in SECRET_FILES.values() and digest != _digest(handed / f"{CREDENTIAL}_{file}")
    )


def _digest(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def running_here() -> tuple[Instance, ...]:
    """Return the instances whose control socket is there, by name."""
    try:
        found = sorted(path.stem for path in RUN.glob("*.sock"))
    except OSError:
        return ()
    return tuple(Instance(name) for name in found)
