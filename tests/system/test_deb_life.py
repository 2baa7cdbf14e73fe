"""What the package does to a host that is not running, and what it leaves there."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.deb import repacked
from devtools.roots import layered, root
from fondation_worker import __version__
from tests.system.unbooted import STRANGER, Host, gpg, sign, signed

NEWER = "9.0.0"
ENVIRONMENT = "usr/lib/fondation-worker"


@pytest.fixture(scope="module")
def repository(suite: str, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a place with a signed repository of it, and the signing keys."""
    with signed(deb, suite, tmp_path_factory.mktemp("signing")) as home:
        yield home


@pytest.fixture
def host(suite: str, repository: Path) -> Iterator[Host]:
    """Make a host that knows the repository."""
    with layered(root(suite, "run")) as place:
        machine = Host(place, repository / "apt", suite)
        machine.know_repository()
        yield machine


def test_it_installs_without_network_and_runs(deb: Path, host: Host) -> None:
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
    shutil.copy(repacked(deb, NEWER, tmp_path), repository / "dist" / suite)
    sign(repository)
    host.apt("update")
    host.apt("install", "--only-upgrade", "fondation-worker")
    assert NEWER in host.run("fondation-worker", "--version")
    assert changed.read_text() == "[worker]\nslots = 2\n"
    assert not (host.place / "etc/default/fondation-worker").exists()
