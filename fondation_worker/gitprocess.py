"""Runs one git command over a hostile repository, and reads from its complaint why it failed.

No configuration counts but ours, git never asks a question, and it works under the launcher, so
that a time limit or a lost lease kills it with its helpers.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import git

from fondation_worker import credential
from fondation_worker.credential import Keeper
from fondation_worker.errors import (
    CloneFailed,
    DiskTrouble,
    InvalidJob,
    JobError,
    RefMissing,
    RepositoryMissing,
    TooLarge,
)
from fondation_worker.redact import Redactor
from fondation_worker.runner.process import COMPLAINT_LIMIT, KILL_LIMIT, launched
from fondation_worker.settings import MOST_SLOTS
from fondation_worker.tidy import to_the_end
from fondation_worker.words import last_words

# Threads of git's own: those that the event loop shares resolve host names, which heartbeats need.
THREADS = ThreadPoolExecutor(max_workers=2 * MOST_SLOTS, thread_name_prefix="git")

FILE_LIMIT = 16 * 1024 * 1024 * 1024  # bytes of one file that git writes, at most
ALLOCATION_LIMIT = 1024 * 1024 * 1024  # bytes that git may ask for at once
STREAMED = 16 * 1024 * 1024  # bytes; a larger file goes through git in pieces
_WATCH = 0.25  # seconds between two looks at how git gets on
_CHUNK = 65536  # bytes
_STALL = 60  # seconds without a byte after which git itself gives up
_WORDS = 500  # characters of git's complaint that a job is told

_MISSING = re.compile(
    r"repository .* not found|does not appear to be a git repository"
    r"|could not read (Username|Password)|Authentication failed"
    r"|returned error: 40[134]|terminal prompts disabled|access denied",
    re.IGNORECASE,
)
_NO_REF = re.compile(
    r"couldn't find remote ref|not our ref|unadvertised object|no such remote ref|bad object",
    re.IGNORECASE,
)
_DISK = re.compile(
    r"No space left|Read-only file system|Disk quota exceeded|Input/output error"
    r"|Out of diskspace|unable to write file"  # git's own words for a write that came short
    r"|failed to write new configuration file",
    re.IGNORECASE,
)
_OVER_ALLOCATION_LIMIT = re.compile(r"attempting to allocate \d+ over limit")
_NO_PATH = re.compile(r"invalid path '")
# What the server's end says: whatever it likes.
_SERVERS = re.compile(r"^(?:remote|fatal: remote error): .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and for what git runs."""

    url: str
    tree: Path
    home: Path
    keeper: Keeper | None  # of the token; None where there is none to ask for


async def run_git(
    place: Place,
    *arguments: str,
    file_limit: int = FILE_LIMIT,
    watch: Callable[[], None] = lambda: None,
    output: Callable[[bytes], None] = lambda _: None,
) -> None:
    """Run one git command in the tree; raise what its failure means. On cancel it is killed.

    *watch* is called now and then, and at the end; *output* with what git prints, in a thread. What
    they raise, and what the asking for a token raised, kills git and is raised. No file that git
    writes grows over *file_limit* bytes.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = _start(place, arguments, theirs, file_limit)
        if place.keeper:
            place.keeper.launcher = process.pid
        loop = asyncio.get_running_loop()
        printed = loop.run_in_executor(THREADS, _pass_on, process, output)
        done = loop.run_in_executor(THREADS, _complaint_of, process)
        try:
            while not done.done():
                await asyncio.wait([done], timeout=_WATCH)
                watch()
                if place.keeper and place.keeper.failure:
                    raise place.keeper.failure
                if printed.done():
                    printed.result()
            await printed
        finally:
            if place.keeper:
                place.keeper.launcher = None
            ours.shutdown(socket.SHUT_WR)  # the launcher kills what still runs
            await to_the_end(_ended(done))
        report = json.loads(ours.makefile().readline() or '{"status": null}')
    if report["status"] != 0:
        raise _failure(place.url, done.result(), report["status"])


def _start(
    place: Place, arguments: tuple[str, ...], lifeline: socket.socket, file_limit: int
) -> git.Git.AutoInterrupt:
    """Start git under the launcher. Raises DiskTrouble."""
    command = ("git", *_options(place), *arguments)
    launch = launched(command, lifeline, file_limit=file_limit)
    try:
        return git.Git(place.tree).execute(
            list(launch.argv),
            as_process=True,
            env=_environment(place),
            pass_fds=launch.descriptors,
            start_new_session=True,
            istream=subprocess.DEVNULL,
        )
    except git.GitCommandNotFound as error:
        raise DiskTrouble(f"git could not be started: {error.stderr.strip()}") from error


def _pass_on(process: git.Git.AutoInterrupt, output: Callable[[bytes], None]) -> None:
    """Give *output* what git prints, as it comes."""
    with process.stdout as stream:
        while chunk := stream.read1(_CHUNK):
            output(chunk)


async def _ended(done: asyncio.Future[str]) -> None:
    """Wait for git's thread, but not for ever: an orphan may hold what it reads."""
    await asyncio.wait([done], timeout=KILL_LIMIT)
    if not done.done():
        raise CloneFailed("git does not end, although it was killed")


