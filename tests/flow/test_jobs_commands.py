"""`fondation-worker jobs …` and `workers`, the installed program, on one local backend."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from devtools.backend import Backend, local_backend
from devtools.stack import PROGRAM, Keys
from fondation_worker.convex import Convex, connect
from fondation_worker.result import Document
from tests.flow.test_time import an_hour_off
from tests.processes import until
from tests.terminals import Run, at_a_terminal, run, run_with_input

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = Keys.new()
URL = "https://example.com/owner/name"
PLAYFUL = "first\x1b[2J\x07 \u202e[bold]line[/bold]\nsecond"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    """Run one local backend for all tests of this module."""
    home = tmp_path_factory.mktemp("convex")
    async with local_backend(home, faults=True, environ=KEYS.deployment) as running:
        yield running


class Deployment:
    """A deployment, and the two who talk to it."""

    def __init__(self, backend: Backend, convex: Convex) -> None:
        self.url = backend.url
        self._convex = convex

    async def operate(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Run:
        """Run an operator's command."""
        return await run_with_input(stdin, *arguments, **(self.environment | environment))

    @property
    def environment(self) -> dict[str, str]:
        """What an operator has in the environment."""
        return {"CONVEX_URL": self.url, "OPERATOR_KEY": KEYS.operator}

    async def enqueue(self, *more: str) -> str:
        """Put a job in as an operator would; return its id."""
        done = await self.operate("jobs", "enqueue", "--prompt", PLAYFUL, "--clone-url", URL, *more)
        assert (done.status, done.err) == (0, "")
        return done.out.strip()

    async def jobs(self, status: str) -> list[dict[str, Any]]:
        """Return the jobs in *status*, as the program lists them."""
        done = await self.operate("jobs", "list", "--status", status, "--json")
        listed: list[dict[str, Any]] = json.loads(done.out)["jobs"]
        return listed

    async def call(self, function: str, **arguments: Any) -> Any:
        """Call a function of the queue as a worker."""
        return await self._convex.mutation(
            f"queue:{function}", {"workerKey": KEYS.worker, **arguments}
        )

    async def claim(self, job_id: str, token: str) -> dict[str, Any]:
        """Claim *job_id*, which must be the best job; return the proof of it."""
        names = {"workerId": "w", "instance": "w-1", "leaseToken": token, "leaseMs": 60000.0}
        claimed = await self.call("claim", **names)
        assert claimed["job"]["id"] == job_id
        proof = {"jobId": job_id, "leaseToken": token, "attempt": claimed["job"]["attempt"]}
        await self.call("heartbeat", **proof, beat=1.0, status="analyzing", progress=PLAYFUL)
        return proof

    async def complete(self, proof: dict[str, Any], documents: list[Document]) -> None:
        """Hand *documents* in; those that are stored are uploaded."""
        for document in documents:
            stored = None
            if document.stored:
                announced = await self.call("uploadUrl", **proof, sha256=document.file_sha256)
                stored = await self._convex.upload(announced["url"], document.text.encode())
            await self.call("stageDocs", **proof, docs=[document.to_document(stored)])
        await self.call(
            "complete", **proof, digests=[each.digest for each in documents], message="done"
        )

    async def say_larger(self, job_id: str) -> None:
        """Let the row of the job's document say a byte more than there is."""
        async with aiohttp.ClientSession(self.url) as session:
            async with session.get("/_rows", params={"table": "docs"}) as answer:
                rows = (await answer.json())["rows"]
            (row,) = (row for row in rows if row["jobId"] == job_id)
            change = {"table": "docs", "id": row["_id"], "fields": {"size": row["size"] + 1}}
            async with session.patch("/_rows", json=change) as answer:
                assert answer.status == 200, await answer.text()

    async def log(self, proof: dict[str, Any], *texts: str, first: int = 1) -> None:
        """Add lines to the job's log."""
        lines = [
            {"n": float(n), "at": 1_900_000_000_000.0, "level": "info", "msg": text}
            for n, text in enumerate(texts, start=first)
        ]
        await self.call("appendLogs", **proof, lines=lines)


