"""stream-json: any chunking, any damage, and the six conditions of success."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from fondation_worker import errors, transcript
from fondation_worker.account import Account
from fondation_worker.transcript import (
    Finished,
    Retrying,
    Started,
    ToolCall,
    ToolDone,
    Transcript,
)

INIT = {
    "type": "system",
    "subtype": "init",
    "model": "claude-x",
    "tools": ["Read"],
    "claude_code_version": "2.1",
}
DONE = {
    "type": "user",
    "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": "print()"}]},
}
TOOL = {
    "type": "assistant",
    "message": {
        "content": [
            {"type": "text", "text": "let me look"},
            {
                "type": "tool_use",
                "id": "t",
                "name": "Read",
                "input": {"file_path": "/w/src/app.py"},
            },
        ]
    },
}
RETRY = {"type": "system", "subtype": "api_retry", "error_status": 529, "error": "overloaded"}
RESULT: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "# Title\n",
    "num_turns": 3,
    "duration_ms": 1200,
    "total_cost_usd": 0.5,
    "usage": {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 5},
    "modelUsage": {"claude-x": {"costUSD": 0.5}},
    "session_id": "s",
}
LINES = [INIT, {"type": "user"}, TOOL, DONE, RETRY, RESULT]


def stream(*lines: object) -> bytes:
    """Return *lines* as the CLI prints them."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def read(data: bytes) -> tuple[list[transcript.Event], Transcript]:
    """Return the events in *data*, fed at once, and who read them."""
    reader = Transcript()
    return reader.feed(data), reader


def test_a_run_is_read() -> None:
    """One of each kind."""
    events, reader = read(stream(*LINES))
    started, _, tool, done, retrying, finished = events
    assert started == Started(model="claude-x", version="2.1")
    assert tool == ToolCall(id="t", name="Read", subject="/w/src/app.py")
    assert done == ToolDone(id="t")
    assert retrying == Retrying(status=529, error="overloaded")
    assert isinstance(finished, Finished)
    assert finished.text == "# Title\n"
    assert finished.usage.to_document() == {
        "model": "claude-x",
        "costUsd": 0.5,
        "turns": 3,
        "durationMs": 1200,
        "inputTokens": 10,
        "outputTokens": 20,
        "cacheReadTokens": 5,
    }
    assert (reader.unknown, reader.broken) == (0, 0)


@given(st.lists(st.integers(0, len(stream(*LINES))), max_size=8))
def test_chunks_may_end_anywhere(cuts: list[int]) -> None:
    """The pipe knows nothing of lines."""
    data = stream(*LINES)
    edges = [0, *sorted(cuts), len(data)]
    reader = Transcript()
    events = [
        event for begin, end in itertools.pairwise(edges) for event in reader.feed(data[begin:end])
    ]
    assert events == read(data)[0]


@given(st.binary(max_size=200))
def test_no_damage_ends_a_run(noise: bytes) -> None:
    """Lines around a broken one are still read."""
    events, _ = read(stream(INIT) + noise.replace(b"\n", b"") + b"\n" + stream(RESULT))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    "figures",
    [
        {"usage": None},
        {"usage": {"input_tokens": 1.5, "output_tokens": "many"}},
        {"num_turns": "3"},
        {"num_turns": True, "duration_ms": -1},
        {"duration_ms": 10**400, "modelUsage": []},
        {"total_cost_usd": "free", "api_error_status": "none"},
    ],
    ids=str,
)
def test_no_figure_costs_a_finished_result(figures: dict[str, Any]) -> None:
    """What cannot be read of it is left out."""
    finished = account_of(RESULT | figures).success(exit_status=0, complaint="")
    assert finished.text == "# Title\n"
    assert all(value is not None for value in finished.usage.to_document().values())


def test_unknown_and_broken_lines_are_counted() -> None:
    """A new version of the CLI shows in the log, not in a dead job."""
    events, reader = read(stream({"type": "hologram"}, 5, {"no": "type"}) + b"{oops\n\n")
    assert events == []
    assert (reader.unknown, reader.broken) == (1, 3)


def test_a_line_that_is_too_long_is_dropped_alone() -> None:
    """Memory is bounded, and the next line is read."""
    reader = Transcript(line_limit=1000)
    events = reader.feed(b'{"type":"' + b"x" * 900)
    events += reader.feed(b"x" * 900)
    events += reader.feed(b"x" * 900 + b'"}\n' + stream(INIT))
    assert events == [Started(model="claude-x", version="2.1")]
    assert reader.broken == 1


