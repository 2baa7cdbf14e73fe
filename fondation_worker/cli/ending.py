"""How an operator's command ends: an exit status for each way, a line of words, no traceback."""

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from fondation_worker.errors import BadSettings, OperatorError, Refused, Unreachable
from fondation_worker.redact import Redactor
from fondation_worker.words import plain

EXIT_NOT_DONE = 1
EXIT_NO_ANSWER = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_FAULT = 70  # EX_SOFTWARE
EXIT_KEY_REFUSED = 77  # EX_NOPERM
EXIT_BAD_SETTINGS = 78  # EX_CONFIG
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_PIPE_CLOSED = 128 + signal.SIGPIPE

STATUSES = """\b
Exit status:
   0  done
   1  not done, and asking again will not help; the line on standard error says why
   2  the command line is wrong
  69  no answer; try again later
  77  the key is refused
  78  bad settings; every fault is listed
 130  interrupted
"""


@contextmanager
def ending() -> Iterator[None]:
    """End the program with the status and the words for whatever ends the body."""
    _ready_output()
    try:
        yield
        sys.stdout.flush()
    except click.ClickException:
        raise  # click's own: a wrong command line, status 2
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 an operator reads no traceback
        sys.exit(_told(error))


def _ready_output() -> None:
    """Let no character and no closed descriptor be a reason to fail."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _told(error: Exception) -> int:
    """Say what *error* is and what to do; return the exit status for it."""
    if isinstance(error, BrokenPipeError):
        _let_go_of_output()
        return EXIT_PIPE_CLOSED
    status, *lines = _meaning(error)
    complain(*lines)
    return status


def _meaning(error: Exception) -> tuple[int, *tuple[str, ...]]:
    """Return the exit status that *error* is told by, and the lines to say."""
    match error:
        case BadSettings():
            return EXIT_BAD_SETTINGS, *error.faults
        case OperatorError():
            return EXIT_NOT_DONE, str(error)
        case Refused():
            return _refusal(error)
        case Unreachable():
            return EXIT_NO_ANSWER, *_no_answer(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return EXIT_NOT_DONE, f"{where}{error.strerror or error}"
        case _:
            return EXIT_FAULT, f"a fault of this program: {_place(error)}; please report it"


def complain(*lines: str) -> None:
    """Say *lines* on standard error."""
    redact = Redactor([])
    for line in lines:
        click.echo(f"fondation-worker: {plain(redact(line))}", err=True)


def _refusal(error: Refused) -> tuple[int, *tuple[str, ...]]:
    if error.code != "unauthorized":
        return EXIT_NOT_DONE, error.message
    return (
        EXIT_KEY_REFUSED,
        "Convex refuses the operator's key",
        "the SHA-256 of OPERATOR_KEY must be in the deployment's FONDATION_OPERATOR_KEY_SHA256",
    )


def _no_answer(error: Unreachable) -> tuple[str, ...]:
    """Return what to say and what to do when the outcome of a call is unknown."""
    words = str(error).partition("; should it stay so")[0]  # what follows is for a worker's log
    if "Could not find public function" in words:
        hint = (
            "deploy the functions of this version first; or they are in another folder:"
            " CONVEX_FUNCTIONS"
        )
    elif "Validat" in words or "Convex answered" in words:
        hint = (
            "the deployment and this program may be of different versions: deploy the functions of"
            " this version; the deployment's own log says more"
        )
    elif "not a Convex answer" in words:
        hint = "does CONVEX_URL name the deployment itself (https://NAME.convex.cloud)?"
    else:
        hint = (
            "is CONVEX_URL right, and the network up? What was to be changed may have been"
            " changed all the same"
        )
    return (words, hint)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" ({os.path.basename(last.filename)}:{last.lineno})" if last else ""  # noqa: PTH119
    return f"{type(error).__name__}: {error}{where}"


def _let_go_of_output() -> None:
    """Send what is still buffered nowhere, or Python would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(nowhere, stream.fileno())