@pytest_asyncio.fixture(loop_scope="module")
async def deployment(backend: Backend) -> AsyncIterator[Deployment]:
    """Give the deployment; jobs that a test left are put away."""
    async with connect(backend.url, "") as convex:
        yield Deployment(backend, convex)
        key = {"operatorKey": KEYS.operator}
        for job in await convex.query("jobs:list", {**key, "limit": 100.0}):
            await convex.mutation("jobs:cancel", {**key, "jobId": job["id"]})


def document(index: int, slug: str, text: str, *, stored: bool = False) -> Document:
    """Return a document."""
    return Document(
        index=index, slug=slug, title=f"About {slug}", kind="chapter",
        chapter_index=index, text=text, stored=stored,
    )  # fmt: skip


async def test_a_job_is_put_in_with_all_that_can_be_said(deployment: Deployment) -> None:
    """The prompt from standard input, every option, and back as JSON."""
    done = await deployment.operate(
        *("jobs", "enqueue", "--prompt-file", "-", "--clone-url", URL, "--ref", "main"),
        *("--commit", "a" * 40, "--subdirectory", "src", "--priority", "-3", "--run-at", "2d"),
        *("--max-attempts", "2", "--model", "some-model", "--timeout", "90min", "--json"),
        stdin=PLAYFUL.encode(),
    )
    assert done.status == 0, done.err
    enqueued = json.loads(done.out)
    assert enqueued["duplicate"] is False
    shown = json.loads((await deployment.operate("jobs", "show", enqueued["jobId"], "--json")).out)
    wanted = {
        "prompt": PLAYFUL, "cloneUrl": URL, "ref": "main", "commit": "a" * 40,
        "subdirectory": "src", "priority": -3, "maxAttempts": 2, "model": "some-model",
        "timeoutMs": 5_400_000, "status": "pending", "attempts": 0,
    }  # fmt: skip
    assert {name: shown[name] for name in wanted} == wanted
    assert shown["runAt"] - shown["createdAt"] == pytest.approx(2 * 86_400_000, abs=60_000)


async def test_a_job_due_from_now_is_due_by_convex_s_clock(deployment: Deployment) -> None:
    """An operator's clock may be an hour off; a time with its zone is what it says."""
    for said, wanted in (("2h", 7_200_000), ("2001-05-01T06:00Z", None)):
        command = ("jobs", "enqueue", "--prompt", "x", "--clone-url", URL, "--run-at", said)
        done = await run(*command, **deployment.environment, **an_hour_off())
        assert done.status == 0, done.err
        shown = await deployment.operate("jobs", "show", done.out.strip(), "--json")
        row = json.loads(shown.out)
        if wanted is None:
            assert row["runAt"] == datetime(2001, 5, 1, 6, tzinfo=UTC).timestamp() * 1000
        else:
            assert row["runAt"] - row["createdAt"] == pytest.approx(wanted, abs=60_000)
        await deployment.operate("jobs", "cancel", row["id"])


async def test_the_same_dedupe_key_is_the_same_job(deployment: Deployment) -> None:
    """So that asking again is safe; said beside the id, which alone is the output."""
    first = await deployment.enqueue("--dedupe-key", "nightly")
    again = await deployment.operate(
        *("jobs", "enqueue", "--prompt", "x", "--clone-url", URL, "--dedupe-key", "nightly")
    )
    assert (again.status, again.out.strip()) == (0, first)
    assert "has not ended" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompt", "x"), "--clone-url and --repository-id"),
        (("--clone-url", URL), "--prompt and --prompt-file"),
        (("--prompt", "x", "--prompt-file", "-", "--clone-url", URL), "--prompt and --prompt-file"),
        (("--prompt", "x", "--clone-url", URL, "--run-at", "2031-01-01T00:00"), "no time zone"),
        (("--prompt", "x", "--clone-url", URL, "--timeout", "30"), "not a duration"),
        (("--prompt", "x", "--clone-url", URL, "--priority", "11"), "11"),
    ],
)
async def test_a_wrong_command_line_is_2(
    deployment: Deployment, arguments: tuple[str, ...], said: str
) -> None:
    """And tells what was wrong with it."""
    done = await deployment.operate("jobs", "enqueue", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


async def test_a_prompt_that_is_no_text_is_2(deployment: Deployment) -> None:
    """It is the operator's mistake, and no fault of the program."""
    command = ("jobs", "enqueue", "--clone-url", URL, "--prompt-file", "-")
    done = await deployment.operate(*command, stdin=b"\xff\x00\x8f")
    assert (done.status, done.out) == (2, "")
    assert "--prompt-file is no UTF-8 text" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("jobs show no-such-job", 1, "there is no job no-such-job"),
        ("jobs logs no-such-job", 1, "there is no job no-such-job"),
        ("jobs docs no-such-job --to /nonexistent", 1, "there is no job no-such-job"),
        ("jobs cancel no-such-job", 1, "there is no job no-such-job"),
        ("jobs retry no-such-job", 1, "there is no job no-such-job"),
        (f"jobs show {'k' * 10_000}", 1, f"there is no job {'k' * 60}…\n"),
        (f"jobs cancel {'k' * 10_000}", 1, f"there is no job {'k' * 60}…\n"),
        ("jobs enqueue --prompt x --clone-url http://example.com/x", 1, "must be https://"),
        ("jobs list --convex-url http://127.0.0.1:1", 69, "is CONVEX_URL right"),
        ("jobs list --convex-functions elsewhere/", 69, "deploy the functions"),
        ("workers --convex-url ftp://x", 78, "CONVEX_URL: 'ftp://x' is not an http(s) URL"),
        ("jobs list --operator-key-file /nonexistent", 78, "OPERATOR_KEY_FILE: '/nonexistent'"),
    ],
)
async def test_mistakes_are_told_with_a_status(
    deployment: Deployment, arguments: str, status: int, said: str
) -> None:
    """Each says what to do; nothing is on standard output."""
    done = await deployment.operate(*arguments.split())
    assert (done.status, done.out) == (status, "")
    assert said in done.err
    assert KEYS.operator not in done.err


