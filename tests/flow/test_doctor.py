"""The doctor and a deployment: the real functions, older ones, none; and beside a worker."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devtools.backend import REPOSITORY, local_backend
from devtools.stack import CLAUDE, PLACEHOLDER, Keys
from tests.fakes.messages_api import say
from tests.flow.stage import ANY_HOST, on_stage
from tests.processes import until
from tests.terminals import run

KEYS = Keys.new()
TABLES = ("jobs", "attempts", "docs", "jobLogs", "cancellations", "uploads")
OF_THE_DEPLOYMENT = ("convex", "worker key", "functions", "clock", "crons", "operator key")


def settings(home: Path, url: str, **other: str) -> dict[str, str]:
    """Return the settings of a worker that lives in *home*."""
    return {
        "CONVEX_URL": url,
        "WORKER_KEY": KEYS.worker,
        "OPERATOR_KEY": KEYS.operator,
        "ANTHROPIC_API_KEY": PLACEHOLDER,
        "CLAUDE_CLI": str(CLAUDE),
        "STATE_DIR": str(home / "state"),
        "TEMP_DIR": str(home / "work"),
        **ANY_HOST,
        **other,
    }


async def seen(environment: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the doctor's exit status, and what it found by name."""
    done = await run("doctor", "--json", **environment)
    assert done.err == ""
    for secret in (KEYS.worker, KEYS.operator, PLACEHOLDER):
        assert secret not in done.out
    return done.status, {each["name"]: each for each in json.loads(done.out)["findings"]}


def levels(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how what is about the deployment was judged."""
    return [found[name]["level"] for name in OF_THE_DEPLOYMENT]


async def test_all_is_well_beside_a_worker_that_runs(tmp_path: Path) -> None:
    """Status 0; no job is claimed, no row written, the model not asked, the worker undisturbed."""
    async with on_stage(tmp_path, say("never")) as stage:
        worker = await stage.worker(POLL_INTERVAL="60s")
        await until(lambda: "control: " in worker.messages(), limit=30)
        job_id = await stage.enqueue(runAt=await stage.now() + 3_600_000)
        home = tmp_path / "worker-1"
        environment = settings(home, stage.backend.url) | {
            "WORKER_KEY": stage.keys.worker,
            "OPERATOR_KEY": stage.keys.operator,
            "ANTHROPIC_BASE_URL": stage.api.url,
        }
        before = [await stage.rows(table) for table in TABLES]
        status, found = await seen(environment)
        assert [each for each in found.values() if each["level"] != "ok"] == []
        assert status == 0
        assert levels(found) == ["ok"] * len(OF_THE_DEPLOYMENT)
        assert [await stage.rows(table) for table in TABLES] == before
        assert len(await stage.queue.workers()) == 1
        assert stage.api.requests == []
        told = await run("doctor", **environment)
        assert (told.status, told.out.splitlines()[-1].split(",")[0]) == (0, "0 errors")
        await stage.queue.cancel(job_id)


async def test_a_deployment_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """What hangs on it is not looked at, and says so."""
    status, found = await seen(settings(tmp_path, "http://127.0.0.1:9"))
    assert (status, found["convex"]["level"]) == (2, "error")
    assert "CONVEX_URL" in found["convex"]["advice"]
    assert levels(found) == ["error", *["warning"] * 5]
    assert found["canary hook"]["level"] == "ok"


@pytest.mark.parametrize(
    ("other", "expected", "words"),
    [
        ({"WORKER_KEY": "wrong-key"}, ["ok", "error", "ok", "warning", "warning", "ok"], "refuses"),
        ({"OPERATOR_KEY": "wrong-key"}, ["ok", "ok", "ok", "ok", "ok", "warning"], "refuses"),
        ({"OPERATOR_KEY": ""}, ["ok"] * 6, "is not set here"),
        (
            {"CONVEX_FUNCTIONS": "fondation/"},
            ["ok", "warning", "error", "warning", "warning", "warning"],
            "Could not find",
        ),
    ],
    ids=["worker key", "operator key", "no operator key", "folder"],
)
async def test_each_trouble_with_a_deployment_has_its_words(
    tmp_path: Path, other: Mapping[str, str], expected: list[str], words: str
) -> None:
    """The key is refused; the functions are in another folder."""
    async with local_backend(tmp_path / "convex", environ=KEYS.deployment) as backend:
        status, found = await seen(settings(tmp_path, backend.url, **other))
    assert levels(found) == expected
    assert any(words in found[name]["words"] for name in OF_THE_DEPLOYMENT)
    assert status == (2 if "error" in expected else 1 if "warning" in expected else 0)


@pytest.mark.parametrize(
    ("line", "instead", "expected"),
    [
        ("export const about =", "const unknown =", ["ok", "ok", "warning", "warning", "warning"]),
        ("protocol, version,", "protocol: 0, version,", ["ok", "ok", "error", "ok", "ok"]),
        ("protocol, version,", "protocol: 99, version,", ["ok", "ok", "ok", "ok", "ok"]),
        (
            "now: Date.now() }),",
            "now: Date.now() + 7200000 }),",
            ["ok", "ok", "ok", "warning", "warning"],
        ),
    ],
    ids=["without about", "older", "newer", "another clock"],
)
async def test_functions_of_another_version_are_told(
    tmp_path: Path, line: str, instead: str, expected: list[str]
) -> None:
    """Older ones must be deployed anew; newer ones serve this worker."""
    functions = tmp_path / "functions"
    shutil.copytree(REPOSITORY / "convex", functions / "convex")
    (functions / "node_modules").symlink_to(REPOSITORY / "node_modules")
    queue = functions / "convex" / "queue.ts"
    text = queue.read_text(encoding="utf-8")
    assert text.count(line) == 1
    queue.write_text(text.replace(line, instead), encoding="utf-8")
    there = local_backend(
        tmp_path / "data", environ=KEYS.deployment, functions=functions / "convex"
    )
    async with there as backend:
        _, found = await seen(settings(tmp_path, backend.url))
    assert levels(found)[:5] == expected
    judged = [found[name] for name in ("functions", "clock")]
    assert all(each["level"] == "ok" or each["advice"] for each in judged)


async def test_what_is_no_deployment_is_told(tmp_path: Path) -> None:
    """Its page answers with a page."""
    async with on_stage(tmp_path, say("never")) as stage:
        _, found = await seen(settings(tmp_path, stage.api.url))
    assert found["convex"]["level"] == "error"
