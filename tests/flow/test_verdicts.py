"""Every class of failure is reached, through the real git, the real CLI and the real functions."""

import base64
import json
import sys
from pathlib import Path

import pytest

from devtools.stack import CLAUDE, PLACEHOLDER
from fondation_worker.redact import MASK
from fondation_worker.verdict import ACTIONS, Action
from tests.fakes.messages_api import Stall, say, when
from tests.flow.stage import Stage, on_stage
from tests.processes import running

# What the prompt holds, and the class that it must end in.
HERE = {
    "broken": "claude_failed",
    "killed": "claude_failed",
    "silent": "stalled",
    "slow": "timeout",
    "empty": "no_result",
    "stumble": "internal",
}

# The real CLI, unless the prompt says otherwise; what it tells on standard error is a secret.
UNLUCKY = f"""#!/bin/sh
prompt=$(cat)
printf %s "$ANTHROPIC_API_KEY" | base64 -w0 >&2
printf ' %s\\n' "$ANTHROPIC_API_KEY" >&2
case $prompt in
*broken*) exit 3 ;;
*killed*) kill -9 $$ ;;
esac
printf %s "$prompt" | "{CLAUDE}" "$@"
"""

FAULTY = """
from fondation_worker import claude
from fondation_worker.cli import main
order_for = claude.order_for
def faulty(setup, prompt, *rest):
    if "stumble" in prompt:
        raise KeyError("text that nobody chose to show")
    return order_for(setup, prompt, *rest)
claude.order_for = faulty
main(["run"])
"""


@pytest.mark.usefixtures("no_memory_kill")
async def test_each_way_to_end_has_its_class(tmp_path: Path) -> None:
    """And what becomes of the job is what the table says; its log tells why, without secrets."""
    cli = tmp_path / "claude"
    cli.write_text(UNLUCKY)
    cli.chmod(0o755)
    stalls = say("never", Stall(at="headers", times=None))
    rules = [when("silent", stalls), when("slow", stalls), when("empty", say(""))]
    async with on_stage(tmp_path, rules, traceback=True) as stage:
        jobs = {name: await stage.enqueue(name) for name in HERE}
        await stage.change_row("jobs", jobs["slow"], {"timeoutMs": 3000})
        for name in HERE.keys() - {"empty"}:
            await stage.change_row("jobs", jobs[name], {"maxAttempts": 1})
        settings = {"STALL_TIME": "15s", "MAX_CONCURRENT_JOBS": "3", "CLAUDE_CLI": str(cli)}
        await stage.worker((sys.executable, "-c", FAULTY), **settings)
        actions = {kind.failure: action for kind, action in ACTIONS.items()}
        for name, failure in HERE.items():
            row = await stage.ended(jobs[name], limit=90)
            assert (row["status"], row["errorClass"]) == ("dead", failure), row
            twice = actions[failure] is Action.TRY_ONCE_MORE
            assert row["attempts"] == (2 if twice else 1)
            await tells_why(stage, jobs[name], failure)
        assert not running(str(tmp_path / "worker-1" / "work"))


async def tells_why(stage: Stage, job_id: str, failure: str) -> None:
    """Check the end of a job's log, and that no secret is in it."""
    lines = await stage.queue.logs(job_id)
    assert f"failed ({failure})" in lines[-1]["msg"]
    assert lines[-1]["level"] == "error"
    text = json.dumps(lines)
    assert PLACEHOLDER not in text
    assert base64.b64encode(PLACEHOLDER.encode()).decode() not in text
    if failure == "claude_failed":
        assert text.count(MASK) >= 2  # in base64, and plain


async def test_a_run_that_goes_well_is_logged_to_its_end(tmp_path: Path) -> None:
    """Where it was cloned, what was read, what it cost; in order, each line once."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        await stage.worker()
        job_id = await stage.enqueue()
        await stage.ended(job_id)
        lines = await stage.queue.logs(job_id)
        cloned, started, ended = [line["msg"] for line in lines]
        assert cloned.startswith("cloned ")
        assert "Claude CLI" in started
        assert "the run reported success" in ended
        assert [line["seq"] for line in lines] == sorted({line["seq"] for line in lines})


@pytest.mark.parametrize("failure", sorted({kind.failure for kind in ACTIONS} - {*HERE.values()}))
def test_the_others_are_reached_elsewhere(failure: str) -> None:
    """Each by a flow or by an edge of its own; a class that no test names is found here."""
    tests = Path(__file__).parents[1]
    files = [path for folder in ("flow", "edges") for path in (tests / folder).glob("test_*.py")]
    names = {failure, *(kind.__name__ for kind in ACTIONS if kind.failure == failure)}
    assert any(
        f'"{name}"' in text or f"errors.{name}" in text or f"raises({name}" in text
        for path in files
        if path != Path(__file__)
        for text in [path.read_text(encoding="utf-8")]
        for name in names
    )
