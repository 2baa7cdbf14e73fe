"""What passes between systemd and the program, over real sockets."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fondation_worker.journal import is_standard_error, priority
from fondation_worker.systemd import Manager, watchdog_of

TOP = Path(__file__).parents[2]

# Runs as systemd would start it: the socket is descriptor 3, and the environment says whose it is.
LISTENING = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="a:b")
from fondation_worker.systemd import Manager
manager = Manager.of(os.environ)
print([(s.getsockname(), os.get_inheritable(s.fileno())) for s in manager.sockets])
print(len(manager.of_family([s.AF_UNIX for s in [__import__("socket")]])))
"""


def heard(listener: socket.socket) -> list[str]:
    """Return the lines of the next notification."""
    return listener.recv(4096).decode().splitlines()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does, on a path or on an abstract name."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        made.settimeout(5)
        os.environ["NOTIFY_SOCKET"] = name
        yield made
    del os.environ["NOTIFY_SOCKET"]


@pytest.fixture
def manager(listener: socket.socket) -> Iterator[Manager]:
    """Give the manager behind *listener*."""
    assert listener.fileno() >= 0
    with contextlib.closing(Manager.of(os.environ)) as made:
        yield made


def test_systemd_is_told_in_its_own_words(listener: socket.socket, manager: Manager) -> None:
    """UTF-8, although the library speaks Latin-1; and no break inside an assignment."""
    manager.is_ready("1 of 2 busy · fine\nREADY=0")
    assert heard(listener) == ["READY=1", "STATUS=1 of 2 busy · fine READY=0"]
    manager.reloads()
    reloading, monotonic = heard(listener)
    assert reloading == "RELOADING=1"
    assert int(monotonic.removeprefix("MONOTONIC_USEC=")) > 0
    manager.needs(1.5)
    assert heard(listener) == ["EXTEND_TIMEOUT_USEC=1500000"]
    manager.is_alive()
    assert heard(listener) == ["WATCHDOG=1"]
    manager.stops()
    assert heard(listener) == ["STOPPING=1"]


def test_a_manager_that_reads_nothing_holds_nothing_up(
    listener: socket.socket, manager: Manager
) -> None:
    """Its queue is full at some point; the event loop must not wait for it."""
    for number in range(10_000):
        manager.has_status(f"{number} {'x' * 100}")
    assert heard(listener)[0].startswith("STATUS=0 ")


def test_without_systemd_nothing_is_told() -> None:
    """A laptop, a container."""
    manager = Manager.of({})
    manager.is_ready("fine")
    assert (manager.sockets, manager.watchdog, manager.has_journal) == ((), None, False)


def test_sockets_are_taken_over_and_not_handed_on() -> None:
    """Else a run would hold the port when the worker is gone."""
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as file:
        file.bind(f"\0{secrets.token_hex(8)}")
        file.listen()
        script = (
            f"import os\nfor old, new in (({port.fileno()}, 3), ({file.fileno()}, 4)):\n"
            f"    os.dup2(old, new, inheritable=True)\n{LISTENING}"
        )
        said = subprocess.run(
            [sys.executable, "-c", script],
            cwd=TOP,
            pass_fds=(port.fileno(), file.fileno()),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"{port.getsockname()}, False" in said
        assert said.splitlines()[1] == "1"


def test_sockets_of_another_process_are_left_alone() -> None:
    """The variables may have come down from a parent."""
    environ = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1"}
    assert Manager.of(environ).sockets == ()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_s_time_is_ours_or_nobody_s(
    environ: dict[str, str], seconds: float | None
) -> None:
    """As sd_watchdog_enabled(3) has it."""
    assert watchdog_of(environ, 7) == seconds


def test_standard_error_is_the_journal_only_if_it_is_the_one_that_was_meant() -> None:
    """A redirection leaves the variable and changes the descriptor."""
    found = os.fstat(2)
    assert is_standard_error({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert not is_standard_error({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
    assert not is_standard_error({"JOURNAL_STREAM": "nonsense"})
    assert not is_standard_error({})


def test_levels_are_the_journal_s_priorities() -> None:
    """So that `journalctl -p warning` finds what it should."""
    assert [priority(level) for level in (50, 40, 30, 20, 10)] == [2, 3, 4, 6, 7]
