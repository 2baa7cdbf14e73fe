"""Repositories that would harm whoever checks them out, made with git's plumbing."""

import os
from pathlib import Path

import pytest

from fondation_worker import errors, gitprocess, treesize
from fondation_worker.treesize import LONGEST_PATH
from tests.edges.clones import blob, branch, cloned, planted
from tests.repositories import GitServer, Repository, git


async def test_a_tree_deeper_than_any_tool_is_refused(tmp_path: Path, there: Repository) -> None:
    """Before anything of it is written."""
    tree = git(there.path, "rev-parse", "HEAD^{tree}")
    for _ in range(300):
        tree = planted(there, tmp_path, f"040000 tree {tree}\td\n")
    branch(there, tree)
    with pytest.raises(errors.TooLarge, match="100 directories deep"):
        await cloned(tmp_path, there.url, ref="hostile")
    assert [path.name for path in (tmp_path / "tree").iterdir()] == [".git"]


@pytest.mark.parametrize("leaf", ["file", "nothing"])
async def test_a_tree_bomb_is_refused(tmp_path: Path, there: Repository, leaf: str) -> None:
    """10^9 paths out of nine objects; also where not one of them is a file."""
    tree = git(there.path, "rev-parse", "HEAD^{tree}")
    if leaf == "nothing":
        tree = planted(there, tmp_path, "")
    for _ in range(9):
        tree = planted(there, tmp_path, "".join(f"040000 tree {tree}\t{n}\n" for n in range(10)))
    branch(there, tree)
    with pytest.raises(errors.TooLarge, match="REPOSITORY_FILES_LIMIT"):
        await cloned(tmp_path, there.url, ref="hostile", files=5000)


async def test_a_blob_that_unfolds_is_refused(tmp_path: Path, there: Repository) -> None:
    """Its compressed size is small; what counts is what the disk would hold."""
    there.commit({"zeros": bytes(20_000_000)})
    with pytest.raises(errors.TooLarge, match="files have more than 10000000 bytes"):
        await cloned(tmp_path, there.url, size=10_000_000)


async def test_a_fetch_over_the_limit_is_refused(tmp_path: Path, there: Repository) -> None:
    """Whatever the server sends."""
    there.commit({"noise": os.urandom(3_000_000)})
    with pytest.raises(errors.TooLarge, match="were fetched"):
        await cloned(tmp_path, there.url, size=1_000_000)


def long_path(there: Repository, tmp_path: Path, length: int) -> None:
    """Let the branch `hostile` have a file with a path of *length* bytes, and `app.py`."""
    file = git(there.path, "rev-parse", "HEAD:app.py")
    entry = f"100644 blob {file}\t{'f' * (length - 19 * 205)}\n"
    for _ in range(19):
        entry = f"040000 tree {planted(there, tmp_path, entry)}\t{'d' * 204}\n"
    branch(there, planted(there, tmp_path, f"100644 blob {file}\tapp.py\n{entry}"))


async def test_the_longest_path_that_passes_is_written(tmp_path: Path, there: Repository) -> None:
    """One byte more, and no call of the kernel takes it."""
    long_path(there, tmp_path, LONGEST_PATH)
    assert (await cloned(tmp_path, there.url, ref="hostile")).files == 2
    long_path(there, tmp_path, LONGEST_PATH + 1)
    (tmp_path / "next").mkdir()
    with pytest.raises(errors.TooLarge, match="a path of more than"):
        await cloned(tmp_path / "next", there.url, ref="hostile")


