"""The reading of memory and CPU time that `./dev bench idle` judges by, of real processes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.footprint import cpu, family, memory, name
from bench.idle import MIB, idle_worker, report, watch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows pages to root only")

ENDED_CHILD = """
import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
os.wait()
"""
SHARED_PAGES = """
import mmap, os
pages = mmap.mmap(-1, 64 << 20)
pages.write(bytes(64 << 20))
if os.fork() == 0:
    pages.seek(0)
    assert not any(pages.read())
    os.write(1, b"ready\\n")
    os.read(0, 1)
    os._exit(0)
"""


@asynccontextmanager
async def running(program: str) -> AsyncIterator[int]:
    """Give the id of a process once it has done *program*; it ends with this context."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", f"{program}\nos.write(1, b'ready\\n')\nos.read(0, 1)"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    for _ in range(program.count("ready") + 1):
        assert await process.stdout.readline() == b"ready\n"
    try:
        yield process.pid
    finally:
        process.stdin.close()
        await process.wait()


async def test_cpu_time_of_an_ended_child_is_not_forgotten() -> None:
    """Else a worker that started a process each second would cost nothing."""
    async with running(ENDED_CHILD) as pid:
        assert family(pid) == [pid]
        assert 0.25 <= sum(cpu(pid).values()) < 3  # the kernel tells it in ticks of 10 ms


async def test_a_page_that_two_processes_share_counts_once() -> None:
    """And each of them is asked."""
    async with running(SHARED_PAGES) as pid:
        found = memory(pid)
        assert len(found.pss) == 2
        assert all(32 * MIB < pss < 64 * MIB for pss in found.pss.values())
        assert 64 * MIB < found.alone < 96 * MIB


async def test_a_process_that_is_gone_is_an_error() -> None:
    """Else nothing would cost nothing."""
    async with running("import os") as pid:
        pass
    with pytest.raises(FileNotFoundError):
        family(pid)


async def test_what_an_idle_worker_costs_is_counted_whole(tmp_path: Path) -> None:
    """Both of its processes, and all that it sent; whether that is little is the bench's to say."""
    async with idle_worker(tmp_path, {}) as (process, counts):
        assert {"queue:claim", "queue:report (idle)"} <= set(counts.calls)
        assert {"queue:pulse", "queue:workAvailable"} <= set(counts.answers)
        assert counts.sockets == 1
        found = await watch(process.pid, 2, counts)
        assert sorted(map(name, found.cpu)) == ["fondation-worker", "wakeup_child.py"]
        assert 0 < sum(found.looks[-1].pss.values()) <= found.memory
        report(found)
    assert found.counts
    assert counts.calls["queue:report (stopped)"] == 1
    assert found.counts.calls["queue:report (stopped)"] == 0  # that was later
