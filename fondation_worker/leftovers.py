"""Processes that a dead life of a worker has left: found by their mark, and killed."""

import os
import select
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fondation_worker.clock import boottime

MARK = "FONDATION_INSTANCE"  # in the environment of every run of git and of the CLI
KILL_LIMIT = 10.0  # seconds


def kill_left_by(instances: Collection[str], directories: Collection[Path]) -> int:
    """Kill every process of this user that bears a mark of *instances*; return how many.

    A process that took the mark out of its environment is known by a working directory below one
    of *directories*. Again and again, until none is found: they may fork. A process that uses the
    id of one that just ended is never hit.
    """
    return kill_marked({f"{MARK}={instance}".encode() for instance in instances}, directories)


def kill_marked(marks: set[bytes], directories: Collection[Path] = ()) -> int:
    """Kill, as `kill_left_by` does, what has one of *marks* (`NAME=value`) in its environment."""
    killed, deadline = 0, boottime() + KILL_LIMIT
    while marks and boottime() < deadline:
        found = 0
        for pid in _own_processes():
            found += _kill(pid, marks, directories, deadline)
        if not found:
            break
        killed += found
    return killed


def _own_processes() -> Iterator[int]:
    """Yield the ids of this user's processes, but not this one's."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid == os.geteuid():
                yield int(entry.name)
        except OSError:  # it has ended
            continue


def _kill(pid: int, marks: set[bytes], directories: Collection[Path], deadline: float) -> bool:
    """Kill *pid* if it bears a mark, and wait until it is gone; return whether it did."""
    with _held(pid) as handle:
        # Read after the handle was opened: what is read then is of the handle's process, or that
        # one is gone, and the signal reaches nobody.
        if handle is None or not _is_marked(pid, marks, directories):
            return False
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:  # gone by itself
            return False
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll(max(0.0, deadline - boottime()) * 1000)
        return True


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    """Give a handle on the process that has the id *pid* now, or None when there is none."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _is_marked(pid: int, marks: set[bytes], directories: Collection[Path]) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
        if not marks.isdisjoint(environment):
            return True
        here = (process / "cwd").readlink()
    except OSError:  # gone, or not ours to look at
        return False
    return any(here.is_relative_to(directory) for directory in directories)
