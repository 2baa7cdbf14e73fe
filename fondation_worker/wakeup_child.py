"""The child process that listens to Convex with the official client. Started by `wakeup.py`.

It only subscribes. The client holds the interpreter lock while it connects, has no time limit and
cannot be closed, so it lives where nobody minds, and where SIGKILL ends it.

Usage: `wakeup_child.py FD PARENT`, with one JSON line `{"url", "key", "functions", "instance"}` on
standard input. It dies with process PARENT. Events go to descriptor FD, one JSON object a line:
`{"event": "work" | "pulse", "available": bool}`; `{"event": "canceled", "jobs": [{"jobId",
"attempt"}]}`, or once `{"event": "deaf", "reason"}` where functions do not know of cancellations;
and as the last one `{"event": "refused" | "ended", "reason"}`. Standard output is not used: the
client prints functions' console output there.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from typing import Any, TextIO

from convex import ConvexClient, ConvexError

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Listen until refused or killed; return the exit status."""
    events = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    _die_with(parent=int(sys.argv[2]))
    orders = json.loads(sys.stdin.readline())
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        _tell(events, asyncio.run(_listen(orders, events)))
    return 1


async def _listen(orders: dict[str, str], events: TextIO) -> dict[str, Any]:
    """Pass on the values of both subscriptions; return the event that tells why that ended."""
    client = ConvexClient(orders["url"])

    async def follow(function: str, event: str) -> None:
        path = f"{orders['functions']}queue:{function}"
        async for value in client.subscribe(path, {"workerKey": orders["key"]}):
            _tell(events, {"event": event, "available": value is not None})

    async def follow_cancellations() -> None:
        """Pass on what was cancelled; functions that are older than this do without."""
        path = f"{orders['functions']}queue:cancellations"
        arguments: dict[str, Any] = {"workerKey": orders["key"], "instance": orders["instance"]}
        value: Any
        try:
            async for value in client.subscribe(path, arguments):
                jobs = [job | {"attempt": int(job["attempt"])} for job in value["jobs"]]
                _tell(events, {"event": "canceled", "jobs": jobs})
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 the client raises bare `Exception`s
            _tell(events, _last_event(error) | {"event": "deaf"})

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow("workAvailable", "work"))
            tasks.create_task(follow("pulse", "pulse"))
            tasks.create_task(follow_cancellations())
    except BaseExceptionGroup as group:
        return _last_event(group.exceptions[0])
    return {"event": "ended", "reason": "both subscriptions ended"}


def _last_event(error: BaseException) -> dict[str, Any]:
    """Return the event that tells of *error*; the client raises bare `Exception`s."""
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, ConvexError):
        code = error.data.get("code") if isinstance(error.data, dict) else None
        return {"event": "refused", "reason": str(code or "error")}
    return {"event": "ended", "reason": (str(error) or type(error).__name__)[:500]}


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
