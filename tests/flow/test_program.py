"""The program as its operator meets it: settings, health, logs, secrets, the demo."""

import asyncio
import fcntl
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.stack import CLAUDE, PLACEHOLDER, PROGRAM, Keys, worker_environment
from fondation_worker.config import load
from tests.fakes.messages_api import Stall, say
from tests.flow.stage import on_stage
from tests.processes import command_line, parent_of, running, until

TOP = Path(__file__).parents[2]


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the program to its end; return its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), *arguments),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_bad_settings_are_all_told_and_nothing_is_started() -> None:
    """Exit status 78; one line for each fault; no traceback."""
    status, said = await run("run", POLL_INTERVAL="soon", HEARTBEAT_INTERVAL="10min")
    assert status == 78
    for fault in ("CONVEX_URL", "WORKER_KEY", "POLL_INTERVAL: 'soon'", "HEARTBEAT_INTERVAL"):
        assert fault in said
    assert "for example" in said
    assert "Traceback" not in said
    assert "starts as" not in said


async def test_what_only_the_host_can_tell_is_told_the_same_way(tmp_path: Path) -> None:
    """A missing CLI, a directory that cannot be made."""
    (tmp_path / "file").touch()
    status, said = await run(
        "run",
        "--claude-cli",
        "no-such-claude",
        f"--state-dir={tmp_path}/file/state",
        CONVEX_URL="http://127.0.0.1:1",
        WORKER_KEY="a-key-of-this-worker",
        ANTHROPIC_API_KEY=PLACEHOLDER,
        TEMP_DIR=str(tmp_path / "work"),
    )
    assert status == 78
    assert "CLAUDE_CLI: 'no-such-claude'" in said
    assert "STATE_DIR" in said
    assert "Traceback" not in said


async def test_a_host_without_git_is_told_the_same_way(tmp_path: Path) -> None:
    """GitPython would end the program with words of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "claude").symlink_to(CLAUDE)
    status, said = await run(
        "run",
        PATH=str(tmp_path / "bin"),
        CONVEX_URL="http://127.0.0.1:1",
        WORKER_KEY="a-key-of-this-worker",
        ANTHROPIC_API_KEY=PLACEHOLDER,
        STATE_DIR=str(tmp_path / "state"),
        TEMP_DIR=str(tmp_path / "work"),
    )
    assert status == 78, said
    assert "there is no git" in said
    assert "Traceback" not in said


async def test_functions_that_are_not_there_are_shown_by_health(tmp_path: Path) -> None:
    """A wrong CONVEX_FUNCTIONS: the worker asks on, and says why it gets nothing."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(CONVEX_FUNCTIONS="elsewhere/")
        await until(lambda: "queue:claim" in worker.messages(), what="for a claim without answer")
        health = await stage.health(worker)
        assert health["status"] == "degraded"
        assert "Could not find public function" in " ".join(health["reasons"])


async def test_help_names_every_setting_and_the_version_is_told() -> None:
    """Flags for what is no secret, files for what is."""
    status, said = await run("run", "--help")
    assert status == 0
    for flag in ("--convex-url", "--lease-time", "--worker-key-file", "--anthropic-api-key-file"):
        assert flag in said
    assert "--worker-key " not in said
    status, said = await run("--version")
    assert (status, said.startswith("fondation-worker, version ")) == (0, True)


async def test_a_wrong_key_is_said_and_nothing_is_claimed(tmp_path: Path) -> None:
    """The worker lives: an operator may be rotating keys."""
    async with on_stage(tmp_path, say("never")) as stage:
        job_id = await stage.enqueue()
        worker = await stage.worker(WORKER_KEY="a-wrong-key-for-this")
        await until(lambda: "Convex refuses to give work" in worker.messages())
        health = await stage.health(worker)
        assert health["status"] == "unhealthy"
        assert "refuses this worker's key" in " ".join(health["reasons"])
        assert worker.exit_status is None
        assert "a-wrong-key-for-this" not in worker.messages()
        assert (await stage.queue.job(job_id))["status"] == "pending"


async def test_health_tells_what_the_worker_does(tmp_path: Path) -> None:
    """Healthy when idle; busy while busy; degraded with a reason when Convex is away."""
    script = say("# Done\n", Stall(at="headers", times=None))
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(
            WORKER_ID="worker-7", MAX_CONCURRENT_JOBS="2", HEARTBEAT_INTERVAL="1s"
        )
        await until(lambda: "health: " in worker.messages())
        await stage.push_is_up(worker)
        idle = await stage.health(worker)
        assert idle["status"] == "healthy"
        assert (idle["workerId"], idle["activeJobs"], idle["maxConcurrentJobs"]) == (
            "worker-7",
            0,
            2,
        )
        assert idle["instance"].startswith("worker-7-")
        await stage.job_in(await stage.enqueue(), "analyzing")
        assert (await stage.health(worker))["activeJobs"] == 1
        await stage.backend.kill()
        while (cut_off := await stage.health(worker))["status"] == "healthy":
            await asyncio.sleep(0.2)
        assert "Convex" in " ".join(cut_off["reasons"])
        await stage.backend.restart()


