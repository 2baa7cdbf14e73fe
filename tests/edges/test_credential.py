"""Who is told the token, and for what: git's real helper, started here and there."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fondation_worker import credential_helper
from fondation_worker.credential import Keeper, kept

URL = "https://git.example:8443/owner/Name.git"
OURS = "protocol=https\nhost=git.example:8443\npath=owner/Name.git\n\n"
TOKEN = "t0ken-" * 5
HELPER = (sys.executable, "-I", "-S", credential_helper.__file__)
# A git of its own: the helper is below the process that was started, not that process.
GIT = ("/bin/sh", "-c", '"$@"; exit $?', "git")
CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as keeper:
    keeper.connect(sys.argv[1] + "/credential")
    print("connected", flush=True)
    keeper.sendall(b"get\\n" + sys.stdin.buffer.read())
    keeper.shutdown(socket.SHUT_WR)
    print(keeper.recv(1000))
"""
TOLD = f"username=x-access-token\npassword={TOKEN}\n"


@asynccontextmanager
async def keeping(home: Path) -> AsyncIterator[tuple[Keeper, list[int]]]:
    """Give a keeper of TOKEN, and a list with an entry for each time it was asked for."""
    asked: list[int] = []

    async def token() -> str:
        asked.append(1)
        return TOKEN

    home.mkdir(mode=0o700, exist_ok=True)
    async with kept(URL, home, token) as keeper:
        yield keeper, asked


def _started(*argv: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """Start a process, at once: nobody is answered before its id is known."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # whoever is turned away complains there
        text=True,
        pass_fds=pass_fds,
    )


async def told(
    keeper: Keeper | None, home: Path, question: str = OURS, *, action: str = "get"
) -> str:
    """Return what the helper says that a git of *keeper* starts; of None: of nobody."""
    process = _started(*GIT, *HELPER, str(home), action)
    if keeper:
        keeper.launcher = process.pid
    answer, _ = await asyncio.to_thread(process.communicate, question)
    if keeper:
        keeper.launcher = None
    return answer


async def test_git_is_told_and_again(tmp_path: Path) -> None:
    """For a second fetch, too; Convex is asked once."""
    async with keeping(tmp_path / "home") as (keeper, asked):
        assert await told(keeper, tmp_path / "home") == TOLD
        assert await told(keeper, tmp_path / "home", action="store") == ""
        assert await told(keeper, tmp_path / "home") == TOLD
        assert asked == [1]


async def test_what_the_server_refused_is_not_told_again(tmp_path: Path) -> None:
    """Git says so by `erase`; it would ask, and try, once more for the next request."""
    async with keeping(tmp_path / "home") as (keeper, asked):
        assert await told(keeper, tmp_path / "home") == TOLD
        assert await told(keeper, tmp_path / "home", action="erase") == ""
        assert await told(keeper, tmp_path / "home") == ""
        assert asked == [1]


@pytest.mark.parametrize(
    "question",
    [
        OURS.replace("git.example:8443", "git.example"),
        OURS.replace("git.example", "evil.example"),
        OURS.replace("git.example", "git.example.evil.example"),
        OURS.replace("Name", "Other"),
        OURS.replace("owner/Name.git", "owner/Name.git/../Other.git"),
        OURS.replace("path=owner/Name.git\n", ""),
        OURS.replace("protocol=https", "protocol=http"),
        OURS.replace("host=", "hosts="),
        "",
        "\0\xff" * 2000,
    ],
)
async def test_another_host_or_repository_is_told_nothing(tmp_path: Path, question: str) -> None:
    """And Convex is not asked."""
    async with keeping(tmp_path / "home") as (keeper, asked):
        assert await told(keeper, tmp_path / "home", question) == ""
        assert asked == []
        assert await told(keeper, tmp_path / "home") == TOLD


async def test_a_stranger_is_told_nothing(tmp_path: Path) -> None:
    """A process of the same user that is not below the clone's git: another job's, say."""
    homes = tmp_path / "one", tmp_path / "two"
    async with keeping(homes[0]) as (one, asked), keeping(homes[1]) as (two, others):
        with _started("/bin/cat") as git:  # waits for what it never gets
            one.launcher = git.pid
            assert await told(None, homes[0]) == ""
            assert await told(two, homes[0]) == ""  # a git of two asks at one
            git.kill()
        assert await told(one, homes[0]) == TOLD
        assert (asked, others) == ([1], [])


async def test_between_two_runs_of_git_nobody_is_told(tmp_path: Path) -> None:
    """There is nobody below it then."""
    async with keeping(tmp_path / "home") as (keeper, asked):
        assert await told(keeper, tmp_path / "home") == TOLD
        assert await told(None, tmp_path / "home") == ""
        assert asked == [1]


async def test_another_user_is_told_nothing(tmp_path: Path) -> None:
    """Not even below the clone's git, and with a directory that lets everybody in."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() or setpriv is None:
        pytest.skip("only root can be another user")
    async with keeping(tmp_path / "home") as (keeper, asked):
        (tmp_path / "home").chmod(0o755)
        (tmp_path / "home" / "credential").chmod(0o777)
        place = os.open(tmp_path / "home", os.O_PATH)
        other = (setpriv, "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", CONNECT)
        process = _started(*GIT, *other, f"/proc/self/fd/{place}", pass_fds=(place,))
        os.close(place)
        keeper.launcher = process.pid
        answer, _ = await asyncio.to_thread(process.communicate, OURS)
        assert answer.startswith("connected\n")
        assert TOKEN not in answer
        assert asked == []
