"""Our HTTP calls against the local backend: answers, refusals, and outcomes that are unknown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from devtools.backend import Backend, local_backend
from devtools.stack import Keys
from fondation_worker.convex import Convex, connect
from fondation_worker.errors import LeaseLost, NotStaged, Refused, Unreachable

KEYS = Keys.new()
JOB = {"operatorKey": KEYS.operator, "prompt": "x", "cloneUrl": "https://example.com/x"}


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Run a local backend."""
    async with local_backend(tmp_path, faults=True, environ=KEYS.deployment) as running:
        yield running


@pytest.fixture
async def convex(backend: Backend) -> AsyncIterator[Convex]:
    """Connect to it."""
    async with connect(backend.url, "") as connected:
        yield connected


async def fault(backend: Backend, **rule: Any) -> None:
    """Let the next call go wrong."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{backend.url}/_faults", json=[rule]) as answer,
    ):
        assert answer.status == 200


def claim(token: str, key: str = KEYS.worker) -> dict[str, Any]:
    """Return the arguments of a claim."""
    return {
        "workerKey": key,
        "workerId": "w",
        "instance": "w-1",
        "leaseToken": token,
        "leaseMs": 60000,
    }


async def test_values_come_back_as_python_has_them(convex: Convex) -> None:
    """Numbers are floats, a missing optional argument is left out."""
    job_id = (await convex.mutation("jobs:enqueue", {**JOB, "priority": 3, "model": None}))["jobId"]
    job = await convex.query("jobs:get", {"operatorKey": KEYS.operator, "jobId": job_id})
    assert job["priority"] == 3.0
    assert "model" not in job


async def test_refusals_have_their_classes(convex: Convex) -> None:
    """Each of the protocol's errors is told apart by its code."""
    with pytest.raises(Refused, match="unauthorized") as unauthorized:
        await convex.mutation("queue:claim", claim("t" * 20, key="a wrong key"))
    assert unauthorized.value.code == "unauthorized"
    with pytest.raises(Refused, match="prompt"):
        await convex.mutation("jobs:enqueue", {**JOB, "prompt": ""})

    await convex.mutation("jobs:enqueue", JOB)
    job = (await convex.mutation("queue:claim", claim("t" * 20)))["job"]
    token = {"workerKey": KEYS.worker, "jobId": job["id"], "leaseToken": "t" * 20, "attempt": 1}
    with pytest.raises(NotStaged) as missing:
        await convex.mutation(
            "queue:complete", {**token, "digests": ["0" * 64, "1" * 64], "message": "x"}
        )
    assert missing.value.missing == (0, 1)
    with pytest.raises(LeaseLost) as lost:
        await convex.mutation("queue:heartbeat", {**token, "leaseToken": "u" * 20, "beat": 1})
    assert lost.value.reason in {"superseded", "gone"}


async def test_a_lost_answer_is_an_unknown_outcome(backend: Backend, convex: Convex) -> None:
    """The mutation was carried out; whoever asks again with the same token gets the same job."""
    await convex.mutation("jobs:enqueue", JOB)
    await fault(backend, fault="lostReply", path="queue:claim")
    with pytest.raises(Unreachable):
        await convex.mutation("queue:claim", claim("t" * 20))
    assert convex.trouble
    again = await convex.mutation("queue:claim", claim("t" * 20))
    assert again["job"]["attempt"] == 1.0
    assert convex.trouble is None


async def test_a_conflict_is_an_unknown_outcome(backend: Backend, convex: Convex) -> None:
    """Convex gave up retrying; so it is asked again."""
    await fault(backend, fault="conflict", path="queue:claim")
    with pytest.raises(Unreachable, match="OptimisticConcurrencyControlFailure"):
        await convex.mutation("queue:claim", claim("t" * 20))


async def test_reports_that_are_taken_do_not_hide_claims_that_fail(
    backend: Backend, convex: Convex
) -> None:
    """Every report would begin the trouble anew, and no alarm that waits would ever come."""
    names = {"workerKey": KEYS.worker, "workerId": "w", "instance": "w-1", "version": "1"}
    report: dict[str, Any] = {**names, "slots": 1, "busy": 0, "state": "idle"}
    await fault(backend, fault="conflict", path="queue:claim", times=2)
    since = set()
    for _ in range(2):
        with pytest.raises(Unreachable):
            await convex.mutation("queue:claim", claim("t" * 20))
        await convex.mutation("queue:report", report, aside=True)
        assert convex.trouble
        since.add(convex.troubled_since)
    assert len(since) == 1
    await convex.mutation("queue:claim", claim("t" * 20))
    assert convex.trouble is None


async def test_a_function_that_is_not_deployed_is_said_in_words(convex: Convex) -> None:
    """The operator deployed something else, or CONVEX_FUNCTIONS is wrong."""
    with pytest.raises(Unreachable, match="Could not find public function"):
        await convex.mutation("fondation/queue:claim", claim("t" * 20))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid"])
async def test_an_absent_deployment_is_unreachable(url: str) -> None:
    """Refused connections and unknown hosts alike."""
    async with connect(url, "") as convex:
        with pytest.raises(Unreachable, match="queue:claim: no answer"):
            await convex.mutation("queue:claim", claim("t" * 20))


async def test_a_server_that_is_no_deployment_is_unreachable(backend: Backend) -> None:
    """A captive portal answers 200 with a page."""
    async with connect(f"{backend.url}/api/storage", "") as convex:
        with pytest.raises(Unreachable, match="status 40"):
            await convex.mutation("queue:claim", claim("t" * 20))


@asynccontextmanager
async def deployment(answer: Handler) -> AsyncIterator[str]:
    """Give the URL of a server that gives this answer to everything."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_redirect_is_not_followed() -> None:
    """The key would go where it leads."""
    led_on: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/elsewhere":
            led_on.append(await request.text())
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with deployment(answer) as url, connect(url, "") as convex:
        with pytest.raises(Unreachable, match="status 307"):
            await convex.mutation("queue:claim", claim("t" * 20))
    assert led_on == []


async def test_what_convex_quotes_of_a_call_is_not_repeated() -> None:
    """A deployment for development does; the words go to the log, and to whoever asks /health."""
    words = (
        "[Request ID: 1] Server Error\nArgumentValidationError: Object contains extra field `sum`"
        ' that is not in the validator.\n\nObject: {leaseToken: "tttt", content: "hunter2"}\n'
        "Validator: v.object({})\n\n  Called by client"
    )

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"status": "error", "errorMessage": words})

    async with deployment(answer) as url, connect(url, "") as convex:
        with pytest.raises(Unreachable, match="extra field `sum`") as failed:
            await convex.mutation("queue:claim", claim("t" * 20))
        for told in (str(failed.value), str(convex.trouble)):
            assert "hunter2" not in told
            assert "tttt" not in told


async def test_a_file_goes_up_and_comes_down(backend: Backend, convex: Convex) -> None:
    """The way of documents over 64 KiB."""
    content = "äöü🐙".encode() * 100_000
    await convex.mutation("jobs:enqueue", JOB)
    job = (await convex.mutation("queue:claim", claim("t" * 20)))["job"]
    token = {"workerKey": KEYS.worker, "jobId": job["id"], "leaseToken": "t" * 20, "attempt": 1}
    url = (await convex.mutation("queue:uploadUrl", {**token, "sha256": "0" * 64}))["url"]
    storage_id = await convex.upload(url, content)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{backend.url}/api/storage/{storage_id}") as answer,
    ):
        assert await answer.read() == content
    with pytest.raises(Unreachable, match="no storage id"):
        await convex.upload(f"{backend.url}/api/query", content)
