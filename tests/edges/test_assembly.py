"""A process put together: what goes on beside its jobs must not end them."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from fondation_worker.assembly import Process
from fondation_worker.convex import connect
from fondation_worker.life import lived
from fondation_worker.metrics import Metrics
from fondation_worker.slots import Ends
from tests.edges.test_host import config
from tests.processes import until


async def test_a_version_that_cannot_be_asked_for_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process without a free descriptor is one whose jobs still run."""
    settings = config(tmp_path)
    async with (
        lived(settings.state_dir, settings.temp_dir, "w-1") as life,
        connect("", "") as convex,
    ):
        process = Process(settings, convex, "w", life, Ends(), metrics=Metrics(), to_journal=False)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
        learning = asyncio.create_task(process.keep_learning())
        try:
            await until(lambda: "could not be asked for" in caplog.text or learning.done())
            assert not learning.done()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            learning.cancel()
