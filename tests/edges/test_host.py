"""What the program makes of its host, each time in a process of its own."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import CLAUDE, PLACEHOLDER

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


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"two words\n", b"x" * 100])
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
