"""A private repository: its token opens it, and is nowhere else, not for a moment."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from devtools.stack import PROGRAM
from tests.fakes.messages_api import say
from tests.flow.stage import Stage, on_stage
from tests.repositories import GitServer, git_server, repository

TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
SOME_TOKEN = "ghp_9876543210zyxwvutsrqZYXWVUTSRQ987654"
OLD_TOKENS = ("obf_Z2hwXzAxMjM0NTY3ODk=", "enc_v1_00112233:44556677:8899aabb")

# Every program that is started, with its arguments and environment; and all that is written, with
# the path that it goes to, so that a file counts that is gone by the time of the search.
STRACE = ("strace", "-f", "-qq", "-v", "-y", "-s", "65535")
CALLS = "trace=execve,write,writev,pwrite64"


def traced(into: Path) -> tuple[str, ...]:
    """Return what a command is started with so that all it does is told to the file *into*.

    Detached, so that the command itself is our child, and heeds our signals.
    """
    return (*STRACE, "-D", "-e", CALLS, "-o", str(into))


def forms(token: str) -> set[str]:
    """Return what *token* looks like: plain, percent-encoded, and within any base64."""
    coded = set()
    for text in (token, f"x-access-token:{token}", f":{token}", f"::{token}"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded.add(encode(text.encode()).decode().rstrip("=")[8:-4])
    return {token, quote(token, safe=""), "".join(f"%{ord(each):02X}" for each in token)} | coded


def leaks(token: str, home: Path, trace: Path) -> Iterator[str]:
    """Yield where *token* was: in a file below *home*, in what was started, or in what was written.

    A pipe or a socket is no leak: that is how git is told.
    """
    sought = re.compile("|".join(map(re.escape, sorted(forms(token)))))
    for file in home.rglob("*"):
        if file.is_file() and file != trace and sought.search(file.read_text(errors="replace")):
            yield f"file {file.name}"
    for line in trace.read_text(errors="replace").splitlines():
        if not sought.search(line):
            continue
        if "execve(" in line:
            _, _, rest = line.partition("execve(")
            arguments, _, environment = rest.partition("], [")
            yield "argument" if sought.search(arguments) else "environment"
            yield from ["environment"] if sought.search(environment) else []
        elif re.search(r"\b(write|writev|pwrite64)\(\d+</", line):
            yield "written"


@asynccontextmanager
async def private_stage(tmp_path: Path) -> AsyncIterator[tuple[Stage, GitServer]]:
    """Give a stage, and a server whose repositories open to TOKEN only."""
    top = tmp_path / "served"
    top.mkdir()
    repository(top / "private")
    async with git_server(top, tmp_path / "keys", password=TOKEN) as server:
        host = server.url.removeprefix("https://")
        async with on_stage(
            tmp_path / "stage", say("# Done\n"), deployment={"GITHUB_HOSTS": host}
        ) as stage:
            yield stage, server


async def job_of(stage: Stage, server: GitServer, token: str | None) -> str:
    """Put a job in for the private repository, of a user who has *token*."""
    user = {"githubId": f"id-{token}", "username": "someone", "createdAt": 1}
    user_id = await stage.add_row("users", user | ({"githubAccessToken": token} if token else {}))
    later = await stage.now() + 3_600_000
    job_id = await stage.enqueue(userId=user_id, maxAttempts=1, runAt=later)
    # `enqueue` takes no port, and a server of a test has no other way.
    url = f"{server.url}/private/.git"
    await stage.change_row("jobs", job_id, {"cloneUrl": url, "runAt": await stage.now()})
    return job_id


@pytest.mark.timeout(120)
async def test_the_token_opens_it_and_is_nowhere_else(tmp_path: Path) -> None:
    """Searched: each file, row and log line, each program started, and each write on the way."""
    trace = tmp_path / "trace"
    async with private_stage(tmp_path) as (stage, server):
        worker = await stage.worker(
            (*traced(trace), str(PROGRAM), "run"),
            GIT_SSL_CAINFO=str(server.certificate),
            LOG_LEVEL="debug",
            CLONE_TIMEOUT="1min",
        )
        job_id = await job_of(stage, server, TOKEN)
        job = await stage.ended(job_id, limit=90)
        assert job["status"] == "completed", job
        lines = await stage.queue.logs(job_id)
        tables = [await stage.rows(table) for table in ("jobs", "attempts", "jobLogs", "workers")]
        await worker.stop()
        assert not re.search("|".join(forms(TOKEN)), json.dumps([lines, tables]))
        assert "git-remote-https" in trace.read_text(errors="replace")
        assert list(leaks(TOKEN, worker.log.parent, trace)) == []
        assert TOKEN not in stage.backend.log.read_text(encoding="utf-8")


PLANTS: dict[str, Any] = {
    "file": "import pathlib; pathlib.Path('kept').write_text(token)",
    "written": "import pathlib; p = pathlib.Path('gone'); p.write_text(token); p.unlink()",
    "argument": "subprocess.run(['true', f'https://{token}@example.com'])",
    "environment": "subprocess.run(['true'], env={'X': base64.b64encode(token.encode())})",
}


@pytest.mark.parametrize("place", PLANTS)
def test_the_search_finds_what_is_planted(tmp_path: Path, place: str) -> None:
    """By the same search of the same trace; the token comes through a pipe, which is none."""
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    leak = f"import base64, subprocess, sys; token = sys.stdin.read(); {PLANTS[place]}"
    follow = (*STRACE, "-e", CALLS, "-o", str(trace))
    subprocess.run(
        [*follow, sys.executable, "-c", leak], cwd=home, input=TOKEN, text=True, check=True
    )
    found = set(leaks(TOKEN, home, trace))
    assert found == ({"file kept", "written"} if place == "file" else {place})


async def test_what_does_not_open_it_is_told_in_words(tmp_path: Path) -> None:
    """No token, a wrong one, and one of an old form: dead at once, and never shown."""
    async with private_stage(tmp_path) as (stage, server):
        await stage.worker(GIT_SSL_CAINFO=str(server.certificate), MAX_CONCURRENT_JOBS="2")
        for token, failure in (
            (None, "repository_missing"),
            (SOME_TOKEN, "repository_missing"),
            *((token, "token_unusable") for token in OLD_TOKENS),
        ):
            job = await stage.ended(await job_of(stage, server, token))
            assert (job["status"], job["errorClass"]) == ("dead", failure), job
            assert job["error"]
            assert token is None or token not in json.dumps(job)
            assert token is None or token not in stage.workers[0].messages()
        assert stage.runs() == 0
