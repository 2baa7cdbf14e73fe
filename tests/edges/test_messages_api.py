"""The scripted Messages API, with the real Claude CLI as its client."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.fakes.messages_api import (
    Call,
    Drop,
    Explore,
    Moment,
    Rule,
    Script,
    ScriptedApi,
    Stall,
    Status,
    Turn,
    rules_from_json,
    say,
    scripted_api,
    when,
)
from tests.fakes.messages_api.languages import defined_names, language_of
from tests.fakes.messages_api.overview import Excerpt, Findings, overview

CLAUDE = Path(sys.prefix, "bin", "claude")
FLAGS = (
    *("-p", "--output-format", "stream-json", "--verbose", "--tools", "Read,Glob,Grep"),
    *("--setting-sources", "", "--strict-mcp-config", "--no-session-persistence"),
    *("--permission-mode", "dontAsk"),
)
DEADLINE = 40
RETRIES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run of the CLI printed."""

    status: int
    events: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """The final text."""
        return str(self._result["result"])

    @property
    def failed(self) -> bool:
        """Whether the run ended in an error."""
        return bool(self._result["is_error"])

    @property
    def retried(self) -> list[int | None]:
        """The HTTP statuses after which the CLI tried again."""
        return [
            event["error_status"] for event in self.events if event.get("subtype") == "api_retry"
        ]

    @property
    def _result(self) -> dict[str, Any]:
        return next(event for event in self.events if event["type"] == "result")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return an empty directory for a test to fill, beside the directory that is the CLI's home."""
    path = tmp_path / "repository"
    path.mkdir()
    return path


