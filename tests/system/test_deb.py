"""The built package: what is in it, and what is not."""

import json
import os
import subprocess
import tarfile
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

import pytest

from devtools.deb import BUILDER, PLACE, bring_sources, inside
from devtools.roots import TOP, layered, root
from fondation_worker import __version__

PYTHON = {"bookworm": "python3.11", "trixie": "python3.13"}
ENVIRONMENT = "usr/lib/fondation-worker"


@pytest.fixture(scope="module")
def content(deb: Path) -> dict[str, tarfile.TarInfo]:
    """Give what is in it, by name."""
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        return {member.name.removeprefix("./"): member for member in tar}


def test_it_depends_on_what_it_was_built_with(suite: str, deb: Path) -> None:
    """A module compiled for one minor version of Python is none for the next."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True
    ).stdout
    minor = int(PYTHON[suite].removeprefix("python3."))
    assert f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1})" in fields
    for name in ("git", "ca-certificates", "libsystemd0"):
        assert name in fields
    assert f"Version: {__version__}+deb" in fields


def test_its_python_is_the_hosts(suite: str, content: dict[str, tarfile.TarInfo]) -> None:
    """So that Debian's security updates reach it."""
    python = content[f"{ENVIRONMENT}/bin/{PYTHON[suite]}"]
    target = os.path.normpath(f"/{ENVIRONMENT}/bin/{python.linkname}")
    assert target == f"/usr/bin/{PYTHON[suite]}"
    programs = {Path(name).name for name in content if name.startswith(f"{ENVIRONMENT}/bin/")}
    assert programs == {"fondation-worker", "python", "python3", PYTHON[suite]}


def test_nothing_in_it_is_for_those_who_build(content: dict[str, tarfile.TarInfo]) -> None:
    """No installer, no tests, no sources of what is compiled."""
    unwanted = [
        name
        for name in content
        if f"{ENVIRONMENT}/" in name
        and (
            {"pip", "setuptools", "tests", "test"} & set(Path(name).parts)
            or Path(name).name in {"RECORD", "direct_url.json"}
            or Path(name).suffix in {".c", ".h", ".pyx"}
        )
    ]
    assert unwanted == []


def test_every_module_is_compiled(content: dict[str, tarfile.TarInfo]) -> None:
    """The worker's user could not write the bytecode."""
    modules = [Path(name) for name in content if name.endswith(".py")]
    tag = (
        "cpython-3"
        + next(name for name in content if "site-packages" in name).split("python3.")[1][:2]
    )
    assert len(modules) > 500
    missing = [
        path
        for path in modules
        if f"{path.parent}/__pycache__/{path.stem}.{tag}.pyc" not in content
    ]
    assert missing == []


def test_no_file_names_the_place_of_the_build(deb: Path, tmp_path: Path) -> None:
    """It would be another one on another machine."""
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path], check=True)
    found = subprocess.run(
        ["grep", "-rl", str(PLACE), tmp_path], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_the_lock_file_of_the_claude_cli_is_in_it(content: dict[str, tarfile.TarInfo]) -> None:
    """`install-claude` trusts no other hash."""
    (lock,) = (name for name in content if name.endswith("/pinned/package-lock.json"))
    assert content[lock].size == (TOP / "packaging/claude-cli/package-lock.json").stat().st_size


def test_what_a_fleet_needs_is_in_it(content: dict[str, tarfile.TarInfo]) -> None:
    """Where Prometheus and Grafana are told to look; the rules' own tests stay here."""
    place = "usr/share/fondation-worker"
    lies = {f"{place}/{name}" for name in ("prometheus", "grafana")}
    lies |= {f"{place}/prometheus/{name}" for name in ("scrape.yml", "fondation-worker.rules.yml")}
    lies |= {f"{place}/grafana/{name}" for name in ("fleet.json", "worker.json")}
    assert {name for name in content if name.startswith(f"{place}/")} == lies


def test_modes_and_owners_are_right(content: dict[str, tarfile.TarInfo]) -> None:
    """Keys are for root; everything else is for everybody to read, and for root to write."""
    modes = {"etc/fondation-worker": 0o755, "etc/fondation-worker/credentials": 0o700}
    for name, member in content.items():
        assert (member.uid, member.gid) == (0, 0)
        if not member.issym():
            runs = member.isdir() or name == f"{ENVIRONMENT}/bin/fondation-worker"
            assert member.mode == modes.get(name, 0o755 if runs else 0o644), name


def test_its_bill_of_materials_has_every_dependency(deb: Path, tmp_path: Path) -> None:
    """With the versions that were locked, and where they come from."""
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path], check=True)
    sbom = json.loads((tmp_path / "usr/share/doc/fondation-worker/sbom.cdx.json").read_text())
    (packages,) = tmp_path.glob(f"{ENVIRONMENT}/lib/python3.*/site-packages")
    listed = {(each["name"].lower(), each["version"]) for each in sbom["components"]}
    installed = {(each.name.lower(), each.version) for each in distributions(path=[str(packages)])}
    assert installed - listed == {("fondation-worker", __version__)}
    assert listed <= installed
    assert all(each["purl"].startswith("pkg:pypi/") for each in sbom["components"])


def test_a_source_package_can_be_built(suite: str) -> None:
    """For those who build in their own way, or for another architecture."""
    with layered(root(suite, "build")) as place:
        bring_sources(place)
        inside(place, "dpkg-buildpackage", "--build=source", "--no-sign")
        (archive,) = (place / PLACE.parent).glob("*.tar.xz")
        assert archive.stat().st_uid == int(BUILDER)
        with tarfile.open(archive) as tar:
            names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"debian/rules", "systemd/fondation-worker@.service"} <= names
    assert not {"node_modules", ".venv", "dist", ".git"} & names
