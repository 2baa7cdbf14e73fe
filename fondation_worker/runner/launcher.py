"""Runs one command and leaves nothing behind: `python -I -S launcher.py FD LIMIT COMMAND…`.

The command gets this process's environment, directory, input and outputs, and a session of its
own. This process is its *subreaper*: whatever the command starts, also in sessions of its own,
stays below it and is killed when the command ends, or when the other end of the socket FD closes,
because whoever started us wants that or is dead itself. At the end one JSON line goes to FD:
`{"status", "killed", "maxRssKib", "cpuSeconds"}`. No file of the command grows over LIMIT bytes.

Standard library only, and no import of this package: it must start in milliseconds.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_OOM_SCORE = "300"  # the kernel shall choose the job before the worker
_MOST_DESCRIPTORS = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Run the command to its end, or until the lifeline closes."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    command = _start(sys.argv[3:], file_limit=int(sys.argv[2]))
    status = _wait(command, lifeline)
    killed = _kill_descendants()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = {
        "status": None if status is None else os.waitstatus_to_exitcode(status),
        "killed": killed,
        "maxRssKib": used.ru_maxrss,
        "cpuSeconds": used.ru_utime + used.ru_stime,
    }
    with contextlib.suppress(OSError):  # nobody is there to read it: then nobody needs it
        lifeline.sendall(json.dumps(report).encode() + b"\n")
    return 0


def _start(argv: list[str], *, file_limit: int) -> int:
    """Start the command; return its process id."""
    me = os.getpid()
    child = os.fork()
    if child:
        _close_own_streams()
        return child
    try:
        os.closerange(3, _MOST_DESCRIPTORS)  # the lifeline, and whatever else we were given
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:  # the launcher died before the line above
            os._exit(127)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # a setuid program could not be killed by us
        for number in signal.valid_signals():  # ignored by Python, or by who started the worker
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 no pathlib: start-up time
            score.write(_OOM_SCORE)
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 no shell is wanted
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _close_own_streams() -> None:
    """Let go of the command's input and outputs, so that their ends are the command's alone."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def _wait(command: int, lifeline: socket.socket) -> int | None:
    """Return the command's wait status, or None when the lifeline closed first."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)  # noqa: FBT003 the standard library takes it so
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the lifeline is the only way to stop us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == command:
                    return ended[1]
        if _readable(lifeline, woken):
            return None


def _readable(lifeline: socket.socket, woken: socket.socket) -> bool:
    """Sleep until something happens; return whether it was the lifeline's end."""
    import select  # noqa: PLC0415 first needed here, after the command has started

    ready, _, _ = select.select([lifeline, woken], [], [])
    if woken in ready:
        with contextlib.suppress(BlockingIOError):
            while woken.recv(4096):
                pass
    return lifeline in ready and not lifeline.recv(1)


def _kill_descendants() -> int:
    """Kill every process below this one, until there is none; return how many there were.

    Being the subreaper, we become the parent of whoever loses one, so a walk over our own children,
    repeated, finds all; and what was forked behind its back is found by the next round.
    """
    victims = 0
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # a child of ours is there until we wait for it
        for pid in children:
            _, status = os.waitpid(pid, 0)
            victims += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return victims


def _children() -> set[int]:
    """Return the process ids of this process's direct children, zombies included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:  # noqa: PTH123 as above
        return {int(pid) for pid in listed.read().split()}


def _prctl(option: int, value: int) -> None:
    """Call prctl(2); raise OSError."""
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    sys.exit(main())