@asynccontextmanager
async def claude(
    api: ScriptedApi, repository: Path, *flags: str, prompt: str = "Look around.", **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the CLI; it is dead when the block ends."""
    home = repository.parent / "home"
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    environment = {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "config"),
        "TMPDIR": str(home / "tmp"),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "placeholder",
        "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    }
    process = await asyncio.create_subprocess_exec(
        CLAUDE,
        *(*FLAGS, *flags),
        cwd=repository,
        env=environment | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=16 * 1024 * 1024,
        start_new_session=True,
    )
    assert process.stdin
    process.stdin.write(prompt.encode())
    process.stdin.close()
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def run(api: ScriptedApi, repository: Path, *flags: str, **more: str) -> Run:
    """Run the CLI to its end."""
    async with asyncio.timeout(DEADLINE), claude(api, repository, *flags, **more) as process:
        assert process.stdout
        events = [json.loads(line) async for line in process.stdout]
        return Run(status=await process.wait(), events=events)


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.02)  # what the server saw sets no event


async def test_text_arrives_as_the_result(repository: Path) -> None:
    """One request, with the placeholder as its credential, is all that a plain answer takes."""
    async with scripted_api(say('# Hello\n\nZażółć gęślą jaźń 🌍 "quoted"')) as api:
        result = await run(api, repository, prompt="Say hello.")
    assert (result.status, result.failed) == (0, False)
    assert result.text == '# Hello\n\nZażółć gęślą jaźń 🌍 "quoted"'
    (request,) = api.asked()
    assert request.credential == ("x-api-key", "placeholder")
    assert (request.prompt, request.turn, request.results) == ("Say hello.", 0, 0)


async def test_tools_run_and_later_turns_use_what_they_returned(repository: Path) -> None:
    """Results are numbered by their calls, although the CLI finishes several in any order."""
    (repository / "notes.txt").write_text("the needle\nand the thread\n")
    script = Script(
        turns=(
            Turn(
                text="I look.",
                calls=(
                    Call(tool="Glob", input={"pattern": "*.txt"}),
                    Call(tool="Grep", input={"pattern": "needle", "output_mode": "content"}),
                ),
            ),
            Turn(calls=(Call(tool="Read", input={"file_path": "notes.txt"}),)),
            Turn(text="1: {result 1}\n2: {result 2}\n3: {result 3}"),
        )
    )
    async with scripted_api(script) as api:
        result = await run(api, repository)
    assert result.text == (
        "1: notes.txt\n2: notes.txt:1:the needle\n3: 1\tthe needle\n2\tand the thread\n3\t"
    )
    assert [(request.turn, request.results) for request in api.asked()] == [(0, 0), (1, 2), (2, 3)]


@pytest.mark.parametrize("code", [401, 429, 500, 529])
async def test_a_refusal_is_met_as_often_as_the_script_says(repository: Path, code: int) -> None:
    """After it the same conversation goes on."""
    async with scripted_api(say("# Done", Status(code=code))) as api:
        result = await run(api, repository)
    assert (result.text, result.retried) == ("# Done", [code])
    assert len(api.asked()) == 2


@pytest.mark.parametrize("code", [401, 529])
async def test_a_refusal_for_ever_fails_the_run(repository: Path, code: int) -> None:
    """The CLI gives up after its retries, each of which is one request."""
    async with scripted_api(say("# Never", Status(code=code, times=None))) as api:
        result = await run(api, repository)
    assert (result.status, result.failed) == (1, True)
    assert result.retried == [code] * RETRIES
    assert len(api.asked()) == 1 + RETRIES


async def test_the_cli_obeys_the_reset_time_of_a_rate_limit(repository: Path) -> None:
    """A short wait it takes; an hour it does not begin."""
    async with scripted_api(say("# Done", Status(code=429, reset_in=1))) as api:
        result = await run(api, repository)
    first, second = api.asked()
    assert result.text == "# Done"
    assert second.at - first.at >= 1
    async with scripted_api(say("# Never", Status(code=429, reset_in=3600))) as api:
        result = await run(api, repository)
    assert result.failed
    assert len(api.asked()) == 1


async def test_a_subscription_is_told_when_its_limit_ends(repository: Path) -> None:
    """With a token instead of a key, the time in the headers comes out as an event."""
    token = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "placeholder"}
    before = time.time()
    async with scripted_api(say("# Never", Status(code=429, reset_in=3600))) as api:
        result = await run(api, repository, **token)
    (limit,) = [event for event in result.events if event["type"] == "rate_limit_event"]
    assert before + 3599 <= limit["rate_limit_info"]["resetsAt"] <= time.time() + 3601
    assert api.asked()[0].credential == ("authorization", "Bearer placeholder")


async def test_a_slow_stream_takes_its_time(repository: Path) -> None:
    """Each piece of the answer waits for the one before it."""
    script = Script(turns=(Turn(text="slow " * 50, delay=0.3, pace=0.1),))
    async with scripted_api(script) as api:
        result = await run(api, repository)
        took = time.monotonic() - api.asked()[0].at
    assert result.text == "slow " * 50
    # 250 characters are six deltas; five more events open and close the stream.
    assert took >= 0.3 + 11 * 0.1


@pytest.mark.parametrize("at", ["start", "headers", "middle"])
async def test_a_stalled_answer_says_nothing_until_the_client_goes(
    repository: Path, at: Moment
) -> None:
    """The CLI neither ends nor retries; the one that is started after it is answered."""
    async with scripted_api(say("never said", Stall(at=at))) as api:
        async with claude(api, repository) as process:
            await until(api.asked)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await process.wait()
        assert len(api.asked()) == 1
        assert (await run(api, repository)).text == "never said"


async def test_a_server_that_stalls_can_stop() -> None:
    """The end of the block does not wait for the client."""
    async with asyncio.timeout(5):
        async with scripted_api(say("never said", Stall(times=None))) as api:
            asked = asyncio.create_task(ask(api, ASKED))
            await until(api.asked)
        with pytest.raises(aiohttp.ClientError):
            await asked


@pytest.mark.parametrize("at", ["start", "headers", "middle"])
async def test_a_dropped_connection_is_tried_again(repository: Path, at: Moment) -> None:
    """Wherever the answer broke, the second request gets a whole one."""
    async with scripted_api(say("# Whole\n" + "word " * 50, Drop(at=at))) as api:
        result = await run(api, repository)
    assert result.text == "# Whole\n" + "word " * 50
    assert len(api.asked()) == 2


async def test_connections_dropped_for_ever_fail_the_run(repository: Path) -> None:
    """The CLI's retries are all that is tried."""
    async with scripted_api(say("# Never", Drop(times=None))) as api:
        result = await run(api, repository)
    assert (result.failed, result.retried) == (True, [None] * RETRIES)
    assert len(api.asked()) == 1 + RETRIES


async def test_faults_in_a_later_turn(repository: Path) -> None:
    """They are met where the script has them, and in its order."""
    script = Script(
        turns=(
            Turn(calls=(Call(tool="Glob", input={"pattern": "*"}),)),
            Turn(text="# Done", faults=(Status(code=529), Drop())),
        )
    )
    async with scripted_api(script) as api:
        result = await run(api, repository, CLAUDE_CODE_MAX_RETRIES="2")
    assert (result.text, result.retried) == ("# Done", [529, None])
    assert [request.turn for request in api.asked()] == [0, 1, 1, 1]


async def test_several_runs_at_once_each_have_their_script(repository: Path) -> None:
    """The server keeps no session: prompt and messages say all that it needs."""
    look = Turn(calls=(Call(tool="Glob", input={"pattern": "*"}),))
    rules = [
        when("job one", Script(turns=(look, Turn(text="one")))),
        when("job two", Script(turns=(look, look, Turn(text="two")))),
        Rule(model="haiku", script=say("small")),
        Rule(script=say("any", Status(code=529))),
    ]
    jobs = [("job one",), ("job two",), ("job three", "--model", "haiku"), ("job four",)]
    async with scripted_api(rules) as api, asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(api, place(repository, name), *flags, prompt=name))
            for name, *flags in jobs
        ]
    assert [task.result().text for task in runs] == ["one", "two", "small", "any"]
    assert [len(api.asked(f"job {n}")) for n in ("one", "two", "three", "four")] == [2, 3, 1, 2]


