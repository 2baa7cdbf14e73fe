"""Builds the container image of this tree, without a container engine (`./dev image`).

The very Dockerfile is built by buildah, from a base that is imported from a clean Debian root under
the name of Debian's own. `built(SUITE)` is for tests: it builds only when no image is of this tree.
"""

import argparse
import configparser
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from devtools.deb import PASSED_ON
from devtools.roots import SUITES, TOP, cache, root, run
from devtools.storage import buildah, container, environment, has, limits, mounted
from devtools.tree import digest

NAME = "localhost/fondation-worker"
WORKER = "Dockerfile"
LOCALCONVEX = "packaging/localconvex/Dockerfile"
KEPT = 4  # images of one kind: those of other checkouts may be in use
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
HOME = "/root"  # of the build's commands
AUTHORITIES = "authorities-of-the-host.crt"
DIFFERENCES = 40  # shown at most


def built(suite: str, *, with_claude: bool = True) -> str:
    """Return the name of the image of this tree for *suite*, built now if it was not there.

    Several callers may ask at once. Raises CalledProcessError when it cannot be built.
    """
    kind = suite if with_claude else f"{suite}-without-claude"
    return _built(suite, kind, WORKER, partial(build, with_claude=with_claude))


def built_localconvex(suite: str) -> str:
    """Return the name of the local Convex backend's image for *suite*, as `built` does."""
    return _built(suite, f"{suite}-localconvex", LOCALCONVEX, build_localconvex)


def _built(suite: str, kind: str, dockerfile: str, make: Callable[[str, str], None]) -> str:
    """Return the name of the image of that *kind*; *make* it for the suite and under that name."""
    with _alone():
        base = _base(suite)
        tree = digest(f"{base} {_time()}", "devtools/image.py", *context(dockerfile))
        name = f"{NAME}:{kind}-{tree[:12]}"
        if not has(name):
            make(suite, name)
        used(name).touch()
        remove_outdated(kind)
    return name


def build(suite: str, name: str, *, with_claude: bool) -> None:
    """Build the image *name*, alone. Nothing of an earlier build is used."""
    _base(suite)  # another checkout may have another idea of it
    time = str(_time())
    arguments = {
        "BASE": f"debian:{suite}-slim",
        "WITH_CLAUDE": str(int(with_claude)),
        "SOURCE_DATE_EPOCH": time,
    }
    # The time is that of the image and of every file in it.
    _build(name, WORKER, arguments, f"--timestamp={time}")


def build_localconvex(suite: str, name: str) -> None:
    """Build the local Convex backend's image *name*, alone."""
    _base(suite)
    _build(name, LOCALCONVEX, {"BASE": f"debian:{suite}-slim"})


def _build(name: str, dockerfile: str, arguments: Mapping[str, str], *options: str) -> None:
    """Build the image *name* of a *dockerfile*, with this host's access to package indexes."""
    sys.stderr.write(f"image: building {name}\n")
    with access() as home:
        run(
            # The other format, OCI's, has no place for a health check.
            *("buildah", "build", "--format=docker", "--pull=never", "--no-cache", "--force-rm"),
            "--identity-label=false",  # which names the version of buildah
            *limits(),
            f"--volume={home}:{HOME}",
            f"--ignorefile={TOP / _ignored(dockerfile)}",
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *options,
            *("--file", TOP / dockerfile, "--tag", name, TOP),
            **environment(),
        )


@contextmanager
def access() -> Iterator[Path]:
    """Give the home directory of a build that reaches its package indexes as this host does.

    It may hold secrets; it is no part of the image, and removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="fondation-home-") as name:
        home = Path(name)
        shutil.copy(TRUSTED, home / AUTHORITIES)
        (home / ".config/pip").mkdir(parents=True)
        with (home / ".config/pip/pip.conf").open("w", encoding="utf-8") as file:
            _for_pip().write(file)
        (home / ".npmrc").write_text("\n".join(_for_npm()) + "\n", encoding="utf-8")
        yield home


def _for_pip() -> configparser.RawConfigParser:
    """Return what this host's pip is configured to, as far as it is about an index."""
    pip = configparser.RawConfigParser()
    pip.read("/etc/pip.conf", encoding="utf-8")
    if not pip.has_section("global"):
        pip.add_section("global")
    for name, value in os.environ.items():
        if name.startswith("PIP_") and PASSED_ON.fullmatch(name):
            pip.set("global", name.removeprefix("PIP_").lower().replace("_", "-"), value)
    pip.set("global", "cert", f"{HOME}/{AUTHORITIES}")
    return pip


def _for_npm() -> list[str]:
    """Return the lines of this user's npm, the registry that it uses here, and whom to trust."""
    own = Path.home() / ".npmrc"
    lines = own.read_text(encoding="utf-8").splitlines() if own.exists() else []
    asked = ("npm", "config", "get", "registry")
    registry = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return [*lines, f"registry={registry}", f"cafile={HOME}/{AUTHORITIES}"]  # the last rules


def archive(name: str, file: Path, tag: str) -> None:
    """Write the image *name* to a *file* that `docker load` reads, which then calls it *tag*."""
    file.unlink(missing_ok=True)
    buildah("push", name, f"docker-archive:{file}:{tag}")


def compressed_size(name: str) -> int:
    """Return the bytes of the layers of an image as a registry would keep them (zstd -3)."""
    with tempfile.TemporaryDirectory() as directory:
        how = ("--compression-format=zstd", "--compression-level=3")
        buildah("push", "--quiet", *how, name, f"oci:{directory}")
        return sum(blob.stat().st_size for blob in Path(directory).glob("blobs/*/*"))