def _complaint_of(process: git.Git.AutoInterrupt) -> str:
    """Wait until git has ended; return the end of its standard error, which a server may fill."""
    complaint = b""
    with process.stderr as stream:
        while chunk := stream.read1(COMPLAINT_LIMIT):
            complaint = (complaint + chunk)[-COMPLAINT_LIMIT:]
        with contextlib.suppress(git.GitCommandError):  # the launcher's report tells more
            process.wait()
    return complaint.decode(errors="replace")


def _options(place: Place) -> list[str]:
    """Return the configuration of every git call; there is no other."""
    settings = {
        "core.bigFileThreshold": str(STREAMED),
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        "core.protectHFS": "true",  # refuse what another file system would take for `.git`
        "core.protectNTFS": "true",
        "core.symlinks": "false",
        "credential.helper": "",
        "credential.useHttpPath": "true",
        "fetch.unpackLimit": "1",  # always one pack, however few objects: its file has a limit
        "gc.auto": "0",
        "http.followRedirects": "initial",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(_STALL),
        "init.defaultBranch": "main",
        "protocol.allow": "never",
        f"protocol.{place.url.partition(':')[0]}.allow": "always",
        "submodule.recurse": "false",
        "transfer.bundleURI": "false",
    }
    pairs = [*settings.items()]
    if place.keeper:
        pairs.append(("credential.helper", credential.COMMAND))
    return [part for name, value in pairs for part in ("-c", f"{name}={value}")]


def _environment(place: Place) -> dict[str, str]:
    """Return what git sees beside the allow-listed rest of this process's environment.

    Raises DiskTrouble.
    """
    own_settings = Path(os.devnull)
    if place.url.startswith("file:"):  # who allowed local ones wants others', too
        own_settings = place.home / "gitconfig"
        try:
            own_settings.write_text("[safe]\n\tdirectory = *\n", encoding="utf-8")
        except OSError as error:
            raise DiskTrouble(f"{own_settings}: cannot be written: {error.strerror}") from error
    return {
        "HOME": str(place.home),
        "GIT_ALLOC_LIMIT": str(ALLOCATION_LIMIT),  # a directory can be one object of any size
        "GIT_ASKPASS": "",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(own_settings),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS": "",
    } | (place.keeper.environment() if place.keeper else {})


def _failure(url: str, complaint: str, status: int | None) -> JobError:
    """Return what git's *complaint* means for the job."""
    own = _SERVERS.sub("", complaint)  # the server's disk is not ours
    words, said = _shown(own), _shown(" ".join(_SERVERS.findall(complaint)))
    if _DISK.search(own):
        return DiskTrouble(f"git: {words}", said=said)
    if _OVER_ALLOCATION_LIMIT.search(own):
        return TooLarge(
            f"the repository has a directory or a commit of more than {ALLOCATION_LIMIT} bytes"
        )
    if _NO_PATH.search(own):
        return InvalidJob(f"the repository has a file that git does not write: {words}")
    if _NO_REF.search(complaint):
        return RefMissing(words, said=said)
    if _MISSING.search(complaint):
        return RepositoryMissing(
            f"{url}: there is no such repository, or this worker may not read it"
        )
    return CloneFailed(f"git ended with status {status}: {words or 'no word'}", said=said)


def _shown(complaint: str) -> str:
    """Return what of a complaint is told, on one line."""
    # Redacted here: every redactor knows the token, but only while the clone lasts.
    return last_words(Redactor([])(" ".join(complaint.split())), _WORDS)
