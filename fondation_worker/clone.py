"""Fetches one commit of a repository; the only module that knows git.

A repository is hostile until proven otherwise. Nothing of it runs: no hooks, no filters, no
submodules, no configuration but ours, and symbolic links are checked out as small text files, so
that none leads out of the tree. Git never asks a question, and works under the launcher, so that
a time limit or a lost lease kills it with its helpers.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import git

from fondation_worker import credential
from fondation_worker.credential import Keeper, TokenSource
from fondation_worker.errors import (
    CloneFailed,
    DiskTrouble,
    RefMissing,
    RepositoryEmpty,
    RepositoryMissing,
    TooLarge,
)
from fondation_worker.job import Source
from fondation_worker.runner.process import COMPLAINT_LIMIT, KILL_LIMIT, launched
from fondation_worker.settings import MOST_SLOTS
from fondation_worker.tidy import to_the_end
from fondation_worker.treesize import Limits, TreeJudge

logger = logging.getLogger(__name__)

# Threads of git's own: those that the event loop shares resolve host names, which heartbeats need.
_THREADS = ThreadPoolExecutor(max_workers=2 * MOST_SLOTS, thread_name_prefix="git")

_FETCHED = "refs/fondation/fetched"
FILE_LIMIT = 16 * 1024 * 1024 * 1024  # bytes; a pack is one file
_WATCH = 0.25  # seconds between two looks at how much was fetched
_CHUNK = 65536  # bytes
_STALL = 60  # seconds without a byte after which git itself gives up

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
_DISK = re.compile(r"No space left|Read-only file system|Disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit's files on disk."""

    commit: str
    directory: Path  # where the analysis looks: the tree, or the subdirectory asked for
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where and for what git runs."""

    source: Source
    tree: Path
    home: Path
    limits: Limits
    keeper: Keeper | None  # of the token; None where there is none to ask for


async def clone(
    source: Source,
    tree: Path,
    *,
    home: Path,
    time_limit: float,
    limits: Limits,
    token: TokenSource | None = None,
) -> Checkout:
    """Fetch what *source* names into *tree*, without history; take at most *time_limit* seconds.

    *token* is called when the server wants a credential, once. Raises RepositoryMissing,
    RefMissing, RepositoryEmpty, TooLarge, InvalidJob, CloneFailed, DiskTrouble, or what *token*
    raised. On cancel, git and its helpers are dead before the cancellation goes on.
    """
    try:
        async with asyncio.timeout(time_limit), _keeper(source, home, token) as keeper:
            place = _Place(source=source, tree=tree, home=home, limits=limits, keeper=keeper)
            await _git(place, "init", "--quiet", str(tree))
            await _fetch(place)
            judge = TreeJudge(limits)
            await _git(place, "ls-tree", "-r", "-t", "-l", "-z", _FETCHED, output=judge.feed)
            await _git(place, "checkout", "--quiet", "--detach", _FETCHED)
    except TimeoutError:
        raise CloneFailed(f"the clone took longer than {time_limit:g} s (CLONE_TIMEOUT)") from None
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_THREADS, _settle, source, tree)


@asynccontextmanager
async def _keeper(
    source: Source, home: Path, token: TokenSource | None
) -> AsyncIterator[Keeper | None]:
    if token is None or not source.url.startswith("https:"):
        yield None
        return
    async with credential.kept(source.url, home, token) as keeper:
        yield keeper


async def _fetch(place: _Place) -> None:
    """Fetch the one commit: by its id, as a branch, as a tag, or as the remote's default."""
    source = place.source
    wanted = [source.commit or "HEAD"]
    if source.ref and not source.commit:
        wanted = [f"refs/heads/{source.ref}", f"refs/tags/{source.ref}"]
    for position, name in enumerate(wanted, start=1):
        try:
            await _git(
                place, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-progress",
                "--no-recurse-submodules", "--no-write-fetch-head", "--end-of-options",
                source.url, f"+{name}:{_FETCHED}",
                watch=lambda: _watch_size(place),
            )  # fmt: skip
        except RefMissing:
            if position < len(wanted):
                continue
            if source.ref is None and source.commit is None:
                raise RepositoryEmpty(
                    "the repository has no commit on its default branch"
                ) from None
            missing = (
                f"commit {source.commit}" if source.commit else f"branch or tag {source.ref!r}"
            )
            raise RefMissing(f"the repository has no {missing}") from None
        else:
            return


