"""The Claude CLI that this program is tested with: its versions, its packages, their hashes.

`pinned/package-lock.json` is the file that developers and tests install from: what was tested is
what is installed.
"""

import json
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.errors import OperatorError

LOCK = Path(__file__).with_name("pinned") / "package-lock.json"
NAME = "@anthropic-ai/claude-code"
OLDEST_TESTED = "2.1.197"  # the newest is the pinned one
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}  # uname(2), and what the packages call it
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The package that holds the program for one kind of machine."""

    name: str
    version: str
    integrity: str  # of its tarball, as Subresource Integrity has it: sha512-BASE64

    @property
    def spec(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{self.version}"


def pinned_version() -> str:
    """Return the version that is installed."""
    return str(_locked()[f"node_modules/{NAME}"]["version"])


def package_for(machine: str, libc: str) -> Package:
    """Return the package for a *machine* as uname(2) names it; raise OperatorError for no such."""
    kind = MACHINES.get(machine)
    if kind is None or libc != "glibc":
        raise OperatorError(
            f"there is no tested Claude CLI for this host ({machine}, {libc or 'unknown libc'}): it"
            f" is for Linux with glibc on {' and '.join(MACHINES)}"
        )
    name = f"{NAME}-linux-{kind}"
    locked = _locked()[f"node_modules/{name}"]
    return Package(name=name, version=locked["version"], integrity=locked["integrity"])


def package_for_this_host() -> Package:
    """Return the package for this host; raise OperatorError where there is none."""
    return package_for(platform.machine(), platform.libc_ver()[0])


def version_in(output: str) -> str | None:
    """Return the version in what `claude --version` printed."""
    found = _VERSION.match(output.strip())
    return found[0] if found else None


def is_tested(version: str) -> bool:
    """Whether *version* is one that this program was tested with, or lies between such."""
    return _numbers(OLDEST_TESTED) <= _numbers(version) <= _numbers(pinned_version())


def range_in_words() -> str:
    """Return the tested versions in words."""
    newest = pinned_version()
    return newest if newest == OLDEST_TESTED else f"{OLDEST_TESTED} to {newest}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _locked() -> dict[str, dict[str, str]]:
    packages: dict[str, dict[str, str]] = json.loads(LOCK.read_text(encoding="utf-8"))["packages"]
    return packages
