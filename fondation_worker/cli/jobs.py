"""`fondation-worker jobs …`: what an operator does with a deployment's jobs.

What a command shows things with is imported when it runs: completion needs only its options.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondation_worker.cli.ending import EXIT_NOT_DONE, STATUSES
from fondation_worker.cli.flags import json_option
from fondation_worker.cli.options import asking_convex, checked_time, milliseconds, now, reckoned
from fondation_worker.errors import JobEndedBadly
from fondation_worker.job import STATUSES as JOB_STATUSES

if TYPE_CHECKING:
    from fondation_worker.operator import JobRow, Operator

_job_id = click.argument("job_id", metavar="JOB")


@click.group(epilog=STATUSES)
def jobs() -> None:
    """Ask a deployment about its jobs, and put new ones in.

    A job runs on some worker of the deployment, not on this host. Settings: CONVEX_URL,
    CONVEX_FUNCTIONS and OPERATOR_KEY (or OPERATOR_KEY_FILE), from --config, the environment or
    flags.
    """


@jobs.command(epilog=STATUSES)
@click.option("--prompt", metavar="TEXT", help="What to analyse the repository for.")
@click.option(
    "--prompt-file",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="File that holds the prompt; - is standard input.",
)
@click.option("--clone-url", metavar="URL", help="https:// URL of the repository.")
@click.option("--repository-id", metavar="ID", help="Row of the application's repositories.")
@click.option("--ref", metavar="NAME", help="Branch or tag [the repository's own].")
@click.option("--commit", metavar="ID", help="Full commit id; rules over --ref.")
@click.option("--subdirectory", metavar="PATH", help="Analyse this folder only.")
@click.option("--priority", type=click.IntRange(-10, 10), help="Higher first [0].")
@click.option(
    "--run-at",
    callback=checked_time,
    metavar="TIME",
    help="Not before: a duration from now (30min, 2h, 3d) or a time (2031-05-01T06:00Z).",
)
@click.option("--max-attempts", type=click.IntRange(1, 20), help="Then the job is dead [5].")
@click.option("--model", metavar="NAME", help="Model to ask [the worker's CLAUDE_MODEL].")
@click.option(
    "--timeout", callback=milliseconds, metavar="TIME", help="Limit of one attempt: 30min, 2h."
)
@click.option("--user-id", metavar="ID", help="Row of the application's users.")
@click.option(
    "--dedupe-key",
    metavar="TEXT",
    help="While a job with this key has not ended, that one is it, and none is added.",
)
@click.option("--wait", is_flag=True, help="Wait until it ends; status 1 when not completed.")
@json_option
@asking_convex
async def enqueue(
    operator: "Operator", *, prompt_file: Any, wait: bool, as_json: bool, **said: Any
) -> None:
    """Put a job in, and print its id.

    Exactly one of --clone-url and --repository-id is needed, and one of --prompt and --prompt-file.
    When there is no answer, whether the job was put in is unknown: look at `jobs list`, or use
    --dedupe-key, with which asking again is safe.
    """
    from fondation_worker.cli import following, terminal

    job = _job_of(prompt_file, said)
    job["runAt"] = await reckoned(operator, job["runAt"])
    done = await operator.enqueue(job)
    if not as_json:
        terminal.say(done.job_id)
        if done.duplicate:
            terminal.remark("a job with this --dedupe-key has not ended; this is its id")
    if wait:
        row = await following.ended(operator, done.job_id)
        _finish(row, as_json=as_json)
    elif as_json:
        terminal.show_json({"duplicate": False} | done.to_document())


def _job_of(prompt_file: Any, said: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `jobs:enqueue`, `runAt` as it was written."""
    if (said["prompt"] is None) == (prompt_file is None):
        raise click.UsageError("exactly one of --prompt and --prompt-file is needed")
    if (said["clone_url"] is None) == (said["repository_id"] is None):
        raise click.UsageError("exactly one of --clone-url and --repository-id is needed")
    names = {
        "clone_url": "cloneUrl",
        "repository_id": "repositoryId",
        "run_at": "runAt",
        "max_attempts": "maxAttempts",
        "user_id": "userId",
        "dedupe_key": "dedupeKey",
        "timeout": "timeoutMs",
    }
    job = {names.get(name, name): value for name, value in said.items()}
    if prompt_file is not None:
        try:
            job["prompt"] = prompt_file.read()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"--prompt-file is no UTF-8 text: {error.reason}") from None
    return {name: float(value) if isinstance(value, int) else value for name, value in job.items()}


