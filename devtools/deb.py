"""Builds the Debian package of this tree, in a clean root of the release it is for (`./dev deb`).

`built(SUITE)` is for tests: it builds only when dist/SUITE is not of this tree.
"""

import argparse
import fcntl
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from devtools.roots import SUITES, TOP, entering, layered, root, run
from devtools.tree import digest, listed

DIST = TOP / "dist"
BUILDER = (
    "1000"  # user and group of the build inside its root; no process of the host has its files
)
PLACE = Path("build/fondation-worker")  # where the sources lie in the root; the same in every build

# What a package is made of; a change of anything else needs no new build.
SOURCES = (
    *("debian", "devtools", "fondation_worker", "packaging", "requirements", "systemd"),
    *("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"),
)
# How the host reaches its package index, and whom it trusts there.
PASSED_ON = re.compile(
    r"PIP_(EXTRA_)?INDEX_URL|PIP_(CERT|TRUSTED_HOST|DEFAULT_TIMEOUT)|SSL_CERT_FILE|(HTTPS?|NO)_PROXY",
    re.IGNORECASE,
)
TRUST = (Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt"))


def built(suite: str) -> Path:
    """Return the package of this tree for *suite*, built and checked by lintian if need be."""
    place = DIST / suite
    place.mkdir(parents=True, exist_ok=True)
    stamp = place / ".tree"
    with (DIST / f".{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree = digest(root(suite, "build").name, *SOURCES)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != tree:
            shutil.rmtree(place)
            place.mkdir()
            build(suite, place)
            stamp.write_text(tree, encoding="utf-8")
    (deb,) = place.glob("*.deb")
    return deb


def build(suite: str, into: Path) -> None:
    """Build for *suite*, in a clean root, and put .deb, .buildinfo and .changes *into* a directory.

    Raises CalledProcessError when the build fails, or when lintian has an error or a warning.
    """
    sys.stderr.write(f"deb: building for {suite}\n")
    with layered(root(suite, "build")) as place:
        bring_sources(place)
        inside(place, "dpkg-buildpackage", "--build=binary", "--no-sign")
        (changes,) = (place / PLACE.parent).glob("*.changes")
        inside(place, "lintian", "--fail-on=error,warning", f"../{changes.name}")
        for made in (place / PLACE.parent).glob("fondation-worker_*"):
            shutil.copy(made, into)


def bring_sources(place: Path) -> None:
    """Copy this tree, what git ignores left out, into the root at *place*, for its builder."""
    sources = place / PLACE
    sources.mkdir(parents=True)
    for name in listed("."):
        target = sources / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, target, follow_symlinks=False)
    for file in TRUST:
        if file.exists():
            shutil.copy(file, place / file.relative_to("/"))
    run("chown", "--recursive", f"{BUILDER}:{BUILDER}", sources.parent)


def inside(place: Path, *words: str) -> None:
    """Run a program as the builder, among the sources in the root at *place*, with network."""
    # By name: a value may be a secret, and arguments are public.
    passed_on = [f"--setenv={name}" for name in os.environ if PASSED_ON.fullmatch(name)]
    options = [f"--chdir=/{PLACE}", f"--setenv=HOME=/{PLACE.parent}", *passed_on]
    builder = ("setpriv", f"--reuid={BUILDER}", f"--regid={BUILDER}", "--clear-groups")
    run(*entering(place, *builder, *words, network=True, options=options))


def repacked(deb: Path, version: str, into: Path) -> Path:
    """Write the package *deb* anew as *version* (a program's version, as 0.2.0) *into* a directory.

    Only what names the version differs: this is the next release, for tests of an upgrade.
    """
    tree = into / f"tree-{version}"
    run("dpkg-deb", "--raw-extract", deb, tree)
    control = tree / "DEBIAN" / "control"
    text = control.read_text(encoding="utf-8")
    old = re.findall(r"^Version: (.+?)(\+deb\d+)?$", text, re.MULTILINE)[0][0]
    control.write_text(
        re.sub(r"(?m)^(Version: )[^+\n]+", rf"\g<1>{version}", text), encoding="utf-8"
    )
    (module,) = tree.glob(
        "usr/lib/fondation-worker/lib/python3.*/site-packages/fondation_worker/__init__.py"
    )
    code = module.read_text(encoding="utf-8").replace(f'"{old}"', f'"{version}"')
    module.write_text(code, encoding="utf-8")
    # Its bytecode is never checked against it.
    for compiled in (module.parent / "__pycache__").glob("__init__.*"):
        compiled.unlink()
    made = into / deb.name.replace(old, version, 1)
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, made)
    shutil.rmtree(tree)
    return made


def _differences(one: Path, other: Path) -> list[str]:
    """Return the names of the packages that are not the same in two directories."""
    return [
        deb.name for deb in one.glob("*.deb") if deb.read_bytes() != (other / deb.name).read_bytes()
    ]


def main() -> None:
    """Build what is asked for; with --twice once more, and compare."""
    parser = argparse.ArgumentParser(prog="./dev deb", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=" or ".join(SUITES))
    parser.add_argument("--twice", action="store_true", help="build again: is it the same?")
    asked = parser.parse_args()
    for suite in asked.suites or SUITES:
        deb = built(suite)
        sys.stdout.write(f"{deb.relative_to(TOP)}\n")
        if asked.twice:
            with tempfile.TemporaryDirectory() as again:
                build(suite, Path(again))
                if _differences(deb.parent, Path(again)):
                    sys.exit(f"deb: {deb.name}: a second build is not the same")
    if owner := os.environ.get("SUDO_UID"):
        run("chown", "--recursive", owner, DIST)


if __name__ == "__main__":
    main()
