"""Waits for a job, and shows on standard error how it goes: a bar at a terminal, else lines."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from fondation_worker.cli.terminal import remark, screen
from fondation_worker.convex import wait_before
from fondation_worker.errors import Unreachable
from fondation_worker.operator import IN_FLIGHT, JobRow, Operator
from fondation_worker.words import first_line, plain

LOOK = 1.0  # seconds between two looks at a job
STEPS = 3  # cloning, analyzing, gathering
LONGEST_WORDS = 60  # characters of progress beside a bar


async def ended(operator: Operator, job_id: str) -> JobRow:
    """Return the job once it has ended; an outage is said and sat out. Raises Refused."""
    with _shown() as show:
        while True:
            job = await patiently(operator, job_id)
            show(job)
            if job.ended:
                return job
            await asyncio.sleep(LOOK)


async def patiently(operator: Operator, job_id: str) -> JobRow:
    """Return the job, asking again while Convex does not answer."""
    tries = 0
    while True:
        try:
            return await operator.job(job_id)
        except Unreachable as error:
            tries += 1
            if tries == 1:
                remark(f"{error}; asking again")
        await asyncio.sleep(wait_before(tries))


def state_of(job: JobRow) -> str:
    """Return in a few words where the job is, beside its status."""
    if job.status in IN_FLIGHT:
        return first_line(job.progress) + (f" (on {job.worker_id})" if job.worker_id else "")
    if job.status == "completed":
        return "" if job.docs_count is None else f"{job.docs_count:.0f} document(s)"
    return first_line(job.error or job.last_error)


@contextmanager
def _shown() -> Iterator[Callable[[JobRow], None]]:
    """Give what shows a job as it goes."""
    console = screen(stderr=True)
    if not console.is_terminal:
        said: list[str] = []

        def line(job: JobRow) -> None:
            if [job.status] != said:
                said[:] = [job.status]
                remark(f"{job.id}: {job.status} {state_of(job)}".rstrip())

        yield line
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[status]}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
    )
    with progress:
        bar = progress.add_task("", total=STEPS + 1, status="")

        def move(job: JobRow) -> None:
            in_flight = job.status in IN_FLIGHT
            done = STEPS + 1 if job.ended else (job.current_step or 0) if in_flight else 0
            words = plain(state_of(job))[:LONGEST_WORDS]
            progress.update(bar, completed=done, description=words, status=plain(job.status))

        yield move


@contextmanager
def downloading(total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many of *total* bytes have come; give what is told of each piece."""
    console = screen(stderr=True)
    columns = (TextColumn("saving"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)
