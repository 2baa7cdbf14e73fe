"""Calls Convex functions over its documented HTTP API; the only module that knows it.

Values and `ConvexError` are those of the official `convex` package. Its clients are not used here:
the socket client holds the interpreter lock during a call, and neither has a time limit
(docs/why.md). One pool of kept-alive connections serves all calls.
"""

import asyncio
import base64
import hashlib
import io
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from convex.values import convex_to_json, json_to_convex

from fondation_worker import __version__
from fondation_worker.clock import boottime
from fondation_worker.errors import FunctionFailed, LeaseLost, NotStaged, Refused, Unreachable
from fondation_worker.trouble import Trouble

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
Called = Callable[[str, str, float], None]
"""Takes what was called, how it came out (`metrics.CONVEX_OUTCOMES`) and how many seconds it took.
"""

NOT_ASKED = "not asked yet"
KEY_REFUSED = (
    "it refuses this worker's key (WORKER_KEY), whose SHA-256 must stand in the deployment's"
    " FONDATION_WORKER_KEY_SHA256"
)
CONNECT_LIMIT = 5.0  # seconds
FIRST_WAIT = 0.2  # seconds before a call whose outcome is unknown is repeated; then doubling
LONGEST_WAIT = 15.0
CALL_LIMIT = 30.0  # seconds: Convex retries conflicts itself for up to about 15 s

# A production deployment tells only "Server Error", for a fault of the moment as for a function
# that does not know an argument: these cannot be told apart, so both are asked again.
_DEPLOYED = (
    "should it stay so: are the functions deployed under CONVEX_FUNCTIONS, and as new as this"
    " worker? The deployment's log says more"
)

# A deployment for development quotes what it was sent: a lease's token, or a document.
_QUOTED = re.compile(r"\s*^(?:Object|Value|Validator): .*", re.MULTILINE | re.DOTALL)


