"""Private repositories, over real HTTPS: who gets the token, and what becomes of it."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from fondation_worker import errors
from fondation_worker.redact import MASK
from tests.edges.clones import cloned
from tests.processes import running, until
from tests.repositories import GitServer, Repository, git, git_server, repository

TOKEN = "no-shape-" + "Zq7" * 12  # nobody knows it by its looks


class Source:
    """Gives the token, and counts how often it was asked for."""

    def __init__(self, given: str | Exception | None = TOKEN) -> None:
        self._given = given
        self.asked = 0

    async def __call__(self) -> str | None:
        """Answer as `Queue.clone_token` does."""
        self.asked += 1
        if isinstance(self._given, Exception):
            raise self._given
        return self._given


@pytest.fixture
async def private(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GitServer]:
    """Serve what lies below `served` to who has TOKEN."""
    assert there.path.exists()
    async with git_server(tmp_path / "served", tmp_path / "keys", password=TOKEN) as serving:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(serving.certificate))
        yield serving


async def test_a_private_repository_is_opened_by_the_token(
    tmp_path: Path, there: Repository, private: GitServer
) -> None:
    """It is asked for once, also where two fetches need it; and it is in no file."""
    git(there.path, "tag", "v1")
    token = Source()
    checkout = await cloned(tmp_path, f"{private.url}/there", ref="v1", token=token)
    assert checkout.files == 2
    assert token.asked == 1
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if TOKEN.encode() in path.read_bytes()]


async def test_a_public_repository_needs_no_token(
    tmp_path: Path, there: Repository, server: GitServer
) -> None:
    """Nobody asks for it."""
    assert there.path.exists()
    token = Source()
    assert (await cloned(tmp_path, f"{server.url}/there", token=token)).files == 2
    assert token.asked == 0


@pytest.mark.parametrize("given", [None, "ghp_wrong"])
async def test_a_token_that_does_not_open_it_is_final(
    tmp_path: Path, private: GitServer, given: str | None
) -> None:
    """In words that do not name the token; and there is no second one to ask for."""
    token = Source(given)
    with pytest.raises(errors.RepositoryMissing, match="may not read") as caught:
        await cloned(tmp_path, f"{private.url}/there", token=token)
    assert "ghp_" not in str(caught.value)
    assert token.asked == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.TokenUnusable("an old form"),
        errors.LeaseLost("superseded"),
        errors.Refused("bad_key", "no such worker"),
    ],
)
async def test_what_the_token_call_raises_ends_the_clone(
    tmp_path: Path, private: GitServer, error: Exception
) -> None:
    """As it is: the verdict table knows what to do. And git is dead."""
    with pytest.raises(type(error)) as caught:
        await cloned(tmp_path, f"{private.url}/there", token=Source(error))
    assert caught.value is error
    assert running(private.url) == []


async def test_a_token_that_does_not_come_holds_up_no_cancellation(
    tmp_path: Path, private: GitServer
) -> None:
    """Convex may be away while git waits; then the lease ends, and all of it."""
    asked = asyncio.Event()

    async def token() -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(cloned(tmp_path, f"{private.url}/there", token=token))
        await asked.wait()
        task.cancel()
    assert running(private.url) == []


@pytest.mark.parametrize("status", [403, 404])
async def test_a_repository_that_the_token_does_not_reach_is_missing(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """GitHub says "not found" where it means "not for you", and 403 where an owner forbids it."""
    assert there.path.exists()

    def instead(request: web.Request) -> web.Response | None:
        return web.Response(status=status) if "Authorization" in request.headers else None

    serving = git_server(tmp_path / "served", tmp_path / "keys", password=TOKEN, instead=instead)
    async with serving as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        with pytest.raises(errors.RepositoryMissing):
            await cloned(tmp_path, f"{server.url}/there", token=Source())


async def test_a_server_that_says_the_token_again_is_not_quoted(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git shows what an error's page says, and it would stand in the job's row."""
    assert there.path.exists()

    def instead(request: web.Request) -> web.Response | None:
        if not (given := request.headers.get("Authorization")):
            return None
        decoded = base64.b64decode(given.split()[1]).decode()
        return web.Response(status=500, text=f"{'.' * 450} no to {decoded} alias {given}\n")

    serving = git_server(tmp_path / "served", tmp_path / "keys", password=TOKEN, instead=instead)
    async with serving as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        with pytest.raises(errors.CloneFailed, match="alias") as caught:
            await cloned(tmp_path, f"{server.url}/there", token=Source())
    told = str(caught.value)
    assert MASK in told
    assert TOKEN[-8:] not in told
    assert base64.b64encode(TOKEN.encode())[-12:-4].decode() not in told