def _settle(source: Source, tree: Path) -> Checkout:
    """Read what was fetched, then drop git's own files: a tool might use them."""
    with git.Repo(tree) as repository:  # reads a file; starts no process
        commit = git.SymbolicReference.dereference_recursive(repository, "HEAD")
    if source.commit and commit != source.commit:
        raise CloneFailed(f"asked for commit {source.commit}, got {commit}")
    shutil.rmtree(tree / ".git")
    directory = tree / source.subdirectory
    if not directory.is_dir():
        raise RefMissing(f"commit {commit} has no directory {source.subdirectory!r}")
    files = _count_files(directory)
    if not files:
        raise RepositoryEmpty(f"commit {commit} has no file to analyse")
    return Checkout(commit=commit, directory=directory, files=files)


def _count_files(directory: Path) -> int:
    """Return how many files are below *directory*; without recursion, for trees of any depth."""
    found, left = 0, [os.fspath(directory)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    found += 1
    return found


def _watch_size(place: _Place) -> None:
    """Raise TooLarge when more was fetched than a repository may have."""
    fetched = _bytes_below(place.tree / ".git" / "objects")
    if fetched > place.limits.size:
        raise TooLarge(f"more than {place.limits.size} bytes were fetched (REPOSITORY_SIZE_LIMIT)")


def _bytes_below(directory: Path) -> int:
    """Return the size of the files below *directory*, which git is writing."""
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it has its final name by now
                size += os.lstat(Path(parent, name)).st_size
    return size


async def _git(
    place: _Place,
    *arguments: str,
    watch: Callable[[], None] = lambda: None,
    output: Callable[[bytes], None] = lambda _: None,
) -> None:
    """Run one git command in the tree; raise what its failure means. On cancel it is killed.

    *watch* is called now and then, and at the end; *output* with what git prints, in a thread. What
    they raise kills git, and is raised.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            options = _options(place)
            argv = launched(("git", *options, *arguments), theirs, file_limit=FILE_LIMIT)
            process = git.Git(place.tree).execute(
                list(argv),
                as_process=True,
                env=_environment(place),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                istream=subprocess.DEVNULL,
            )
        if place.keeper:
            place.keeper.launcher = process.pid
        loop = asyncio.get_running_loop()
        printed = loop.run_in_executor(_THREADS, _pass_on, process, output)
        done = loop.run_in_executor(_THREADS, _complaint_of, process)
        try:
            while not done.done():
                await asyncio.wait([done], timeout=_WATCH)
                watch()
                if printed.done():
                    printed.result()
            await printed
        finally:
            if place.keeper:
                place.keeper.launcher = None
            ours.shutdown(socket.SHUT_WR)  # the launcher kills what still runs
            await to_the_end(_ended(done))
        report = json.loads(ours.makefile().readline() or '{"status": null}')
    if place.keeper and place.keeper.failure:
        raise place.keeper.failure
    if report["status"] != 0:
        raise _failure(place.source, done.result(), report["status"])


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


def _options(place: _Place) -> list[str]:
    """Return the configuration of every git call; there is no other."""
    settings = {
        "core.hooksPath": os.devnull,
        "core.symlinks": "false",
        "core.fsmonitor": "false",
        "credential.helper": "",
        "credential.useHttpPath": "true",
        "gc.auto": "0",
        "http.followRedirects": "initial",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(_STALL),
        "init.defaultBranch": "main",
        "protocol.allow": "never",
        f"protocol.{place.source.url.partition(':')[0]}.allow": "always",
        "submodule.recurse": "false",
        "transfer.bundleURI": "false",
    }
    pairs = [*settings.items()]
    if place.keeper:
        pairs.append(("credential.helper", credential.COMMAND))
    return [part for name, value in pairs for part in ("-c", f"{name}={value}")]


def _environment(place: _Place) -> dict[str, str]:
    """Return what git sees beside the allow-listed rest of this process's environment."""
    own_settings = Path(os.devnull)
    if place.source.url.startswith("file:"):  # who allowed local ones wants others', too
        own_settings = place.home / "gitconfig"
        own_settings.write_text("[safe]\n\tdirectory = *\n", encoding="utf-8")
    return {
        "HOME": str(place.home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(own_settings),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ATTR_NOSYSTEM": "1",
    } | (place.keeper.environment() if place.keeper else {})


def _failure(source: Source, complaint: str, status: int | None) -> Exception:
    """Return what git's *complaint* means for the job."""
    words = " ".join(complaint.split())[-500:]
    if _DISK.search(complaint):
        return DiskTrouble(f"git: {words}")
    if _NO_REF.search(complaint):
        return RefMissing(words)
    if _MISSING.search(complaint):
        return RepositoryMissing(
            f"{source.url}: there is no such repository, or this worker may not read it"
        )
    return CloneFailed(f"git ended with status {status}: {words}")
