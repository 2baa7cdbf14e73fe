"""The real functions, in a Node process beside the test."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devtools.backend import NODE

WORKER_KEY = "the model's worker key"
OPERATOR_KEY = "the model's operator key"
DRIVER = Path(__file__).with_name("drive.ts")


class Refused(Exception):
    """A function refused a call; `data` says why."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(str(data))
        self.data = data


class Functions:
    """A deployment that starts empty at each `reset`, under a clock that only the test moves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def reset(self, now: int) -> None:
        """Forget everything."""
        self._ask({"do": "reset", "now": now})

    def clock(self, now: int) -> None:
        """Let it be *now*, in milliseconds; nothing that is scheduled runs by itself."""
        self._ask({"do": "clock", "now": now})

    def due(self, which: int) -> str | None:
        """Run one of the scheduled calls whose time has come, and return its name."""
        name: str | None = self._ask({"do": "due", "which": which})
        return name

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return what is in *table*."""
        rows: list[dict[str, Any]] = self._ask({"do": "rows", "table": table})
        return rows

    def digests(self, documents: list[dict[str, Any]]) -> list[str]:
        """Return the digests of *documents*."""
        digests: list[str] = self._ask({"do": "digests", "documents": documents})
        return digests

    def call(self, name: str, **args: Any) -> Any:
        """Call a function; raises `Refused`."""
        request = {"do": "call", "name": name, "args": args}
        answer = self._ask(request)
        assert "failed" not in answer, f"{name}: {answer}"
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer.get("value")

    def work(self, name: str, **args: Any) -> Any:
        """Call a worker's function."""
        return self.call(f"queue:{name}", workerKey=WORKER_KEY, **args)

    def operate(self, name: str, **args: Any) -> Any:
        """Call an operator's function."""
        return self.call(f"jobs:{name}", operatorKey=OPERATOR_KEY, **args)

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the functions ended at {request}"
        return json.loads(line)


@contextlib.contextmanager
def functions(*bug: str) -> Iterator[Functions]:
    """Run the functions, with a deliberate *bug* of `bugs.ts` or without."""
    command = [os.fspath(NODE), os.fspath(DRIVER), *bug]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Functions(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=30)
