"""The units as systemd sees them."""

import json

import pytest

from tests.system.site import Site, service, socket_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEMPLATE = "fondation-worker@.service"
EXPOSURE_LIMIT = "15"  # tenths


async def test_systemd_has_nothing_to_say_about_the_units(site: Site) -> None:
    """No unknown line, no missing program; a page of the manual is for a host with `man`."""
    units = (service(1), socket_of(1), "fondation-worker.target", "fondation-worker.slice")
    checked = await site.machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert checked.stderr == ""


async def test_the_sandbox_is_tight(site: Site) -> None:
    """As shipped, and as running; jobs are done in it in the other tests."""
    path = (await site.machine.show(service(1), "FragmentPath"))["FragmentPath"]
    for words in (("--offline=true", path), ("--offline=false", service(1))):
        await site.machine.run(
            *("systemd-analyze", "security", "--no-pager"),
            *(f"--threshold={EXPOSURE_LIMIT}", *words),
        )


async def test_what_the_unit_promises_is_in_force(site: Site) -> None:
    """What a test with a drop-in of its own would not see."""
    wanted = {
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogUSec": "1min",
        "WatchdogSignal": "6",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "Restart": "on-failure",
        "RestartPreventExitStatus": "78",
        "RestartForceExitStatus": "75",
        "Slice": "fondation-worker.slice",
        "User": "fondation-worker",
        "NoNewPrivileges": "yes",
        "TasksMax": "1024",
        "LimitCORE": "0",
    }
    assert await site.machine.show(service(1), *wanted) == wanted
    steps = await site.machine.show(service(1), "RestartSteps", "RestartMaxDelayUSec")
    newer = {"RestartSteps": "8", "RestartMaxDelayUSec": "2min"}
    assert steps == (newer if site.machine.suite != "bookworm" else {})


async def test_no_secret_is_in_the_units_environment(site: Site) -> None:
    """Not in what systemd shows, nor in what the kernel remembers, nor in an argument."""
    secrets = [site.outside.keys.worker, site.outside.keys.operator]
    shown = await site.machine.run("systemctl", "show", service(1))
    pid = await site.main_pid()
    remembered = [await site.machine.read(f"/proc/{pid}/{name}") for name in ("environ", "cmdline")]
    for secret in secrets:
        assert all(secret not in text for text in (shown.stdout, *remembered))
    journal = await site.machine.run("journalctl", "--no-pager", "--output=verbose", "--all")
    assert all(secret not in journal.stdout for secret in secrets)


async def test_what_is_shared_belongs_to_root(site: Site) -> None:
    """A worker writes only below what is its own: above, root resolves paths."""
    owners = {
        "/run/fondation-worker": "root:root 755",
        "/run/fondation-worker/1.sock": "root:fondation-worker 660",
        "/var/lib/fondation-worker": "root:root 755",
        "/var/lib/fondation-worker/home": "fondation-worker:fondation-worker 700",
        "/var/lib/fondation-worker/1": "fondation-worker:fondation-worker 700",
        "/var/cache/fondation-worker": "root:root 755",
        "/var/cache/fondation-worker/1": "fondation-worker:fondation-worker 700",
        "/etc/fondation-worker/credentials": "root:root 700",
    }
    found = await site.machine.run("stat", "--format=%n=%U:%G %a", *owners)
    assert dict(line.split("=") for line in found.stdout.splitlines()) == owners


async def test_the_doctor_finds_no_fault(site: Site) -> None:
    """Real sandbox, real CLI with its canaries; only what this test and this host lack is told."""
    await site.becomes_ready()
    seen = await site.machine.run("fondation-worker", "doctor", "-i", "1", "--json", check=False)
    report = json.loads(seen.stdout)
    told = {each["name"] for each in report["findings"] if each["level"] != "ok"}
    assert told <= {"unit", "memory control"}, told  # it is not enabled; no controllers here
    assert "sandbox" in {each["name"] for each in report["findings"]}
    assert report["errors"] == 0
