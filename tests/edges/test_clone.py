"""Clones with real git, from disk and over real HTTPS."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from aiohttp import web

from fondation_worker import errors
from tests.edges.clones import cloned
from tests.processes import running, until
from tests.repositories import GitServer, Repository, empty_repository, git, git_server, repository


async def test_the_default_branch_comes_when_none_is_named(
    tmp_path: Path, there: Repository, server: GitServer
) -> None:
    """Over HTTPS, and whatever it is called."""
    git(there.path, "branch", "--move", "main", "trunk")
    checkout = await cloned(tmp_path, f"{server.url}/there")
    assert checkout.commit == git(there.path, "rev-parse", "trunk")
    assert (checkout.directory / "app.py").read_text() == "print(1)\n"
    assert checkout.files == 2


@pytest.mark.parametrize("name", ["main;touch${IFS}x", "a$(id)b", "feature/one"])
async def test_a_branch_with_any_name_is_fetched_and_nothing_of_it_runs(
    tmp_path: Path, there: Repository, server: GitServer, name: str
) -> None:
    """There is no shell to be fooled."""
    git(there.path, "checkout", "--quiet", "-b", name)
    commit = there.commit({"only-here": "x"})
    git(there.path, "checkout", "--quiet", "main")
    checkout = await cloned(tmp_path, f"{server.url}/there", ref=name)
    assert checkout.commit == commit
    assert not (tmp_path / "x").exists()
    assert not (checkout.directory / "x").exists()


async def test_a_tag_is_fetched(tmp_path: Path, there: Repository, server: GitServer) -> None:
    """An annotated one leads to its commit."""
    git(there.path, "tag", "--annotate", "v1", "--message", "one")
    commit = git(there.path, "rev-parse", "HEAD")
    there.commit({"later": "x"})
    assert (await cloned(tmp_path, f"{server.url}/there", ref="v1")).commit == commit


async def test_a_commit_is_fetched_and_rules_over_the_branch(
    tmp_path: Path, there: Repository, server: GitServer
) -> None:
    """The one asked for, not the newest."""
    first = git(there.path, "rev-parse", "HEAD")
    there.commit({"later": "x"})
    checkout = await cloned(tmp_path, f"{server.url}/there", commit=first, ref="main")
    assert checkout.commit == first
    assert not (checkout.directory / "later").exists()


async def test_a_subdirectory_is_where_the_analysis_looks(
    tmp_path: Path, there: Repository
) -> None:
    """One that is not there is the job's fault."""
    there.commit({"packages/one/app.py": "x"})
    checkout = await cloned(tmp_path, there.url, subdirectory="packages/one")
    assert [file.name for file in checkout.directory.iterdir()] == ["app.py"]


async def test_a_missing_subdirectory_is_said(tmp_path: Path, there: Repository) -> None:
    """With its name."""
    with pytest.raises(errors.RefMissing, match="packages/two"):
        await cloned(tmp_path, there.url, subdirectory="packages/two")


async def test_history_is_not_fetched(tmp_path: Path, there: Repository) -> None:
    """An old file costs no bytes; and git's own directory does not stay."""
    there.commit({"later": "x"})
    checkout = await cloned(tmp_path, there.url)
    assert not (checkout.directory / ".git").exists()


async def test_a_symbolic_link_is_text_and_leads_nowhere(tmp_path: Path, there: Repository) -> None:
    """A link to a credential must not be followed by any tool that reads the tree."""
    there.commit({}, links={"innocent.md": "/etc/passwd", "up": "../../.."})
    checkout = await cloned(tmp_path, there.url)
    for name, target in (("innocent.md", "/etc/passwd"), ("up", "../../..")):
        file = checkout.directory / name
        assert not file.is_symlink()
        assert file.read_text() == target


async def test_nothing_of_the_repository_runs(tmp_path: Path, there: Repository) -> None:
    """Filters and hooks named by the repository, or by a template, stay dead."""
    there.commit({".gitattributes": "* filter=evil diff=evil\n", ".gitmodules": "[submodule"})
    mark = tmp_path / "ran"
    hook = there.path / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    await cloned(tmp_path, there.url)
    assert not mark.exists()


