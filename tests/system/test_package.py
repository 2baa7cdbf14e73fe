"""The life of the package on a host, in order: installed, configured, upgraded, removed, purged."""

import os
import re
from pathlib import Path

import pytest

from fondation_worker.claude_package import package_for_this_host
from fondation_worker.claude_tarball import by_npm
from tests.outside import Outside, slowly
from tests.system.archive import Archive
from tests.system.conftest import nothing_is_left
from tests.system.machine import Machine
from tests.system.site import CREDENTIALS, WORKER_CONF, Site, service, socket_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

APT_LIMIT = 60  # seconds
OF_OTHERS = ("/proc", "/sys", "/etc/apt", "/var/lib/apt", "/var/cache/apt")


@pytest.fixture(scope="session", autouse=True)
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch the pinned CLI's package; at once, because a machine has no way to a registry."""
    return by_npm(package_for_this_host(), os.environ)(tmp_path_factory.mktemp("npm"))


@pytest.fixture(scope="module")
def bare(machine: Machine, world: Outside) -> Site:
    """Give a machine without the package."""
    return Site(machine=machine, outside=world)


async def nothing_failed(machine: Machine) -> None:
    """Check that no unit of the machine is in the state `failed`."""
    failed = await machine.run("systemctl", "--failed", "--no-legend", "--plain")
    assert failed.stdout == ""


async def test_the_package_is_installed_from_its_signed_repository(
    bare: Site, packages: Archive
) -> None:
    """It starts nothing that would fail, and needs nothing that the machine does not have."""
    await packages.install(bare.machine)
    await nothing_failed(bare.machine)
    target = await bare.machine.show("fondation-worker.target", "UnitFileState", "ActiveState")
    assert target == {"UnitFileState": "enabled", "ActiveState": "active"}
    running = await bare.machine.run("pgrep", "--uid=fondation-worker", check=False)
    assert running.stdout == ""
    version = await bare.machine.run("fondation-worker", "--version")
    assert packages.version in version.stdout


async def test_without_configuration_it_fails_once_and_names_the_file(bare: Site) -> None:
    """In `systemctl status`: no restart loop, and no socket that would start it again."""
    started = await bare.machine.run("systemctl", "start", service(1), check=False)
    assert started.returncode != 0
    shown = await bare.machine.show(service(1), "ActiveState", "NRestarts", "ExecMainStatus")
    assert shown == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78"}
    await bare.become("inactive", socket_of(1))
    status = await bare.machine.run("systemctl", "status", "--full", service(1), check=False)
    assert "CONVEX_URL" in status.stdout
    assert WORKER_CONF in status.stdout


async def test_every_setting_stands_in_the_configuration_as_a_comment(bare: Site) -> None:
    """The shipped file changes nothing, and shows everything."""
    text = await bare.machine.read(WORKER_CONF)
    assert [line for line in text.splitlines() if line and line[0] not in "#["] == []
    for name in ("convex_url", "max_concurrent_jobs", "lease_time", "disk_floor", "drain_time"):
        assert re.search(rf"(?m)^#\s*{name} =", text)


async def test_the_pinned_cli_is_put_in_place(bare: Site, tarball: Path) -> None:
    """On a host without npm and network, from the tarball that npm gives out elsewhere."""
    await bare.machine.copy(tarball, "/srv/claude.tgz")
    await bare.machine.run("fondation-worker", "install-claude", "--tarball", "/srv/claude.tgz")
    found = await bare.machine.run("/opt/fondation-worker/bin/claude", "--version")
    assert package_for_this_host().version in found.stdout


async def test_two_workers_are_enabled_and_each_does_a_job(bare: Site) -> None:
    """Once configured, one command starts them, now and at every boot."""
    await bare.configure()
    await bare.give_secrets()
    await bare.trust_repositories()
    await bare.machine.run("systemctl", "enable", "--now", service(1), service(2))
    await nothing_failed(bare.machine)
    jobs = [await bare.outside.enqueue(f"first {n}", slowly(f"# First {n}\n", 2)) for n in (1, 2)]
    workers = {(await bare.outside.completed(job))["workerId"] for job in jobs}
    assert workers == {f"{bare.machine.suite}-1", f"{bare.machine.suite}-2"}