def test_a_lone_surrogate_does_not_lose_the_result() -> None:
    """JavaScript prints one for a half of a cut emoji; strict decoders refuse the line."""
    line = stream(RESULT).replace(b"# Title", b"# Tit\\ud83dle")
    (finished,), reader = read(line)
    assert isinstance(finished, Finished)
    assert finished.text == "# Tit\N{REPLACEMENT CHARACTER}le\n"
    assert reader.broken == 0


def account_of(*lines: object) -> Account:
    """Return what was collected of *lines*."""
    account = Account()
    for event in read(stream(*lines))[0]:
        account.take(event)
    return account


def test_success_is_all_six_conditions() -> None:
    """The text comes out."""
    assert account_of(*LINES).success(exit_status=0, complaint="").text == "# Title\n"


@pytest.mark.parametrize(
    ("lines", "status", "kind"),
    [
        ([INIT], 0, errors.ClaudeFailed),  # SIGINT in mid-request: status 0 and no result
        ([INIT], -9, errors.ClaudeFailed),
        ([RESULT | {"is_error": True}], 0, errors.ClaudeFailed),  # `subtype` says success
        ([RESULT | {"subtype": "error_max_turns"}], 0, errors.ClaudeFailed),
        ([RESULT], 143, errors.ClaudeFailed),
        ([RESULT | {"result": " \n"}], 0, errors.NoResult),
        ([RESULT | {"result": None}], 0, errors.NoResult),
        ([RESULT | {"num_turns": 0}], 0, errors.NoResult),  # "Unknown command: /x"
        ([RESULT | {"is_error": True, "api_error_status": 401}], 1, errors.CredentialRefused),
        ([RESULT | {"is_error": True, "api_error_status": 403}], 1, errors.CredentialRefused),
        ([RESULT | {"is_error": True, "api_error_status": 429}], 1, errors.RateLimited),
        ([RETRY, RESULT | {"is_error": True}], 1, errors.Overloaded),
        ([RETRY | {"error_status": 429}], 1, errors.RateLimited),
        ([RESULT | {"is_error": True, "api_error_status": 500}], 1, errors.ClaudeFailed),
    ],
)
def test_each_missing_condition_is_a_failure_of_its_class(
    lines: list[object], status: int, kind: type[errors.JobError]
) -> None:
    """Exit status and `subtype` alone both lie."""
    with pytest.raises(kind):
        account_of(*lines).success(exit_status=status, complaint="")


def test_a_retry_that_helped_does_not_spoil_a_success() -> None:
    """The service was overloaded for a moment."""
    account_of(RETRY, RESULT).success(exit_status=0, complaint="")


def test_a_retry_that_helped_does_not_excuse_a_later_death() -> None:
    """The model answered in between; what ended the run is another thing."""
    with pytest.raises(errors.ClaudeFailed):
        account_of(RETRY, TOOL).success(exit_status=-9, complaint="")


def test_the_reset_of_a_rate_limit_is_carried_on() -> None:
    """The job need not come back before."""
    info = {"status": "rejected", "resetsAt": 1795458387, "rateLimitType": "five_hour"}
    lines = [
        {"type": "rate_limit_event", "rate_limit_info": info},
        RESULT | {"is_error": True, "api_error_status": 429},
    ]
    with pytest.raises(errors.RateLimited) as limited:
        account_of(*lines).success(exit_status=1, complaint="")
    assert limited.value.until == 1795458387


def test_a_warning_about_the_limit_is_none() -> None:
    """Every run with a subscription prints one."""
    line = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}
    assert read(stream(line))[0] == []


@pytest.mark.parametrize("start", ["", '"x": "\\ud800", '], ids=["plain", "repaired"])
def test_a_line_of_any_depth_is_only_a_broken_one(start: str) -> None:
    """A model may call a tool with lists in lists in lists; the run goes on."""
    line = "{" + start + '"type": "assistant", "message": ' + "[" * 5000 + "]" * 5000 + "}\n"
    transcript = Transcript()
    assert transcript.feed(line.encode()) == []
    assert transcript.broken == 1


def test_a_reason_that_is_cut_begins_with_a_whole_word() -> None:
    """Half a secret is known to nobody, and would stand in the job's row."""
    secret = "".join(f"{n:02}" for n in range(40))
    for length in range(400, 500):
        complaint = f"refused: {secret} {'x' * length}"
        with pytest.raises(errors.ClaudeFailed) as failed:
            account_of(INIT).success(exit_status=1, complaint=complaint)
        reason = str(failed.value)
        assert secret in reason or secret[-8:] not in reason
        assert reason.endswith("x" * length)


def test_the_reason_in_a_failure_is_what_the_cli_said_last() -> None:
    """An operator must not have to look for it."""
    with pytest.raises(
        errors.ClaudeFailed, match="status 1 before it had a result: no such option"
    ):
        account_of(INIT).success(exit_status=1, complaint="no such option\n")
