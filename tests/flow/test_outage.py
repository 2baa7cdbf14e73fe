"""Promise one, in the outage that is the worst for it."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.messages_api import Script, Turn
from tests.flow.stage import LOOK, Stage, on_stage
from tests.processes import until

LEASE = 60
GRACE = 600
SETTINGS = {"LEASE_TIME": f"{LEASE}s", "HEARTBEAT_INTERVAL": "5s"}


async def used_up(stage: Stage, path: str) -> None:
    """Wait until no fault is left for calls of *path*."""
    faults = f"{stage.backend.url}/_faults"
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            async with session.get(faults) as answer:
                if path not in await answer.text():
                    return
            await asyncio.sleep(LOOK)


async def held_expiries(stage: Stage) -> list[dict[str, Any]]:
    """Return the expiries that were put off because an outage has just ended."""
    rows = await stage.rows("_scheduled_functions")
    return [row for row in rows if row["args"][0].get("heldSince") is not None]


async def test_a_run_that_finished_in_an_outage_is_not_done_again(tmp_path: Path) -> None:
    """Down for lease, grace and a minute; back up, and a second worker has nothing to do."""
    async with on_stage(tmp_path, Script(turns=(Turn(text="# Done\n", delay=3),))) as stage:
        first = await stage.worker(**SETTINGS)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        await until(lambda: stage.runs() == 1, limit=30)
        await stage.backend.kill()
        await until(lambda: "offering the result again" in first.messages(), limit=30)

        # Held back, so that the other has every chance to take the job first.
        first.signal(signal.SIGSTOP)
        try:
            await stage.backend.restart()
            await stage.jump_clock(LEASE + GRACE + 60)
            # A fault that does nothing: it shows that somebody has claimed.
            await stage.fault(fault="delayBefore", path="queue:claim")
            await stage.worker(**SETTINGS)
            await used_up(stage, "queue:claim")
            assert await held_expiries(stage)
            assert (await stage.queue.job(job_id))["attempt"] == 1
        finally:
            first.signal(signal.SIGCONT)

        job = await stage.ended(job_id)
        assert (job["status"], job["attempt"], job["attempts"]) == ("completed", 1, 1)
        assert len(await stage.queue.documents(job_id)) == 1
        assert stage.runs() == 1