@jobs.command("list", epilog=STATUSES)
@click.option("--status", type=click.Choice(JOB_STATUSES), help="Only jobs in this status.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@json_option
@asking_convex
async def list_jobs(operator: "Operator", *, status: str | None, limit: int, as_json: bool) -> None:
    """List the newest jobs, newest first."""
    from fondation_worker.cli import jobview, terminal

    rows = await operator.jobs(status=status, limit=limit)
    if as_json:
        terminal.show_json({"jobs": [row.to_document() for row in rows]})
        return
    if not rows:
        terminal.remark("there is no job" + (f" with status {status}" if status else ""))
        return
    jobview.show_table(rows, now())


@jobs.command(epilog=STATUSES)
@_job_id
@click.option("--wait", is_flag=True, help="Wait until it ends; status 1 when not completed.")
@json_option
@asking_convex
async def show(operator: "Operator", *, job_id: str, wait: bool, as_json: bool) -> None:
    """Show all of a job."""
    from fondation_worker.cli import following, jobview, terminal

    row = await (following.ended(operator, job_id) if wait else operator.job(job_id))
    if as_json:
        terminal.show_json(row.to_document())
    else:
        jobview.show_fields(row, now())
    if wait and row.status != "completed":
        sys.exit(EXIT_NOT_DONE)


@jobs.command(epilog=STATUSES)
@_job_id
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@json_option
@asking_convex
async def logs(operator: "Operator", *, job_id: str, follow: bool, as_json: bool) -> None:
    """Print what the job's runs logged.

    Each line has its time, the attempt (#2) and its level. With --json, one object on each line.
    """
    from fondation_worker.cli import joblog

    await joblog.show(operator, job_id, follow=follow, as_json=as_json)


@jobs.command(epilog=STATUSES)
@_job_id
@json_option
@asking_convex
async def cancel(operator: "Operator", *, job_id: str, as_json: bool) -> None:
    """Cancel a job, at once and for good.

    A run of it is ended within seconds. A job that has ended already stays as it is, which is no
    error.
    """
    from fondation_worker.cli import terminal

    done = await operator.cancel(job_id)
    if as_json:
        terminal.show_json({"jobId": job_id} | done.to_document())
    elif done.already:
        terminal.say(f"{job_id} had ended already: {done.already}")
    else:
        terminal.say(f"{job_id} is canceled")


@jobs.command(epilog=STATUSES)
@_job_id
@click.option("--wait", is_flag=True, help="Wait until it ends; status 1 when not completed.")
@json_option
@asking_convex
async def retry(operator: "Operator", *, job_id: str, wait: bool, as_json: bool) -> None:
    """Let a dead or canceled job run again.

    It has all of its attempts again.
    """
    from fondation_worker.cli import following, terminal

    done = await operator.retry(job_id)
    if not as_json:
        terminal.say(f"{job_id} is {done.status} again")
    if wait:
        _finish(await following.ended(operator, job_id), as_json=as_json)
    elif as_json:
        terminal.show_json({"jobId": job_id} | done.to_document())


@jobs.command(epilog=STATUSES)
@_job_id
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for the files; made when it is not there.",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@json_option
@asking_convex
async def docs(
    operator: "Operator", *, job_id: str, directory: Path, force: bool, as_json: bool
) -> None:
    """Write the documents of a job as files.

    They are called 01-SLUG.md, 02-SLUG.md and so on. Each is there whole or not at all. A file that
    is there already is not touched without --force.
    """
    from fondation_worker.cli import following, terminal
    from fondation_worker.saving import save

    documents = await operator.documents(job_id)
    if not documents:
        row = await operator.job(job_id)
        terminal.remark(f"{job_id} is {row.status} and has no documents")
        sys.exit(EXIT_NOT_DONE)
    with following.downloading(sum(document.bytes for document in documents)) as written:
        saved = await save(documents, directory, operator, force=force, written=written)
    if as_json:
        files = [
            {
                "file": str(each.path),
                "slug": each.document.slug,
                "title": each.document.title,
                "kind": each.document.kind,
                "bytes": each.document.bytes,
            }
            for each in saved
        ]
        terminal.show_json({"files": files})
        return
    for each in saved:
        terminal.say(f"{each.path}  {each.document.title}")


def _finish(row: "JobRow", *, as_json: bool) -> None:
    """End a command that waited for the job: 0 for a result, else 1 with the reason."""
    from fondation_worker.cli import following, terminal

    if as_json:
        terminal.show_json(row.to_document())
    if row.status != "completed":
        raise JobEndedBadly(f"{row.id} is {row.status}: {following.state_of(row)}".rstrip(": "))
    if not as_json:
        terminal.remark(
            f"{row.id} is completed: {following.state_of(row)};"
            f" fondation-worker jobs docs {row.id} --to DIR"
        )
