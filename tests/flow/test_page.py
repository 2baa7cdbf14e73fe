"""The status page as its readers meet it: a real browser, a real worker, real jobs."""

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from devtools.stack import PLACEHOLDER
from fondation_worker.history import History, Past
from tests.browser import browser, complaints
from tests.fakes.messages_api import Call, Script, Stall, Turn, say
from tests.flow.stage import on_stage
from tests.processes import until

pytestmark = pytest.mark.timeout(180)

TOP = Path(__file__).parents[2]
AXE = TOP / "node_modules/axe-core/axe.min.js"
SOON = 20_000  # milliseconds
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}
SLOW = Script(
    turns=(
        Turn(calls=(Call(tool="Glob", input={"pattern": "**/*"}),), delay=4),
        Turn(calls=(Call(tool="Grep", input={"pattern": "print"}),), delay=4),
        Turn(text="# Done\n", delay=4),
    )
)


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Give a browser."""
    async with browser() as started:
        yield started


@pytest.fixture
def port() -> int:
    """Return a port that is free, for a worker that is started on it twice."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def opened(page: Page, port: int) -> Page:
    """Open the status page once the worker answers."""

    def answers() -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", port)) == 0

    await until(answers, limit=20, what="for the worker to answer")
    await page.goto(f"http://127.0.0.1:{port}/")
    return page


def address(port: int) -> dict[str, str]:
    """Return the settings of a worker with its page there."""
    return {"HEALTH_ADDRESS": f"127.0.0.1:{port}", "WORKER_ID": "worker-7"}


async def test_a_job_is_followed_to_its_end_without_a_reload(
    tmp_path: Path, chromium: Browser, port: int
) -> None:
    """Progress, then completion; no prompt and no secret; nothing that the policy had to stop."""
    prompt = "a prompt that nobody else may read"
    async with on_stage(tmp_path, SLOW) as stage:
        await stage.worker(**address(port))
        page = await opened(await chromium.new_page(), port)
        heard = complaints(page)
        await page.evaluate("window.stays = true")
        await expect(page.locator("#slots")).to_contain_text("1 slot free")
        job_id = await stage.enqueue(prompt)
        slots = page.locator("#slots")
        await expect(slots).to_contain_text(job_id, timeout=SOON)
        step = slots.get_by_role("progressbar", name="step 2 of 3: analyzing")
        await expect(step).to_be_visible(timeout=SOON)
        await expect(slots).to_contain_text("listing **/*", timeout=SOON)
        await expect(slots).to_contain_text("searching", timeout=SOON)
        row = page.get_by_role("row").filter(has_text=job_id)
        await expect(row).to_contain_text("completed", timeout=SOON)
        await expect(slots).to_contain_text("1 slot free")
        assert await page.evaluate("window.stays")
        content = await page.content()
        for secret in (prompt, stage.keys.worker, PLACEHOLDER):
            assert secret not in content
        assert heard == []


async def test_the_page_outlives_a_restart_of_the_worker(
    tmp_path: Path, chromium: Browser, port: int
) -> None:
    """It says that nobody is there, tries on, and goes on with the next process."""
    async with on_stage(tmp_path, say("never")) as stage:
        first = await stage.worker(**address(port))
        page = await opened(await chromium.new_page(), port)
        connection = page.locator("#connection")
        await expect(connection).to_have_text("live")
        await page.evaluate("window.stays = true")
        before = await instance(page)
        await first.stop()
        await expect(connection).to_have_text("connection lost, trying again")
        assert await instance(page) == before
        await stage.worker(**address(port))
        await expect(connection).to_have_text("live; the worker has started anew", timeout=SOON)
        assert await instance(page) != before
        assert await page.evaluate("window.stays")


async def instance(page: Page) -> str:
    """Return the instance that the page names."""
    found = re.search(r"worker-7-\w+", await page.locator("#headline").inner_text())
    assert found
    return found[0]


