"""Bad settings in a container: the process stays up, says why, and begins when they are mended."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from devtools.stack import PLACEHOLDER, PROGRAM
from tests.fakes.messages_api import say
from tests.flow.stage import Stage, on_stage
from tests.processes import until

STANDS_BY = (str(PROGRAM), "run", "--stand-by")


async def page(stage: Stage, path: str) -> tuple[int, str]:
    """Return what the newest worker answers, once it has a port."""
    worker = stage.workers[-1]
    await until(lambda: any("health: " in line["message"] for line in worker.lines()))
    answer = await stage.page(worker, path)
    return answer.status, answer.text


async def test_it_stays_up_and_says_why_on_every_page(tmp_path: Path) -> None:
    """All faults at once, for probes, for programs, for people and for Prometheus."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(STANDS_BY, CONVEX_URL="", WORKER_KEY="", WORKER_ID="worker-7")
        assert await page(stage, "/livez") == (200, "alive\n")
        status, said = await page(stage, "/readyz?verbose")
        assert status == 503
        assert ["CONVEX_URL" in said, "WORKER_KEY" in said] == [True, True]
        status, said = await page(stage, "/health")
        health = json.loads(said)
        assert (status, health["status"], health["workerId"]) == (503, "unhealthy", "worker-7")
        assert any("WORKER_KEY_FILE is not set" in reason for reason in health["reasons"])
        _, said = await page(stage, "/")
        assert "CONVEX_URL is not set" in said
        answer = await stage.page(worker, "/metrics", accept="text/plain; version=0.0.4")
        assert "fondation_worker_ready 0.0" in answer.text
        assert 'fondation_worker_paused{reason="settings"} 1.0' in answer.text
        told = [line for line in worker.lines() if line.get("event") == "bad_settings"]
        assert len(told) == 2
        assert PLACEHOLDER not in worker.messages()
        assert worker.exit_status is None
        assert await worker.stop() == 0
        assert worker.lines()[-1]["event"] == "stopped"


