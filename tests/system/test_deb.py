"""The built package: what is in it, and what it leaves on a host that is not even running."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path

import pytest

from devtools.deb import BUILDER, PLACE, bring_sources, built, inside, repacked
from devtools.roots import SUITES, TOP, entering, layered, root
from fondation_worker import __version__

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1200),  # the first one has to make roots and packages
    pytest.mark.skipif(os.geteuid() != 0, reason="roots need root"),
]

NEWER = "9.0.0"
KEY = "package@example.org"
STRANGER = "stranger@example.org"
PYTHON = {"bookworm": "python3.11", "trixie": "python3.13"}
ENVIRONMENT = "usr/lib/fondation-worker"


class Host:
    """A Debian that is not booted, with a repository of ours and no network."""

    def __init__(self, place: Path, repository: Path, suite: str) -> None:
        self.place = place
        self._repository = repository
        self._suite = suite

    def run(self, *words: str) -> str:
        """Run a program in it; return what it printed."""
        options = [f"--bind={self._repository}:/srv/apt", "--setenv=DEBIAN_FRONTEND=noninteractive"]
        run = subprocess.run(
            entering(self.place, *words, options=options),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{words}: {run.stdout}\n{run.stderr}"
        return run.stdout

    def apt(self, *words: str) -> str:
        """Run apt-get as a careful operator does, who keeps his own configuration."""
        return self.run("apt-get", "--quiet", "--yes", *words)

    def know_repository(self) -> None:
        """Add the repository, by the lines that are given to users."""
        # A throw-away host need not survive a loss of power.
        (self.place / "etc/dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n")
        key = "/etc/apt/keyrings/fondation-worker.asc"
        self.run("cp", "/srv/apt/fondation-worker.asc", key)
        line = f"deb [signed-by={key}] file:/srv/apt {self._suite} main\n"
        (self.place / "etc/apt/sources.list.d/fondation-worker.list").write_text(line)
        self.apt("update")

    def files(self) -> set[str]:
        """Return everything on its disk but what Debian's own tools keep for themselves."""
        own = (
            "var/cache/debconf",
            "var/lib/dpkg",
            "var/lib/apt",
            "var/cache/apt",
            "var/log",
            "var/cache/ldconfig",
            "etc/apt",
        )
        found = (path.relative_to(self.place) for path in self.place.rglob("*"))
        return {str(path) for path in found if not str(path).startswith(own)}

    def accounts(self) -> dict[str, str]:
        """Return its users and groups."""
        return {
            name: (self.place / "etc" / name).read_text() for name in ("passwd", "group", "shadow")
        }


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """Name the Debian that a test is about."""
    return str(request.param)


@pytest.fixture(scope="module")
def deb(suite: str) -> Path:
    """Build the package of this tree."""
    return built(suite)


@pytest.fixture(scope="module")
def content(deb: Path) -> dict[str, tarfile.TarInfo]:
    """Give what is in it, by name."""
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        return {member.name.removeprefix("./"): member for member in tar}


