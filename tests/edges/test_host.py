"""What the program makes of its host: the settings each time in a process of its own."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import CLAUDE, PLACEHOLDER
from fondation_worker import host as module
from fondation_worker.admission import Limits, refusals
from fondation_worker.config import Config, load
from fondation_worker.host import readings

PROGRAM = """
import json, os, sys
from fondation_worker.config import load
from fondation_worker.errors import BadSettings
from fondation_worker.host import drop_environment, kept_label, settled_on_this_host
config = load(os.environ)
drop_environment()
try:
    settled = settled_on_this_host(config)
    label = kept_label(settled.state_dir)
    told = {"cli": settled.claude_cli, "temp": str(settled.temp_dir), "label": label}
except BadSettings as error:
    told = {"faults": error.faults}
print(json.dumps(told | {"environment": dict(os.environ)}))
"""


def settled(directory: Path, **settings: str) -> dict[str, Any]:
    """Return what the program settles on when it is started in *directory*."""
    environment = {
        "PATH": os.environ["PATH"],
        "CONVEX_URL": "https://example.convex.cloud",
        "WORKER_KEY": "a-key-of-this-worker",
        "ANTHROPIC_API_KEY": PLACEHOLDER,
        "CLAUDE_CLI": str(CLAUDE),
        "STATE_DIR": str(directory / "state"),
        "TEMP_DIR": str(directory / "work"),
    }
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=directory,
        env=environment | settings,
        capture_output=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(run.stdout)
    return told


def test_only_what_children_need_stays_in_the_environment(tmp_path: Path) -> None:
    """GitPython hands os.environ to git, libraries read it: no secret may be left in it."""
    told = settled(tmp_path, AWS_SECRET_ACCESS_KEY="x", LD_PRELOAD="", GIT_DIR="/x", LANG="C.UTF-8")
    assert set(told["environment"]) <= {"PATH", "LANG", "LC_CTYPE", "GIT_PYTHON_REFRESH"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"two words\n", b"x" * 100])
def test_a_label_that_is_none_is_a_fault(tmp_path: Path, content: bytes) -> None:
    """A crash, or somebody, left it so."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "worker-id").write_bytes(content)
    (fault,) = settled(tmp_path)["faults"]
    assert "worker-id" in fault


def test_the_label_is_kept(tmp_path: Path) -> None:
    """From the first start on."""
    assert settled(tmp_path)["label"] == settled(tmp_path)["label"]


def test_a_repository_cannot_stand_in_for_a_program(tmp_path: Path) -> None:
    """Both run in a directory that it fills: relative names would find what lies there."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    told = settled(
        tmp_path, CLAUDE_CLI="bin/claude", PATH=f".::{os.environ['PATH']}:node_modules/.bin"
    )
    assert told["cli"] == str(program)
    assert all(entry.startswith("/") for entry in told["environment"]["PATH"].split(":"))


def test_a_temp_dir_behind_a_link_is_used_by_its_real_name(tmp_path: Path) -> None:
    """The rules for the CLI name directories; a link would name another one."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert settled(tmp_path, TEMP_DIR=str(tmp_path / "link"))["temp"] == str(tmp_path / "real")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They could put links in the place of what a job has made."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work").chmod(mode)
    (fault,) = settled(tmp_path)["faults"]
    assert "TEMP_DIR" in fault
    assert "others may write" in fault


def test_directories_are_made_for_this_user_alone(tmp_path: Path) -> None:
    """Clones may be of private repositories."""
    settled(tmp_path)
    for name in ("state", "work"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_an_empty_label_is_made_anew(tmp_path: Path) -> None:
    """A power cut left it so; it names nothing."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "worker-id").touch()
    assert settled(tmp_path)["label"].startswith("worker-")


def test_what_is_free_is_read_of_both_directories(tmp_path: Path) -> None:
    """The disks may be two; figures are those of the kernel."""
    here = config(tmp_path)
    found = readings(here)
    assert [place.setting for place in found.places] == ["TEMP_DIR", "STATE_DIR"]
    for place in found.places:
        told = os.statvfs(place.path)
        assert place.trouble is None
        assert place.free == pytest.approx(told.f_bavail * told.f_frsize, rel=0.05)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """It was removed, or its disk is read-only."""
    gone = replace(config(tmp_path), temp_dir=tmp_path / "gone", state_dir=Path("/proc"))
    temp, state = readings(gone).places
    assert temp.trouble == "No such file or directory"
    assert state.inodes is None or state.inodes >= 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(
    ("options", "key"),
    [
        ("ro", "unwritable TEMP_DIR"),
        ("nr_inodes=1", "inodes TEMP_DIR"),
        ("size=64k", "disk TEMP_DIR"),
    ],
)
def test_a_small_disk_keeps_a_worker_from_claiming(tmp_path: Path, options: str, key: str) -> None:
    """A real file system each: read-only, without a free inode, without room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        found = readings(replace(config(tmp_path), temp_dir=disk))
        limits = Limits(disk_floor=1024**2, memory_pressure=100.0)
        assert key in [reason.key for reason in refusals(found, limits)]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("host", "own", "pressure"),
    [("1.50", "7.25", 7.25), ("7.25", "1.50", 7.25), (None, "1.50", 1.5), (None, None, None)],
)
def test_memory_pressure_is_the_worse_of_the_host_s_and_our_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str | None,
    own: str | None,
    pressure: float | None,
) -> None:
    """A container's limit may be tighter than the host's; a kernel may tell of neither."""
    (tmp_path / "group").mkdir()
    (tmp_path / "cgroup").write_text("1:name=systemd:/\n0::/group\n", encoding="ascii")
    for file, some in (("host", host), ("group/memory.pressure", own)):
        if some is not None:
            (tmp_path / file).write_text(
                f"some avg10={some} avg60=90.00 avg300=90.00 total=9\n"
                "full avg10=90.00 avg60=90.00 avg300=90.00 total=9\n",
                encoding="ascii",
            )
    monkeypatch.setattr(module, "PRESSURE_OF_THE_HOST", tmp_path / "host")
    monkeypatch.setattr(module, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(module, "CGROUPS", tmp_path)
    assert readings(config(tmp_path)).memory_pressure == pressure


def config(home: Path) -> Config:
    """Return settings with directories below *home*."""
    for name in ("state", "work"):
        (home / name).mkdir(exist_ok=True)
    return load(
        {
            "CONVEX_URL": "https://example.convex.cloud",
            "WORKER_KEY": "a-key-of-this-worker",
            "ANTHROPIC_API_KEY": PLACEHOLDER,
            "STATE_DIR": str(home / "state"),
            "TEMP_DIR": str(home / "work"),
        }
    )