def built_again(suite: str, name: str, *, with_claude: bool) -> list[str]:
    """Build the image *name* a second time; return what is not the same, in words."""
    again = f"{name}-again"
    with _alone():
        build(suite, again, with_claude=with_claude)
        try:
            found = differences(name, again)
        finally:
            buildah("rmi", again)
    return found


def differences(one: str, other: str) -> list[str]:
    """Return the paths that are not the same in two images, with what is there in each.

    Where the files are the same but not the images, it says that, and what an engine is told.
    """
    if (told := _identity(one)) == (told_other := _identity(other)):
        return []
    with mounted(one) as left, mounted(other) as right:
        ours, theirs = dict(_entries(left)), dict(_entries(right))
    return [
        f"{path}: {ours.get(path)} | {theirs.get(path)}"
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    ] or [f"no file, but the image: {told} | {told_other}"]


def _identity(name: str) -> object:
    """Return what an image consists of: the digests of its layers, and its configuration."""
    found = json.loads(buildah("inspect", "--type=image", name))["Docker"]
    # The name of the container that it was made in is a new one each time.
    return found["rootfs"], {**found["config"], "Hostname": None}


def _entries(top: Path) -> Iterator[tuple[str, str]]:
    """Give path and description of everything below *top*."""
    for path in top.rglob("*"):
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        owner = f"{status.st_uid}:{status.st_gid}"
        described = f"{status.st_mode:o} {owner} {int(status.st_mtime)} {content}"
        yield str(path.relative_to(top)), described


def _base(suite: str) -> str:
    """Have the Dockerfile's base of that name, from a clean root; return the name of this one."""
    place = root(suite, "slim")
    mark = f"localhost/debian-slim:{place.name}-{place.stat().st_mtime:.0f}"
    if not has(mark):
        sys.stderr.write(f"image: importing {place}\n")
        with container("scratch") as empty:
            run("cp", "--archive", f"{place}/.", buildah("mount", empty))
            buildah("commit", "--quiet", "--format=docker", "--identity-label=false", empty, mark)
    buildah("tag", mark, f"docker.io/library/debian:{suite}-slim")
    return mark


def context(dockerfile: str = WORKER) -> tuple[str, ...]:
    """Return the names of what an image is made of; a change of anything else needs no new one."""
    ignored = _ignored(dockerfile)
    lines = (TOP / ignored).read_text(encoding="utf-8").splitlines()
    read = (line.removeprefix("!") for line in lines if line.startswith("!"))
    return (ignored, dockerfile, *read)


def _ignored(dockerfile: str) -> str:
    """Return the name of the file that says what of this tree the builder is not sent."""
    own = f"{dockerfile}.dockerignore"
    return own if (TOP / own).exists() else ".dockerignore"


def _time() -> int:
    """Return when this version was made, in seconds, as the package's build has it."""
    changelog = (TOP / "debian/changelog").read_text(encoding="utf-8")
    (signed, *_) = re.findall(r"^ -- .*>  (.*)$", changelog, re.MULTILINE)
    return int(parsedate_to_datetime(signed).timestamp())


@contextmanager
def _alone() -> Iterator[None]:
    """Let nobody else build meanwhile: they share the base, and what is no longer used."""
    with (cache("images") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def used(name: str) -> Path:
    """Return the file whose time says when an image was last asked for."""
    return _marks() / name.removeprefix(f"{NAME}:")


def _marks() -> Path:
    directory = cache("images") / "used"
    directory.mkdir(exist_ok=True)
    return directory


def remove_outdated(kind: str) -> None:
    """Remove those images of a *kind* that were not asked for lately."""
    marks = [mark for mark in _marks().iterdir() if mark.name.rpartition("-")[0] == kind]
    for mark in sorted(marks, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
        # One that a container still has is refused, and goes another time.
        argv = ("buildah", "rmi", f"{NAME}:{mark.name}")
        done = subprocess.run(argv, env=environment(), capture_output=True, check=False)
        if done.returncode == 0:
            mark.unlink()


def main() -> None:
    """Build what is asked for; with --twice once more, and compare."""
    parser = argparse.ArgumentParser(prog="./dev image", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" or ".join(SUITES))
    parser.add_argument("--without-claude", action="store_true", help="leave the Claude CLI out")
    parser.add_argument("--twice", action="store_true", help="build again: is it the same?")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="write it for `docker load`")
    asked = parser.parse_args()
    suites = asked.suites or SUITES
    if unknown := set(suites) - set(SUITES):
        parser.error(f"no such Debian here: {', '.join(unknown)}")
    if asked.archive and len(suites) != 1:
        parser.error("--archive is for one image: name its SUITE")
    for suite in suites:
        name = built(suite, with_claude=not asked.without_claude)
        sys.stdout.write(f"{name}: {_sizes(name)}\n")
        if asked.twice:
            if found := built_again(suite, name, with_claude=not asked.without_claude):
                shown = "\n".join(found[:DIFFERENCES])
                sys.exit(f"image: {name}: a second build is not the same:\n{shown}")
            sys.stdout.write(f"{name}: a second build is the same\n")
        if asked.archive:
            archive(name, asked.archive, "fondation-worker")


def _sizes(name: str) -> str:
    """Return the sizes of an image in words."""
    with mounted(name) as top:
        whole = sum(path.lstat().st_size for path in top.rglob("*"))
    return f"{whole / 1e6:.0f} MB, its layers {compressed_size(name) / 1e6:.0f} MB compressed"


if __name__ == "__main__":
    main()
