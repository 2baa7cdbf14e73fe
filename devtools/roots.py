"""Clean Debian roots, made once and kept: to build the package, to try it, to base an image on.

`python -m devtools.roots SUITE KIND` makes the root if need be and prints where it lies. It needs
root. A root is never modified: who wants to write works in a `layered` copy.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SUITES = ("bookworm", "trixie")
KINDS = ("build", "run", "slim")
TOP = Path(__file__).parents[1]
UNUSED = 14 * 24 * 3600.0  # seconds after which an outdated root is removed

# What a host has before our package comes. No gnupg: apt itself must be able to judge a signature.
RUN = (
    *("systemd", "systemd-sysv", "dbus", "ca-certificates", "python3", "git", "curl", "procps"),
    *("passwd", "apt", "iproute2", "jq"),
)
# What the slim images of Debian leave out.
SLIM = (
    *("path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright"),
    *(f"path-exclude=/usr/share/{name}/*" for name in ("man", "info", "groff", "lintian", "linda")),
    *("path-exclude=/usr/share/locale/*", "path-include=/usr/share/locale/locale.alias"),
)
TOOLS = ("build-essential", "ca-certificates", "fakeroot", "lintian")


def root(suite: str, kind: str) -> Path:
    """Return the root of *kind* (one of KINDS) for *suite*, made now if it was not there.

    Several callers may ask at once. Raises CalledProcessError when it cannot be made.
    """
    content = {"run": RUN, "build": (*TOOLS, *build_dependencies()), "slim": SLIM}[kind]
    recipe = hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]
    kept = cache("roots")
    place = kept / f"{suite}-{kind}-{recipe}"
    with (kept / f"{suite}-{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _make(suite, _slim(content) if kind == "slim" else _with_packages(content), place)
            _remove_outdated(f"{suite}-{kind}-*", place)
        _used(place).touch()
    return place


@contextmanager
def layered(base: Path) -> Iterator[Path]:
    """Give a copy of the root *base* that may be written to, and remove it at the end.

    It is an overlay where the kernel allows one here, else a true copy. Whoever starts processes in
    it ends them before.
    """
    with tempfile.TemporaryDirectory(prefix="fondation-root-") as name:
        above = Path(name)
        copy = above / above.name  # a container is called by it, and two may run at once
        for directory in (copy, above / "upper", above / "work"):
            directory.mkdir()
        # The overlay's top is this directory, not the root's: it must be as open as a root is.
        (above / "upper").chmod(0o755)
        options = f"lowerdir={base},upperdir={above}/upper,workdir={above}/work"
        try:
            run("mount", "-t", "overlay", "-o", options, "overlay", copy)
        except subprocess.CalledProcessError:
            run("cp", "-a", "--reflink=auto", f"{base}/.", copy)
            yield copy
            return
        try:
            yield copy
        finally:
            run("umount", copy)


def entering(
    base: Path, *words: str, network: bool = False, options: Sequence[str] = ()
) -> list[str]:
    """Return the words that run *words* as root in the root *base*, which is not booted.

    The processes are a container's: what is left of them at the end is killed. *options* are
    systemd-nspawn's. Nothing but the given words is taken over from this host's environment.
    """
    if shutil.which("systemd-nspawn") is None:
        _install_on_host("systemd-container")
    reach = "--resolv-conf=copy-host" if network else "--private-network"
    return [
        # The host's cgroups may be of the old kind, which this leaves to the container to bear.
        *("env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "systemd-nspawn", "--quiet"),
        *("--register=no", "--keep-unit", "--pipe", "--as-pid2", f"--directory={base}", reach),
        *options,
        *words,
    ]


def run(*words: str | Path, **environment: str) -> None:
    """Run a program of this host, its output on our standard error; raise CalledProcessError."""
    subprocess.run(words, check=True, stdout=sys.stderr, env=os.environ | environment)


def build_dependencies() -> list[str]:
    """Return the names of the packages in debian/control's Build-Depends."""
    control = TOP / "debian" / "control"
    if not control.exists():
        return []
    field = re.search(
        r"^Build-Depends:(.*?)^\S", control.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    clauses = field[1].split(",") if field else []
    # debhelper-compat is a name for debhelper with a level; apt resolves the other virtual ones.
    names = [re.split(r"[\s(|]", clause.strip())[0] for clause in clauses]
    return sorted({re.sub(r"-compat$", "", name) for name in names if name})


def mirror(etc: Path = Path("/etc")) -> str:
    """Return the address of the archive that this host takes its own Debian packages from."""
    release = (etc / "os-release").read_text(encoding="utf-8")
    found = re.search(r"^VERSION_CODENAME=(\w+)", release, re.MULTILINE)
    codename = found[1] if found else SUITES[0]
    for file in sorted(etc.glob("apt/sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
            fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
            if codename in fields.get("Suites", "").split():
                return str(fields["URIs"].split()[0])
    for file in (etc / "apt/sources.list", *etc.glob("apt/sources.list.d/*.list")):
        lines = file.read_text(encoding="utf-8") if file.exists() else ""
        line = re.search(rf"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+{codename}\s", lines, re.MULTILINE)
        if line:
            return line[1]
    raise SystemExit(f"roots: no apt source of this host has {codename}; a mirror is read there")


def cache(name: str) -> Path:
    """Return a directory that is kept: outside the checkout, so that the next clone has it too."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(above) / "fondation-worker" / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _with_packages(packages: Sequence[str]) -> list[str]:
    """Return mmdebstrap's options for a root with *packages*.

    Without its list of sources the root knows no archive but those that a test gives it.
    """
    include = f"--include={','.join(packages)}"
    return [include, '--customize-hook=rm -f "$1"/etc/apt/sources.list']


def _slim(left_out: Sequence[str]) -> list[str]:
    """Return mmdebstrap's options for a root as the slim images are, by lines for dpkg.

    It knows the archive that it was made from, and nothing else of this host.
    """
    hook = '--customize-hook=rm -f "$1"/etc/hostname "$1"/etc/resolv.conf'
    return [*(f"--dpkgopt={line}" for line in left_out), hook]


def _make(suite: str, options: Sequence[str], place: Path) -> None:
    """Make the root beside its *place* and move it there when it is whole."""
    if shutil.which("mmdebstrap") is None:
        _install_on_host("mmdebstrap")
    sys.stderr.write(f"roots: making {place}\n")
    draft = place.with_name(f"{place.name}.draft")
    _remove(draft)
    minimal = ("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase")
    run(*minimal, *options, suite, draft, mirror())
    draft.rename(place)


def _install_on_host(package: str) -> None:
    """Install a Debian package on this machine."""
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
    run(*apt, "update")
    install = ("install", "--yes", "--no-install-recommends", package)
    run(*apt, *install, DEBIAN_FRONTEND="noninteractive")


def _remove_outdated(pattern: str, place: Path) -> None:
    """Remove the roots of older recipes, unless another checkout used one lately."""
    for other in place.parent.glob(pattern):
        used = _used(other)
        if other != place and used.exists() and time.time() - used.stat().st_mtime > UNUSED:
            _remove(other)
            used.unlink()


def _remove(directory: Path) -> None:
    if directory.exists():
        run("rm", "-rf", "--one-file-system", directory)


def _used(place: Path) -> Path:
    """Return the file beside a root whose time says when it was last asked for."""
    return place.parent / f".{place.name}.used"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m devtools.roots", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("kind", choices=KINDS)
    asked = parser.parse_args()
    sys.stdout.write(f"{root(asked.suite, asked.kind)}\n")
