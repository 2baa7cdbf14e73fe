"""Asks a worker on this host, over its control socket or at its health address."""

import http.client
import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fondation_worker.config import ControlConfig
from fondation_worker.errors import NoWorker

LIMIT = 5.0  # seconds: a worker that takes longer is not well
RELOAD_LIMIT = 30.0
LARGEST_ANSWER = 4 * 1024 * 1024  # bytes
NO_WORKER = "what answers there is no worker"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 where it listens, not we


class Wedged(NoWorker):
    """A worker has its control socket, and does not answer."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket that is a file."""

    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask_control(
    path: Path,
    method: str,
    what: str,
    body: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
) -> tuple[int, dict[str, Any]]:
    """Ask the worker behind the socket *path*; return the status and the JSON answer.

    Raises NoWorker, in words, when there is no answer.
    """
    try:
        return _asked(_UnixConnection(path, timeout=limit), method, what, body)
    except FileNotFoundError as error:
        raise NoWorker(
            f"there is no control socket {path}: is a worker running, and with this"
            " CONTROL_SOCKET (or STATE_DIR)?"
        ) from error
    except ConnectionRefusedError as error:
        if not path.is_socket():
            raise NoWorker(f"{path} is no socket: is CONTROL_SOCKET right?") from error
        raise NoWorker(
            f"nobody answers at {path}: the worker that made it is gone; start it again"
        ) from error
    except PermissionError as error:
        raise NoWorker(
            f"{path} is another user's: ask as the user that the worker runs as (sudo -u USER …)"
        ) from error
    except TimeoutError as error:
        raise Wedged(
            f"the worker at {path} is there and did not answer within {limit:g} s: look at its log,"
            " or start it anew; what it was asked it may still do"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoWorker(f"no answer from the worker at {path}: {_words(error)}") from error


def ask_worker(
    config: ControlConfig,
    method: str,
    what: str,
    body: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
) -> tuple[int, dict[str, Any]]:
    """Ask as `ask_control` does, where this host's worker is by its settings, or had to go."""
    try:
        return ask_control(config.control_socket, method, what, body, limit=limit)
    except Wedged:
        raise
    except NoWorker:
        if not _is_socket(config.fallback_socket):
            raise
        return ask_control(config.fallback_socket, method, what, body, limit=limit)


def _is_socket(path: Path) -> bool:
    """Whether *path* itself is a socket; a link in a worker's directory leads root nowhere."""
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def ask_health(address: tuple[str, int]) -> tuple[int, dict[str, Any]]:
    """Ask `GET /health` at *address*; return the status and the JSON answer. Raises NoWorker."""
    host, port = _ANYWHERE.get(address[0], address[0]), address[1]
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT)
    try:
        status, answer = _asked(connection, "GET", "/health", None)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoWorker(
            f"no worker answers at {host}:{port}: {_words(error)}; is it running, and with this"
            " HEALTH_ADDRESS?"
        ) from error
    if "status" not in answer or "workerId" not in answer:
        raise NoWorker(f"{NO_WORKER}: {host}:{port}; is HEALTH_ADDRESS right?")
    return status, answer


def _asked(
    connection: http.client.HTTPConnection,
    method: str,
    what: str,
    body: Mapping[str, Any] | None,
) -> tuple[int, dict[str, Any]]:
    content = None if body is None else json.dumps(body).encode()
    headers = {} if content is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, what, body=content, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read(LARGEST_ANSWER))
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(NO_WORKER)  # noqa: TRY004 said as no answer
    return response.status, answer


def _words(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return NO_WORKER
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
