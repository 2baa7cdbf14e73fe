"""The control socket: what an operator on this host may ask of a running worker.

HTTP over a unix socket that only root, the worker's own user and its group may use: `POST /pause`
`{"reason"?}`, `POST /resume`, `POST /reload`, answered with JSON; and what anybody may see where
there is a port.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from fondation_worker import events
from fondation_worker.snapshot import Look
from fondation_worker.web.server import Handler

logger = logging.getLogger(__name__)

_PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
_SO_PEERGROUPS = 59  # of socket(7); Python has no name for it
_MOST_GROUPS = 256  # as many as fit what Python lets getsockopt(2) return
_BAD_REQUEST = 400
_FORBIDDEN = 403
_UNPROCESSABLE = 422
_NOT_KEPT = 507


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What can be asked of the worker."""

    look: Look
    pause: Callable[[str], bool]  # with the reason; returns whether a restart will remember it
    resume: Callable[[], None]  # raises OSError
    # With name and SHA-256 of each secret as it is kept now; "faults" tells what was wrong.
    reload: Callable[[Mapping[str, str]], Mapping[str, list[str]]]


@asynccontextmanager
async def control_server(
    path: Path,
    controls: Controls,
    pages: Mapping[str, Handler],
    *,
    fallback: Path | None = None,
    inherited: Sequence[socket.socket] = (),
) -> AsyncIterator[None]:
    """Answer while the body runs, on the sockets *inherited* from systemd, else on *path*.

    One of our own has the mode 0600, and is removed after. A path that cannot be had, because a
    live worker has it or for any other reason, is said in the log; then *fallback* is tried, and
    without that the worker works on.
    """
    with contextlib.ExitStack() as kept:
        listening = inherited or _own(path, fallback, kept)
        # Who may open systemd's socket was decided by the unit, SocketGroup= included.
        group = os.getegid() if inherited else None
        runner = web.AppRunner(
            _application(controls, pages, group), access_log=None, shutdown_timeout=1
        )
        await runner.setup()
        try:
            for one in listening:
                await web.SockSite(runner, one).start()
                logger.info("control: %s", one.getsockname())
            yield
        finally:
            await runner.cleanup()


def _own(
    path: Path, fallback: Path | None, kept: contextlib.ExitStack
) -> tuple[socket.socket, ...]:
    """Return a socket bound to the first of both that can be had, removed when *kept* ends."""
    for place in dict.fromkeys(place for place in (path, fallback) if place):
        try:
            return (kept.enter_context(_bound(place)),)
        except OSError as error:
            words = "control: %s: %s; set CONTROL_SOCKET"
            reason = error.strerror or error
            logger.error(words, place, reason, extra=events.NO_PORT.extra)  # noqa: TRY400 the words say all
    return ()


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """Give a socket bound to *path*, and remove that after. Raises OSError.

    A lock beside it, held as long, tells a live owner from what a dead one left, without a race.
    """
    with path.with_name(f"{path.name}.lock").open("ab") as lock:
        os.fchmod(lock.fileno(), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(0, "another worker has this control socket") from None
        _make_way(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            os.fchmod(made.fileno(), 0o600)  # before bind(2), which gives the file this mode
            made.bind(str(path))
            try:
                yield made
            finally:
                path.unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    """Remove the socket that a dead process left at *path*; raise OSError for anything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(0, "a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.setblocking(False)  # noqa: FBT003 the library's way
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:  # its queue is full: somebody lives
            pass
    raise OSError(0, "another process listens there")


def _application(
    controls: Controls, pages: Mapping[str, Handler], group: int | None
) -> web.Application:
    async def pause(request: web.Request) -> web.Response:
        try:
            reason = _reason(await request.read())
        except (ValueError, web.PayloadAccessError, web.RequestPayloadError) as error:
            return _error(_BAD_REQUEST, f'{error}; send {{"reason": "words"}}, or nothing')
        if not controls.pause(reason):
            return _error(
                _NOT_KEPT, "paused, but STATE_DIR cannot be written: a restart will not remember it"
            )
        return _state(controls)

    async def resume(_: web.Request) -> web.Response:
        try:
            controls.resume()
        except OSError as error:
            return _error(_NOT_KEPT, f"still paused: STATE_DIR/paused: {error.strerror}; remove it")
        return _state(controls)

    async def reload(request: web.Request) -> web.Response:
        try:
            secrets = _digests(await request.read())
        except (ValueError, web.PayloadAccessError, web.RequestPayloadError) as error:
            return _error(
                _BAD_REQUEST, f'{error}; send {{"secrets": {{NAME: SHA-256}}}}, or nothing'
            )
        reloaded = controls.reload(secrets)
        return web.json_response(reloaded, status=_UNPROCESSABLE if reloaded["faults"] else 200)

    application = web.Application(middlewares=[_only_for(group)])
    for path, page in pages.items():
        application.router.add_get(path, page)
    application.router.add_post("/pause", pause)
    application.router.add_post("/resume", resume)
    application.router.add_post("/reload", reload)
    return application


def _only_for(group: int | None) -> Middleware:
    """Return what answers root, this worker's own user and *group* only; the file's mode agrees."""

    @web.middleware
    async def judged(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = request.transport.get_extra_info("socket") if request.transport else None
        if peer is None:
            return _error(_FORBIDDEN, "nobody asks any more")
        packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _, uid, gid = _PEER.unpack(packed)
        if uid not in {0, os.geteuid()} and group not in {gid, *_groups_of(peer)}:
            logger.warning("control: user %d was refused", uid)
            return _error(_FORBIDDEN, "only root, the worker's own user and its group may ask")
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            return _error(refusal.status, refusal.reason)

    return judged


def _groups_of(peer: socket.socket) -> tuple[int, ...]:
    """Return the groups that the process at the other end had when it connected."""
    try:
        packed = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    except OSError:  # more than that: nobody's group counts then
        return ()
    return struct.unpack(f"{len(packed) // 4}I", packed)


def _asked(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request; raise ValueError for what is none."""
    try:
        asked = json.loads(body) if body.strip() else {}
    except RecursionError:
        raise ValueError("that is nested too deep") from None
    if not isinstance(asked, dict):
        raise ValueError("that is no JSON object")  # noqa: TRY004 the caller made a mistake in words
    return asked


def _digests(body: bytes) -> dict[str, str]:
    """Return the digests in a request, by name; raise ValueError for what is none."""
    secrets = _asked(body).get("secrets", {})
    if not isinstance(secrets, dict) or not all(isinstance(each, str) for each in secrets.values()):
        raise ValueError("these are no digests")
    return secrets


def _reason(body: bytes) -> str:
    """Return the reason in a request; raise ValueError for what is none."""
    reason = _asked(body).get("reason", "")
    if not isinstance(reason, str):
        raise ValueError("that is no reason")  # noqa: TRY004 the caller made a mistake in words
    return reason


def _state(controls: Controls) -> web.Response:
    paused = controls.look().paused
    return web.json_response({"paused": paused is not None, "reason": paused})


def _error(status: int, words: str) -> web.Response:
    return web.json_response({"error": words}, status=status)