async def test_a_redirect_to_another_host_does_not_get_the_token(
    tmp_path: Path, private: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to another port of this one: nobody is even asked."""

    def instead(request: web.Request) -> web.Response | None:
        headers = {"Location": f"{private.url}{request.path_qs}"}
        return web.Response(status=302, headers=headers)

    async with git_server(tmp_path, tmp_path / "keys2", instead=instead) as server:
        trusted = tmp_path / "trusted.pem"
        trusted.write_text(private.certificate.read_text() + server.certificate.read_text())
        monkeypatch.setenv("GIT_SSL_CAINFO", str(trusted))
        token = Source()
        with pytest.raises(errors.RepositoryMissing):
            await cloned(tmp_path, f"{server.url}/there", token=token)
        assert token.asked == 0


async def test_a_redirect_after_the_token_does_not_take_it_along(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is trusted may still send its visitors anywhere."""
    assert there.path.exists()
    heard: list[str] = []

    def listen(request: web.Request) -> web.Response | None:
        heard.extend(request.headers.getall("Authorization", []))
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})

    async with git_server(tmp_path, tmp_path / "keys2", instead=listen) as other:

        def instead(request: web.Request) -> web.Response | None:
            if "Authorization" not in request.headers:
                return None
            headers = {"Location": f"{other.url}{request.path_qs}"}
            return web.Response(status=302, headers=headers)

        serving = git_server(
            tmp_path / "served", tmp_path / "keys", password=TOKEN, instead=instead
        )
        async with serving as server:
            trusted = tmp_path / "trusted.pem"
            trusted.write_text(other.certificate.read_text() + server.certificate.read_text())
            monkeypatch.setenv("GIT_SSL_CAINFO", str(trusted))
            with pytest.raises(errors.JobError):
                await cloned(tmp_path, f"{server.url}/there", token=Source())
    assert heard == []


async def test_a_redirect_to_another_repository_does_not_get_the_token(
    tmp_path: Path, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the same host either: the token was asked for this one."""
    assert there.path.exists()

    def instead(request: web.Request) -> web.Response | None:
        if not request.path.startswith("/old/"):
            return None
        new = request.path_qs.replace("/old/", "/there/", 1)
        return web.Response(status=301, headers={"Location": new})

    serving = git_server(tmp_path / "served", tmp_path / "keys", password=TOKEN, instead=instead)
    async with serving as server:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(server.certificate))
        token = Source()
        with pytest.raises(errors.RepositoryMissing):
            await cloned(tmp_path, f"{server.url}/old", token=token)
        assert token.asked == 0


async def test_two_clones_at_once_get_their_own_tokens(
    tmp_path: Path, private: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each only its own; the other's opens nothing."""
    repository(tmp_path / "others" / "other")
    async with git_server(tmp_path / "others", tmp_path / "keys2", password="x" * 20) as server:
        trusted = tmp_path / "trusted.pem"
        trusted.write_text(private.certificate.read_text() + server.certificate.read_text())
        monkeypatch.setenv("GIT_SSL_CAINFO", str(trusted))
        places = [tmp_path / "one", tmp_path / "two"]
        for place in places:
            place.mkdir()
        checkouts = await asyncio.gather(
            cloned(places[0], f"{private.url}/there", token=Source()),
            cloned(places[1], f"{server.url}/other", token=Source("x" * 20)),
        )
    assert [checkout.files for checkout in checkouts] == [2, 2]


async def test_a_home_that_cannot_hold_the_socket_is_trouble_of_the_disk(
    tmp_path: Path, private: GitServer
) -> None:
    """Here something is in its place."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credential").touch()
    with pytest.raises(errors.DiskTrouble, match="no socket could be made"):
        await cloned(tmp_path, f"{private.url}/there", token=Source())
    await until(lambda: running(private.url) == [])