def place(repository: Path, name: str) -> Path:
    """Return a directory of its own for one of several runs."""
    path = repository.parent / name / "repository"
    path.mkdir(parents=True)
    return path


async def test_a_conversation_longer_than_its_script_fails(repository: Path) -> None:
    """A script that is too short is a mistake of its test, and says so."""
    look = Turn(calls=(Call(tool="Glob", input={"pattern": "*"}),))
    async with scripted_api(Script(turns=(look,))) as api:
        result = await run(api, repository)
    assert result.failed
    assert "not in the script: it has 1 turns" in result.text


async def test_the_overview_quotes_a_repository_of_random_names(repository: Path) -> None:
    """What nobody could have known is found in the result, so it was read."""
    names = words(6)
    (repository / "README.md").write_text(f"# {names[0]}\n\nThis is {names[1]}.\nReally.\n")
    (repository / names[2]).mkdir()
    source = f"def {names[3]}():\n    return '{names[4]}'\n\n\nclass {names[5]}:\n    pass\n"
    (repository / names[2] / f"{names[4]}.py").write_text(source)
    (repository / "small.py").write_text("x = 1\n")
    async with scripted_api(Explore()) as api:
        result = await run(api, repository)
    assert result.text.startswith(
        f"# {names[0]}: an overview\n\n> This is {names[1]}.\n> Really.\n"
    )
    assert "3 files, 3 of them with text, 11 lines." in result.text
    assert f"- `{names[2]}/`: 1 file (1 `.py`)" in result.text
    assert f"### `{names[2]}/{names[4]}.py`, 6 lines" in result.text
    assert f"Defines: `{names[3]}`, `{names[5]}`." in result.text
    assert f"```python\n{source}```" in result.text
    assert [request.turn for request in api.asked()] == [0, 1, 2]


