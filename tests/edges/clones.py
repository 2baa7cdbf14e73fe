"""Clones for tests, and commits as no file system would make them."""

from pathlib import Path

from fondation_worker.clone import Checkout, clone
from fondation_worker.credential import TokenSource
from fondation_worker.job import Source
from fondation_worker.treesize import Limits
from tests.repositories import Repository, git


async def cloned(
    tmp_path: Path,
    url: str,
    *,
    limit: float = 30,
    subdirectory: str = "",
    ref: str | None = None,
    commit: str | None = None,
    size: int = 2**31,
    files: int = 200_000,
    token: TokenSource | None = None,
) -> Checkout:
    """Clone into a fresh tree."""
    tree, home = tmp_path / "tree", tmp_path / "home"
    tree.mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    source = Source(url=url, ref=ref, commit=commit, subdirectory=subdirectory)
    return await clone(
        source, tree, home=home, time_limit=limit,
        limits=Limits(size=size, files=files), token=token,
    )  # fmt: skip


def planted(there: Repository, tmp_path: Path, entries: str) -> str:
    """Make a tree of *entries* with git's plumbing, as no file system would; return its id."""
    (tmp_path / "entries").write_text(entries)
    with (tmp_path / "entries").open() as listed:
        return git(there.path, "mktree", standard_input=listed)


def blob(there: Repository, content: bytes) -> str:
    """Put a file's *content* in as it is; return its id."""
    file = there.path.parent / "blob"
    file.write_bytes(content)
    return git(there.path, "hash-object", "-w", "--no-filters", str(file))


def branch(there: Repository, tree: str) -> None:
    """Let the branch `hostile` be a commit of *tree*."""
    commit = git(there.path, "commit-tree", tree, "-m", "hostile")
    git(there.path, "update-ref", "refs/heads/hostile", commit)