async def test_keys_are_asked_for_and_their_refusal_is_77(
    deployment: Deployment, tmp_path: Path
) -> None:
    """No key: a bad setting. A worker's key: refused. From a file, or an INI file: taken."""
    missing = await deployment.operate("jobs", "list", OPERATOR_KEY="")
    assert (missing.status, "OPERATOR_KEY or OPERATOR_KEY_FILE is not set" in missing.err) == (
        78,
        True,
    )
    refused = await deployment.operate("jobs", "list", OPERATOR_KEY=KEYS.worker)
    assert (refused.status, "FONDATION_OPERATOR_KEY_SHA256" in refused.err) == (77, True)
    key, file = tmp_path / "operator.key", tmp_path / "worker.conf"
    key.write_text(KEYS.operator + "\n")
    file.write_text(
        f"[worker]\nconvex_url = {deployment.url}\noperator_key_file = {key}\npoll_interval = 5s\n"
    )
    assert (await run("workers", "--config", str(file))).status == 0


async def test_lists_are_for_people_and_for_programs(deployment: Deployment) -> None:
    """Newest first, one line each when piped, filtered by status."""
    first, second = await deployment.enqueue(), await deployment.enqueue("--run-at", "3h")
    people = await deployment.operate("jobs", "list", "--status", "pending", "--limit", "2")
    title, *lines = people.out.splitlines()
    assert title.split() == ["JOB", "STATUS", "CREATED", "TRIES", "REPOSITORY", "STATE"]
    assert [line.split()[0] for line in lines] == [second, first]
    assert "in 3 h" in lines[0] or "in 180 min" in lines[0]
    assert "\x1b" not in people.out
    assert all(line == line.rstrip() for line in people.out.splitlines())
    programs = await deployment.operate("jobs", "list", "--status", "pending", "--json")
    assert [job["id"] for job in json.loads(programs.out)["jobs"]] == [second, first]
    nothing = await deployment.operate("jobs", "list", "--status", "failed")
    assert (nothing.status, nothing.out) == (0, "")
    assert "no job with status failed" in nothing.err


async def test_text_of_a_job_does_not_play_with_the_terminal(deployment: Deployment) -> None:
    """Neither the prompt nor the progress nor the log: control characters are written out."""
    job_id = await deployment.enqueue()
    await deployment.log(await deployment.claim(job_id, "token-of-a-test-playful"), PLAYFUL)
    for arguments in (("show", job_id), ("list",), ("logs", job_id)):
        async with at_a_terminal(
            *("jobs", *arguments),
            columns=200,
            environment=deployment.environment | {"NO_COLOR": "1"},
        ) as terminal:
            assert await terminal.ended() == 0
        assert "first\\x1b[2J\\x07 \\u202e[bold]line[/bold]" in terminal.shown
        assert "\x07" not in terminal.shown
        assert "\x1b[2J" not in terminal.shown
    shown = await deployment.operate("jobs", "show", job_id, "--json")
    assert shown.out.isascii()


