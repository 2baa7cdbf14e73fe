"""Drives the local backend: by the four official clients, and by plain HTTP."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from devtools.backend import NODE, Backend

HERE = Path(__file__).parent
FUNCTIONS = HERE / "functions"
ADMIN_KEY = "the admin key of a test"
CLIENTS = ["python socket", "python http", "javascript socket", "javascript http"]
SOCKETS = ["python socket", "javascript socket"]
PATIENCE = 20.0  # seconds for one answer


class Refused(Exception):
    """A client raised an error; *data* is set when it was a `ConvexError`."""

    def __init__(self, kind: str, message: str, data: Any) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.data = data


class Client:
    """One official client, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, kind: str, path: str, **args: Any) -> Any:
        """Call a function and return its value, or raise `Refused`."""
        return await self.order(op=kind, path=path, args=args)

    async def order(self, **order: Any) -> Any:
        """Have the client carry out one order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            answer = json.loads(await self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"], answer["message"], answer.get("data"))
        return answer.get("value")


@contextlib.asynccontextmanager
async def client(name: str, backend: Backend) -> AsyncIterator[Client]:
    """Run the client *name* against *backend* until the block ends."""
    language, kind = name.split()
    command = {
        "python": [sys.executable, str(HERE / "speak_python.py")],
        "javascript": [str(NODE), str(HERE / "speak_javascript.ts")],
    }[language]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(kind, backend.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def send(
    backend: Backend, method: str, path: str, body: Any = None, **options: Any
) -> tuple[int, Any, dict[str, str]]:
    """Send one request; return status, body (parsed when it is JSON) and headers."""
    data = None if body is None else io.BytesIO(body if isinstance(body, bytes) else encoded(body))
    url = path if path.startswith("http") else backend.url + path
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, **options) as response,
    ):
        content = await response.read()
        is_json = response.content_type == "application/json"
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, json.loads(content) if is_json else content, headers


def encoded(body: Any) -> bytes:
    """Return *body* as JSON."""
    return json.dumps(body).encode()


async def call(backend: Backend, kind: str, path: str, **args: Any) -> Any:
    """Call a function by HTTP and return its value."""
    body = {"path": path, "args": args, "format": "json"}
    status, answer, _ = await send(backend, "POST", f"/api/{kind}", body)
    assert status == 200, answer
    assert answer["status"] == "success", answer
    return answer["value"]


async def until_query(backend: Backend, path: str, expected: Any) -> None:
    """Wait until the query *path* answers *expected*."""
    await until(lambda: _answers(backend, path, expected))


async def _answers(backend: Backend, path: str, expected: Any) -> bool:
    return bool(await call(backend, "query", path) == expected)


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Wait until *question* is answered with yes."""
    async with asyncio.timeout(PATIENCE):
        while not await question():
            await asyncio.sleep(0.02)
