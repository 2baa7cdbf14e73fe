"""The process room with real processes: what goes in, what comes out, and that nothing stays."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from fondation_worker.errors import DiskTrouble
from fondation_worker.runner import Ended, Order
from fondation_worker.runner.process import COMPLAINT_LIMIT, LAUNCHER, OUTPUT_LIMIT, ProcessRoom
from tests.processes import parent_of, running, until

ROOM = ProcessRoom()


def order(tmp_path: Path, script: str, standard_input: bytes = b"", **environment: str) -> Order:
    """Return the order to run a shell *script*; what it sleeps in has `$MARK` as an argument."""
    return Order(
        argv=("/bin/sh", "-c", script),
        environment={"PATH": os.environ["PATH"], **environment},
        directory=tmp_path,
        scratch=tmp_path,
        standard_input=standard_input,
    )


async def finished(order: Order) -> tuple[bytes, Ended]:
    """Run *order* to its end; return its output and how it ended."""
    async with ROOM.run(order) as run:
        output = b"".join([chunk async for chunk in run.output()])
        ended = await run.ended()
    assert ended is not None
    return output, ended


async def test_input_output_and_status_pass_through(tmp_path: Path) -> None:
    """Also more of it than a pipe holds."""
    text = b"line\n" * 100_000
    output, ended = await finished(order(tmp_path, "cat; exit 3", text))
    assert output == text
    assert ended.status == 3
    assert ended.max_rss > 0


async def test_the_environment_is_the_orders_and_nothing_else(tmp_path: Path) -> None:
    """The worker's own holds what no job may see."""
    output, _ = await finished(order(tmp_path, "env", ONLY="this"))
    names = {line.partition(b"=")[0] for line in output.splitlines()}
    assert names <= {
        b"ONLY",
        b"FONDATION_RUN",
        b"PATH",
        b"PWD",
        b"OLDPWD",
        b"SHLVL",
        b"_",
        b"LC_CTYPE",
    }


async def test_no_descriptor_of_the_worker_is_inherited(tmp_path: Path) -> None:
    """Neither a socket to Convex nor the lifeline."""
    with (tmp_path / "secret").open("w") as open_file:
        os.set_inheritable(open_file.fileno(), True)  # noqa: FBT003
        output, _ = await finished(order(tmp_path, "ls /proc/self/fd"))
    assert {int(fd) for fd in output.split()} <= {0, 1, 2, 3}


async def test_the_end_of_standard_error_is_kept(tmp_path: Path) -> None:
    """For the reason in a failure, bounded."""
    _, ended = await finished(order(tmp_path, "yes complaint | head -c 100000 >&2; echo last >&2"))
    assert ended.complaint.endswith("last\n")
    assert len(ended.complaint) <= COMPLAINT_LIMIT


async def test_standard_error_that_is_cut_begins_with_a_whole_word(tmp_path: Path) -> None:
    """Half a secret has no form by which a redactor knows it."""
    script = "printf '%04000d\\n' 7 >&2; printf '%0200d\\nlast\\n' 8 >&2"
    _, ended = await finished(order(tmp_path, script))
    assert ended.complaint == f"…{8:0200}\nlast\n"


@pytest.mark.parametrize(
    "escape",
    [
        "sleep 300 $MARK &",
        "setsid sleep 300 $MARK &",
        "setsid sh -c 'setsid sleep 300 $MARK & sleep 300 $MARK' &",
        "(trap '' TERM HUP INT; nohup setsid sleep 300 $MARK) >/dev/null 2>&1 &",
    ],
)
async def test_what_the_command_leaves_behind_is_killed(tmp_path: Path, escape: str) -> None:
    """Whatever session it chose for itself, and although it holds the output open."""
    mark = f"0.{uuid.uuid4().int}"
    output, ended = await finished(order(tmp_path, f"{escape} sleep 0.2; echo done", MARK=mark))
    assert output == b"done\n"
    assert ended.status == 0
    assert ended.killed >= 1
    assert running(mark) == []


async def test_leaving_early_kills_everything(tmp_path: Path) -> None:
    """A lost lease: the context is left while the command still runs."""
    mark = f"0.{uuid.uuid4().int}"
    script = "setsid sleep 300 $MARK & trap '' TERM; while :; do sleep 300 $MARK; done"
    async with ROOM.run(order(tmp_path, script, MARK=mark)):
        await until(lambda: len(running(mark)) >= 2)
    assert running(mark) == []


async def test_a_fork_bomb_in_slow_motion_is_outrun(tmp_path: Path) -> None:
    """Processes that start others while they are being killed are found by the next round."""
    mark = f"0.{uuid.uuid4().int}"
    bomb = 'sleep 300 $MARK & sleep 0.01; setsid sh -c "$BOMB"'
    script = 'setsid sh -c "$BOMB" & setsid sh -c "$BOMB" & sleep 300 $MARK'
    async with ROOM.run(order(tmp_path, script, MARK=mark, BOMB=bomb)):
        await until(lambda: len(running(mark)) >= 6)
    assert running(mark) == []


