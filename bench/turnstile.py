"""Counts what a worker and its push child send to Convex: a proxy of TLS in front of a backend.

With TLS, because an installed worker speaks it: its memory and its CPU time belong to the figures.
"""

import asyncio
import json
import os
import shutil
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

_LARGEST = 20 << 20  # bytes of one request
_CERTIFICATES = "/etc/ssl/certs"  # Debian's


@dataclass(slots=True, kw_only=True)
class Counts:
    """What has passed since the last `clear`."""

    calls: Counter[str] = field(default_factory=Counter)  # HTTP requests, by function or path
    answers: Counter[str] = field(default_factory=Counter)  # of subscriptions, by function
    sockets: int = 0  # that were opened

    def clear(self) -> None:
        """Begin anew."""
        self.calls.clear()
        self.answers.clear()
        self.sockets = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnstile:
    """Where to go through, whom to trust on the way, and what has passed."""

    url: str
    environment: dict[str, str]  # makes a process trust the certificate, beside Debian's
    counts: Counts


@asynccontextmanager
async def turnstile(backend: str, home: Path) -> AsyncIterator[Turnstile]:
    """Pass on what comes to the backend at URL *backend*, counted; *home* keeps a certificate."""
    counts = Counts()
    certificate = await _certificate(home)
    async with aiohttp.ClientSession() as session:
        application = web.Application(client_max_size=_LARGEST)
        passage = _Passage(session, backend, counts)
        application.router.add_get("/api/{version:.*}sync", passage.socket)
        application.router.add_route("*", "/{path:.*}", passage.call)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            yield Turnstile(
                url=f"https://127.0.0.1:{runner.addresses[0][1]}",
                environment={"SSL_CERT_DIR": f"{certificate.parent}:{_CERTIFICATES}"},
                counts=counts,
            )
        finally:
            await runner.cleanup()


class _Passage:
    def __init__(self, session: aiohttp.ClientSession, backend: str, counts: Counts) -> None:
        self._session = session
        self._backend = backend
        self._counts = counts

    async def call(self, request: web.Request) -> web.Response:
        """Pass on one HTTP request."""
        body = await request.read()
        self._counts.calls[_function(request.path, body)] += 1
        async with self._session.request(
            request.method,
            self._backend + request.path_qs,
            data=body,
            headers={"Content-Type": request.headers.get("Content-Type", "")},
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """Pass on both directions of one socket, until either end closes."""
        self._counts.sockets += 1
        client = web.WebSocketResponse(autoping=False, max_msg_size=_LARGEST)
        await client.prepare(request)
        functions: dict[int, str] = {}
        async with (
            self._session.ws_connect(
                self._backend + request.path_qs, autoping=False, max_msg_size=_LARGEST
            ) as server,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(_relay(client, server, lambda said: _learn(said, functions)))
            group.create_task(_relay(server, client, lambda said: self._note(said, functions)))
        return client

    def _note(self, said: dict[str, Any], functions: dict[int, str]) -> None:
        """Count the answers that the backend sends."""
        if said["type"] == "Transition":
            for change in said["modifications"]:
                self._counts.answers[functions.get(change["queryId"], "?")] += 1


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _relay(source: _Socket, sink: _Socket, heed: Any) -> None:
    async for message in source:
        match message.type:
            case WSMsgType.TEXT:
                heed(json.loads(message.data))
                await sink.send_str(message.data)
            case WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case WSMsgType.PING:
                await sink.ping(message.data)
            case WSMsgType.PONG:
                await sink.pong(message.data)
            case _:
                break
    await sink.close()


def _learn(said: dict[str, Any], functions: dict[int, str]) -> None:
    """Note which function a subscription is of."""
    if said["type"] == "ModifyQuerySet":
        for change in said["modifications"]:
            if change["type"] == "Add":
                functions[change["queryId"]] = change["udfPath"]


def _function(path: str, body: bytes) -> str:
    """Return what a request asks for: a function, or else the path."""
    try:
        return str(json.loads(body)["path"])
    except (ValueError, KeyError, TypeError):
        return path


async def _certificate(home: Path) -> Path:
    """Make a certificate for 127.0.0.1 with its key, under the name by which OpenSSL finds it."""
    home.mkdir(parents=True)
    made = home / "127.0.0.1.pem"
    await _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", str(home / "key"), "-out", str(made), "-days", "2", "-subj", "/CN=turnstile"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    )
    digest = await _openssl("x509", "-noout", "-hash", "-in", str(made))
    shutil.copy(made, home / f"{digest.strip()}.0")
    made.write_text(made.read_text() + (home / "key").read_text())
    return made


async def _openssl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"openssl {arguments[0]} ended with {process.returncode}")
    return out.decode()