@pytest.fixture(scope="module")
def repository(suite: str, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a place with a signed repository of it, and the signing keys."""
    home = tmp_path_factory.mktemp("signing")
    environment = os.environ | {"GNUPGHOME": str(home / "gpg")}
    (home / "gpg").mkdir(mode=0o700)
    (home / "dist" / suite).mkdir(parents=True)
    shutil.copy(deb, home / "dist" / suite)
    for key in (KEY, STRANGER):
        gpg(home, "--passphrase", "", "--quick-generate-key", key, "ed25519", "sign", "1d")
    sign(home)
    yield home
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


@pytest.fixture
def host(suite: str, repository: Path) -> Iterator[Host]:
    """Make a host that knows the repository."""
    with layered(root(suite, "run")) as place:
        machine = Host(place, repository / "apt", suite)
        machine.know_repository()
        yield machine


def gpg(home: Path, *words: str) -> bytes:
    """Run gpg with the keys of *home*; return its output."""
    environment = os.environ | {"GNUPGHOME": str(home / "gpg")}
    run = subprocess.run(
        ["gpg", "--batch", *words], env=environment, check=True, capture_output=True
    )
    return run.stdout


def sign(home: Path) -> None:
    """Put what is in dist/ of *home* into its repository."""
    script = TOP / "packaging/apt-repository"
    environment = os.environ | {"GNUPGHOME": str(home / "gpg")}
    subprocess.run(
        [script, home / "apt", KEY, home / "dist"], env=environment, check=True, capture_output=True
    )


def offer_newer(repository: Path, suite: str, deb: Path, tmp_path: Path) -> None:
    """Put the next version of *deb* into the repository."""
    shutil.copy(repacked(deb, NEWER, tmp_path), repository / "dist" / suite)
    sign(repository)


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


def test_it_installs_without_network_and_runs(suite: str, deb: Path, host: Host) -> None:
    """All it needs is Debian's. The unit's own user can run it."""
    (host.place / "srv/package").mkdir()
    shutil.copy(deb, host.place / "srv/package")
    host.apt("install", f"/srv/package/{deb.name}")
    said = host.run("runuser", "-u", "fondation-worker", "--", "fondation-worker", "--version")
    assert __version__ in said
    every = (
        "import pkgutil, importlib, fondation_worker as w\n"
        "for m in pkgutil.walk_packages(w.__path__, 'fondation_worker.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        "import systemd.journal, systemd.daemon, _convex, aiohttp._http_parser, msgspec._core"
    )
    host.run(f"/{ENVIRONMENT}/bin/python", "-I", "-W", "error", "-c", every)
    assert PYTHON[suite] in host.run("readlink", "-f", f"/{ENVIRONMENT}/bin/python")


def test_shared_directories_are_roots(host: Host) -> None:
    """What systemd resolves as root, no worker may exchange."""
    host.apt("install", "fondation-worker")
    shown = host.run(
        *("stat", "--format=%n %a %U", "/var/lib/fondation-worker"),
        *("/var/lib/fondation-worker/home", "/var/cache/fondation-worker"),
        *("/etc/fondation-worker", "/etc/fondation-worker/credentials"),
    )
    assert shown.splitlines() == [
        "/var/lib/fondation-worker 755 root",
        "/var/lib/fondation-worker/home 700 fondation-worker",
        "/var/cache/fondation-worker 755 root",
        "/etc/fondation-worker 755 root",
        "/etc/fondation-worker/credentials 700 root",
    ]
    user = host.run("getent", "passwd", "fondation-worker").strip().split(":")
    assert user[5:] == ["/var/lib/fondation-worker/home", "/usr/sbin/nologin"]


def test_a_repository_signed_by_another_is_refused(repository: Path, host: Host) -> None:
    """The signature is what a user trusts, so it must be looked at."""
    key = host.place / "etc/apt/keyrings/fondation-worker.asc"
    key.write_bytes(gpg(repository, "--armor", "--export", STRANGER))
    shutil.rmtree(host.place / "var/lib/apt/lists")
    with pytest.raises(AssertionError, match=r"is not signed|NO_PUBKEY|Missing key"):
        host.apt("update")


def test_removal_keeps_what_the_operator_wrote_and_purge_leaves_nothing(host: Host) -> None:
    """Twice: what is left of a removal must not be in the way of the next installation."""
    files, accounts = host.files(), host.accounts()
    for _ in range(2):
        host.apt("install", "fondation-worker")
        kept = write_what_a_worker_and_an_operator_do(host)
        host.apt("remove", "fondation-worker")
        assert [name for name in kept if not os.path.lexists(host.place / name)] == []
        assert not (host.place / ENVIRONMENT).exists()
        host.apt("install", "fondation-worker")
        assert (host.place / "etc/fondation-worker/worker.conf").read_text() == "[worker]\n"
        host.apt("purge", "fondation-worker")
        assert host.files() - files == set()
        assert files - host.files() == set()
        assert host.accounts() == accounts


def write_what_a_worker_and_an_operator_do(host: Host) -> list[str]:
    """Write files, links and directories; return their names."""
    written = [
        "etc/fondation-worker/worker.conf",
        "etc/fondation-worker/1.conf",
        "etc/fondation-worker/credentials/worker-key",
        "etc/systemd/system/fondation-worker@1.service.d/override.conf",
        "opt/fondation-worker/bin/claude",
        "var/lib/fondation-worker/1/outbox/entry",
        "var/cache/fondation-worker/1/job/file",
    ]
    for name in written:
        path = host.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[worker]\n")
    host.run("systemctl", "enable", "fondation-worker@1.service")
    return [*written, "etc/systemd/system/fondation-worker.target.wants/fondation-worker@1.service"]


def test_the_target_is_enabled_and_no_instance_is(host: Host) -> None:
    """Installing starts nothing, then and at the next boot."""
    host.apt("install", "fondation-worker")
    assert host.run("systemctl", "is-enabled", "fondation-worker.target").strip() == "enabled"
    assert not (host.place / "etc/systemd/system/fondation-worker.target.wants").exists()


def test_an_upgrade_respects_changed_configuration(
    suite: str, deb: Path, repository: Path, host: Host, tmp_path: Path
) -> None:
    """Also what was deleted stays deleted, and the new version runs."""
    host.apt("install", "fondation-worker")
    changed = host.place / "etc/fondation-worker/worker.conf"
    changed.write_text("[worker]\nslots = 2\n")
    (host.place / "etc/default/fondation-worker").unlink()
    offer_newer(repository, suite, deb, tmp_path)
    host.apt("update")
    host.apt("install", "--only-upgrade", "fondation-worker")
    assert NEWER in host.run("fondation-worker", "--version")
    assert changed.read_text() == "[worker]\nslots = 2\n"
    assert not (host.place / "etc/default/fondation-worker").exists()


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
