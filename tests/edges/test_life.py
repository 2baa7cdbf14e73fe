"""Lives of workers: what dead ones left is cleared, and nothing of anybody else's."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fondation_worker import claims
from fondation_worker.claims import Claims, Deployment
from fondation_worker.job import Token
from fondation_worker.leftovers import MARK
from fondation_worker.life import lived
from tests.processes import until

TOKEN = Token(job_id="k57abc;jobs", lease_token="x" * 20, attempt=1)
HERE = Deployment(url="https://here.example", functions="")

DIES = """
import os, pathlib, signal, sys
from fondation_worker.life import Life
life = Life(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3])
(life.state() / "outbox").mkdir()
(life.work() / "tree").mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""


def dead(state: Path, temp: Path, instance: str, *, script: str = DIES) -> None:
    """Let a process live as *instance* and be killed."""
    argv = [sys.executable, "-c", script, str(state), str(temp), instance]
    assert subprocess.run(argv, check=False).returncode == -9


@contextmanager
def sleeping(directory: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of its own session in *directory* with no other environment."""
    process = subprocess.Popen(
        ["/bin/sleep", "600"], cwd=directory, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("event", ["open", "fcntl.flock", "os.rename"])
async def test_who_dies_while_beginning_leaves_nothing_for_long(tmp_path: Path, event: str) -> None:
    """At whichever step: the next start removes the half-made directory."""
    dies_early = f"""
import os, signal, sys
def hook(event, args):
    if event == {event!r} and (event == "fcntl.flock" or ".making-" in str(args[0])):
        hook.seen = getattr(hook, "seen", 0) + 1
        if hook.seen == (2 if event == "fcntl.flock" else 1):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
{DIES}"""
    dead(tmp_path / "state", tmp_path / "temp", "w-1", script=dies_early)
    (left,) = (tmp_path / "state" / "lives").iterdir()
    assert left.name == ".making-w-1"
    (tmp_path / "state" / "lives" / "somebody's").mkdir()
    async with lived(tmp_path / "state", tmp_path / "temp", "w-2"):
        assert not left.exists()
    assert [each.name for each in (tmp_path / "state" / "lives").iterdir()] == ["somebody's"]


async def test_workers_that_begin_at_once_all_live(tmp_path: Path) -> None:
    """In the same two directories; none takes another's for that of a dead one."""
    script = DIES.replace("os.kill(os.getpid(), signal.SIGKILL)", "print('lives'); input()")
    async with asyncio.timeout(60):
        begun = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script),
                *(str(tmp_path / "state"), str(tmp_path / "temp"), f"w-{number}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for number in range(8)
        ]
        for process in begun:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"lives\n"
        assert len(list((tmp_path / "temp").iterdir())) == 8
        assert len(list((tmp_path / "state" / "lives").iterdir())) == 8
        for process in begun:
            await process.communicate(b"\n")


async def test_a_life_leaves_nothing(tmp_path: Path) -> None:
    """Both of its directories are gone when it ends."""
    async with lived(tmp_path / "state", tmp_path / "temp", "w-1") as life:
        (life.work() / "tree").mkdir()
        assert life.state().is_dir()
    assert list((tmp_path / "state" / "lives").iterdir()) == []
    assert list((tmp_path / "temp").iterdir()) == []


async def test_what_the_dead_left_is_removed_and_the_living_keep_theirs(tmp_path: Path) -> None:
    """The lock decides; also where the dead one's state was kept elsewhere, or is gone."""
    state, temp = tmp_path / "state", tmp_path / "temp"
    async with lived(state, temp, "neighbour-1") as neighbour:
        dead(state, temp, "dead-1")
        dead(tmp_path / "elsewhere", temp, "dead-2")
        (neighbour.work() / "tree").mkdir()
        async with lived(state, temp, "w-1") as life:
            assert [earlier.instance for earlier in life.earlier] == ["dead-1"]
            life.work()
            assert sorted(place.name for place in temp.iterdir()) == ["neighbour-1", "w-1"]
        assert (neighbour.work() / "tree").is_dir()
        assert sorted(place.name for place in (state / "lives").iterdir()) == ["neighbour-1"]


