"""Repositories for tests, made with real git, and served by real git over real HTTPS."""

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aiohttp import encode_basic_auth, web

IDENTITY = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": os.environ["PATH"],
}


def git(directory: Path, *arguments: str, standard_input: IO[str] | None = None) -> str:
    """Run git in *directory*; return what it printed."""
    run = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env=IDENTITY,
        stdin=standard_input,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on disk."""

    path: Path

    @property
    def url(self) -> str:
        """Its file:// URL."""
        return f"file://{self.path}"

    def commit(
        self, files: Mapping[str, str | bytes], *, links: Mapping[str, str] | None = None
    ) -> str:
        """Write *files* and symbolic *links*, commit everything, return the commit's id."""
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        for name, target in (links or {}).items():
            (self.path / name).symlink_to(target)
        git(self.path, "add", "--all", "--force")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", "change")
        return git(self.path, "rev-parse", "HEAD")


def empty_repository(path: Path) -> Repository:
    """Make a repository without a commit at *path*."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    return Repository(path)


def repository(path: Path, files: Mapping[str, str | bytes] | None = None) -> Repository:
    """Make a repository with one commit at *path*."""
    made = empty_repository(path)
    made.commit(files or {"README.md": "# Hello\n\nA small program.\n", "app.py": "print(1)\n"})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class GitServer:
    """Repositories below a directory, served as https://localhost:PORT/NAME."""

    url: str
    certificate: Path  # to be trusted: GIT_SSL_CAINFO


@asynccontextmanager
async def git_server(
    top: Path,
    keys: Path,
    *,
    port: int = 0,
    host: str = "localhost",
    stall: asyncio.Event | None = None,
    password: str | None = None,
    instead: Callable[[web.Request], web.Response | None] = lambda _: None,
) -> AsyncIterator[GitServer]:
    """Serve the repositories below *top* with `git http-backend`; answer once *stall* is set.

    Port 0 picks a free one. The certificate is for *host*, to which the caller has to lead clients.
    With *password* only to x-access-token with it. What *instead* returns goes before all that.
    """
    certificate, key = await asyncio.to_thread(_certificate, keys, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(request: web.Request) -> web.Response:
        if stall is not None:
            await stall.wait()
        if (other := instead(request)) is not None:
            return other
        given = request.headers.get("Authorization", "")
        if password is not None and given != encode_basic_auth("x-access-token", password):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        return await _backend(top, request)

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield GitServer(url=f"https://localhost:{port}", certificate=certificate)
    finally:
        await runner.cleanup()


async def _backend(top: Path, request: web.Request) -> web.Response:
    """Answer *request* with git's own CGI program (git-http-backend(1))."""
    environment = IDENTITY | {
        "GIT_PROJECT_ROOT": str(top),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": "",  # aiohttp has decoded the body already
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    process = await asyncio.create_subprocess_exec(
        *("git", "http-backend"),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(await request.read())
    head, _, body = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    status = int(headers.pop("Status", "200 OK").split()[0])
    return web.Response(status=status, body=body, headers=headers)


def _certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate for *host*; return it and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    openssl = shutil.which("openssl") or "openssl"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={host}",
         "-addext", f"subjectAltName=DNS:{host}",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key
