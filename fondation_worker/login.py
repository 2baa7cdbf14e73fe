"""A login of the Claude CLI, in the directory where the CLI keeps it: until when it can be used.

It is an access token, good for some hours, and a refresh token that serves once: the CLI renews
both where they lie. Where this user may not write, as in a volume that is mounted read-only, what a
renewal brings could not be kept, and the login would be lost for everybody who shares it. There a
run is given the access token alone, and nothing is renewed.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from fondation_worker import advice
from fondation_worker.config import Credential
from fondation_worker.errors import CredentialRefused
from fondation_worker.sources import TOKEN_KIND
from fondation_worker.words import length

FILE = ".credentials.json"
_TIMES = ("expiresAt", "refreshTokenExpiresAt")  # milliseconds; what is not said has no end
MOST_RESERVE = 3600.0  # seconds that an access token must still be good for when a job begins


class Unusable(Exception):
    """There is no login that this user could use: why, in *words*, and what to do."""

    def __init__(self, words: str, how: str) -> None:
        super().__init__(f"{words}; {how}")
        self.words = words
        self.how = how


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What the CLI has written of a login. Times are seconds since the epoch, or infinite."""

    directory: Path
    token: str = field(repr=False)
    good_until: float  # the access token
    renewable_until: float | None  # None: there is no refresh token
    is_kept: bool  # whether the CLI may write here what it renews

    @property
    def until(self) -> float:
        """When it ends here, unless somebody logs in again."""
        if self.is_kept and self.renewable_until is not None:
            return self.renewable_until
        return self.good_until

    @property
    def hindrance(self) -> str | None:
        """Why nobody renews it here, in words; None: the CLI does."""
        if not self.is_kept:
            return "it is not renewed where this worker may only read"
        return "it has no refresh token" if self.renewable_until is None else None

    def trouble(self, *, now: float, reserve: float) -> str | None:
        """Return why no job should begin: who renews it, if *reserve* seconds are not left."""
        left, hindrance = self.until - now, self.hindrance
        if hindrance is None or left > reserve:
            return None
        state = f"expired {length(abs(left))} ago"
        if left > 0:
            state = f"expires in {length(left)}, sooner than a job may end"
        where = f"the login in {str(self.directory)!r}"
        return f"{where} {state}, and {hindrance}; {advice.to_log_in(self.directory)}"


def read_login(directory: Path) -> Login:
    """Return the login in *directory*; raise Unusable."""
    file = directory / FILE
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))["claudeAiOauth"]
        good, renewable = (_time(kept.get(name)) for name in _TIMES)
        login = Login(
            directory=directory,
            token=_token(kept["accessToken"]),
            good_until=good,
            renewable_until=renewable if kept.get("refreshToken") else None,
            is_kept=all(os.access(path, os.W_OK) for path in (directory, file)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(error, directory) from None
    return login


def for_a_run(credential: Credential) -> Credential:
    """Return what a run of the CLI is given: of a login that cannot be renewed, its access token.

    Raises CredentialRefused.
    """
    if not credential.is_login:
        return credential
    try:
        login = read_login(Path(credential.value))
    except Unusable as trouble:
        raise CredentialRefused(str(trouble)) from None
    return credential if login.is_kept else Credential(kind=TOKEN_KIND, value=login.token)


def why_not(credential: Credential, *, now: float, reserve: float) -> str | None:
    """Return why no job should begin with *credential*, or None.

    A login that cannot be renewed here must be good for *reserve* seconds more, an hour at most:
    what a run has cost until it ends would be lost. What else is wrong with one a run tells.
    """
    if not credential.is_login:
        return None
    try:
        login = read_login(Path(credential.value))
    except Unusable as trouble:
        return str(trouble)
    return login.trouble(now=now, reserve=min(reserve, MOST_RESERVE))


def _time(written: object) -> float:
    """Return the seconds of a time in the file; infinite if there is none. Raises ValueError."""
    seconds = float(str(written or "inf")) / 1000  # as text: of 400 digits it is infinite, too
    if not seconds >= 0:  # no time before 1970, and no NaN, which JSON as Python reads it has
        raise ValueError("that is no time")
    return seconds


def _token(text: str) -> str:
    """Return *text* if an environment can hold it; raise ValueError."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("that is no token")
    return text


def _unusable(error: Exception, directory: Path) -> Unusable:
    """Return why there is no login in *directory* to use, and what to do."""
    file = str(directory / FILE)
    match error:
        case PermissionError():
            words = f"user {os.geteuid()} may not read the login {file!r}"
            return Unusable(words, advice.to_open(directory))
        case FileNotFoundError():
            words = f"there is no login of the Claude CLI in {str(directory)!r}"
        case OSError():
            words = f"the login {file!r} cannot be read: {error.strerror}"
        case _:
            words = f"{file!r} holds no login that can be read"
    return Unusable(words, advice.to_log_in(directory))