class Convex:
    """One deployment's functions, called by path. Made by `connect`.

    Redirects are not followed: the key would go where they lead.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        functions: str,
        called: Called = lambda *_: None,
    ) -> None:
        self._called = called
        self._session = session
        self._url = url
        self._functions = functions
        self._trouble = Trouble(NOT_ASKED, boottime())
        self.first_contact = asyncio.Event()  # made, or found impossible
        self.is_unreachable = False  # the last call was not answered, not even with an error
        self.silences = 0  # how many calls Convex did not answer, not even with an error

    @property
    def trouble(self) -> str | None:
        """Why Convex does not do what it is asked; None: it does."""
        return self._trouble.words

    @property
    def troubled_since(self) -> float:
        """Since when, in seconds on `boottime`, where there is trouble."""
        return self._trouble.since

    @property
    def answered(self) -> float | None:
        """When it last did what it was asked, in seconds on `boottime`."""
        return self._trouble.well

    async def query(self, path: str, arguments: Mapping[str, Any]) -> Any:
        """Return what query *path* answers. Raises like `mutation`."""
        return await self._call("query", path, arguments)

    async def mutation(
        self, path: str, arguments: Mapping[str, Any], *, aside: bool = False
    ) -> Any:
        """Return what mutation *path* answers; what becomes of one *aside* is hardly `trouble`.

        Raises LeaseLost, NotStaged or Refused for the protocol's errors, and Unreachable for
        everything else: then the mutation may have been carried out all the same.
        """
        return await self._call("mutation", path, arguments, aside=aside)

    async def _call(
        self, kind: str, path: str, arguments: Mapping[str, Any], *, aside: bool = False
    ) -> Any:
        body = {"path": self._functions + path, "format": "json", "args": [_encode(arguments)]}
        try:
            with self._measured(path):
                answer = await self._post(f"{self._url}/api/{kind}", body, what=path)
                value = _value(path, answer)
        except Unreachable as error:
            self._trouble.meet(str(error), boottime(), aside=aside)
            raise
        except Refused as error:
            if error.code == "unauthorized":
                self._trouble.meet(KEY_REFUSED, boottime())
            else:
                self._trouble.end(boottime())
            raise
        except LeaseLost:
            self._trouble.end(boottime())
            raise
        finally:
            self.first_contact.set()
        self._trouble.end(boottime(), aside=aside)
        return value

    @contextmanager
    def _measured(self, what: str) -> Iterator[None]:
        """Tell how the body came out, and how long it took."""
        begun, outcome = boottime(), "unreachable"  # a cancelled call had no answer either
        try:
            yield
            outcome = "ok"
        except LeaseLost:
            outcome = "lease_lost"
            raise
        except NotStaged:  # no failure: `complete` is offered first, and says what to stage
            outcome = "ok"
            raise
        except Refused:
            outcome = "refused"
            raise
        except FunctionFailed:
            outcome = "failed"
            raise
        finally:
            self._called(what, outcome, boottime() - begun)

    async def _post(self, url: str, body: Mapping[str, Any], *, what: str) -> dict[str, Any]:
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._is_silent()
            raise Unreachable(f"{what}: no answer from Convex: {_words(error)}") from error
        try:
            answer = json.loads(
                text, parse_int=float
            )  # Convex has floats only, however they are printed
        except ValueError as error:
            self._is_silent()
            raise Unreachable(
                f"{what}: status {response.status}, and not a Convex answer"
            ) from error
        self.is_unreachable = False
        if not isinstance(answer, dict) or "status" not in answer:
            reason = (
                f"{answer.get('code')}: {answer.get('message')}" if isinstance(answer, dict) else ""
            )
            raise Unreachable(f"{what}: status {response.status} {reason[:500]}")
        return answer

    def _is_silent(self) -> None:
        self.silences += 1
        self.is_unreachable = True

    async def upload(self, url: str, content: bytes) -> str:
        """Store *content* at the upload *url* that a function gave out; return its storage id.

        Its digest goes along, so that Convex refuses what arrives torn. Raises Unreachable.
        """
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        headers = {
            "Content-Type": "text/markdown; charset=utf-8",
            "Digest": f"sha-256={digest}",
        }
        with self._measured("upload"):
            return await self._upload(url, content, headers)

    async def _upload(self, url: str, content: bytes, headers: Mapping[str, str]) -> str:
        limit = aiohttp.ClientTimeout(total=120, connect=CONNECT_LIMIT)
        try:
            async with self._session.post(
                url, data=io.BytesIO(content), headers=headers, timeout=limit, allow_redirects=False
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"upload: {_words(error)}") from error
        try:
            return str(json.loads(text)["storageId"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"upload: status {response.status}, and no storage id") from error

    async def download(self, url: str) -> AsyncIterator[bytes]:
        """Give the content of the file at *url*, piece by piece. Raises Unreachable."""
        limit = aiohttp.ClientTimeout(total=None, connect=CONNECT_LIMIT, sock_read=CALL_LIMIT)
        try:
            async with self._session.get(url, timeout=limit) as response:
                if response.status != HTTPStatus.OK:
                    raise Unreachable(f"download: status {response.status}")
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"download: {_words(error)}") from error


@asynccontextmanager
async def connect(
    url: str, functions: str, called: Called = lambda *_: None
) -> AsyncIterator[Convex]:
    """Give the functions of the deployment at *url* in folder *functions*; close the pool after.

    Each call is told to *called*.
    """
    limit = aiohttp.ClientTimeout(total=CALL_LIMIT, connect=CONNECT_LIMIT)
    headers = {"Convex-Client": f"fondation-worker-{__version__}"}
    async with aiohttp.ClientSession(timeout=limit, headers=headers, trust_env=True) as session:
        yield Convex(session, url, functions, called)


async def until_answered(
    call: Callable[[], Awaitable[_Answer]],
    *,
    deadline: Callable[[], float] | None = None,
    patient: bool = False,
) -> _Answer:
    """Return the answer of *call*, repeating it while its outcome is unknown.

    *patient* also sits out a refused key: an operator may be changing keys, and what is handed in
    must not be lost to that. Raises LeaseLost when *deadline* (seconds on `boottime`; it may move)
    passes first.
    """
    tries = 0
    while True:
        try:
            return await call()
        except Unreachable as error:
            trouble: Exception = error
        except Refused as error:
            if not (patient and error.code == "unauthorized"):
                raise
            trouble = error
        tries += 1
        if tries in {1, 5} or tries % 20 == 0:
            logger.warning("%s; asking again (try %d)", trouble, tries + 1)
        wait = wait_before(tries)
        if deadline is not None and boottime() + wait >= deadline():
            raise LeaseLost("expired")
        await asyncio.sleep(wait)


def wait_before(tries: int) -> float:
    """Return the seconds to wait after *tries* tries (from 1), doubling, bounded, jittered."""
    wait: float = min(FIRST_WAIT * 2 ** min(tries - 1, 16), LONGEST_WAIT)
    return wait * random.uniform(0.5, 1)  # noqa: S311 jitter, not a secret


def _encode(arguments: Mapping[str, Any]) -> Any:
    """Return *arguments* as Convex's JSON; a None is left out, as an optional argument wants it."""
    return convex_to_json({name: value for name, value in arguments.items() if value is not None})


def _value(path: str, answer: dict[str, Any]) -> Any:
    """Return the value in *answer*; raise what it refuses with, or Unreachable for no answer."""
    try:
        if answer.get("status") == "success":
            return json_to_convex(answer.get("value"))
        refusal = _refusal(path, json_to_convex(answer["errorData"]))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        said = str(answer.get("errorMessage") or "what cannot be read")
        words = _QUOTED.sub("", said)[:500]
        raise FunctionFailed(f"{path}: Convex answered: {words}; {_DEPLOYED}") from error
    raise refusal


def _refusal(path: str, data: Any) -> Exception:
    """Return the exception for a ConvexError's *data*."""
    if not isinstance(data, dict):
        return Refused("error", f"{path}: {str(data)[:500]}")
    match data.get("code"):
        case "lease_lost":
            return LeaseLost(str(data.get("reason", "expired")))
        case "not_staged" if isinstance(data.get("missing"), list):
            return NotStaged(tuple(int(index) for index in data["missing"]))
        case code:
            words = [str(data[key]) for key in ("field", "message") if data.get(key)]
            return Refused(str(code), ": ".join([path, *words])[:500])


def _words(error: BaseException) -> str:
    """Return *error* in words; some of the library's have none."""
    return str(error) or type(error).__name__