async def test_an_answer_that_is_no_stream_is_not_the_end(
    tmp_path: Path, chromium: Browser, port: int
) -> None:
    """A browser gives up on a 503, which a full worker or a proxy may answer; the page does not."""
    async with on_stage(tmp_path, say("never")) as stage:
        await stage.worker(**address(port))
        page = await chromium.new_page()
        await page.route("**/events", lambda route: route.fulfill(status=503), times=2)
        await opened(page, port)
        connection = page.locator("#connection")
        await expect(connection).to_have_text("not connected, trying again")
        await expect(connection).to_have_text("live", timeout=SOON)


async def test_without_scripts_the_page_is_whole_and_reloads_itself(
    tmp_path: Path, chromium: Browser, port: int
) -> None:
    """The same HTML; it only comes as a whole."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.worker(**address(port))
        context = await chromium.new_context(java_script_enabled=False)
        page = await opened(await context.new_page(), port)
        assert await page.locator("#connection").inner_text() == "reloads every 10 s"
        await expect(page.locator("main > section")).to_have_count(6)
        job_id = await stage.enqueue()
        row = page.get_by_role("row").filter(has_text=job_id)
        await expect(row).to_contain_text("completed", timeout=2 * SOON)


async def test_what_somebody_is_about_to_copy_stays(
    tmp_path: Path, chromium: Browser, port: int
) -> None:
    """A selection in a section keeps it as it is; when it goes, the news is shown."""
    async with on_stage(tmp_path, SLOW) as stage:
        await stage.worker(**address(port))
        page = await opened(await chromium.new_page(), port)
        await expect(page.locator("#connection")).to_have_text("live")
        await page.evaluate("getSelection().selectAllChildren(document.querySelector('#slots'))")
        job_id = await stage.enqueue()
        await expect(page.locator("#headline")).to_contain_text("1 of 1 slot busy", timeout=SOON)
        assert "1 slot free" in await page.evaluate("getSelection().toString()")
        await page.evaluate("getSelection().empty()")
        await expect(page.locator("#slots")).to_contain_text(job_id, timeout=SOON)
        await stage.ended(job_id)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_everybody_can_read_it(
    tmp_path: Path, chromium: Browser, port: int, scheme: Any, size: Any
) -> None:
    """Axe finds nothing, nothing is wider than a phone, and the keyboard reaches every link."""
    script = say("# Done\n", Stall(at="headers", times=None))
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    remember(state)
    async with on_stage(tmp_path, script) as stage:
        settings = address(port) | {"MAX_CONCURRENT_JOBS": "2", "STATE_DIR": str(state)}
        await stage.worker(**settings)
        job_id = await stage.enqueue()
        context = await chromium.new_context(
            color_scheme=scheme, viewport=size, bypass_csp=True
        )  # the policy would stop axe, too
        page = await opened(await context.new_page(), port)
        await expect(page.locator("#slots")).to_contain_text(job_id, timeout=SOON)
        await expect(page.locator("#connection")).to_have_text("live")
        assert await violations(page) == []
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]
        reached = []
        for _ in range(3):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent"))
        assert reached == ["health", "readiness", "metrics"]


async def violations(page: Page) -> list[str]:
    """Return what axe finds on *page*, each with where."""
    await page.add_script_tag(path=AXE)
    found: list[dict[str, Any]] = (await page.evaluate("axe.run()"))["violations"]
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found]


def remember(state: Path) -> None:
    """Let a worker with this STATE_DIR remember attempts of every outcome, in long words."""
    history = History(state / "history.jsonl")
    outcomes = ("completed", "kept", "released", "canceled", "lost", "refused", "fault")
    for outcome in (*outcomes, "pending", "dead"):
        failure = "timeout" if outcome in {"pending", "dead"} else None
        history.add(
            Past(
                ended_at=1_800_000_000.0,
                job_id="j57" + "a1b2c3d4" * 3,
                attempt=1,
                repository=f"acme/{'storefront' * 5}",
                outcome=outcome,
                error_class=failure,
                message="a path without a blank: /" + "very/long/" * 30 if failure else "",
                seconds=100,
                dollars=1.5,
            )
        )
