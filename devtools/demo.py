"""`./dev demo`: one job, from the queue to the saved documents, on parts started for it alone."""

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from devtools.backend import REPOSITORY, local_backend
from devtools.stack import Keys, Operator, operator, worker, worker_environment
from fondation_worker.config import CREDENTIAL_KINDS
from tests.fakes.messages_api import Explore, Rule, scripted_api

HOME = REPOSITORY / ".demo"
ENDED = {"completed", "dead", "canceled"}
LOOK_INTERVAL = 0.25  # seconds
PATIENCE = 15.0  # seconds that a job may wait before we tell where the reason stands
PAUSE_PER_TURN = 0.7  # seconds: the script answers at once, and people want to see it work
EXIT_INTERRUPTED = 130

PROMPT = """\
Write an overview of this repository for an engineer who opens it for the first time: what it is,
how it is laid out, which files carry the most of it, and what they do. Quote the files.
"""

SCRIPTED = (
    "The replies come from a script, not from a model: it looks around with the CLI's own tools and"
    " writes down what came back. For the real model, which costs money:"
    " ANTHROPIC_API_KEY=… ./dev demo --real"
)

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; return the exit status: 0 only for a completed job with a document."""
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("url", nargs="?", help="https:// or file:// repository; default: this one")
    parser.add_argument("ref", nargs="?", help="branch or tag; default: the repository's own")
    parser.add_argument("--real", action="store_true", help="ask the real model (costs money)")
    arguments = parser.parse_args()
    credential = {kind: os.environ[kind] for kind in CREDENTIAL_KINDS if os.environ.get(kind)}
    if arguments.real and len(credential) != 1:
        parser.error(f"--real needs one of {' and '.join(CREDENTIAL_KINDS)} in the environment")
    source = {"cloneUrl": arguments.url or f"file://{REPOSITORY}"}
    if arguments.ref:
        source["ref"] = arguments.ref
    try:
        return asyncio.run(demonstrate(source, credential if arguments.real else None))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Interrupted; everything that was started has been stopped.")
        return EXIT_INTERRUPTED


async def demonstrate(source: dict[str, str], credential: dict[str, str] | None) -> int:
    """Start the parts, do one job from *source*, show it, stop the parts."""
    me = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, me.cancel if me else sys.exit)
    keys = Keys.new()
    home = HOME / secrets.token_hex(4)
    if credential is None:
        console.print(SCRIPTED, style="dim")
    try:
        async with (
            local_backend(home / "convex", environ=keys.deployment) as backend,
            model(credential) as api,
            operator(backend.url, keys) as queue,
        ):
            environment = worker_environment(
                backend.url, keys, home, api=api, credential=credential
            )
            async with worker(environment, HOME / "worker.log"):
                return await show(queue, source)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def model(credential: dict[str, str] | None) -> AsyncIterator[str | None]:
    """Give the address of the scripted Messages API, or None for the real one's own."""
    if credential:
        yield None
        return
    async with scripted_api([Rule(script=Explore(delay=PAUSE_PER_TURN))]) as api:
        yield api.url


async def show(queue: Operator, source: dict[str, str]) -> int:
    """Enqueue the job, follow it to its end, print what was saved."""
    job_id = await queue.enqueue(prompt=PROMPT, maxAttempts=2, **source)
    console.print(
        f"Enqueued job {job_id} for {source['cloneUrl']} {source.get('ref', '')}".rstrip()
    )
    job = await followed(queue, job_id)
    if job["status"] != "completed":
        console.print(f"The job is {job['status']}: {job.get('error') or job.get('lastError')}")
        console.print(f"The worker's log: {HOME / 'worker.log'}")
        return 1
    documents = await queue.documents(job_id)
    usage = job.get("usage", {})
    console.print(
        f"Completed: commit {job['resolvedCommit'][:12]}, {usage.get('turns', 0):.0f} turns,"
        f" {usage.get('durationMs', 0) / 1000:.1f} s in the CLI, {len(documents)} document(s)"
    )
    for number, document in enumerate(documents, start=1):
        file = HOME / "documents" / f"{number:02d}-{document['slug']}.md"
        await save(document, file)
        console.print(f"  {document['title']}: {file}")
    if documents:
        console.print()
        console.print(documents[0]["content"], markup=False)
    return 0 if documents else 1


async def followed(queue: Operator, job_id: str) -> dict[str, Any]:
    """Return the job once it has ended; show its status, step and time on the way."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[status]:<10}"),
        BarColumn(bar_width=24),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    started, shown, told = time.monotonic(), "", False
    with progress:
        bar = progress.add_task("waiting for a worker", total=4, status="pending")
        while True:
            job = await queue.job(job_id)
            ended = job["status"] in ENDED
            step = 4 if ended else job.get("currentStep", 0)
            words = str(job.get("progress", ""))[:60]
            progress.update(bar, completed=step, description=words, status=job["status"])
            if not console.is_terminal and job["status"] != shown:
                shown = job["status"]
                console.print(f"{time.monotonic() - started:5.1f} s  {shown}")
            if ended:
                return job
            if job["status"] == "pending" and not told and time.monotonic() - started > PATIENCE:
                told = True
                console.print(f"Nobody takes it yet; why: {HOME / 'worker.log'}", markup=False)
            await asyncio.sleep(LOOK_INTERVAL)


async def save(document: dict[str, Any], file: Path) -> None:
    """Write a document to *file*, whole: a stored one is fetched."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = document["content"]
    if document.get("url"):
        async with aiohttp.ClientSession() as session, session.get(document["url"]) as response:
            text = await response.text()
    await asyncio.to_thread(file.write_text, text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
