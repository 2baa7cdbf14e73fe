"""Strangers at the worker's port while a job runs."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from devtools.stack import WorkerProcess
from tests.fakes.messages_api import Script, Turn
from tests.flow.stage import ENDED, LOOK, SHORT_LEASE, on_stage

AT_ONCE = 200
LEASE = 3.0  # seconds, that of SHORT_LEASE
RUN = 4 * LEASE  # seconds that the model takes
LIMIT = 60.0  # seconds until the last slow client must have been cut off
REQUEST = b"GET /health HTTP/1.1\r\nHost: worker\r\n\r\n"

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def port_of(worker: WorkerProcess) -> int:
    """Return where the worker says that it answers."""
    (line,) = (line for line in worker.lines() if line["message"].startswith("health: http"))
    return urlsplit(line["message"].removeprefix("health: ")).port or 0


async def status(port: int) -> int:
    """Return how the worker answers a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST)
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def crowd(port: int) -> list[Wire]:
    """Connect so many clients at once; every other one never says what it wants."""
    connecting = (asyncio.open_connection("127.0.0.1", port) for _ in range(AT_ONCE))
    wires = await asyncio.gather(*connecting)
    for number, (_, writer) in enumerate(wires):
        with suppress(ConnectionError):
            writer.write(REQUEST if number % 2 else REQUEST[:9])
    return wires


async def test_no_crowd_of_strangers_costs_a_job_its_lease(tmp_path: Path) -> None:
    """Half of them slow, more all the time: it is renewed throughout, and all is well after."""
    script = Script(turns=(Turn(text="# Done\n", delay=RUN),))
    async with on_stage(tmp_path, script) as stage:
        worker = await stage.worker(**SHORT_LEASE)
        job_id = await stage.enqueue()
        await stage.job_in(job_id, "analyzing")
        port, wires = port_of(worker), []
        answered: Counter[int] = Counter()
        leases: set[float] = set()
        async with asyncio.timeout(LIMIT):
            wires = await crowd(port)
            while (row := await stage.queue.job(job_id))["status"] not in ENDED:
                leases.add(row.get("leaseUntil", 0))
                answered.update(await asyncio.gather(*(status(port) for _ in range(20))))
                await asyncio.sleep(LOOK)
            assert answered[503], answered
            assert len(leases) > RUN / LEASE
            assert (row["status"], row["attempt"], stage.runs()) == ("completed", 1, 1)
            while await status(port) != 200:  # the slow ones hold on until they are cut off
                await asyncio.sleep(LOOK)
        assert "lease" not in worker.messages()
        for _, writer in wires:
            writer.close()
