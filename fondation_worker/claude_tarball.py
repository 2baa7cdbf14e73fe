"""The tarball of the Claude CLI's package: fetched, checked against its hash, one file taken out.

Nothing is unpacked before its hash was found right, and of what is unpacked one file is written.
"""

import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from fondation_worker.claude_package import Package
from fondation_worker.errors import OperatorError
from fondation_worker.settings import OPERATOR_KEY, SETTINGS
from fondation_worker.words import last_words

MEMBER = "package/claude"  # the program
LARGEST = 1024**3  # bytes of the program
CHUNK = 1024**2  # bytes
FETCH_LIMIT = 1800.0  # seconds

Fetch = Callable[[Path], Path]
"""Puts the package's tarball below a directory, and returns where. Raises OperatorError."""


def by_npm(package: Package, environ: Mapping[str, str]) -> Fetch:
    """Return a way to fetch the tarball of *package*: npm, with whatever settings it has here."""

    def fetch(directory: Path) -> Path:
        npm = shutil.which("npm", path=environ.get("PATH"))
        if npm is None:
            raise OperatorError(
                f"npm is not on PATH: apt-get install npm; or run `npm pack {package.spec}` on"
                " another host, and give the file to --tarball"
            )
        argv = (npm, "pack", package.spec, "--ignore-scripts", f"--pack-destination={directory}")
        try:
            done = subprocess.run(
                argv,
                cwd=directory,
                env=_without_secrets(environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=FETCH_LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise OperatorError(f"npm took more than {FETCH_LIMIT / 60:.0f} min") from None
        found = sorted(directory.glob("*.tgz"))
        if done.returncode != 0 or len(found) != 1:
            said = last_words(done.stderr.decode(errors="replace").strip(), 600)
            raise OperatorError(f"npm did not fetch {package.spec}: {said or 'it says nothing'}")
        return found[0]

    return fetch


def from_file(file: Path) -> Fetch:
    """Return a way to take the tarball from *file*: a copy, which nobody else can change."""

    def fetch(directory: Path) -> Path:
        copy = directory / "package.tgz"
        try:
            opened = file.open("rb")
        except OSError as error:
            raise OperatorError(f"{file}: cannot be read: {error.strerror}") from error
        with opened, copy.open("xb") as target:
            shutil.copyfileobj(opened, target, CHUNK)
        return copy

    return fetch


def check_integrity(tarball: Path, package: Package) -> None:
    """Raise OperatorError unless *tarball* is, byte by byte, the one that was tested."""
    with tarball.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha512").digest()
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != package.integrity:
        raise OperatorError(
            f"the tarball is not that of {package.spec}: its hash is {found}, not"
            f" {package.integrity}; nothing was unpacked"
        )


def unpack(tarball: Path, target: Path) -> None:
    """Write the program in *tarball* to *target*; nothing else of it touches the disk.

    Raises OperatorError for an archive that is broken, or that has what no package needs.
    """
    found = 0
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            for member in archive:
                _refuse_strange(member)
                if member.name == MEMBER:
                    found += 1
                    _write(archive, member, target)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OperatorError(f"the tarball is broken: {error}") from error
    if found != 1:
        raise OperatorError(f"the tarball has no {MEMBER}, or several")


def _refuse_strange(member: tarfile.TarInfo) -> None:
    parts = Path(member.name).parts
    if not (member.isreg() or member.isdir()) or ".." in parts or parts[:1] != ("package",):
        raise OperatorError(f"the tarball has an entry that no package has: {member.name!r}")
    if member.size > LARGEST:
        raise OperatorError(f"the tarball has an entry of {member.size} bytes: {member.name!r}")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise OperatorError(f"the tarball's {MEMBER} is no file")
    opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    with content, open(opened, "wb") as file:  # noqa: PTH123 a descriptor, for its mode
        shutil.copyfileobj(content, file, CHUNK)
        file.flush()
        os.fchmod(file.fileno(), 0o755)
        os.fsync(file.fileno())


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    secret = {setting.name for setting in (*SETTINGS, OPERATOR_KEY) if setting.secret}
    return {name: value for name, value in environ.items() if name not in secret}
