"""Answers git's question for a private repository's token: once it is asked, for one URL only.

The token is in this process and in pipes, never in a file, an argument or an environment. Git's
helper (`credential_helper`) asks over a socket in the clone's home; only descendants of the clone's
own git are answered, and only for the host, port and path of the job's repository.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fondation_worker import credential_helper
from fondation_worker.errors import DiskTrouble
from fondation_worker.redact import Redactor
from fondation_worker.runner.process import PYTHON

logger = logging.getLogger(__name__)

TokenSource = Callable[[], Awaitable[str | None]]

USER = "x-access-token"
HELPER = "credential_helper.py"  # its name in the clone's home
# A constant: what differs is in the environment, so that no shell string is built from data.
COMMAND = '!exec "$FONDATION_PYTHON" -I -S "$FONDATION_HELPER" "$FONDATION_ASK"'
# Read once: an upgrade may put another version in its place while this process still works.
_HELPER = Path(credential_helper.__file__).read_bytes()
_NOTHING = b""  # git may not ask a person, and gives up
_PATIENCE = 30.0  # seconds for a question to arrive, or an answer to leave
_LONGEST = 65536  # bytes of a question


class Keeper:
    """Knows the token once it was asked for, and who may have it."""

    def __init__(self, url: str, home: Path, token: TokenSource) -> None:
        """Keep for the repository at *url*; *token* is called at most once, when git asks."""
        self._url, self._home, self._ask = urlsplit(url), home, token
        self._token: str | None = None
        self._asked = False
        self._known = contextlib.ExitStack()
        self.launcher: int | None = None
        """The process below which questions come from; None: nobody is answered."""
        self.failure: Exception | None = None
        """What `token` raised; the clone ends with it."""

    def environment(self) -> dict[str, str]:
        """Return what git's helper finds the way by; no secret."""
        return {
            "FONDATION_PYTHON": PYTHON,
            "FONDATION_HELPER": str(self._home / HELPER),
            "FONDATION_ASK": str(self._home),
        }

    async def serve(self, listener: socket.socket) -> None:
        """Answer one question after the other, until cancelled."""
        loop = asyncio.get_running_loop()
        with self._known:
            while True:
                peer, _ = await loop.sock_accept(listener)
                with peer:
                    if not self._may_ask(peer):
                        continue
                    try:
                        async with asyncio.timeout(_PATIENCE):
                            question = await _question(peer)
                        answer = await self._answer(question)
                        async with asyncio.timeout(_PATIENCE):
                            await loop.sock_sendall(peer, answer)
                    except OSError as error:  # TimeoutError, too: git is gone, or hangs
                        logger.warning("git's question for a token broke off: %r", error)

    def _may_ask(self, peer: socket.socket) -> bool:
        """Return whether the other end is ours, below the git that runs for this clone."""
        packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", packed)
        ours = uid == os.geteuid() and self.launcher is not None
        return ours and self.launcher in _ancestors(pid)

    async def _answer(self, question: bytes) -> bytes:
        action, _, lines = question.decode(errors="replace").partition("\n")
        asked = dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
        if not self._is_ours(asked):
            return _NOTHING
        if action == "erase":  # the server does not take it: no second try with the same
            self._token = None
        if action != "get":
            return b""
        if not self._asked:
            self._asked = True
            try:
                self._token = await self._ask()
            except Exception as error:  # noqa: BLE001 it is the clone's to raise
                self.failure = error
            self._known.enter_context(Redactor.also(self._token))
        if not self._token:
            return _NOTHING
        return f"username={USER}\npassword={self._token}\n".encode()

    def _is_ours(self, asked: dict[str, str]) -> bool:
        return (
            asked.get("protocol") == "https" == self._url.scheme
            and asked.get("host", "").lower() == self._url.netloc.lower()
            and asked.get("path", "").strip("/") == unquote(self._url.path).strip("/")
        )


@asynccontextmanager
async def kept(url: str, home: Path, token: TokenSource) -> AsyncIterator[Keeper]:
    """Answer git's questions while the body runs. Raises DiskTrouble."""
    keeper = Keeper(url, home, token)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            (home / HELPER).write_bytes(_HELPER)
            place = os.open(home, os.O_PATH | os.O_DIRECTORY)
            try:
                listener.bind(f"/proc/self/fd/{place}/{credential_helper.SOCKET}")
            finally:
                os.close(place)
        except OSError as error:
            words = f"{home}: no socket could be made: {error.strerror}"
            raise DiskTrouble(words) from error
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003 the standard library takes it so
        serving = asyncio.create_task(keeper.serve(listener))
        try:
            yield keeper
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            if not serving.cancelled():  # it ends by itself only by a fault of ours
                serving.result()


async def _question(peer: socket.socket) -> bytes:
    loop, question = asyncio.get_running_loop(), b""
    while len(question) < _LONGEST and (chunk := await loop.sock_recv(peer, _LONGEST)):
        question += chunk
    return question


def _ancestors(pid: int) -> set[int]:
    """Return the process ids from *pid* up to the first process."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it is gone: then it needs no answer
        while pid > 0 and pid not in found:
            found.add(pid)
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            pid = int(stat[stat.rindex(b")") + 2 :].split()[1])
    return found