async def test_a_taken_health_port_is_said_and_jobs_are_done(tmp_path: Path) -> None:
    """Two workers on one host with the same setting: the second works on without."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with on_stage(tmp_path, say("# Done\n")) as stage:
            worker = await stage.worker(HEALTH_ADDRESS=f"127.0.0.1:{port}")
            assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
            assert "set HEALTH_ADDRESS" in worker.messages()


async def test_the_label_is_made_once_and_the_instance_at_each_start(tmp_path: Path) -> None:
    """People set the same label twice; leases must tell the processes apart."""
    async with on_stage(tmp_path, say("never")) as stage:
        state = str(tmp_path / "state")
        names = []
        for _ in range(2):
            worker = await stage.worker(STATE_DIR=state)
            await until(worker.lines)
            names.append(worker.lines()[0]["message"].split()[-1])
            await worker.stop()
        (label,) = {name.rpartition("-")[0] for name in names}
        assert label.startswith("worker-")
        assert len(set(names)) == 2


async def test_every_line_about_a_job_names_it(tmp_path: Path) -> None:
    """So that one search tells its story."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker()
        job_id = await stage.enqueue()
        await stage.ended(job_id)
        await worker.stop()
        about = [line for line in worker.lines() if "jobId" in line]
        assert {(line["jobId"], line["attempt"]) for line in about} == {(job_id, 1)}
        story = " ".join(line["message"] for line in about)
        for event in ("claimed:", "cloned ", "analysed in", "completed:"):
            assert event in story


async def test_no_secret_and_no_prompt_is_in_logs_arguments_or_environments(tmp_path: Path) -> None:
    """Looked for in all that this host can see of a run, while it runs."""
    script = say("# Done\n", Stall(at="headers", times=None))
    prompt = "a prompt that nobody else may read"
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(LOG_LEVEL="debug")
        job_id = await stage.enqueue(prompt)
        await stage.job_in(job_id, "analyzing")
        await until(lambda: stage.runs() == 1, limit=20)
        family = descendants(worker.pid)
        assert any(command_line(pid).startswith(str(CLAUDE)) for pid in family)
        for pid in [worker.pid, *family]:
            assert not re.search(f"{stage.keys.worker}|{PLACEHOLDER}|{prompt}", command_line(pid))
        bearers = []  # of the model's credential
        for pid in family:
            try:
                environment = environment_of(pid)
            except (ProcessLookupError, FileNotFoundError):
                continue  # one that has ended meanwhile
            assert stage.keys.worker not in environment
            assert prompt not in environment
            # In the run only: the CLI starts small helpers of its own, and passes it on.
            assert PLACEHOLDER not in environment or "FONDATION_RUN=" in environment
            bearers += [pid] if PLACEHOLDER in environment else []
        assert bearers
        if os.geteuid() != 0:  # what the worker was started with cannot be taken back, but hidden
            with pytest.raises(PermissionError):
                environment_of(worker.pid)
        await worker.stop()
        said = worker.messages()
        for secret in (stage.keys.worker, PLACEHOLDER, prompt):
            assert secret not in said


def environment_of(pid: int) -> str:
    """Return the environment that process *pid* was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes().decode()


def descendants(pid: int) -> list[int]:
    """Return the process ids below *pid*."""
    every = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found = [pid]
    for parent in found:
        for child in every:
            if child not in found:
                try:
                    if parent_of(child) == parent:
                        found.append(child)
                except OSError:
                    continue
    return found[1:]


@pytest.fixture
def alone() -> Iterator[None]:
    """Let no other test run the demo meanwhile: all of them use the same directory."""
    with (TOP / "devtools" / "demo.py").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("alone")
async def test_the_demo_shows_a_completed_job_and_leaves_nothing(tmp_path: Path) -> None:
    """`./dev demo`, in a pipe, after its set-up."""
    made = await demo(tmp_path)
    async with asyncio.timeout(90):
        said, _ = await made.communicate()
    text = said.decode()
    assert made.returncode == 0, text
    assert "The replies come from a script" in text
    assert "./dev demo --real" in text
    assert "completed" in text
    assert "\x1b[" not in text  # a pipe gets no colours and no progress bar
    document = Path(text.partition(": an overview: ")[2].partition("\n")[0])
    assert document.read_text(encoding="utf-8").startswith("# ")
    assert not running(str(TOP / ".demo"))


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in mid-job."""
    made = await demo(tmp_path)
    assert made.stdout
    async with asyncio.timeout(60):
        while b"cloning" not in await made.stdout.readline():
            pass
    made.send_signal(number)
    async with asyncio.timeout(30):
        said, _ = await made.communicate()
    assert made.returncode == 130
    assert "everything that was started has been stopped" in said.decode()
    assert not running(str(TOP / ".demo"))


def test_a_small_disk_does_not_stop_what_is_tried_by_hand(tmp_path: Path) -> None:
    """A laptop may have less free than a worker's own DISK_FLOOR, and nobody would say why."""
    settings = worker_environment("http://127.0.0.1:1", Keys.new(), tmp_path, api="http://[::1]:1")
    assert 0 < load(settings).disk_floor <= 64 * 1024**2


async def demo(home: Path) -> asyncio.subprocess.Process:
    """Start the demo over a repository of this project's own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "devtools.demo"),
        cwd=TOP,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
