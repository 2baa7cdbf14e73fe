"""Networks without a trace: namespaces that live as long as a descriptor of them is open.

"The host" is a namespace with a loopback and a bridge; every container has one of its own, and a
cable to the bridge. Nothing leads out of them.
"""

import asyncio
import ctypes
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BRIDGE = "docker0"
GATEWAY = "172.17.0.1"
PREFIX = 16
CLONE_NEWNET = 0x40000000
BLOCK = 65536  # bytes


class Namespace:
    """A network; `close` gives it up, and it is gone when nothing else is in it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def path(self) -> str:
        """Where other processes find it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        """Give it up."""
        os.close(self.descriptor)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread, and whatever it starts meanwhile, into it."""
        before = here()
        _check(_libc().setns(self.descriptor, CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc().setns(before.descriptor, CLONE_NEWNET))
            before.close()

    async def ip(self, *lines: str) -> None:
        """Let `ip` do *lines* in it."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net={self.path}", "ip", "-batch", "-"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate("\n".join(lines).encode())
        assert process.returncode == 0, f"ip: {errors.decode()}"


def here() -> Namespace:
    """Return the network that this thread is in."""
    return Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY))


def fresh() -> Namespace:
    """Return a new network with nothing in it."""
    before = here()
    _check(_libc().unshare(CLONE_NEWNET))
    try:
        return here()
    finally:
        _check(_libc().setns(before.descriptor, CLONE_NEWNET))
        before.close()


async def host() -> Namespace:
    """Return a new network with a loopback and a bridge: the engine's host."""
    made = fresh()
    await made.ip(
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {GATEWAY}/{PREFIX} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )
    with made.entered():
        # With it, who looks for the world from a container hears at once that it is not there.
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    return made


async def plugged(outer: Namespace, number: int) -> tuple[Namespace, str]:
    """Return a new network with a cable to the bridge of *outer*, and its address there."""
    made = fresh()
    address = f"172.17.{number >> 8}.{number & 255}"
    await outer.ip(
        f"link add v{number} type veth peer name eth0 netns {made.path}",
        f"link set v{number} master {BRIDGE} up",
    )
    await made.ip(
        "link set lo up",
        f"address add {address}/{PREFIX} dev eth0",
        "link set eth0 up",
        f"route add default via {GATEWAY}",
    )
    return made, address


async def unplugged(outer: Namespace, number: int, inner: Namespace) -> None:
    """Take the cable away, and give the network up."""
    await outer.ip(f"link delete v{number}")
    inner.close()


class Tasks:
    """Tasks of one owner, who ends them.

    No TaskGroup: pytest begins and ends a fixture in different tasks.
    """

    def __init__(self) -> None:
        self.running: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let *work* go on beside."""
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self) -> None:
        """Cancel what still runs, and wait until it has ended; raise what one of them raised."""
        left = list(self.running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self.failures:
            raise self.failures[0]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        if not task.cancelled() and (failure := task.exception()):
            self.failures.append(failure)


class Forwarder:
    """Connections to a port of the host's, taken to another place, as `docker-proxy` does."""

    def __init__(self, place: str, port: int) -> None:
        self.place = place
        self.port = port
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    async def listen(self, address: str, port: int) -> None:
        """Begin; raise OSError when the port is taken."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.start(self._serve(reader, writer))

        self._server = await asyncio.start_server(connected, address, port)

    async def close(self) -> None:
        """End, with every connection."""
        if self._server is not None:
            self._server.close()
        await self._tasks.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy both ways until both sides have said all."""
        with closing(writer), suppress(OSError):
            answers, questions = await asyncio.open_connection(self.place, self.port)
            with closing(questions):
                await asyncio.gather(_copy(reader, questions), _copy(answers, writer))


@contextmanager
def closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Close a connection at the end."""
    try:
        yield
    finally:
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(BLOCK):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "network namespace")


def interfaces() -> list[str]:
    """Return the names of the network interfaces that this thread sees."""
    lines = Path("/proc/thread-self/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]
