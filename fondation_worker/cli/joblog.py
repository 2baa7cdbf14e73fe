"""Prints the log of a job, and follows it."""

import asyncio

from fondation_worker.cli import following, terminal
from fondation_worker.convex import wait_before
from fondation_worker.errors import Unreachable
from fondation_worker.operator import LogPage, LogRow, Operator
from fondation_worker.words import moment


async def show(operator: Operator, job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print the log of the job; to *follow* it, until the job has ended."""
    job = await operator.job(job_id)
    printed: LogRow | None = None
    while True:
        # The status was asked before the lines, so that those of the end are among them.
        printed = await _rest(operator, job_id, printed, as_json=as_json)
        if job.ended or not follow:
            break
        await asyncio.sleep(following.LOOK)
        job = await following.patiently(operator, job_id)
    if printed is None:
        terminal.remark(f"{job_id} is {job.status} and has logged nothing")
    elif follow:
        terminal.remark(f"{job_id} is {job.status} {following.state_of(job)}".rstrip())


async def _rest(
    operator: Operator, job_id: str, printed: LogRow | None, *, as_json: bool
) -> LogRow | None:
    """Print what comes after the line *printed*; return the last that is printed now."""
    while True:
        page = await _page(operator, job_id, printed.seq if printed else None)
        for line in page.lines:
            if as_json:
                terminal.show_json_line(line.to_document())
            else:
                when = f"{moment(line.at)}  #{line.attempt}"  # of the attempt
                terminal.show_log_line(when, line.level, line.msg)
            printed = line
        if not (page.more and page.lines):
            return printed


async def _page(operator: Operator, job_id: str, after: float | None) -> LogPage:
    """Return the next lines; once some were printed, an outage is sat out."""
    tries = 0
    while True:
        try:
            return await operator.logs(job_id, after=after)
        except Unreachable as error:
            if after is None:
                raise
            tries += 1
            if tries == 1:
                terminal.remark(f"{error}; asking again")
        await asyncio.sleep(wait_before(tries))
