"""Fetches one commit of a repository, and checks it out once it was judged.

A repository is hostile until proven otherwise. Nothing of it runs: no hooks, no filters, no
submodules, no configuration but ours; symbolic links are checked out as small text files, so that
none leads out of the tree, and every file as the very bytes that the commit has.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
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
    TooLarge,
)
from fondation_worker.gitprocess import THREADS, Place, run_git
from fondation_worker.job import Source
from fondation_worker.treesize import Limits, TreeJudge

_FETCHED = "refs/fondation/fetched"
_OVERSHOOT = 1024 * 1024  # bytes that a pack may pass the limit by before git is stopped
# Before what the repository says of itself: a conversion would multiply what was judged by bytes.
_ATTRIBUTES = "* -text -ident !eol !filter !working-tree-encoding\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit's files on disk."""

    commit: str
    directory: Path  # where the analysis looks: the tree, or the subdirectory asked for
    files: int
    size: int  # bytes of the commit's files


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
            place = Place(url=source.url, tree=tree, home=home, keeper=keeper)
            await run_git(place, "init", "--quiet", "--template=", str(tree))
            _overrule_attributes(tree)
            await _fetch(place, source, limits)
            judge = TreeJudge(limits)
            await run_git(place, "ls-tree", "-r", "-t", "-l", "-z", _FETCHED, output=judge.feed)
            # Not by `git checkout`: that one may leave files out, and end with 0 (seen with 2.39).
            await run_git(place, "reset", "--quiet", "--hard", _FETCHED)
    except TimeoutError:
        raise CloneFailed(f"the clone took longer than {time_limit:g} s (CLONE_TIMEOUT)") from None
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(THREADS, _settle, source, tree, judge.size)
    except OSError as error:
        raise DiskTrouble(f"{tree}: the checkout cannot be settled: {error.strerror}") from error


@asynccontextmanager
async def _keeper(
    source: Source, home: Path, token: TokenSource | None
) -> AsyncIterator[Keeper | None]:
    if token is None or not source.url.startswith("https:"):
        yield None
        return
    async with credential.kept(source.url, home, token) as keeper:
        yield keeper


def _overrule_attributes(tree: Path) -> None:
    """Let git write the very bytes that the commit has. Raises DiskTrouble."""
    try:
        place = tree / ".git" / "info"
        place.mkdir(exist_ok=True)
        (place / "attributes").write_text(_ATTRIBUTES, encoding="ascii")
    except OSError as error:
        raise DiskTrouble(f"{tree}: nothing can be written: {error.strerror}") from error


async def _fetch(place: Place, source: Source, limits: Limits) -> None:
    """Fetch the one commit: by its id, as a branch, as a tag, or as the remote's default."""
    wanted = [source.commit or "HEAD"]
    if source.ref and not source.commit:
        wanted = [f"refs/heads/{source.ref}", f"refs/tags/{source.ref}"]
    for position, name in enumerate(wanted, start=1):
        try:
            await run_git(
                place, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-progress",
                "--no-recurse-submodules", "--no-write-fetch-head", "--end-of-options",
                source.url, f"+{name}:{_FETCHED}",
                file_limit=limits.size + _OVERSHOOT,
                watch=lambda: _watch_size(place.tree, limits.size),
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


def _settle(source: Source, tree: Path, size: int) -> Checkout:
    """Read what was fetched, *size* bytes, then drop git's own files: a tool might use them."""
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
    return Checkout(commit=commit, directory=directory, files=files, size=size)


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


def _watch_size(tree: Path, limit: int) -> None:
    """Raise TooLarge when more was fetched than a repository may have."""
    if _bytes_below(tree / ".git" / "objects") > limit:
        raise TooLarge(f"more than {limit} bytes were fetched (REPOSITORY_SIZE_LIMIT)")


def _bytes_below(directory: Path) -> int:
    """Return the size of the files below *directory*, which git is writing."""
    size = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it has its final name by now
                size += os.lstat(Path(parent, name)).st_size
    return size
