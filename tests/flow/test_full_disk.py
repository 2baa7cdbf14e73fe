"""A worker on disks that are too small: it says so, lives, and loses no result."""

import os
from pathlib import Path

from tests.edges.test_disk import mend, small_disk, spoil
from tests.fakes.messages_api import say
from tests.flow.stage import on_stage
from tests.processes import until


async def test_a_result_that_the_disk_refuses_is_handed_in_from_memory(tmp_path: Path) -> None:
    """STATE_DIR is full from before the first start: no label, no claim, no entry is kept."""
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk, "full")
        async with on_stage(tmp_path, say("# Done\n")) as stage:
            worker = await stage.worker(
                STATE_DIR=str(disk), CONTROL_SOCKET=str(tmp_path / "control.sock")
            )
            job_id = await stage.enqueue()
            assert (await stage.ended(job_id))["status"] == "completed"
            assert stage.runs() == 1
            assert "in memory only" in worker.messages()
            assert worker.exit_status is None


async def test_a_clone_that_fills_the_disk_is_tried_again(tmp_path: Path) -> None:
    """Class `disk`; nothing is left of it, and with room the job is done."""
    with small_disk(tmp_path / "disk") as disk:
        spoil(disk, "full")
        (disk / "filler").rename(disk / "filler-1")
        os.truncate(disk / "filler-1", 128 * 1024)
        async with on_stage(tmp_path, say("# Done\n")) as stage:
            stage.repository.commit({"large": os.urandom(400_000)})
            worker = await stage.worker(TEMP_DIR=str(disk))
            job_id = await stage.enqueue()
            job = await stage.job_in(job_id, "pending", limit=30)
            while not job.get("lastError"):
                job = await stage.job_in(job_id, "pending", limit=30)
            assert job["errorClass"] == "disk"
            await until(lambda: [place.name for place in disk.glob("*/*")] == ["lock"])
            mend(disk, size="100m")
            assert (await stage.ended(job_id))["status"] == "completed"
            assert worker.exit_status is None
