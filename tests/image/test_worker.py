"""The image does what the package does: a worker in a container, from its start to its end."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.image.dock import HARDENED, Dock
from tests.processes import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBE = "for p in /proc/[0-9]*/stat; do cat $p; done 2>/dev/null"  # every process of a container
LOOK = 0.05  # seconds


async def stats(dock: Dock, name: str) -> list[tuple[str, str]]:
    """Return name and state of every process in a container."""
    listed = (await dock.docker("exec", name, "sh", "-c", PROBE)).out.splitlines()
    split = (line.partition("(")[2].rpartition(")") for line in listed)
    return [(process, rest.split()[0]) for process, _, rest in split]


async def names(dock: Dock, name: str) -> list[str]:
    """Return the names of all processes in a container, of those that nobody reaped as well."""
    return [process for process, _ in await stats(dock, name)]


async def commands(dock: Dock, name: str) -> str:
    """Return the command lines in a container, each on a line."""
    script = "for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$p; echo; done 2>/dev/null"
    return (await dock.docker("exec", name, "sh", "-c", script)).out


async def test_a_job_is_done_with_the_least_rights(dock: Dock) -> None:
    """Read-only, without a capability, without more privileges, with limits: as documented."""
    await dock.start("least", *HARDENED, WORKER_ID="worker-7")
    await dock.becomes_ready("least")
    await dock.outside.completed(await dock.outside.enqueue("with the least rights"))
    health = await dock.health("least")
    assert (health["status"], health["workerId"]) == ("healthy", "worker-7")
    assert (await dock.page("least", "/metrics"))[0] == 200
    told = {line.get("event") for line in dock.said("least")}
    assert {"started", "job_claimed", "job_completed"} <= told
    assert (await dock.state("least"))["Health"]["Status"] == "healthy"
    await dock.remove("least")


async def test_a_stop_gives_a_running_job_back(dock: Dock) -> None:
    """Within the ten seconds that docker gives, unspent, with status 0: nothing is killed."""
    await dock.start("stopped")
    job_id = await dock.outside.enqueue_held("stopped over")
    await dock.outside.asked("stopped over")
    await dock.docker("stop", "stopped")
    state = await dock.state("stopped")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    row = await dock.outside.job_in(job_id, "pending")
    assert row["attempts"] == 0
    assert dock.said("stopped")[-1]["event"] == "stopped"
    await dock.outside.queue.cancel(job_id)
    await dock.remove("stopped")


async def test_a_stop_lets_a_job_end_that_soon_does(dock: Dock) -> None:
    """DRAIN_TIME fits below what docker gives: its result is saved before the end."""
    await dock.start("drained")
    job_id = await dock.outside.enqueue_held("drained")
    await dock.outside.asked("drained")
    stopping = asyncio.create_task(dock.docker("stop", "drained"))
    await until(lambda: "stop" in dock.messages("drained"), what="for the stop to be heard")
    dock.outside.release("drained")
    await stopping
    assert (await dock.state("drained"))["ExitCode"] == 0
    await dock.outside.completed(job_id)
    await dock.remove("drained")


async def test_what_a_killed_cli_leaves_is_killed_and_reaped(dock: Dock) -> None:
    """A program that it started in a session of its own, too; and nothing stays a zombie."""
    wrapper = dock.give(
        "claude", '#!/bin/sh\nsetsid sleep 4242 &\nexec /opt/fondation-worker/bin/claude "$@"\n'
    )
    (dock.srv / "claude").chmod(0o755)
    mount = ("-v", f"{wrapper}:/usr/local/bin/wrapped:ro")
    await dock.start("orphans", *mount, CLAUDE_CLI="/usr/local/bin/wrapped")
    job_id = await dock.outside.enqueue_held("orphans")
    await dock.outside.asked("orphans")
    assert "sleep 4242" in await commands(dock, "orphans")
    for pid in await dock.runs_of_claude("orphans"):
        os.kill(pid, signal.SIGKILL)
    row = await dock.outside.job_in(job_id, "pending")
    assert "killed" in str(row["lastError"])
    assert "sleep 4242" not in await commands(dock, "orphans")
    assert "Z" not in [state for _, state in await stats(dock, "orphans")]
    await dock.outside.queue.cancel(job_id)
    await dock.remove("orphans")


async def test_a_strangers_orphan_is_reaped_by_the_first_process(dock: Dock) -> None:
    """Who looks into a container leaves processes that nobody else waits for."""
    await dock.start("reaped")
    await dock.becomes_ready("reaped")
    await dock.docker("exec", "reaped", "sh", "-c", "sleep 2 >/dev/null 2>&1 &")
    assert "sleep" in await names(dock, "reaped")
    deadline = asyncio.get_running_loop().time() + 15
    while "sleep" in (listed := await names(dock, "reaped")):  # a zombie keeps its name
        assert asyncio.get_running_loop().time() < deadline, listed
        await asyncio.sleep(LOOK)
    assert (await commands(dock, "reaped")).startswith("/usr/bin/tini -- fondation-worker run")
    await dock.remove("reaped")


async def test_a_worker_that_dies_is_started_again_and_reports_what_it_died_over(
    dock: Dock,
) -> None:
    """SIGKILL, in the middle of a job: the next life in the same container clears and reports."""
    await dock.start("killed", "--restart", "unless-stopped", WORKER_ID="killed")
    job_id = await dock.outside.enqueue_held("killed")
    await dock.outside.asked("killed")
    container = dock.docker.container("killed")
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text("ascii")
    os.kill(int(children.split()[0]), signal.SIGKILL)
    await until(lambda: container.restarts == 1, what="for a restart")
    await dock.outside.make_due(job_id)
    dock.outside.release("killed")
    row = await dock.outside.completed(job_id)
    assert row["attempts"] == 2
    assert dock.outside.runs("killed") == 2
    await dock.remove("killed")


async def test_another_user_works_with_directories_of_its_own(dock: Dock) -> None:
    """Any number: it needs neither a name nor a home."""
    state = dock.directory("state-2000", user=2000)
    await dock.start("other", "--user=2000", *HARDENED, "-v", f"{state}:/var/lib/fondation-worker")
    await dock.outside.completed(await dock.outside.enqueue("as another user"))
    assert (await dock.docker("exec", "other", "id", "-u")).out == "2000\n"
    assert {path.stat().st_uid for path in (dock.srv / "state-2000").iterdir()} == {2000}
    await dock.remove("other")


async def test_a_group_s_directory_serves_a_member_of_the_group(dock: Dock) -> None:
    """As Kubernetes gives volumes (fsGroup): root's, and the group may write."""
    state = dock.directory("state-group", user=0, mode=0o2770)
    os.chown(dock.srv / "state-group", 0, 1001)
    await dock.start("group", "-v", f"{state}:/var/lib/fondation-worker")
    await dock.outside.completed(await dock.outside.enqueue("in a group's directory"))
    await dock.remove("group")