async def test_a_local_repository_of_another_user_is_cloned(
    tmp_path: Path, there: Repository
) -> None:
    """As in `sudo ./dev demo`; only root can make one."""
    if os.geteuid() == 0:
        for path in (there.path, *there.path.rglob("*")):
            os.chown(path, 12345, 12345)
    assert (await cloned(tmp_path, there.url)).files == 2


async def test_a_submodule_stays_empty(tmp_path: Path, there: Repository) -> None:
    """Its address is the repository's choice, not the job's."""
    inner = repository(tmp_path / "served" / "inner", {"inside.txt": "x"})
    git(there.path, "-c", "protocol.file.allow=always", "submodule", "add", inner.url, "inner")
    there.commit({})
    checkout = await cloned(tmp_path, there.url)
    assert list((checkout.directory / "inner").iterdir()) == []


async def test_a_missing_repository_is_final(
    tmp_path: Path, there: Repository, server: GitServer
) -> None:
    """Another attempt would find the same."""
    assert there.path.exists()
    with pytest.raises(errors.RepositoryMissing, match="no such repository"):
        await cloned(tmp_path, f"{server.url}/elsewhere")


async def test_a_missing_local_repository_is_final(tmp_path: Path) -> None:
    """The same from disk."""
    with pytest.raises(errors.RepositoryMissing):
        await cloned(tmp_path, f"file://{tmp_path}/nothing")


async def test_an_empty_repository_is_final(tmp_path: Path, server: GitServer) -> None:
    """There is nothing to analyse until somebody pushes."""
    empty_repository(tmp_path / "served" / "empty")
    with pytest.raises(errors.RepositoryEmpty, match="no commit"):
        await cloned(tmp_path, f"{server.url}/empty")


async def test_a_commit_without_files_is_final(tmp_path: Path) -> None:
    """Likewise."""
    bare = empty_repository(tmp_path / "bare")
    bare.commit({})
    with pytest.raises(errors.RepositoryEmpty, match="no file"):
        await cloned(tmp_path, bare.url)


@pytest.mark.parametrize(("ref", "commit"), [("nowhere", None), (None, "0" * 39 + "1")])
async def test_a_missing_branch_or_commit_is_final(
    tmp_path: Path, there: Repository, server: GitServer, ref: str | None, commit: str | None
) -> None:
    """And named in the message."""
    assert there.path.exists()
    with pytest.raises(errors.RefMissing, match=ref or commit or ""):
        await cloned(tmp_path, f"{server.url}/there", ref=ref, commit=commit)


async def test_a_server_that_refuses_connections_may_come_back(tmp_path: Path) -> None:
    """The network's fault: worth another attempt."""
    with pytest.raises(errors.CloneFailed):
        await cloned(tmp_path, "https://127.0.0.1:1/x")


async def test_what_a_server_says_is_not_ours_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the job's row, not to whoever reaches the worker's port."""

    def broken(_: web.Request) -> web.Response:
        return web.Response(status=500, text="words of the server\n")

    (tmp_path / "served").mkdir()
    async with git_server(tmp_path / "served", tmp_path / "keys", instead=broken) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        with pytest.raises(errors.CloneFailed, match="words of the server") as failed:
            await cloned(tmp_path, f"{server.url}/there")
    assert "returned error: 500" in failed.value.own
    assert "words of the server" not in failed.value.own


async def test_an_untrusted_server_is_not_spoken_to(
    tmp_path: Path, there: Repository, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are checked."""
    assert there.path.exists()
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with pytest.raises(errors.CloneFailed, match="certificate"):
        await cloned(tmp_path, f"{server.url}/there")


async def test_a_clone_that_hangs_is_killed_at_its_limit(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git itself, and the helper that holds the connection."""
    assert there.path.exists()
    async with git_server(tmp_path, tmp_path / "keys", stall=asyncio.Event()) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        with pytest.raises(errors.CloneFailed, match="longer than 1 s"):
            await cloned(tmp_path, f"{server.url}/served/there", limit=1)
        assert running(server.url) == []


async def test_a_cancelled_clone_leaves_no_process(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the lease is lost, git is dead before anything else happens."""
    assert there.path.exists()
    async with git_server(tmp_path, tmp_path / "keys", stall=asyncio.Event()) as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(cloned(tmp_path, f"{server.url}/served/there"))
            await until(lambda: len(running(server.url)) >= 2)
            task.cancel()
        assert running(server.url) == []
