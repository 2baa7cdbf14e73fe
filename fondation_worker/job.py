"""A claimed job: parsed once from what `queue:claim` answered, frozen from then on."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from fondation_worker.errors import InvalidJob

STATUSES = (
    *("pending", "claimed", "cloning", "analyzing", "gathering", "completed", "dead", "canceled"),
    *("running", "failed"),  # written by front ends of the earlier worker only
)

_REF = re.compile(
    r"(?!/|@$|-)"  # not at the start: a slash, an option; not "@" alone
    r"(?!.*(?:^|/)\.)"  # no component starts with a dot
    r"(?!.*(?:\.\.|//|@\{))"
    r"[^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]+"
    r"(?<![./])"  # nor ends with a dot or a slash
)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}")
_NO_NAME = re.compile(r"[\x00\ud800-\udfff]")
_UNFIT = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")  # blanks, controls, and what UTF-8 has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What proves a claim: the three arguments of every call about a claimed job."""

    job_id: str
    lease_token: str = field(repr=False)
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to analyse, checked: nothing in it can be taken for an option, or leave its place."""

    url: str
    ref: str | None  # a branch or tag; None is the remote's default branch
    commit: str | None  # full and lower-case; rules over `ref`
    subdirectory: str  # "" is the whole repository


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One claimed job, as Convex described it. Unknown fields are ignored, so Convex may grow."""

    id: str
    attempt: int  # the ordinal of this claim; only grows
    attempts: int  # those spent before this one
    max_attempts: int
    prompt: str
    repository: str  # for people: owner/name, or the clone URL
    clone_url: str
    ref: str | None = None
    commit: str | None = None
    subdirectory: str | None = None
    model: str | None = None
    timeout_ms: float | None = None
    priority: int = 0
    due_at: float | None = None  # milliseconds since the epoch, by Convex's clock

    @classmethod
    def from_document(cls, document: object) -> "Job":
        """Parse the `job` of a claim's answer; raise InvalidJob naming the field that is wrong."""
        try:
            return msgspec.convert(document, cls, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidJob(f"Convex described the job wrongly: {error}") from error

    def chosen_model(self) -> str | None:
        """Return the model that the job names, if it names one; raise InvalidJob for no name."""
        return _checked("model", self.model, _MODEL, "the name of a model")

    def time_limit(self, worker_limit: float) -> float:
        """Return the seconds that this job may take: the smaller of its own and the worker's."""
        return (
            worker_limit if self.timeout_ms is None else min(worker_limit, self.timeout_ms / 1000)
        )

    def source(self, *, allow_local: bool) -> Source:
        """Return where the repository is; raise InvalidJob for what this worker must not fetch."""
        return Source(
            url=_checked_url(self.clone_url, allow_local=allow_local),
            ref=_checked("ref", self.ref, _REF, "a branch or tag name"),
            commit=_checked("commit", self.commit, _COMMIT, "a full commit id"),
            subdirectory=_checked_subdirectory(self.subdirectory or ""),
        )


def _checked_url(url: str, *, allow_local: bool) -> str:
    """Return *url* if git may be given it."""
    if _UNFIT.search(url):
        raise InvalidJob("cloneUrl: has blanks, control characters or halves of a character")
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError as error:  # its words may quote a password, where no redactor looks for one
        raise InvalidJob("cloneUrl: is no URL: its host or port cannot be read") from error
    if parts.scheme == "file" and allow_local and not parts.netloc and parts.path.startswith("/"):
        return url
    if parts.scheme != "https" or not host:
        hint = "; file:/// needs ALLOW_LOCAL_REPOSITORIES=1" if parts.scheme == "file" else ""
        raise InvalidJob(f"cloneUrl: only https://HOST/PATH is fetched{hint}")
    if user is not None or "@" in parts.netloc:
        raise InvalidJob("cloneUrl: must not carry a user name or a password")
    return url


def _checked(name: str, value: str | None, pattern: re.Pattern[str], what: str) -> str | None:
    """Return *value* when it is missing or all of it matches."""
    if value is None or (pattern.fullmatch(value) and not value.endswith(".lock")):
        return value
    raise InvalidJob(f"{name}: {value[:100]!r} is not {what}")


def _checked_subdirectory(path: str) -> str:
    """Return *path* if it is a plain relative path that stays below the repository's top."""
    parts = path.rstrip("/").split("/") if path else []
    if any(part in {"", ".", "..", ".git"} for part in parts) or re.search(_NO_NAME, path):
        raise InvalidJob(f"subdirectory: {path[:100]!r} is not a path inside the repository")
    return "/".join(parts)