async def test_two_workers_share_their_volumes_and_do_not_disturb_each_other(dock: Dock) -> None:
    """One login, one work directory, one state: each has its own part, and its own socket."""
    creds, work = dock.log_in("shared-creds"), dock.directory("shared-work")
    shared = (
        *("-v", f"{creds}:/home/worker/.claude:ro", "-v", f"{work}:/work"),
        *("-v", "shared-state:/var/lib/fondation-worker"),
    )
    for name in ("one", "two"):
        await dock.start(name, *shared, model=False, WORKER_ID=name, TEMP_DIR="/work")
        await dock.becomes_ready(name)
    jobs = [await dock.outside.enqueue_held(f"shared {n}") for n in (1, 2)]
    for n in (1, 2):
        await dock.outside.asked(f"shared {n}")
    for name in ("one", "two"):
        told = await dock.docker("exec", name, "fondation-worker", "health", "--json")
        health = json.loads(told.out)
        assert (health["workerId"], health["activeJobs"]) == (name, 1)
    await dock.docker("kill", "-s", "KILL", "one")
    rows = [await dock.outside.queue.job(job) for job in jobs]
    (lost,) = (row["id"] for row in rows if row["workerId"] == "one")
    (kept,) = (row["id"] for row in rows if row["workerId"] == "two")
    dock.outside.release(f"shared {jobs.index(kept) + 1}")
    await dock.outside.completed(kept)
    # Its neighbour is alive, and finds no reason to touch what is not over.
    assert (await dock.health("two"))["status"] == "healthy"
    dock.outside.release(f"shared {jobs.index(lost) + 1}")
    await dock.docker("start", "one")
    await dock.outside.make_due(lost)
    await dock.outside.completed(lost)
    await dock.remove("one", "two")
    await dock.docker("volume", "rm", "shared-state")


async def test_an_upgrade_hands_in_what_waits_in_the_volume(dock: Dock) -> None:
    """A result that Convex could not take outlives its container."""
    await dock.start("before", "-v", "waiting:/var/lib/fondation-worker")
    job_id = await dock.outside.enqueue_held("waiting in a volume")
    await dock.outside.asked("waiting in a volume")
    with dock.outside.backend.halted():
        dock.outside.release("waiting in a volume")
        await until_waiting(dock, "before")
        await dock.docker("stop", "before")
    await dock.remove("before")
    await dock.start("after", "-v", "waiting:/var/lib/fondation-worker")
    await dock.outside.completed(job_id)
    assert dock.outside.runs("waiting in a volume") == 1
    await dock.remove("after")
    await dock.docker("volume", "rm", "waiting")


async def until_waiting(dock: Dock, name: str) -> None:
    """Wait until a worker has a result that Convex has not taken."""
    deadline = asyncio.get_running_loop().time() + 30
    while (await dock.page(name, "/health"))[0] == 0 or not (await dock.health(name))["outbox"][
        "waiting"
    ]:
        assert asyncio.get_running_loop().time() < deadline, dock.messages(name)
        await asyncio.sleep(LOOK)
