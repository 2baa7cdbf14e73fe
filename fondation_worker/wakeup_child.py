"""The child process that listens to Convex with the official client. Started by `wakeup.py`.

It only subscribes. The client holds the interpreter lock while it connects, has no time limit and
cannot be closed, so it lives where nobody minds, and where SIGKILL ends it. Usage:
`wakeup_child.py FD`, with one JSON line `{"url", "key", "functions"}` on standard input. Events go
to descriptor FD, one JSON object a line: `{"event": "work", "available": bool}`,
`{"event": "pulse"}`, `{"event": "refused", "reason"}`. Standard output is not used: the client
prints functions' console output there.
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
    _die_with_parent()
    orders = json.loads(sys.stdin.readline())
    try:
        asyncio.run(_listen(orders, events))
    except* ConvexError as refused:
        reason = str(_data_of(refused).get("code", "error"))
        _tell(events, {"event": "refused", "reason": reason})
    except* BrokenPipeError:
        pass  # the parent is gone
    return 1


async def _listen(orders: dict[str, str], events: TextIO) -> None:
    """Pass on the values of both subscriptions, for ever."""
    client = ConvexClient(orders["url"])

    async def follow(function: str, event: str) -> None:
        path = f"{orders['functions']}queue:{function}"
        async for value in client.subscribe(path, {"workerKey": orders["key"]}):
            _tell(events, {"event": event, "available": value is not None})

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow("workAvailable", "work"))
        tasks.create_task(follow("pulse", "pulse"))


def _tell(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")


def _data_of(group: BaseExceptionGroup[ConvexError]) -> dict[str, Any]:
    """Return the data of the first ConvexError in *group*."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    data = getattr(error, "data", None)
    return data if isinstance(data, dict) else {}


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies, and go if it has already."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1:
        os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