async def test_it_begins_as_soon_as_a_secret_is_there(tmp_path: Path) -> None:
    """Without a restart: by itself, and at once on SIGHUP."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        job_id = await stage.enqueue()
        key = tmp_path / "worker.key"
        worker = await stage.worker(STANDS_BY, WORKER_KEY="", WORKER_KEY_FILE=str(key))
        assert (await page(stage, "/readyz"))[0] == 503
        key.write_text("short", encoding="utf-8")
        worker.signal(signal.SIGHUP)
        await until(lambda: "8 or more printable characters" in worker.messages())
        key.write_text(stage.keys.worker, encoding="utf-8")
        assert (await stage.ended(job_id))["status"] == "completed"
        assert stage.keys.worker not in worker.messages()


async def test_what_only_the_host_can_tell_has_it_stand_by_as_well(tmp_path: Path) -> None:
    """A volume that belongs to another user, say; told beside what the settings lack."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        blocked = tmp_path / "state"
        blocked.touch()
        job_id = await stage.enqueue()
        key = tmp_path / "worker.key"
        settings = {"WORKER_KEY": "", "WORKER_KEY_FILE": str(key), "STATE_DIR": str(blocked)}
        worker = await stage.worker(STANDS_BY, **settings)
        _, said = await page(stage, "/readyz?verbose")
        assert ["WORKER_KEY_FILE" in said, "STATE_DIR" in said] == [True, True]
        blocked.unlink()
        key.write_text(stage.keys.worker, encoding="utf-8")
        worker.signal(signal.SIGHUP)
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_what_the_start_would_refuse_is_no_reason_to_start(tmp_path: Path) -> None:
    """A label that is none: that the settings can be used is said when it is so."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        kept = tmp_path / "state/worker-id"
        kept.parent.mkdir(mode=0o700)
        kept.write_text("no label!", encoding="utf-8")
        settings = {"WORKER_ID": "", "STATE_DIR": str(kept.parent)}
        worker = await stage.worker(STANDS_BY, **settings)
        await until(lambda: "holds no label" in worker.messages())
        kept.unlink()
        kept.mkdir()
        worker.signal(signal.SIGHUP)
        await until(lambda: "Is a directory" in worker.messages())
        assert "can be used now" not in worker.messages()
        kept.rmdir()
        worker.signal(signal.SIGHUP)
        await until(lambda: "starts as worker-" in worker.messages())


async def test_a_stop_during_the_last_look_is_a_stop(tmp_path: Path) -> None:
    """What is found well by then is not begun with: the host would have to kill it."""
    async with on_stage(tmp_path, say("never")) as stage:
        key = tmp_path / "worker.key"
        worker = await stage.worker(STANDS_BY, WORKER_KEY="", WORKER_KEY_FILE=str(key))
        assert (await page(stage, "/readyz"))[0] == 503
        os.mkfifo(key)  # who reads it waits for who writes
        worker.signal(signal.SIGHUP)
        writers: list[int] = []
        await until(lambda: has_reader(key, writers))
        worker.signal(signal.SIGTERM)
        os.write(writers[0], stage.keys.worker.encode())
        os.close(writers[0])
        async with asyncio.timeout(10):
            assert await worker.ended() == 0
        assert worker.lines()[-1]["event"] == "stopped"


def has_reader(fifo: Path, writers: list[int]) -> bool:
    """Whether somebody reads *fifo*; who writes to it is one of *writers* then."""
    with suppress(OSError):
        writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    return bool(writers)


async def test_no_signal_meets_a_process_that_does_not_heed_it(tmp_path: Path) -> None:
    """From standing by to serving, and from the first moment of a start."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        key = tmp_path / "worker.key"
        worker = await stage.worker(STANDS_BY, WORKER_KEY="", WORKER_KEY_FILE=str(key))
        assert (await page(stage, "/readyz"))[0] == 503
        key.write_text(stage.keys.worker, encoding="utf-8")
        while "starts as" not in worker.messages():
            worker.signal(signal.SIGHUP)
            await asyncio.sleep(0.005)
        for _ in range(20):
            worker.signal(signal.SIGHUP)
            await asyncio.sleep(0.005)
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        assert worker.exit_status is None


async def test_a_stop_while_it_begins_is_a_stop(tmp_path: Path) -> None:
    """Whenever it comes, the process ends well, and says so."""
    async with on_stage(tmp_path, say("never")) as stage:
        for number in range(5):
            key = tmp_path / f"worker-{number}.key"
            worker = await stage.worker(STANDS_BY, WORKER_KEY="", WORKER_KEY_FILE=str(key))
            assert (await page(stage, "/readyz"))[0] == 503
            key.write_text(stage.keys.worker, encoding="utf-8")
            worker.signal(signal.SIGHUP)
            await asyncio.sleep(0.005 * number)
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0
            assert worker.lines()[-1]["event"] == "stopped"


async def test_an_upgrade_while_it_stands_by_leaves_for_a_restart(tmp_path: Path) -> None:
    """As a worker does, that has nothing to drain."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(STANDS_BY, CONVEX_URL="")
        assert (await page(stage, "/livez"))[0] == 200
        worker.signal(signal.SIGUSR1)
        assert await worker.ended() == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Within the seconds that a container host gives."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(STANDS_BY, CONVEX_URL="")
        assert (await page(stage, "/livez"))[0] == 200
        worker.signal(number)
        async with asyncio.timeout(3):
            assert await worker.ended() == 0


async def test_without_a_port_it_stands_by_all_the_same(tmp_path: Path) -> None:
    """Where health is off, or its address is what is wrong, the log has to do."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(STANDS_BY, HEALTH_ADDRESS="nowhere")
        await until(lambda: "looking again" in worker.messages())
        assert "HEALTH_ADDRESS: 'nowhere'" in worker.messages()
        assert worker.exit_status is None
