"""Clones on disks that are full, read-only or out of inodes: class `disk`, at each step."""

import os
from pathlib import Path

import pytest
from aiohttp import web

from fondation_worker import errors
from tests.edges.clones import cloned
from tests.edges.test_disk import TROUBLES, mend, small_disk, spoil
from tests.repositories import GitServer, Repository, git_server


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_before_it_begins(
    tmp_path: Path, there: Repository, server: GitServer, trouble: str
) -> None:
    """The places are there, but nothing can be written to them."""
    assert there.path.exists()
    with small_disk(tmp_path / "disk") as disk:
        (disk / "tree").mkdir()
        (disk / "home").mkdir()
        spoil(disk, trouble)
        with pytest.raises(errors.DiskTrouble):
            await cloned(disk, f"{server.url}/there")
        mend(disk)
        assert (await cloned(disk, f"{server.url}/there")).files == 2


async def test_for_our_own_settings(tmp_path: Path, there: Repository) -> None:
    """The file that lets git read another user's repository; only for those on this host."""
    with small_disk(tmp_path / "disk") as disk:
        (disk / "tree").mkdir()
        (disk / "home").mkdir()
        spoil(disk, "full")
        with pytest.raises(errors.DiskTrouble, match="gitconfig"):
            await cloned(disk, there.url)


async def test_for_what_overrules_attributes(tmp_path: Path, there: Repository) -> None:
    """Here something is in its place."""
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    (tmp_path / "tree" / ".git" / "info").touch()
    with pytest.raises(errors.DiskTrouble, match="nothing can be written"):
        await cloned(tmp_path, there.url)


async def test_in_the_fetch(tmp_path: Path, there: Repository, server: GitServer) -> None:
    """The pack does not fit."""
    there.commit({"noise": os.urandom(400_000)})
    words = pytest.raises(errors.DiskTrouble, match="No space left")
    with small_disk(tmp_path / "disk") as disk, words:
        await cloned(disk, f"{server.url}/there")


@pytest.mark.parametrize("content", ["large", "many"])
async def test_in_the_checkout(
    tmp_path: Path, there: Repository, server: GitServer, content: str
) -> None:
    """The pack fits, its files do not: for their bytes, or for their number."""
    files = {"large": "x" * 400_000} if content == "large" else {f"{n}": "x" for n in range(50)}
    there.commit(files)
    with small_disk(tmp_path / "disk") as disk, pytest.raises(errors.DiskTrouble):
        await cloned(disk, f"{server.url}/there")


async def test_when_gits_own_files_go(tmp_path: Path, there: Repository, server: GitServer) -> None:
    """They cannot all be removed; here because something is mounted among them."""
    assert there.path.exists()
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    words = pytest.raises(errors.DiskTrouble, match="cannot be settled")
    with small_disk(tmp_path / "tree" / ".git" / "busy"), words:
        await cloned(tmp_path, f"{server.url}/there")


async def test_of_the_server_is_not_ours(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other end says of its own disk is another failure."""
    assert there.path.exists()

    def instead(_: web.Request) -> web.Response:
        return web.Response(status=500, text="write error: No space left on device\n")

    async with git_server(tmp_path / "served", tmp_path / "keys", instead=instead) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        with pytest.raises(errors.CloneFailed, match="No space left"):
            await cloned(tmp_path, f"{server.url}/there")