async def test_the_overview_of_a_repository_without_files(repository: Path) -> None:
    """Nothing is read, nothing is made up."""
    (repository / ".git").mkdir()
    (repository / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    async with scripted_api(Explore()) as api:
        result = await run(api, repository)
    assert result.text.startswith(
        "# Overview of the repository\n\nThe repository holds no files.\n\n---\n"
    )
    assert len(api.asked()) == 2


async def test_the_overview_without_readme_or_sources(repository: Path) -> None:
    """Texts stand in for sources; what is empty or binary is only counted; no quotation escapes."""
    (repository / "list.txt").write_text("one\n```\n# no heading\n````\n" + "long " * 100 + "\n")
    (repository / "empty").touch()
    (repository / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (repository / "docs").mkdir()
    (repository / "docs" / "README").write_text("not at the top\n")
    async with scripted_api(Explore()) as api:
        result = await run(api, repository)
    assert "The repository has no README at its top." in result.text
    assert "4 files, 2 of them with text, 6 lines." in result.text
    assert "## The largest texts\n\n### `list.txt`, 5 lines" in result.text
    quoted = "one\n```\n# no heading\n````\n" + ("long " * 100)[:120] + "…"
    assert f"\n`````\n{quoted}\n`````\n" in result.text


async def test_the_overview_of_many_files(repository: Path) -> None:
    """A list too long for one result is read in pages, and every file is counted."""
    directory = repository / "a_directory_with_a_rather_long_name"
    fill(directory, 700)
    fill(repository / "empty", 150, most=0)
    async with scripted_api(Explore()) as api:
        result = await run(api, repository)
    assert f"850 files, 700 of them with text, {sum(range(701)):,} lines." in result.text
    assert f"- `{directory.name}/`: 700 files (700 `.py`)" in result.text
    assert "files without text, which the tools counted but did not name" in result.text
    assert f"### `{directory.name}/a_file_with_a_long_name_700.py`, 700 lines" in result.text
    assert [request.turn for request in api.asked()] == [0, 1, 2, 3]


async def test_the_overview_of_too_many_files(repository: Path) -> None:
    """It says that it is not about all of them."""
    fill(repository / "a_directory_with_a_rather_long_name", 5100, most=1)
    async with scripted_api(Explore()) as api:
        result = await run(api, repository)
    assert "has no README" not in result.text
    assert "At least 5,100 files. This page is about 5," in result.text


def fill(directory: Path, files: int, *, most: int = 10_000) -> None:
    """Write so many files, the first with one line, the second with two, up to the most."""
    directory.mkdir()
    for number in range(1, files + 1):
        path = directory / f"a_file_with_a_long_name_{number}.py"
        path.write_text("x = 1\n" * min(number, most))


async def test_nothing_is_left_behind(repository: Path) -> None:
    """No process, no open port, no file outside the CLI's own home."""
    (repository / "a.py").write_text("x = 1\n")
    async with scripted_api(Explore(delay=0.2)) as api:
        async with claude(api, repository):
            await until(api.asked)
            assert processes_in(repository.parent) != []
        await run(api, repository)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(api, {})
    assert processes_in(repository.parent) == []
    assert names_in(repository) == ["a.py"]
    assert names_in(repository.parent) == ["home", "repository"]


def names_in(directory: Path) -> list[str]:
    """Return what is in the directory."""
    return sorted(path.name for path in directory.iterdir())


def processes_in(directory: Path) -> list[str]:
    """Return the processes whose environment names the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(directory) in environment:
            found.append(process.name)
    return found


async def ask(api: ScriptedApi, document: dict[str, Any], path: str = "messages") -> Any:
    """Send a request without the CLI and return the status and the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{api.url}/v1/{path}", json=document) as response,
    ):
        return response.status, await response.json()


ASKED = {"model": "claude", "messages": [{"role": "user", "content": "Look around."}]}


async def test_an_answer_need_not_be_streamed() -> None:
    """The CLI asks for a whole document after a stream broke."""
    async with scripted_api(say("whole")) as api:
        status, answer = await ask(api, ASKED)
    assert status == 200
    assert answer["content"] == [{"type": "text", "text": "whole"}]
    assert answer["stop_reason"] == "end_turn"


async def test_tokens_are_counted_and_unknown_paths_are_not_found() -> None:
    """The CLI asks for the first before it shows a long file to the model."""
    async with scripted_api(say("unused")) as api:
        status, answer = await ask(api, ASKED, "messages/count_tokens")
        assert (status, list(answer)) == (200, ["input_tokens"])
        status, answer = await ask(api, {}, "complete")
        assert (status, answer["error"]["type"]) == (404, "not_found_error")
    assert [request.path for request in api.requests] == [
        "/v1/messages/count_tokens",
        "/v1/complete",
    ]
    assert api.asked() == []


@pytest.mark.parametrize("document", [{}, {"model": "claude", "messages": []}, {"messages": 1}])
async def test_a_request_that_is_none_is_refused(document: dict[str, Any]) -> None:
    """A broken client fails its own test, not the server."""
    async with scripted_api(say("unused")) as api:
        status, answer = await ask(api, document)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


async def test_rules_are_read_from_json_and_served_by_hand(tmp_path: Path) -> None:
    """The address is the first line; SIGTERM ends the server."""
    rules = tmp_path / "rules.json"
    rules.write_text(
        '[{"prompt": "around", "script": {"type": "script", "turns": [{"text": "by hand",'
        ' "faults": [{"type": "status", "code": 529}]}]}}]'
    )
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.messages_api", "--script", str(rules)),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout
        async with asyncio.timeout(DEADLINE):
            line = await server.stdout.readline()
        api = ScriptedApi([], url=line.decode().strip())
        assert (await ask(api, ASKED))[0] == 529
        assert (await ask(api, ASKED))[1]["content"][0]["text"] == "by hand"
    finally:
        server.terminate()
        async with asyncio.timeout(DEADLINE):
            assert await server.wait() == 0


def test_a_misspelled_script_is_refused() -> None:
    """It would otherwise do something else than its author meant."""
    with pytest.raises(msgspec.ValidationError, match=r"faulds.*\$\[0\].script.turns\[0\]"):
        rules_from_json(b'[{"script": {"type": "script", "turns": [{"faulds": []}]}}]')


@pytest.mark.parametrize(
    ("path", "lines", "names"),
    [
        ("a.py", ["class A:", "async def f(x):", "class of its own", "    def g():"], ["A", "f"]),
        ("a.ts", ["export default class A {", "const f = () => 1;", "let z;"], ["A", "f"]),
        ("a.go", ["func (s *S) Run() {", "type T struct {", "// func f()"], ["Run", "T"]),
        ("a.rs", ["pub(crate) async fn f<T>() {", "    struct S;", "impl S {"], ["f", "S"]),
        ("a.c", ["static int *f(void)", "struct s {", "int g(int);", "return h(1)"], ["f", "s"]),
        ("A.java", ["public final class A {", "// a class of things."], ["A"]),
        ("a.rb", ["module M", "  def self.f?", "define x"], ["M", "self.f?"]),
        ("a.sh", ["main() {", "function go() {", "echo main"], ["main", "go"]),
        ("a.sql", ["CREATE TABLE IF NOT EXISTS t (", "select 1"], ["t"]),
    ],
)
def test_names_that_sources_define(path: str, lines: list[str], names: list[str]) -> None:
    """Prose, calls and declarations are not taken for definitions."""
    language = language_of(path)
    assert language
    assert defined_names(language, lines) == names


@pytest.mark.parametrize(
    ("readme", "beginning"),
    [
        (
            "# A #\n\n[![badge](x)](y)\n\n**A** is\na tool.\n\nMore.",
            "# A: an overview\n\n> **A** is\n> a",
        ),
        ("A\n===\n[A](x) is it.", "# A: an overview\n\n> [A](x) is it."),
        ("=====\n A \n=====\n\n.. note:: x\n\nIt is.", "# A: an overview\n\n> It is."),
        ("<p>\nA\n</p>\n\n```\n# no\n```\n\nProse.", "# Overview of the repository\n\n> Prose."),
        ("---\ntitle: x\n---\n\nIt is.", "# Overview of the repository\n\n> It is."),
        ("- a\n- b", "# Overview of the repository\n\n1 file, "),
    ],
)
def test_what_a_readme_begins_with(readme: str, beginning: str) -> None:
    """The first heading is the title, the first paragraph is quoted, nothing else is."""
    excerpt = Excerpt(path="README", lines=readme.split("\n"))
    found = Findings(
        total=1, named=["README"], lines={"README": 9}, complete=True, readme=excerpt, largest=[]
    )
    assert overview(found).startswith(beginning)


def words(count: int) -> list[str]:
    """Return words that are in no dictionary."""
    return [f"w{secrets.token_hex(6)}" for _ in range(count)]
