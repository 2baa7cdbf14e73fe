"""What passes between systemd and this process: sockets in, notifications out (sd_notify(3)).

Without systemd all of it is nothing: no sockets come, and nobody listens. `Manager.of` must be
asked before the environment is dropped, because there systemd tells how it is reached.
"""

import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sdnotify

from fondation_worker import journal

try:
    from systemd.daemon import listen_fds_with_names
except ImportError:  # no systemd here: an image does without
    listen_fds_with_names = None

logger = logging.getLogger(__name__)

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """The service manager of this process, until closed. What it is told is not waited for."""

    watchdog: float | None = None  # seconds after which it kills a silent process; None: never
    sockets: tuple[socket.socket, ...] = ()  # handed over; the caller closes them
    has_journal: bool = False  # it keeps our log: standard error goes there
    credentials: Path | None = None  # the directory of the secrets that it handed over
    notifier: sdnotify.SystemdNotifier | None = field(default=None, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Manager":
        """Return the one that *environ* names: os.environ, which the libraries read as well."""
        notifier = None
        if environ.get("NOTIFY_SOCKET"):
            notifier = sdnotify.SystemdNotifier()
            if notifier.socket:  # a manager that hangs must not hang us
                notifier.socket.setblocking(False)  # noqa: FBT003 the standard library's way
        return cls(
            watchdog=watchdog_of(environ, os.getpid()),
            sockets=_inherited(environ),
            has_journal=journal.is_standard_error(environ),
            credentials=Path(handed) if (handed := environ.get("CREDENTIALS_DIRECTORY")) else None,
            notifier=notifier,
        )

    def close(self) -> None:
        """Say nothing more, and let go of what was handed over."""
        for each in self.sockets:
            each.close()
        if self.notifier and self.notifier.socket:
            self.notifier.socket.close()

    def is_ready(self, status: str) -> None:
        """Tell that the service is up, or has finished a reload; and how it is."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def has_status(self, status: str) -> None:
        """Tell in words how the service is."""
        self._tell(f"STATUS={_line(status)}")

    def reloads(self) -> None:
        """Tell that a reload has begun; `is_ready` tells that it has ended."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stops(self) -> None:
        """Tell that the service has begun to stop."""
        self._tell("STOPPING=1")

    def needs(self, seconds: float) -> None:
        """Ask for *seconds* more from now, for what goes on: a start, a stop."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * MICROSECONDS)}")

    def is_alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self.notifier:
            # The library encodes as Latin-1; systemd wants UTF-8.
            self.notifier.notify("\n".join(lines).encode().decode("latin-1"))

    def of_family(self, families: Iterable[socket.AddressFamily]) -> tuple[socket.socket, ...]:
        """Return those of the sockets that belong to one of *families*."""
        wanted = set(families)
        return tuple(each for each in self.sockets if each.family in wanted)


def watchdog_of(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the seconds of sd_watchdog_enabled(3), None where no watchdog waits for *pid*."""
    microseconds, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if whose and whose != str(pid):
        return None
    return int(microseconds) / MICROSECONDS


def _inherited(environ: Mapping[str, str]) -> tuple[socket.socket, ...]:
    """Return the sockets that were handed to this process, of sd_listen_fds(3)."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    if listen_fds_with_names is None:
        logger.warning("systemd hands over sockets, but systemd-python is not installed")
        return ()
    return tuple(socket.socket(fileno=number) for number in sorted(listen_fds_with_names()))


def _line(words: str) -> str:
    """Return *words* on one line: a break would begin another assignment."""
    return " ".join(words.split())
