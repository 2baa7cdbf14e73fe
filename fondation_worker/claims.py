"""What this worker has claimed, on disk: so that its next life can say that it crashed."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fondation_worker import durable
from fondation_worker.job import Token
from fondation_worker.life import Life
from fondation_worker.workspace import name_of

logger = logging.getLogger(__name__)

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where claims and results belong: a deployment, and the folder of the functions in it."""

    url: str
    functions: str


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    url: str
    functions: str
    job_id: str
    lease_token: str
    attempt: int


class Claims:
    """The claims of this life that are not settled yet."""

    def __init__(self, life: Life, deployment: Deployment) -> None:
        self._life = life
        self._deployment = deployment
        self._noted: dict[Token, Path] = {}

    def remember(self, token: Token) -> None:
        """Note the claim before its run begins; a disk that refuses costs only a slower retry."""
        record = _Record(
            version=VERSION,
            url=self._deployment.url,
            functions=self._deployment.functions,
            job_id=token.job_id,
            lease_token=token.lease_token,
            attempt=token.attempt,
        )
        try:
            directory = self._life.state() / "claims"
            durable.make(directory)
            file = directory / f"{name_of(token)}.json"
            durable.put(file, msgspec.json.encode(record))
            self._noted[token] = file
        except OSError as error:
            logger.warning("the claim is not on disk (%s): a crash would not be reported", error)

    def forget(self, token: Token) -> None:
        """Take note that the claim is settled: there is nothing to report about it any more."""
        file = self._noted.pop(token, None)
        try:
            if file:
                file.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("a settled claim stays on disk: %s", error)


def left_in(directory: Path) -> Iterator[tuple[Path, Deployment, Token]]:
    """Yield the claims that the life of *directory* has left; what cannot be read is removed."""
    for file in sorted((directory / "claims").glob("*")):
        try:
            record = msgspec.json.decode(file.read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.warning("%s: no claim that can be read: %s", file, error)
            durable.remove_quietly(file)
            continue
        yield (
            file,
            Deployment(url=record.url, functions=record.functions),
            Token(job_id=record.job_id, lease_token=record.lease_token, attempt=record.attempt),
        )