async def test_a_checkout_without_a_file_is_none(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git checkout` goes on without what it cannot write, and the analysis would miss it."""
    monkeypatch.setattr(treesize, "LONGEST_PATH", LONGEST_PATH + 1)
    long_path(there, tmp_path, LONGEST_PATH + 1)
    with pytest.raises(errors.CloneFailed, match="git ended with status 128"):
        await cloned(tmp_path, there.url, ref="hostile")


async def test_a_name_of_10000_bytes_is_refused(tmp_path: Path, there: Repository) -> None:
    """No disk takes it."""
    file = git(there.path, "rev-parse", "HEAD:app.py")
    branch(there, planted(there, tmp_path, f"100644 blob {file}\t{'n' * 10_000}\n"))
    with pytest.raises(errors.TooLarge, match="bytes"):
        await cloned(tmp_path, there.url, ref="hostile")


async def test_a_pack_over_the_limit_is_hardly_larger_on_disk(
    tmp_path: Path, there: Repository, server: GitServer
) -> None:
    """Between two looks a fast server could fill the disk: the file itself has a limit."""
    there.commit({"noise": os.urandom(8_000_000)})
    with pytest.raises(errors.TooLarge, match="2000000 bytes were fetched"):
        await cloned(tmp_path, f"{server.url}/there", size=2_000_000)
    objects = (tmp_path / "tree" / ".git" / "objects").rglob("*")
    assert sum(path.stat().st_size for path in objects if path.is_file()) <= 2_000_000 + 2**20


async def test_a_directory_that_is_one_large_object_is_refused(
    tmp_path: Path, there: Repository, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It packs a thousand times smaller, and git would hold all of it in memory."""
    monkeypatch.setattr(gitprocess, "ALLOCATION_LIMIT", 2_000_000)
    file = git(there.path, "rev-parse", "HEAD:app.py")
    names = "".join(f"100644 blob {file}\t{'n' * 90}{n:06d}\n" for n in range(20_000))
    branch(there, planted(there, tmp_path, names))
    with pytest.raises(errors.TooLarge, match="a directory or a commit of more than 2000000"):
        await cloned(tmp_path, f"{server.url}/there", ref="hostile")


async def test_many_small_objects_are_one_pack(tmp_path: Path, there: Repository) -> None:
    """Loose ones would be files without a common limit."""
    with pytest.raises(errors.TooLarge, match="REPOSITORY_FILES_LIMIT"):
        await cloned(tmp_path, there.url, files=1)
    objects = tmp_path / "tree" / ".git" / "objects"
    assert sorted(path.name for path in objects.iterdir()) == ["info", "pack"]


DISGUISES = [".git", ".GIT", "git~1", ".g\u200cit", ".git ", ".git::$INDEX_ALLOCATION"]


@pytest.mark.parametrize("name", DISGUISES)
async def test_a_directory_that_some_system_takes_for_gits_own_is_refused(
    tmp_path: Path, there: Repository, name: str
) -> None:
    """Here it would do no harm; but the analysis may be read elsewhere."""
    tree = git(there.path, "rev-parse", "HEAD^{tree}")
    branch(there, planted(there, tmp_path, f"040000 tree {tree}\t{name}\n"))
    with pytest.raises(errors.InvalidJob, match="git does not write"):
        await cloned(tmp_path, there.url, ref="hostile")
    assert [path.name for path in (tmp_path / "tree").iterdir()] == [".git"]


async def test_two_files_of_one_name_are_refused(tmp_path: Path, there: Repository) -> None:
    """The second would be written over the first, or into what it leads to."""
    tree = git(there.path, "rev-parse", "HEAD^{tree}")
    file = git(there.path, "rev-parse", "HEAD:app.py")
    entries = f"120000 blob {file}\tsame\n040000 tree {tree}\tsame\n"
    branch(there, planted(there, tmp_path, entries))
    with pytest.raises(errors.InvalidJob, match="two files of one name"):
        await cloned(tmp_path, there.url, ref="hostile")


async def test_files_are_written_as_the_commit_has_them(tmp_path: Path, there: Repository) -> None:
    """Attributes of the repository could make them several times larger than what was judged."""
    files = {
        ".gitattributes": b"*.txt eol=crlf\n*.utf working-tree-encoding=UTF-32BE\n*.id ident\n",
        "a.id": b"$Id$\n",
        "a.txt": b"1\n2\n",
        "a.utf": "ä\n".encode(),
    }
    listed = [f"100644 blob {blob(there, text)}\t{name}\n" for name, text in files.items()]
    branch(there, planted(there, tmp_path, "".join(listed)))
    checkout = await cloned(tmp_path, there.url, ref="hostile")
    found = {path.name: path.read_bytes() for path in checkout.directory.iterdir()}
    assert found == files


async def test_a_submodule_says_nothing_of_where_to_go(tmp_path: Path, there: Repository) -> None:
    """Neither one that leads out of the tree, nor one whose address is an option."""
    commit = git(there.path, "rev-parse", "HEAD")
    modules = '[submodule "../../x"]\n\tpath = sub\n\turl = -u./payload\n\tupdate = !touch ran\n'
    entries = (
        f"100644 blob {blob(there, modules.encode())}\t.gitmodules\n160000 commit {commit}\tsub\n"
    )
    branch(there, planted(there, tmp_path, entries))
    checkout = await cloned(tmp_path, there.url, ref="hostile")
    assert sorted(path.name for path in checkout.directory.iterdir()) == [".gitmodules", "sub"]
    assert not list((checkout.directory / "sub").iterdir())
    assert not list(tmp_path.rglob("ran"))