async def test_cancel_and_retry(deployment: Deployment) -> None:
    """Cancel is final and may be repeated; retry refuses what must not run again."""
    job_id = await deployment.enqueue()
    done = await deployment.operate("jobs", "cancel", job_id)
    assert (done.status, done.out) == (0, f"{job_id} is canceled\n")
    again = await deployment.operate("jobs", "cancel", job_id, "--json")
    document = json.loads(again.out)
    assert (document["jobId"], document["already"]) == (job_id, "canceled")
    done = await deployment.operate("jobs", "retry", job_id, "--json")
    assert json.loads(done.out) == {"jobId": job_id, "status": "pending"}
    proof = await deployment.claim(job_id, "token-of-a-test-retry")
    await deployment.complete(proof, [document_of("x")])
    refused = await deployment.operate("jobs", "retry", job_id)
    assert (refused.status, "completed" in refused.err) == (1, True)


def document_of(text: str) -> Document:
    """Return a small document."""
    return document(0, "only", text)


async def test_documents_become_files(deployment: Deployment, tmp_path: Path) -> None:
    """Large ones whole, from file storage; no slug leaves the directory; nothing is overwritten."""
    job_id = await deployment.enqueue()
    none = await deployment.operate("jobs", "docs", job_id, "--to", str(tmp_path / "none"))
    assert (none.status, "has no documents" in none.err) == (1, True)
    assert not (tmp_path / "none").exists()
    large = "# Large\n" + "ü0123456789" * 300_000
    proof = await deployment.claim(job_id, "token-of-a-test-docs")
    await deployment.complete(
        proof,
        [
            document(0, "../../outside", "# One\n"),
            document(1, "large", large, stored=True),
        ],
    )
    there = tmp_path / "deep" / "docs"
    done = await deployment.operate("jobs", "docs", job_id, "--to", str(there), "--json")
    assert done.status == 0, done.err
    assert [Path(each["file"]).name for each in json.loads(done.out)["files"]] == [
        "01-outside.md",
        "02-large.md",
    ]
    assert sorted(entry.name for entry in there.iterdir()) == ["01-outside.md", "02-large.md"]
    assert digest(there / "02-large.md") == hashlib.sha256(large.encode()).hexdigest()
    (there / "01-outside.md").write_text("mine")
    (there / "02-large.md").unlink()
    refused = await deployment.operate("jobs", "docs", job_id, "--to", str(there))
    assert (refused.status, "--force" in refused.err) == (1, True)
    assert [entry.name for entry in there.iterdir()] == ["01-outside.md"]
    forced = await deployment.operate("jobs", "docs", job_id, "--to", str(there), "--force")
    assert (forced.status, len(forced.out.splitlines())) == (0, 2)
    assert (there / "01-outside.md").read_text() == "# One\n"


async def test_a_download_that_broke_off_leaves_no_file(
    deployment: Deployment, tmp_path: Path
) -> None:
    """What came is not what the row says: nothing half is there, and asking again may help."""
    job_id = await deployment.enqueue()
    proof = await deployment.claim(job_id, "token-of-a-test-torn")
    await deployment.complete(proof, [document(0, "torn", "x" * 70_000, stored=True)])
    await deployment.say_larger(job_id)
    done = await deployment.operate("jobs", "docs", job_id, "--to", str(tmp_path / "docs"))
    assert (done.status, "70000 bytes came of 70001" in done.err) == (69, True)
    assert list((tmp_path / "docs").iterdir()) == []


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_a_log_is_printed_and_followed_to_the_end(deployment: Deployment) -> None:
    """Lines that come while it is followed are printed; it ends with the job."""
    job_id = await deployment.enqueue()
    proof = await deployment.claim(job_id, "token-of-a-test-logs")
    await deployment.log(proof, *(f"line {n}" for n in range(1, 6)))
    printed = await deployment.operate("jobs", "logs", job_id)
    ends = [line.split()[-1] for line in printed.out.splitlines()]
    assert ends == ["1", "2", "3", "4", "5"]
    command = ("jobs", "logs", "-f", job_id, "--json")
    async with at_a_terminal(*command, environment=deployment.environment) as terminal:
        await until(lambda: "line 5" in terminal.shown, limit=30)
        await deployment.log(proof, "line 6", first=6)
        await until(lambda: "line 6" in terminal.shown, limit=30)
        await deployment.log(proof, "line 7", first=7)
        await deployment.complete(proof, [document_of("x")])
        assert await terminal.ended() == 0
    shown = terminal.shown.splitlines()
    lines = [json.loads(line) for line in shown if line.startswith("{")]
    assert [line["msg"] for line in lines] == [f"line {n}" for n in range(1, 8)]
    assert {line["attempt"] for line in lines} == {1}
    assert f"{job_id} is completed" in shown[-1]


