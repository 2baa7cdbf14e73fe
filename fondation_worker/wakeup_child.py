"""The child process that listens to Convex with the official client. Started by `wakeup.py`.

It only subscribes. The client holds the interpreter lock while it connects and waits, has no time
limit and cannot be closed, so it lives where nobody minds, and where SIGKILL ends it. It waits
without asyncio, for which the client would keep a second pool of threads.

Usage: `wakeup_child.py FD PARENT`, with one JSON line `{"url", "key", "functions", "instance"}` on
standard input. It dies with process PARENT. Events go to descriptor FD, one JSON object a line:
`{"event": "work" | "pulse", "available": bool}`; `{"event": "canceled", "jobs": [{"jobId",
"attempt"}]}`, or once `{"event": "deaf", "reason"}` where functions do not know of cancellations;
and as the last one `{"event": "refused" | "ended", "reason"}`. Standard output is not used: the
client prints functions' console output there.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from convex import ConvexClient

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LONGEST_REASON = 500  # characters

_Event = dict[str, Any]


class _Refused(Exception):
    """Convex answers a subscription with an error of ours; the text is its code."""


def main() -> int:
    """Listen until refused or killed; return the exit status."""
    events = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    _die_with(parent=int(sys.argv[2]))
    orders = json.loads(sys.stdin.readline())
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        for event in _all_events(orders):
            _tell(events, event)
    return 1


def _all_events(orders: dict[str, str]) -> Iterator[_Event]:
    """Give what is heard, and at last the event that tells why no more is."""
    try:
        yield from _listen(orders)
    except _Refused as error:
        yield {"event": "refused", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 the client raises bare `Exception`s
        yield {"event": "ended", "reason": _words(error)}
    else:
        yield {"event": "ended", "reason": "the subscriptions ended"}


def _listen(orders: dict[str, str]) -> Iterator[_Event]:
    client = ConvexClient(orders["url"])
    views = client.watch_all()  # first of all: it gives no view from before it was called
    key: dict[str, Any] = {"workerKey": orders["key"]}
    subscriptions = {
        name: client.subscribe(f"{orders['functions']}queue:{name}", arguments)
        for name, arguments in (
            ("workAvailable", key),
            ("pulse", key),
            ("cancellations", key | {"instance": orders["instance"]}),
        )
    }
    before: dict[str, Any] = {}
    for view in views:
        seen = view or {}
        answers = {name: seen.get(wanted.id) for name, wanted in subscriptions.items()}
        for event in _news(before, answers):
            if event["event"] == "deaf":
                del subscriptions["cancellations"]  # which ends it
            yield event
        before = answers


def _news(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[_Event]:
    """Give an event for each answer that is another one than *before*. Raises for an error.

    With each pulse comes again what is cancelled: a parent that has doubted push since then has
    to know that it hears of this.
    """
    changed = {name for name, answer in now.items() if answer not in (None, before.get(name))}
    for name, event in (("workAvailable", "work"), ("pulse", "pulse")):
        if name in changed:
            yield {"event": event, "available": _value(now[name]) is not None}
    if changed & {"pulse", "cancellations"} and now.get("cancellations") is not None:
        yield _cancellations(now["cancellations"])


def _cancellations(answer: Any) -> _Event:
    """Return the event for what was cancelled; functions that are older than this do without."""
    try:
        jobs = _value(answer)["jobs"]
    except Exception as error:  # noqa: BLE001 whatever it is, work is heard of all the same
        return {"event": "deaf", "reason": _words(error)}
    return {"event": "canceled", "jobs": [job | {"attempt": int(job["attempt"])} for job in jobs]}


def _value(answer: Any) -> Any:
    """Return the value in one answer of a view. Raises _Refused, and Exception for no value.

    In a view the client leaves its own wrapping on, and an error that is none of ours is its text.
    """
    match answer:
        case {"type": "value", "value": value}:
            return value
        case {"type": "convexerror", "data": data}:
            code = data.get("code") if isinstance(data, dict) else None
            raise _Refused(str(code or "error"))
    raise RuntimeError(str(answer))


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:_LONGEST_REASON]


def _tell(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the process *parent* dies, and go if it has already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