async def test_a_killed_worker_takes_its_run_along(tmp_path: Path) -> None:
    """SIGKILL of the daemon: the lifeline closes, the launcher ends everything."""
    mark = f"0.{uuid.uuid4().int}"
    program = f"""
import asyncio, os, sys
sys.path.insert(0, {str(LAUNCHER.parents[2])!r})
from pathlib import Path
from fondation_worker.runner import Order
from fondation_worker.runner.process import ProcessRoom
async def main():
    order = Order(argv=("/bin/sh", "-c", "setsid sleep 300 {mark} & sleep 300 {mark}"),
                  environment=dict(os.environ), directory=Path({str(tmp_path)!r}),
                  scratch=Path({str(tmp_path)!r}), standard_input=b"")
    async with ProcessRoom().run(order) as run:
        await run.ended()
asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    try:
        await until(lambda: len(running(f"sleep 300 {mark}")) >= 2)
    finally:
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
    await until(lambda: not running(mark))


async def test_a_killed_launcher_is_told_apart_from_an_end(tmp_path: Path) -> None:
    """Nobody is left to tell how it ended; the command dies with its launcher."""
    mark = f"0.{uuid.uuid4().int}"
    async with ROOM.run(order(tmp_path, "exec sleep 300 $MARK", MARK=mark)) as run:
        await until(lambda: running(f"sleep 300 {mark}"))
        (command,) = running(f"sleep 300 {mark}")
        os.kill(parent_of(command), signal.SIGKILL)
        assert await run.ended() is None
    await until(lambda: not running(mark))


async def test_what_outlives_a_killed_launcher_is_found(tmp_path: Path) -> None:
    """It lost its parent and chose a session of its own, but it bears the mark of the run."""
    mark = f"0.{uuid.uuid4().int}"
    script = "setsid setsid sleep 300 $MARK & exec sleep 300 $MARK"
    async with ROOM.run(order(tmp_path, script, MARK=mark)) as run:
        await until(lambda: len(running(f"sleep 300 {mark}")) == 2, limit=20)
        sleeping = set(running(f"sleep 300 {mark}"))
        (launcher,) = {parent_of(pid) for pid in sleeping} - sleeping
        os.kill(launcher, signal.SIGKILL)
        assert await run.ended() is None
        assert running(f"sleep 300 {mark}") == []


async def test_a_command_that_is_not_there_ends_as_in_a_shell(tmp_path: Path) -> None:
    """Status 127, and the reason on standard error."""
    missing = Order(
        argv=("/nowhere/claude",),
        environment={},
        directory=tmp_path,
        scratch=tmp_path,
        standard_input=b"x" * 200_000,
    )
    _, ended = await finished(missing)
    assert ended.status == 127
    assert "/nowhere/claude: No such file" in ended.complaint


async def test_a_directory_that_is_not_there_is_this_hosts_trouble(tmp_path: Path) -> None:
    """Somebody removed the workspace, or a part of it."""
    gone, whole = tmp_path / "gone", order(tmp_path, "true")
    for lost in (replace(whole, directory=gone), replace(whole, scratch=gone)):
        with pytest.raises(DiskTrouble):
            async with ROOM.run(lost):
                pass


async def test_the_command_starts_as_from_a_shell_and_can_gain_nothing(tmp_path: Path) -> None:
    """No signal ignored on its behalf, and no setuid program can lift it above us."""
    output, _ = await finished(order(tmp_path, "cat /proc/self/status"))
    status = dict(line.split(":\t", 1) for line in output.decode().splitlines() if ":\t" in line)
    assert int(status["SigIgn"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert Path("/proc/self/oom_score_adj").read_text() != "300\n"


async def test_a_command_that_prints_fast_holds_nothing_up(tmp_path: Path) -> None:
    """Heartbeats and time limits have their turn between its lines, not after its last."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, ROOM.run(order(tmp_path, "yes | head -c 100m")) as run:
        other = group.create_task(take_turns())
        await asyncio.sleep(0.5)  # it is ahead of us now
        turns, chunks = 0, 0
        async for _ in run.output():
            chunks += 1
        assert turns >= chunks > 100
        other.cancel()


async def test_a_file_of_the_command_is_bounded(tmp_path: Path) -> None:
    """Its output is a file as well: a disk is not filled by one run."""
    too_far = f"dd if=/dev/zero of=big bs=1 count=2 seek={OUTPUT_LIMIT - 1}"
    _, ended = await finished(order(tmp_path, too_far))
    assert ended.status != 0
    assert (tmp_path / "big").stat().st_size <= OUTPUT_LIMIT


async def test_no_cancellation_cuts_the_tidying_short(tmp_path: Path) -> None:
    """A lost lease, and then the end of the drain: two in a row."""
    mark = f"0.{uuid.uuid4().int}"

    async def work() -> None:
        async with ROOM.run(order(tmp_path, "exec sleep 300 $MARK", MARK=mark)) as run:
            await run.ended()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(work())
        await until(lambda: running(f"sleep 300 {mark}"))
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
    assert task.cancelled()
    assert running(mark) == []


async def test_output_is_whole_however_slowly_it_is_taken(tmp_path: Path) -> None:
    """The Claude CLI ends without waiting for a reader that is behind; a file holds all."""
    chunks = []
    async with ROOM.run(order(tmp_path, "head -c 3000000 /dev/zero")) as run:
        await asyncio.sleep(0.5)
        async for chunk in run.output():
            chunks.append(len(chunk))
            await asyncio.sleep(0.01)
    assert sum(chunks) == 3_000_000
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_an_upgrade_replaced_is_not_run(tmp_path: Path) -> None:
    """A running worker goes on with the one that it came with."""
    package = tmp_path / "fondation_worker"
    shutil.copytree(LAUNCHER.parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tree").mkdir()
    program = """
import asyncio, pathlib, sys
from fondation_worker.runner import Order
from fondation_worker.runner.process import LAUNCHER, ProcessRoom

draft = LAUNCHER.with_suffix(".dpkg-new")
draft.write_text("raise SystemExit('another version')")
draft.rename(LAUNCHER)
tree = pathlib.Path("tree").absolute()
order = Order(argv=("echo", "done"), environment={"PATH": "/usr/bin:/bin"}, directory=tree,
              scratch=tree, standard_input=b"")

async def main():
    async with ProcessRoom().run(order) as run:
        print(b"".join([chunk async for chunk in run.output()]), await run.ended())

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("b'done\\n' Ended(status=0"), ran
