"""Lets the installed Claude CLI run over a hostile repository, and looks whether a trap was sprung.

It runs exactly as in a job: the same command line, environment and room. Its model is a script on
loopback, its credential a placeholder. What is found holds for this CLI, as it is installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fondation_worker.claude import Limits, Listeners, Setup, analyse, order_for
from fondation_worker.config import Credential
from fondation_worker.doctor import hostile
from fondation_worker.doctor.findings import Finding, error, ok
from fondation_worker.doctor.scripted import ScriptedModel, scripted_model
from fondation_worker.errors import JobError
from fondation_worker.invocation import TOOLS
from fondation_worker.runner import Room
from fondation_worker.workspace import Workspace

RUN = "claude run"
ANSWER = "# Ready\n"
RUN_LIMIT = 60.0  # seconds
PLACEHOLDER = "placeholder-of-the-doctor"
TRAPS = {
    "canary hook": "a hook in .claude/settings.json",
    "canary server": "a server in .mcp.json",
    "canary address": "ANTHROPIC_BASE_URL in .claude/settings.json",
    "canary helper": "apiKeyHelper in .claude/settings.json",
    "canary model": "a model in .claude/settings.json",
    "canary memory": "the text of CLAUDE.md",
    "canary tools": f"other tools than {TOOLS}",
}
"""What a repository has, by the name of the finding about it."""

_ADVICE = (
    "do not let it work: stop the workers, and install the tested CLI: fondation-worker"
    " install-claude"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run over a hostile repository."""

    sprung: frozenset[str]  # of TRAPS
    was_asked: bool  # the run came as far as to ask a model
    failure: str | None  # why it did not end well


async def look_at_canaries(
    room: Room, cli: Path, kind: str, places: Workspace, marks: Path
) -> Sequence[Finding]:
    """Find out what the CLI heeds of a repository. *places* and *marks* are empty directories."""
    async with scripted_model(ANSWER) as model, scripted_model(ANSWER) as thief:
        _write(places.tree, hostile.files(marks, thief.url))
        credential = Credential(kind=kind, value=PLACEHOLDER)
        setup = Setup(cli=str(cli), model=None, base_url=model.url, credential=credential)
        failure = await _run(room, setup, places)
        return judge(
            Outcome(
                sprung=frozenset(_sprung(marks, model, thief)),
                was_asked=bool(model.asked or thief.asked),
                failure=failure,
            )
        )


def judge(outcome: Outcome) -> list[Finding]:
    """Return what *outcome* means: an unsprung trap proves nothing where no model was asked."""
    findings = [_of_run(outcome)]
    for name, what in TRAPS.items():
        if name in outcome.sprung:
            words = f"the CLI heeds {what}: a repository can harm this host or take the credential"
            findings.append(error(name, words, _ADVICE))
        elif outcome.was_asked:
            findings.append(ok(name, f"the CLI does not heed {what}"))
        else:
            words = f"whether the CLI heeds {what} is not known, because the run failed"
            findings.append(error(name, words, f"see {RUN}"))
    return findings


def _of_run(outcome: Outcome) -> Finding:
    if outcome.failure is None:
        return ok(RUN, "a whole run with a scripted model came to its result")
    advice = "does it run by hand, as this user? fondation-worker install-claude has the tested one"
    return error(RUN, f"a run with a scripted model failed: {outcome.failure}", advice)


async def _run(room: Room, setup: Setup, places: Workspace) -> str | None:
    """Run the CLI once; return why it did not end well, if it did not."""
    order = order_for(setup, "Answer with the word: ready", None, places.tree, places)
    limits = Limits(stall=RUN_LIMIT, tool=RUN_LIMIT)
    try:
        answer = await analyse(room, order, listeners=Listeners(), limits=limits)
    except JobError as failure:
        return str(failure)
    return None if answer.text.strip() == ANSWER.strip() else "it ended with another answer"


def _sprung(marks: Path, model: ScriptedModel, thief: ScriptedModel) -> list[str]:
    """Return the names of the traps that were sprung."""
    asked = [*model.asked, *thief.asked]
    offered = {str(tool.get("name")) for each in asked for tool in each.get("tools") or ()}
    seen = {
        "canary hook": (marks / "hook").exists(),
        "canary server": (marks / "server").exists(),
        "canary helper": (marks / "helper").exists(),
        "canary address": thief.calls > 0,
        "canary model": any(each.get("model") == hostile.MODEL for each in asked),
        "canary memory": any(hostile.MEMORY in str(each) for each in asked),
        "canary tools": not offered <= set(TOOLS.split(",")),
    }
    return [name for name, is_sprung in seen.items() if is_sprung]


def _write(tree: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = tree / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
