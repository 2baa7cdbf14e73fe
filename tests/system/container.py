"""A Debian root booted by its own systemd, on a host whatever its own PID 1 is. Needs root."""

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.processes import parent_of

BOOT_LIMIT = 60.0  # seconds; on an idle machine it takes less than one
OFF_LIMIT = 90.0  # seconds; a service may use the whole of its TimeoutStopSec
LOOK = 0.05  # seconds
CLONE_NEWNET = 0x40000000  # setns(2)

# systemd-nspawn keeps its processes in the cgroup that it was started in, and two of them must not
# share one. It ends, and powers its machine off, when whoever started it dies.
START = 'echo $$ >"$0/cgroup.procs"; exec setpriv --pdeathsig TERM "$@"'


@asynccontextmanager
async def container(
    root: Path, console: Path, hostname: str, *, shown: Mapping[str, Path]
) -> AsyncIterator[int]:
    """Boot the system in *root*; give the id of its first process as this host sees it.

    Its network is a loopback of its own. Files of this host are *shown* in it, by their paths
    there. What it prints goes to the file *console*. At the end it is powered off; AssertionError
    when it does not boot, or when anything of it is left.
    """
    with _cgroup(f"{hostname}-{os.getpid()}") as cgroup:
        with console.open("wb") as output:
            nspawn = await asyncio.create_subprocess_exec(
                *("sh", "-ec", START, cgroup),
                *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}"),
                *("--register=no", "--keep-unit", "--private-network", "--console=pipe"),
                *(f"--machine={cgroup.name}", f"--hostname={hostname}"),
                *(f"--bind-ro={file}:{path}" for path, file in shown.items()),
                env={"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield await _booted(nspawn, console)
        finally:
            await _power_off(nspawn, console)


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Move this thread, and whatever it starts meanwhile, into the network of process *pid*."""
    with Path("/proc/thread-self/ns/net").open() as ours, _network(pid).open() as theirs:
        _enter(theirs.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _network(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net")


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the network of the machine cannot be entered")


@contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """Make a cgroup for one machine; at the end no process may be in it."""
    unified = Path("/sys/fs/cgroup/unified")
    top = unified if unified.exists() else Path("/sys/fs/cgroup")
    group = top / f"fondation-{name}"
    group.mkdir()
    try:
        yield group
        left = [file.read_text() for file in group.rglob("cgroup.procs")]
        assert not "".join(left), f"processes of the machine are left: {left}"
    finally:
        # systemd-nspawn makes the same names in the old hierarchy, where there is one beside.
        for copy in (group, Path("/sys/fs/cgroup/systemd") / group.name):
            for directory in sorted(copy.rglob("*/"), reverse=True):
                directory.rmdir()
            with suppress(FileNotFoundError):
                copy.rmdir()


async def _booted(nspawn: asyncio.subprocess.Process, console: Path) -> int:
    """Wait until the system is up; return the id of its first process."""
    deadline = time.monotonic() + BOOT_LIMIT
    while True:
        for leader in _leaders(nspawn.pid):
            if await _state(leader) in {"running", "degraded"}:
                return leader
        said = console.read_text(errors="replace")
        assert nspawn.returncode is None, f"it did not boot:\n{said}"
        assert time.monotonic() < deadline, f"it was not up after {BOOT_LIMIT} s:\n{said}"
        await asyncio.sleep(LOOK)


def _leaders(nspawn: int) -> list[int]:
    """Return the child of *nspawn* that is process 1 of a namespace, once it is there."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and parent_of(int(entry.name)) == nspawn:
                status = (entry / "status").read_text(encoding="utf-8")
                if status.partition("NSpid:")[2].splitlines()[0].split()[1:] == ["1"]:
                    found.append(int(entry.name))
    return found


async def _state(leader: int) -> str:
    asked = await asyncio.create_subprocess_exec(
        *("nsenter", f"--target={leader}", "--all", "systemctl", "is-system-running"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asked.communicate()
    return output.decode().strip()


async def _power_off(nspawn: asyncio.subprocess.Process, console: Path) -> None:
    with suppress(ProcessLookupError):
        nspawn.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(OFF_LIMIT):
            await nspawn.wait()
    except TimeoutError:
        nspawn.kill()
        await nspawn.wait()
        said = console.read_text(errors="replace")
        raise AssertionError(f"it did not power off in {OFF_LIMIT} s:\n{said}") from None