async def test_a_job_is_waited_for(deployment: Deployment) -> None:
    """Its status tells how it ended, and so does the exit status."""
    job_id = await deployment.enqueue()
    waiting = asyncio.create_task(deployment.operate("jobs", "show", job_id, "--wait"))
    proof = await deployment.claim(job_id, "token-of-a-test-wait")
    await deployment.complete(proof, [document_of("x")])
    done = await waiting
    assert done.status == 0, done.err
    assert "completed" in done.out


async def test_a_job_that_ends_without_a_result_is_1(deployment: Deployment) -> None:
    """Put in and waited for in one command; beside the output, its states are told."""
    command = ("jobs", "enqueue", "--prompt", "x", "--clone-url", URL, "--wait", "--json")
    waiting = asyncio.create_task(deployment.operate(*command))
    while not (jobs := await deployment.jobs("pending")):
        assert not waiting.done()
    await deployment.operate("jobs", "cancel", jobs[0]["id"])
    ended = await waiting
    assert (ended.status, json.loads(ended.out)["status"]) == (1, "canceled")
    assert f"{jobs[0]['id']} is canceled" in ended.err


async def test_an_interrupt_is_130_and_quiet(deployment: Deployment) -> None:
    """While a bar is shown, at a terminal."""
    job_id = await deployment.enqueue()
    async with at_a_terminal(
        "jobs", "show", job_id, "--wait", environment=deployment.environment
    ) as terminal:
        await until(lambda: "pending" in terminal.shown, limit=30)
        terminal.press_interrupt()
        assert await terminal.ended() == 130
    assert "Traceback" not in terminal.shown
    assert "━" in terminal.shown  # the bar


async def test_a_closed_pipe_is_quiet(deployment: Deployment) -> None:
    """As in `jobs list | head -1`."""
    await deployment.enqueue()
    command = 'fondation-worker jobs list | head -0; echo "${PIPESTATUS[0]}"'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env={"PATH": f"{PROGRAM.parent}:/usr/bin:/bin"} | deployment.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert (out.decode().strip(), err.decode()) == ("141", "")


async def test_colours_at_a_terminal_only(deployment: Deployment) -> None:
    """And none where NO_COLOR says so; narrow ones cut what can be cut, never an id."""
    job_id = await deployment.enqueue()
    await deployment.operate("jobs", "cancel", job_id)
    for no_color in ("", "1"):
        environment = {"NO_COLOR": no_color}
        async with at_a_terminal(
            *("jobs", "list"), columns=64, environment=deployment.environment | environment
        ) as terminal:
            assert await terminal.ended() == 0
        assert ("\x1b[33mcanceled" in terminal.shown) is (not no_color)
        lines = terminal.shown.replace("\r", "").splitlines()
        (line,) = (line for line in lines if line.startswith(job_id))
        assert "…" in line


async def test_workers_are_listed(deployment: Deployment) -> None:
    """Those that live; those that stopped with --all."""
    told = {"version": "1", "slots": 2.0, "busy": 1.0}
    await deployment.call("report", workerId="one", instance="one-1", state="ready", **told)
    await deployment.call("report", workerId="two", instance="two-1", state="stopped", **told)
    people = await deployment.operate("workers")
    assert [line.split()[:2] for line in people.out.splitlines()[1:]] == [["one", "1/2"]]
    answer = json.loads((await deployment.operate("workers", "--all", "--json")).out)
    states = {row["workerId"]: row["state"] for row in answer["workers"]}
    assert states == {"one": "ready", "two": "stopped"}
    assert all(row["seenAt"] <= answer["now"] for row in answer["workers"])
