"""The HTTP interface, and the program itself."""

import asyncio
import base64
import hashlib
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from devtools.backend import NODE, REPOSITORY, Backend, local_backend
from tests.localconvex.clients import FUNCTIONS, PATIENCE, call, send

MAIN = REPOSITORY / "localconvex" / "main.ts"
BYTES = {"Content-Type": "application/octet-stream"}


def listening(port: int) -> set[str]:
    """Return the addresses, in hexadecimal, on which something listens on *port*."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
    sockets = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {address for address, number in sockets if int(number, 16) == port}


async def test_it_listens_on_loopback_only(backend: Backend) -> None:
    """It knows no users."""
    assert listening(int(backend.url.rpartition(":")[2])) == {"0100007F"}


async def test_a_web_page_from_elsewhere_cannot_reach_it(backend: Backend) -> None:
    """Neither under a name that leads here, nor from a page of another origin."""
    for headers in ({"Host": "attacker.example"}, {"Origin": "https://attacker.example"}):
        assert (await send(backend, "GET", "/version", headers=headers))[0] == 403
    assert (await send(backend, "GET", "/version"))[0] == 200
    assert (await send(backend, "GET", "/instance_name"))[0] == 200


async def test_in_a_network_of_its_own_it_is_reached_by_one_name(tmp_path: Path) -> None:
    """That of `--url`: for calls and sockets, and in the URLs that it gives out."""
    url = "http://convex.test:3210"
    async with local_backend(tmp_path, functions=FUNCTIONS, url=url) as backend:
        port = int(backend.url.rpartition(":")[2])
        assert listening(port) == {"00000000"}
        for host, status in (("convex.test:3210", 200), ("127.0.0.1", 200), ("attacker", 403)):
            assert (await send(backend, "GET", "/version", headers={"Host": host}))[0] == status
        socket = f"ws://127.0.0.2:{port}/api/1.0.0/sync"
        assert await opened(socket, "convex.test")
        assert not await opened(socket, "attacker")
        upload = await call(backend, "mutation", "files:uploadUrl")
        assert upload.startswith(f"{url}/api/storage/")


async def opened(url: str, name: str) -> bool:
    """Whether a web socket is opened at *url* for whoever calls the host by this *name*."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(url, headers={"Host": name}):
                return True
        except aiohttp.ClientError:
            return False


async def test_numbers_are_floats_on_the_wire(backend: Backend) -> None:
    """As Convex prints them; its Python client takes nothing else."""
    body = {"path": "notes:echo", "args": [{"value": [3, -0.5, 1e21]}], "format": "json"}
    async with asyncio.timeout(10):
        status, answer, headers = await send(backend, "POST", "/api/query", body)
    assert status == 200
    assert all(type(number) is float for number in answer["value"])
    assert headers["convex-documents-read"] == "0"


async def test_the_two_formats_differ_where_json_has_no_type(backend: Backend) -> None:
    """`json` is readable, `convex_encoded_json` loses nothing."""
    value = {"$integer": base64.b64encode((7).to_bytes(8, "little")).decode()}
    results = {}
    for format_ in ("json", "convex_encoded_json"):
        body = {"path": "notes:echo", "args": {"value": value}, "format": format_}
        results[format_] = (await send(backend, "POST", "/api/query", body))[1]["value"]
    assert results == {"json": "7", "convex_encoded_json": value}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "BadJsonBody"),
        (b"", "BadJsonBody"),
        ({"args": {}}, "BadJsonBody"),
        ({"path": "notes:list", "args": {}, "format": "xml"}, "BadFormat"),
        ({"path": "notes:echo", "args": {"value": {"$integer": "?"}}}, "BadConvexValue"),
    ],
)
async def test_a_request_that_is_none_is_refused(backend: Backend, body: object, code: str) -> None:
    """With a status that is not 200 and a code."""
    status, answer, _ = await send(backend, "POST", "/api/query", body)
    assert (status, answer["code"]) == (400, code)


async def test_requests_and_documents_have_limits(backend: Backend) -> None:
    """Of 20 MiB and 1 MiB."""
    huge = {"path": "notes:add", "args": {"text": "x" * (21 << 20)}}
    assert (await send(backend, "POST", "/api/mutation", huge))[0] == 413
    large = {"path": "notes:add", "args": {"text": "x" * (1 << 20)}}
    answer = (await send(backend, "POST", "/api/mutation", large))[1]
    assert "Value is too large" in answer["errorMessage"]
    assert await call(backend, "query", "notes:count") == 0


async def test_a_wrong_credential_is_refused(backend: Backend) -> None:
    """Before anything runs."""
    body = {"path": "notes:list", "args": {}}
    for credential in ("Convex wrong", "Bearer a.b.c"):
        headers = {"Authorization": credential}
        assert (await send(backend, "POST", "/api/query", body, headers=headers))[0] == 401


@pytest.mark.parametrize(
    ("path", "args", "read"),
    [
        ("notes:nextByRank", {"rank": 3}, 1),  # through an index, to the first that fits
        ("notes:firstDone", {}, 10),  # a filter reads what it drops
        ("notes:count", {}, 10),
    ],
)
async def test_documents_are_counted_as_convex_counts_them(
    backend: Backend, path: str, args: dict[str, int], read: int
) -> None:
    """So that a test can hold a function to bounded reads."""
    rows = [{"text": f"note {number}", "rank": number} for number in range(10)]
    await send(backend, "POST", "/_rows", {"table": "notes", "rows": rows})
    body = {"path": path, "args": args}
    headers = (await send(backend, "POST", "/api/query", body))[2]
    assert headers["convex-documents-read"] == str(read)


