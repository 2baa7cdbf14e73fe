"""Takes the pictures of the status page in docs/: `python -m devtools.screenshots`.

From a real worker with two jobs that run and a history that was written for it. Its repositories
are served from here, under the name of GitHub, which the worker reaches by a proxy of ours.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, ViewportSize, expect

from devtools.backend import REPOSITORY
from fondation_worker.history import History, Past
from tests.browser import browser
from tests.fakes.messages_api import Call, Script, Stall, Turn
from tests.flow.stage import Stage, on_stage
from tests.repositories import GitServer, git_server, repository

HOST = "github.com"
FILE = "packages/checkout/src/session/CheckoutSession.ts"
NAMES = ("storefront", "ledger", "parser", "mobile-app", "design-system", "search")
DESK: ViewportSize = {"width": 1040, "height": 1110}
LOWER: ViewportSize = {"width": 1040, "height": 880}
PHONE: ViewportSize = {"width": 360, "height": 1500}
PATIENCE = 90_000  # milliseconds; the deployment's pulse comes once a minute
ENDS = (
    *((("completed", None, ""),) * 4),
    ("dead", "too_large", "its files are 3.4 GiB, more than REPOSITORY_SIZE_LIMIT (2 GiB)"),
    *((("completed", None, ""),) * 9),
    ("canceled", None, ""),
    *((("completed", None, ""),) * 4),
    ("pending", "stalled", "no output for 600 s while no tool ran; the run was killed"),
    *((("completed", None, ""),) * 3),
)
READING = Script(
    turns=(
        Turn(calls=(Call(tool="Read", input={"file_path": FILE}),)),
        Turn(text="# Done\n", faults=(Stall(at="headers", times=None),)),
    )
)


def main() -> int:
    """Take all pictures; return the exit status."""
    asyncio.run(take())
    return 0


async def take() -> None:
    """Start everything, take the pictures, stop everything."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        served = home / "served"
        for one in ("storefront", "ledger"):
            repository(served / "acme" / f"{one}.git", {FILE: "export class CheckoutSession {}\n"})
        async with (
            git_server(served, home / "keys", host=HOST) as server,
            proxy(server) as address,
            on_stage(home / "stage", READING) as stage,
            browser() as started,
        ):
            settings = {
                "HTTPS_PROXY": address,
                "NO_PROXY": "127.0.0.1",  # where the model and the deployment are
                "GIT_SSL_CAINFO": str(server.certificate),
            }
            await busy(stage, home / "state", settings)
            url = await page_of(stage)
            await picture(started, url, "status-light.png", "light", DESK, top="header")
            await picture(started, url, "status-dark.png", "dark", LOWER, top="#plots")
            await picture(started, url, "status-phone.png", "light", PHONE, top="header")


@asynccontextmanager
async def proxy(server: GitServer) -> AsyncIterator[str]:
    """Give the address of a proxy that leads every CONNECT to *server*."""
    port = int(server.url.rpartition(":")[2])

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, back))
            both.create_task(pump(there, writer))

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as listening:
        host, found = listening.sockets[0].getsockname()
        yield f"http://{host}:{found}"


async def busy(stage: Stage, state: Path, settings: dict[str, str]) -> None:
    """Start a worker with a history and three slots, and two jobs that do not end."""
    state.mkdir(mode=0o700)
    write_history(History(state / "history.jsonl"), time.time())
    settings |= {"MAX_CONCURRENT_JOBS": "3", "WORKER_ID": "analysis-1", "STATE_DIR": str(state)}
    await stage.worker(**settings)
    user = {"githubId": "1", "username": "someone", "createdAt": 1}
    owner = {"userId": await stage.add_row("users", user), "githubRepoId": "1"}
    for name in ("storefront", "ledger"):
        row = owner | {"name": name, "fullName": f"acme/{name}", "defaultBranch": "main"}
        repository_id = await stage.add_row("repositories", row)
        job_id = await stage.queue.enqueue(prompt="look", repositoryId=repository_id)
        await stage.job_in(job_id, "analyzing", limit=60)


async def page_of(stage: Stage) -> str:
    """Return the address of the status page."""
    lines = (line["message"] for line in stage.workers[0].lines())
    (found,) = (line for line in lines if line.startswith("health: "))
    return str(found).removeprefix("health: ").removesuffix("health")


def write_history(history: History, now: float) -> None:
    """Write what a worker may have done in the last hours."""
    chance = random.Random(7)  # noqa: S311 the same pictures each time
    step = 12 * 3600 / len(ENDS)  # seconds
    for n, (outcome, failure, message) in enumerate(ENDS):
        name = f"acme/{chance.choice(NAMES)}"
        history.add(
            Past(
                ended_at=now - 12 * 3600 + (n + chance.uniform(0.1, 0.9)) * step,
                job_id="j57" + "".join(chance.choices("0123456789abcdefghjkmnpqrstvwxyz", k=29)),
                attempt=1,
                repository=name,
                outcome=outcome,
                error_class=failure,
                message=message and f"{name}: {message}",
                seconds=chance.uniform(50, 1500),
                dollars=chance.uniform(0.1, 2.4) if outcome == "completed" else None,
            )
        )


async def picture(
    started: Browser, url: str, name: str, scheme: str, size: ViewportSize, *, top: str
) -> None:
    """Take one picture of the page at *url* from the element *top* on, once push is up."""
    context = await started.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport=size, timezone_id="UTC"
    )
    page = await context.new_page()
    await page.goto(url)
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("#vitals")).to_contain_text("push", timeout=PATIENCE)
    above = "element => scrollTo(0, element.getBoundingClientRect().top - 20)"
    await page.locator(top).evaluate(above)
    await page.screenshot(path=REPOSITORY / "docs" / name)
    await context.close()


if __name__ == "__main__":
    sys.exit(main())