async def test_what_is_not_of_our_making_is_left_alone(tmp_path: Path) -> None:
    """A directory without our lock file, with one that says something else, a link, a file."""
    temp = tmp_path / "temp"
    for name in ("bare", "other"):
        (temp / name / "tree").mkdir(parents=True)
    (temp / "other" / "lock").write_text("12345\n")
    (temp / "file").write_text("x")
    dead(tmp_path / "state", tmp_path / "aside", "dead-1")
    (temp / "link").symlink_to(tmp_path / "aside" / "dead-1")
    async with lived(tmp_path / "other-state", temp, "w-1"):
        names = sorted(place.name for place in temp.iterdir())
    assert names == ["bare", "file", "link", "other", "w-1"]
    assert (tmp_path / "aside" / "dead-1" / "tree").is_dir()


async def test_processes_of_the_dead_are_killed_and_those_of_the_living_are_not(
    tmp_path: Path,
) -> None:
    """By their mark; and by their directory, where one has thrown its environment away."""
    state, temp = tmp_path / "state", tmp_path / "temp"
    async with lived(state, temp, "neighbour-1") as neighbour:
        dead(state, temp, "dead-1")
        with (
            sleeping(tmp_path, **{MARK: "dead-1"}) as marked,
            sleeping(temp / "dead-1" / "tree") as unmarked,
            sleeping(neighbour.work(), **{MARK: "neighbour-1"}) as theirs,
            sleeping(tmp_path, **{MARK: "dead-10"}) as similar,
        ):
            async with lived(state, temp, "w-1"):
                await until(lambda: marked.poll() == -9)
                await until(lambda: unmarked.poll() == -9)
                assert theirs.poll() is None
                assert similar.poll() is None


async def test_what_waits_keeps_the_directory(tmp_path: Path) -> None:
    """A claim that was not settled is there for the next life."""
    state, temp = tmp_path / "state", tmp_path / "temp"
    async with lived(state, temp, "w-1") as life:
        Claims(life, HERE).remember(TOKEN)
    async with lived(state, temp, "w-2") as life:
        (earlier,) = life.earlier
        ((_, deployment, token),) = claims.left_in(earlier.directory)
        assert (deployment, token) == (HERE, TOKEN)
    assert (state / "lives" / "w-1").is_dir()  # nobody has settled it


async def test_a_settled_claim_is_gone(tmp_path: Path) -> None:
    """There is nothing to report about it."""
    async with lived(tmp_path / "state", tmp_path / "temp", "w-1") as life:
        kept = Claims(life, HERE)
        kept.remember(TOKEN)
        kept.forget(TOKEN)
        kept.forget(TOKEN)
        assert list(claims.left_in(life.state())) == []


async def test_a_claim_that_cannot_be_read_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Torn by a full disk or a power cut."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "k-1.json").write_text('{"version": 1, "ur')
    (tmp_path / "claims" / "k-2.json").write_bytes(b'{"version": 1, "url": "\xff"}')
    assert list(claims.left_in(tmp_path)) == []
    assert "no claim that can be read" in caplog.text
    assert list((tmp_path / "claims").iterdir()) == []


async def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    """Else a run that outlives its worker would keep it alive."""
    async with lived(tmp_path / "state", tmp_path / "temp", "w-1") as life:
        life.work()
        listing = await asyncio.create_subprocess_exec(
            "/bin/ls", "-l", "/proc/self/fd", stdout=asyncio.subprocess.PIPE
        )
        seen, _ = await listing.communicate()
        assert b"/lock" not in seen
        assert any(
            os.path.realpath(f"/proc/self/fd/{fd}").endswith("/lock")
            for fd in os.listdir("/proc/self/fd")  # noqa: PTH208 names are enough
        )