async def test_an_upgrade_restarts_an_idle_worker_at_once(bare: Site, packages: Archive) -> None:
    """Both of them, and no request is lost; what was enabled and configured stays so."""
    program = await packages.publish_next()
    async with bare.asked_all_the_time() as answers:
        await packages.install(bare.machine)
        for number in (1, 2):
            await becomes(bare, number, program)
            await bare.becomes_ready(number)
    assert set(answers) == {200}
    await nothing_failed(bare.machine)
    assert await bare.machine.read(WORKER_CONF)
    assert (await bare.machine.show(service(1), "UnitFileState"))["UnitFileState"] == "enabled"


async def test_an_upgrade_waits_for_a_run_but_apt_does_not(bare: Site, packages: Archive) -> None:
    """The run ends as it would have; then the new version takes the next job."""
    await bare.stop(2)
    job = await bare.outside.enqueue_held("mid-run")
    await bare.outside.asked("mid-run")
    old = await bare.main_pid()
    program = await packages.publish_next()
    await packages.install(bare.machine)
    assert await bare.main_pid() == old
    waiting = await bare.outside.enqueue("not by the old one")
    bare.outside.release("mid-run")
    await bare.outside.completed(job)
    assert bare.outside.runs("mid-run") == 1

    await becomes(bare, 1, program)
    await bare.outside.completed(waiting)
    (line, *_) = await bare.machine.journal(f"FONDATION_JOB_ID={waiting}")
    assert line["_PID"] != str(old)
    assert line["_PID"] == str(await bare.main_pid())
    await nothing_failed(bare.machine)


async def test_removing_stops_the_workers_and_keeps_what_was_theirs(
    bare: Site, packages: Archive
) -> None:
    """Configuration, keys and state; installed again, all is as it was."""
    await bare.systemctl("start", 2)
    await bare.machine.run("apt-get", "remove", "--yes", "fondation-worker", limit=APT_LIMIT)
    running = await bare.machine.run("pgrep", "--uid=fondation-worker", check=False)
    assert running.stdout == ""
    await nothing_failed(bare.machine)
    assert not await bare.machine.exists("/usr/bin/fondation-worker")
    assert not await bare.machine.exists("/usr/lib/fondation-worker")
    for kept in (WORKER_CONF, f"{CREDENTIALS}/worker-key", "/var/lib/fondation-worker/1"):
        assert await bare.machine.exists(kept)

    await packages.install(bare.machine)
    await nothing_failed(bare.machine)
    await bare.systemctl("start", 1, 2)
    job = await bare.outside.enqueue("after removal")
    await bare.outside.completed(job)


async def test_purging_leaves_nothing(bare: Site, packages: Archive) -> None:
    """No user, unit, link, file or directory; and what was purged can be installed again."""
    await nothing_is_left(bare)
    await bare.machine.run("apt-get", "purge", "--yes", "fondation-worker", limit=APT_LIMIT)
    for database in ("passwd", "group"):
        entry = await bare.machine.run("getent", database, "fondation-worker", check=False)
        assert entry.stdout == ""
    assert await left_of_the_package(bare.machine) == []
    kinds = "--type=service,socket,target"
    units = await bare.machine.run("systemctl", "list-units", "--all", "--no-legend", kinds)
    assert "fondation" not in units.stdout
    await nothing_failed(bare.machine)

    await packages.install(bare.machine)
    await nothing_failed(bare.machine)
    assert "credentials" in (await bare.machine.run("ls", "/etc/fondation-worker")).stdout


async def becomes(site: Site, number: int, program: str) -> None:
    """Wait until a worker runs this version of the program, by what it reports to Convex."""
    label = f"{site.machine.suite}-{number}"

    async def look() -> bool:
        pid = str(await site.main_pid(number))
        lines = await site.events("started", number)
        return any(line["_PID"] == pid and program in line["MESSAGE"] for line in lines)

    await site.machine.until(look, limit=60, what=f"for {label} to be {program}")


async def left_of_the_package(machine: Machine) -> list[str]:
    """Return the paths that name it, but for what apt knows of the archive it came from."""
    passed_over = [word for path in OF_OTHERS for word in ("-path", path, "-prune", "-o")]
    found = await machine.run("find", "/", *passed_over, "-name", "*fondation*", "-print")
    return found.stdout.splitlines()