async def test_a_file_goes_up_and_comes_down_the_same(backend: Backend) -> None:
    """Also after a kill; deleted, it is gone."""
    content = os.urandom(3_000_000)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    url = await call(backend, "mutation", "files:uploadUrl")
    headers = {**BYTES, "Digest": f"sha-256={digest}"}
    storage_id = (await send(backend, "POST", url, content, headers=headers))[1]["storageId"]
    await call(backend, "mutation", "files:keep", storageId=storage_id)
    row = await call(backend, "query", "files:describe", storageId=storage_id)
    assert (row["size"], row["sha256"], row["contentType"]) == (3e6, digest, BYTES["Content-Type"])

    await backend.kill()
    files = backend.log.parent / "files"
    (files / ".upload-torn").write_bytes(content[:1000])
    await backend.restart()
    assert {file.name for file in files.iterdir()} == {".secret", storage_id}
    url = await call(backend, "query", "files:url", storageId=storage_id)
    status, downloaded, headers = await send(backend, "GET", url)
    assert (status, downloaded) == (200, content)
    assert headers["digest"] == f"sha-256={digest}"

    await call(backend, "mutation", "files:remove", storageId=storage_id)
    assert (await send(backend, "GET", url))[0] == 404
    assert await call(backend, "query", "files:url", storageId=storage_id) is None
    assert {file.name for file in files.iterdir()} == {".secret"}


async def test_an_upload_is_checked(backend: Backend) -> None:
    """Its URL must be a genuine one and not an hour old, its bytes those that were announced."""
    url = await call(backend, "mutation", "files:uploadUrl")
    wrong = {**BYTES, "Digest": f"sha-256={base64.b64encode(bytes(32)).decode()}"}
    assert (await send(backend, "POST", url, b"other bytes", headers=wrong))[0] == 400
    assert (await send(backend, "POST", url[:-1] + "x", b"bytes", headers=BYTES))[0] == 401
    await send(backend, "POST", "/_clock", {"advanceMs": 3_601_000, "jump": True})
    assert (await send(backend, "POST", url, b"bytes", headers=BYTES))[0] == 401
    rows = (await send(backend, "GET", "/_rows?table=_storage"))[1]["rows"]
    assert rows == []


async def test_an_action_stores_and_reads_a_file(backend: Backend) -> None:
    """By `ctx.storage`, without a URL."""
    assert await call(backend, "action", "files:storeText", text="hello") == "hello"


async def test_http_routes_are_served(backend: Backend) -> None:
    """Those of the folder's `http.ts`, below /http."""
    status, content, _ = await send(backend, "POST", "/http/shout?mark=!", b"hello")
    assert (status, content) == (201, b"HELLO!")
    assert (await send(backend, "GET", "/http/nothing"))[0] == 404


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        '{"type": "Connect", "sessionId": "s"}{',
        '{"type": "Nonsense"}',
        '{"type": "Mutation", "requestId": 0, "udfPath": "notes:add", "args": [{"text": "x"}]}',
    ],
)
async def test_a_broken_frame_is_a_fatal_error(backend: Backend, frame: str) -> None:
    """Said to the client, which then starts again."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(backend.url + "/api/sync") as socket,
    ):
        await socket.send_str(frame)
        assert (await socket.receive_json(timeout=10))["type"] == "FatalError"
        assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "{tmp}", "--port", "70000"],
        ["--data", "{tmp}", "--functions", "{tmp}/nothing"],
        ["--data", "{tmp}", "--unheard-of"],
        ["--data", "{tmp}", "--admin-key-file", "{tmp}/nothing"],
    ],
)
async def test_bad_arguments_end_with_a_message_and_64(
    tmp_path: Path, arguments: list[str]
) -> None:
    """And with the usage."""
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    status, output = await run(*filled)
    assert status == 64
    assert "usage:" in output


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None])
async def test_it_ends_cleanly_when_it_is_told_to(
    tmp_path: Path, end: signal.Signals | None
) -> None:
    """By a signal, or by the end of its standard input where that is its lifeline."""
    options = ["--data", str(tmp_path), "--functions", str(FUNCTIONS), "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *(str(NODE), str(MAIN), *options, "--lifeline"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE):
        assert process.stdout is not None
        assert process.stdin is not None
        assert (await process.stdout.readline()).startswith(b"localconvex ready http://127.0.0.1:")
        if end is None:
            process.stdin.close()
        else:
            process.send_signal(end)
        assert await process.wait() == 0


async def test_a_port_in_use_is_said(backend: Backend, tmp_path: Path) -> None:
    """And ends the start."""
    port = backend.url.rpartition(":")[2]
    options = ["--data", str(tmp_path / "other"), "--functions", str(FUNCTIONS), "--port", port]
    status, output = await run(*options)
    assert status == 1
    assert "EADDRINUSE" in output


async def test_functions_that_do_not_build_are_said(tmp_path: Path) -> None:
    """With file and line."""
    (tmp_path / "broken.ts").write_text("export const a = ;\n")
    status, output = await run("--data", str(tmp_path / "data"), "--functions", str(tmp_path))
    assert status == 1
    assert "broken.ts:1:17" in output


async def run(*arguments: str) -> tuple[int | None, str]:
    """Run the program to its end; return its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        str(MAIN),
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await process.communicate()
    return process.returncode, output.decode()
