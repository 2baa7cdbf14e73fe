"""A Messages API on loopback that answers from a script, for the real Claude CLI to talk to.

async with scripted_api(say("# Hello")) as api:
    ...  # run the CLI with ANTHROPIC_BASE_URL=api.url
    assert len(api.asked()) == 1
"""

from tests.fakes.messages_api.script import (
    Call,
    Drop,
    Explore,
    Moment,
    Rule,
    Script,
    Stall,
    Status,
    Turn,
    rules_from_json,
    say,
    when,
)
from tests.fakes.messages_api.server import Request, ScriptedApi, scripted_api

__all__ = [
    "Call",
    "Drop",
    "Explore",
    "Moment",
    "Request",
    "Rule",
    "Script",
    "ScriptedApi",
    "Stall",
    "Status",
    "Turn",
    "rules_from_json",
    "say",
    "scripted_api",
    "when",
]
