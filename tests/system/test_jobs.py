"""Jobs of packaged workers: done, killed, stopped, and told about in the journal."""

import asyncio
import time

import pytest

from tests.fakes.messages_api import Stall, say
from tests.outside import slowly
from tests.system.site import Site, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_worker_does_a_job(site: Site) -> None:
    """The real CLI in the unit's sandbox, two at once; each job ran once."""
    await site.systemctl("start", 1, 2)
    jobs = [
        await site.outside.enqueue(f"side by side {n}", slowly(f"# Document {n}\n", 2))
        for n in (1, 2)
    ]
    rows = [await site.outside.completed(job) for job in jobs]
    assert {row["workerId"] for row in rows} == {
        f"{site.machine.suite}-1",
        f"{site.machine.suite}-2",
    }
    for n, job in zip((1, 2), jobs, strict=True):
        (document,) = await site.outside.queue.documents(job)
        assert document["title"] == f"Document {n}"
        assert site.outside.runs(f"side by side {n}") == 1


async def test_a_worker_says_in_words_how_it_is(site: Site) -> None:
    """In `systemctl status`, while a job runs and after it."""
    await site.only(1)
    await site.says("0 of 1 slots busy")
    job = await site.outside.enqueue("the status line", slowly("# Status\n", 3))
    assert "convex ok" in await site.says("1 of 1 slots busy")
    await site.outside.completed(job)
    seen = await site.says("last job")
    assert "completed" in seen
    shown = await site.machine.run("systemctl", "status", service(1))
    assert "slots busy" in shown.stdout


async def test_the_journal_tells_a_jobs_story(site: Site) -> None:
    """Every line with the fields to find it by; each kind of event with an explanation."""
    await site.only(1)
    job = await site.outside.enqueue("the journal")
    await site.outside.completed(job)
    lines = await site.machine.journal(f"FONDATION_JOB_ID={job}")
    events = [line["FONDATION_EVENT"] for line in lines if "FONDATION_EVENT" in line]
    wanted = ["job_claimed", "job_cloned", "job_analysed", "job_completed"]
    assert [event for event in events if event in wanted] == wanted
    for line in lines:
        assert line["FONDATION_INSTANCE"].startswith(f"{site.machine.suite}-1-")
        assert line["FONDATION_ATTEMPT"] == "1"
        assert line["_SYSTEMD_UNIT"] == service(1)
        assert line["SYSLOG_IDENTIFIER"] == "fondation-worker"
    assert {line["PRIORITY"] for line in lines} == {"6"}
    repository = {line["FONDATION_REPOSITORY"] for line in lines if "FONDATION_REPOSITORY" in line}
    assert len(repository) == 1
    assert "project" in repository.pop()

    explained = await site.machine.run("journalctl", "-x", f"FONDATION_JOB_ID={job}")
    for line in lines:
        if "MESSAGE_ID" in line:
            text = await site.machine.run("journalctl", "--dump-catalog", line["MESSAGE_ID"])
            subject = text.stdout.partition("Subject: ")[2].splitlines()[0]
            assert subject in explained.stdout


async def test_a_killed_worker_is_restarted_and_its_job_finished(site: Site) -> None:
    """SIGKILL in mid-run: the run dies with it, and the journal tells of both lives."""
    await site.only(1)
    job = await site.outside.enqueue("killed worker", say("# Done\n", Stall(at="headers")))
    await site.outside.asked("killed worker")
    killed = await site.main_pid()
    await site.machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service(1))
    await site.machine.until(site.another_than(killed), what="for the restart")
    await site.outside.make_due(job)
    row = await site.outside.completed(job)
    assert (row["attempt"], site.outside.runs("killed worker")) == (2, 2)
    lines = await site.machine.journal(f"FONDATION_JOB_ID={job}")
    assert len({line["_PID"] for line in lines}) == 2
    assert [line["FONDATION_ATTEMPT"] for line in lines] == sorted(
        line["FONDATION_ATTEMPT"] for line in lines
    )
    assert lines[-1]["FONDATION_ATTEMPT"] == "2"


@pytest.mark.usefixtures("no_memory_kill")
async def test_a_killed_cli_is_one_failed_attempt(site: Site) -> None:
    """As the kernel kills what uses up the memory: the worker goes on, and the job runs again."""
    await site.only(1)
    job = await site.outside.enqueue("killed cli", say("# Done\n", Stall(at="headers")))
    await site.outside.asked("killed cli")
    worker = await site.main_pid()
    cli, *_ = await site.runs_of_claude()  # the first; it may be starting a program just now
    await site.machine.run("kill", "-KILL", str(cli))
    await site.outside.make_due(job)
    row = await site.outside.completed(job)
    assert (row["attempts"], site.outside.runs("killed cli")) == (2, 2)
    assert await site.main_pid() == worker
    (failed,) = await site.machine.journal(f"FONDATION_JOB_ID={job}", "FONDATION_EVENT=job_failed")
    assert failed["PRIORITY"] == "4"


async def test_a_stop_ends_the_run_and_gives_the_job_back(site: Site) -> None:
    """No process is left, no attempt is spent, and another worker ends the job."""
    await site.only(1)
    job = await site.outside.enqueue("stopped", say("# Done\n", Stall(at="headers")))
    await site.outside.asked("stopped")
    assert await site.runs_of_claude()
    await site.stop(1)
    assert await site.machine.processes(service(1)) == []
    assert await site.runs_of_claude() == []
    row = await site.outside.job_in(job, "pending")
    assert row["attempts"] == 0
    assert await site.state() == "inactive"

    await site.systemctl("start", 2)
    row = await site.outside.completed(job)
    assert row["workerId"] == f"{site.machine.suite}-2"
    told = await site.machine.journal(f"FONDATION_JOB_ID={job}")
    assert {line["_SYSTEMD_UNIT"] for line in told} == {service(1), service(2)}


async def test_a_drain_longer_than_the_units_own_limit_lets_the_run_end(site: Site) -> None:
    """The worker asks systemd for more time, again and again."""
    await site.drop_in("impatient", "[Service]\nTimeoutStopSec=2s\n")
    await site.configure(drain_time="5min")
    await site.only(1)
    await site.systemctl("restart", 1)
    job = await site.outside.enqueue_held("drained")
    await site.outside.asked("drained")
    await site.machine.run("systemctl", "stop", "--no-block", service(1))
    stopping = time.monotonic()
    await site.says("stopping")
    while time.monotonic() - stopping < 17:  # longer than one request for time lasts
        assert await site.state() == "deactivating"
        await asyncio.sleep(0.5)
    site.outside.release("drained")
    assert (await site.outside.completed(job))["attempts"] == 1
    await site.become("inactive", service(1))
    shown = await site.machine.show(service(1), "Result", "ExecMainStatus")
    assert shown == {"Result": "success", "ExecMainStatus": "0"}
    await site.no_drop_in("impatient")
    await site.configure(drain_time="0")
    await site.systemctl("start", 1, 2)
