"""The doctor's looks at real things: the Claude CLI, directories, results on disk, another user."""

import asyncio
import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import CLAUDE, PROGRAM
from fondation_worker import entry
from fondation_worker.claims import Deployment
from fondation_worker.doctor import canaries
from fondation_worker.doctor.canaries import RUN, TRAPS, look_at_canaries
from fondation_worker.doctor.findings import Finding, Level
from fondation_worker.doctor.places import look_at_directory, look_at_disk
from fondation_worker.doctor.programs import CLI, GIT, look_at_cli, look_at_git
from fondation_worker.doctor.waiting import look_at_neighbours, look_at_outbox
from fondation_worker.entry import Entry
from fondation_worker.job import Token
from fondation_worker.life import lived
from fondation_worker.refused import RefusedResults
from fondation_worker.result import Result, documents_from
from fondation_worker.runner.process import ProcessRoom
from tests.edges.test_claude import places
from tests.processes import running
from tests.terminals import run

HERE = Deployment(url="https://here.example", functions="")
KINDS = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
HEEDED = {f"canary {what}" for what in ("hook", "server", "address", "helper", "model", "memory")}


def by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    """Return *findings* by their names, each of which is there once."""
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def errors(findings: Sequence[Finding]) -> set[str]:
    """Return the names of those that are errors."""
    return {finding.name for finding in findings if finding.level is Level.ERROR}


def standing_in(tmp_path: Path, change: str) -> Path:
    """Return a program that runs the real CLI with `argv` changed by lines of Python."""
    file = tmp_path / "stand-in"
    lines = f"#!{sys.executable}\nimport os, sys\nargv = sys.argv[1:]\n{change}\n"
    file.write_text(f"{lines}os.execv({str(CLAUDE)!r}, ['claude', *argv])\n", encoding="utf-8")
    file.chmod(0o755)
    return file


WITH_SETTINGS = 'at = argv.index("--setting-sources"); del argv[at : at + 2]'
WITH_SERVERS = 'argv = [word for word in argv if word != "--strict-mcp-config"]'
WITH_BASH = 'argv[argv.index("--tools") + 1] = "Read,Bash"'


async def over_traps(tmp_path: Path, cli: Path, kind: str = KINDS[0]) -> Sequence[Finding]:
    """Let *cli* run over the hostile repository."""
    where, marks = places(tmp_path), tmp_path / "marks"
    marks.mkdir()
    return await look_at_canaries(ProcessRoom(), cli, kind, where, marks)


# The Claude CLI


@pytest.mark.parametrize("kind", KINDS)
async def test_the_cli_as_it_is_called_springs_no_trap(tmp_path: Path, kind: str) -> None:
    """With each kind of credential; and nothing of the run is left."""
    found = await over_traps(tmp_path, CLAUDE, kind)
    assert [finding.level for finding in found] == [Level.OK] * (1 + len(TRAPS))
    assert running(str(tmp_path)) == []


async def test_a_cli_that_heeds_the_repository_is_found_out(tmp_path: Path) -> None:
    """As one that drops two of our flags does: then every trap is sprung, and each is told."""
    cli = standing_in(tmp_path, f"{WITH_SETTINGS}\n{WITH_SERVERS}")
    found = await over_traps(tmp_path, cli)
    assert errors(found) == HEEDED
    assert all("install-claude" in str(each.advice) for each in found if each.name in HEEDED)


async def test_a_cli_that_heeds_settings_only_is_found_out(tmp_path: Path) -> None:
    """Each trap counts for itself."""
    found = await over_traps(tmp_path, standing_in(tmp_path, WITH_SETTINGS))
    assert errors(found) == HEEDED - {"canary server"}


async def test_a_cli_that_offers_more_tools_is_found_out(tmp_path: Path) -> None:
    """A model that a repository talked into it would use them."""
    found = await over_traps(tmp_path, standing_in(tmp_path, WITH_BASH))
    assert errors(found) == {"canary tools"}


@pytest.mark.parametrize("change", ["sys.exit(3)", "import time; time.sleep(60)"])
async def test_a_cli_that_does_not_run_proves_nothing(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That no trap was sprung is not held for good then."""
    monkeypatch.setattr(canaries, "RUN_LIMIT", 1.0)
    found = await over_traps(tmp_path, standing_in(tmp_path, change))
    assert errors(found) == {RUN, *TRAPS}
    assert running(str(tmp_path)) == []


async def test_the_version_is_told_by_the_cli_itself(tmp_path: Path) -> None:
    """In a room of its own, whatever the program is."""
    found = await look_at_cli(ProcessRoom(), CLAUDE, tmp_path)
    assert (found.name, found.level) == (CLI, Level.OK)
    for program in (tmp_path / "none", Path("/bin/true"), Path("/bin/ls")):
        found = await look_at_cli(ProcessRoom(), program, tmp_path)
        assert (found.name, found.level) == (CLI, Level.ERROR), program


def test_git_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's; none; one that is broken; an old one."""
    assert look_at_git()[0].level is Level.OK
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_name(look_at_git())[GIT].words == "there is no git on PATH"
    for script, level in (("exit 1", Level.ERROR), ("echo git version 1.8.3", Level.WARNING)):
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / "git").chmod(0o755)
        assert look_at_git()[0].level is level


# Directories and disk


def test_a_directory_is_judged_as_a_start_would(tmp_path: Path) -> None:
    """And it is neither made nor touched."""
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    cases = [
        (there, True),
        (tmp_path / "missing" / "below", True),
        (there / "file", False),
        (there / "file" / "below", False),
    ]
    (there / "file").touch()
    for path, is_well in cases:
        (found,) = look_at_directory("STATE_DIR", path, is_made=False)
        assert (found.level is Level.OK) == is_well, found
        assert is_well or found.advice
    assert not (tmp_path / "missing").exists()
    assert look_at_directory("STATE_DIR", Path("/proc/x"), is_made=True)[0].level is Level.OK


def test_a_directory_that_others_may_write_is_an_error(tmp_path: Path) -> None:
    """They could put a result there, or take one."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (found,) = look_at_directory("TEMP_DIR", tmp_path / "open", is_made=False)
    assert (found.level, "mode 0777" in found.words) == (Level.ERROR, True)
    assert "chmod go-w" in str(found.advice)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_an_error(tmp_path: Path) -> None:
    """The worker refuses to start over it."""
    os.chown(tmp_path, 65534, 65534)
    (found,) = look_at_directory("STATE_DIR", tmp_path, is_made=False)
    assert (found.level, "belongs to user 65534" in found.words) == (Level.ERROR, True)


def test_a_disk_below_its_floor_is_an_error(tmp_path: Path) -> None:
    """Nothing would be claimed. A directory that is not there yet has the disk of its parent."""
    where = [("STATE_DIR", tmp_path), ("TEMP_DIR", tmp_path / "not" / "yet")]
    (well,) = look_at_disk(where, 0)
    assert (well.level, "below TEMP_DIR" in well.words) == (Level.OK, True)
    short = look_at_disk(where, 1024**5)
    assert {finding.level for finding in short} == {Level.ERROR}
    assert "DISK_FLOOR (1 PiB)" in short[0].words


# Results


def kept(state: Path, life: str, *, url: str = HERE.url) -> Path:
    """Put a finished result into the outbox of *life*."""
    result = Result(documents=documents_from("# Done\n", fallback_title="x"), commit="0" * 40)
    token = Token(job_id=f"job-{life}", lease_token="t" * 20, attempt=1)
    owner = Deployment(url=url, functions="")
    waiting = Entry(token=token, deployment=owner, since=0, result=result)
    return entry.write(state / "lives" / life / "outbox", waiting)


def everything(top: Path) -> dict[Path, tuple[int, bytes]]:
    """Return what lies below *top*: modification times, and what is in the files."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(top.rglob("*"))
    }


async def test_results_that_nobody_hands_in_are_found(tmp_path: Path) -> None:
    """Those of a worker that runs are in good hands; nothing of either is touched or locked."""
    state = tmp_path / "state"
    assert look_at_outbox(state, HERE)[0].level is Level.OK
    async with lived(state, tmp_path / "temp", "alive"):
        kept(state, "alive")
        before = everything(state)
        found = look_at_outbox(state, HERE)
        assert (found[0].level, "1 finished result waits" in found[0].words) == (Level.OK, True)
        assert everything(state) == before
    left = by_name(look_at_outbox(state, HERE))["outbox"]
    assert (left.level, "no worker runs" in left.words) == (Level.ERROR, True)
    async with lived(state, tmp_path / "temp", "next") as life:
        assert [earlier.instance for earlier in life.earlier] == ["alive"]


async def test_results_of_another_deployment_and_damaged_ones_are_told(tmp_path: Path) -> None:
    """No worker with these settings would hand them in."""
    async with lived(tmp_path, tmp_path / "temp", "alive"):
        kept(tmp_path, "alive", url="https://elsewhere.example")
        torn = kept(tmp_path, "other")
        (torn / entry.SEAL).write_text("torn", encoding="utf-8")
        (torn.parent / "file").touch()
        (tmp_path / "lives" / "other" / "lock").touch()
        found = look_at_outbox(tmp_path, HERE)
    words = sorted((each.level.value, each.words) for each in found if each.name == "outbox")
    assert [level for level, _ in words] == ["error", "error", "warning"]
    assert "https://elsewhere.example" in words[2][1]


def test_refused_results_are_told_with_their_reasons(tmp_path: Path) -> None:
    """They are kept for a week only."""
    place = kept(tmp_path, "alive")
    RefusedResults(tmp_path).take(place, "lease_lost: gone\x1b")
    (found,) = (each for each in look_at_outbox(tmp_path, HERE) if each.name != "outbox")
    assert (found.level, "1 results could not be handed in" in found.words) == (Level.WARNING, True)
    assert "lease_lost: gone\\x1b" in found.words


async def test_results_of_an_instance_that_is_not_started_any_more_are_found(
    tmp_path: Path,
) -> None:
    """Somebody went from two workers to one."""
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
    kept(tmp_path / "1", "own")
    kept(tmp_path / "3", "left")
    (tmp_path / "3" / "lives" / "left" / "lock").touch()
    async with lived(tmp_path / "2", tmp_path / "temp", "alive"):
        kept(tmp_path / "2", "alive")
        (found,) = look_at_neighbours(tmp_path, tmp_path / "1")
    assert look_at_neighbours(tmp_path / "none", tmp_path / "none" / "1") == []
    assert "1 results of instance 3 wait" in found.words
    assert "systemctl start fondation-worker@3" in str(found.advice)


# The whole command


async def test_every_check_is_made_whatever_is_wrong(tmp_path: Path) -> None:
    """Nothing is configured, nothing is there; each line that is not well says what to do."""
    bare = {"PATH": "/nonexistent", "HOME": str(tmp_path)}
    done = await run("doctor", "--json", **bare)
    assert (done.status, done.err) == (2, "")
    document = json.loads(done.out)
    names = {finding["name"] for finding in document["findings"]}
    assert names >= {"configuration", "convex", "worker key", "functions", "clock", "credential"}
    assert names >= {"git", "claude cli", "state directory", "work directory", "disk", "outbox"}
    assert document["errors"] == sum(f["level"] == "error" for f in document["findings"]) > 3
    assert all(f["advice"] for f in document["findings"] if f["level"] != "ok")
    assert list(tmp_path.iterdir()) == []


async def test_every_fault_of_the_settings_is_told_and_no_secret(tmp_path: Path) -> None:
    """A secret of a wrong form is one all the same; what is foreign plays with no terminal."""
    (tmp_path / "worker.conf").write_text("[worker]\nlease_time = soon\nnonsense = \x1b[31m\n")
    secrets = {
        "WORKER_KEY": "fluorite-of-the-worker",
        "OPERATOR_KEY": "fluorite short",
        "ANTHROPIC_API_KEY": "sk-ant-oat01-fluorite",
        "CONVEX_URL": "http://fluorite-of-the-worker.invalid",
        "STATE_DIR": f"{tmp_path}/fluorite-of-the-worker",
    }
    done = await run("doctor", "--config", str(tmp_path / "worker.conf"), **secrets)
    assert done.status == 2
    for said in ("LEASE_TIME: 'soon'", "nonsense is not a setting", "OPERATOR_KEY: the value"):
        assert said in done.out
    assert "fluorite" not in done.out + done.err
    assert "\x1b" not in done.out
    lines = done.out.splitlines()
    assert sum("do: " in line for line in lines) == sum(
        line.startswith(("error", "warning")) for line in lines
    )


@pytest.fixture
def another_user() -> Iterator[list[str]]:
    """Give what makes a command run on a host that has the packaged user: a view of its own."""
    with tempfile.TemporaryDirectory(prefix="fondation-test-") as made:
        for file, line in (
            ("passwd", "fondation-worker:x:61234:61234::/nonexistent:/usr/sbin/nologin"),
            ("group", "fondation-worker:x:61234:"),
        ):
            text = Path("/etc", file).read_text(encoding="utf-8")
            Path(made, file).write_text(f"{text}{line}\n", encoding="utf-8")
            Path(made, file).chmod(0o644)
        mounts = " && ".join(f"mount --bind {made}/{f} /etc/{f}" for f in ("passwd", "group"))
        view = ["setpriv", "--groups", "4,24", "unshare", "--mount"]
        view += ["sh", "-c", f'{mounts} && exec "$@"', "sh"]
        if os.geteuid() or subprocess.run([*view, "true"], check=False).returncode:
            pytest.skip("only root, and only where it may mount, can have another user")
        if not all(above.stat().st_mode & stat.S_IXOTH for above in Path(sys.executable).parents):
            pytest.skip("another user can run nothing of a checkout that is closed to others")
        yield view


async def test_root_gives_its_rights_up_before_the_cli_runs(
    another_user: list[str], tmp_path: Path
) -> None:
    """It reads the secrets that only root can read, then is the worker's user for good."""
    with tempfile.TemporaryDirectory(prefix="fondation-test-") as made:
        top = Path(made)
        top.chmod(0o711)
        (top / "seen").mkdir()
        (top / "seen").chmod(0o777)
        who = f"open(f'{top}/seen/{{os.getpid()}}', 'w').write(open('/proc/self/status').read())"
        cli = standing_in(top, who)
        (top / "key").write_text("canary-of-the-worker", encoding="utf-8")
        (top / "key").chmod(0o600)
        (top / "state").mkdir(mode=0o700)
        os.chown(top / "state", 61234, 61234)
        settings = {
            "CLAUDE_CLI": str(cli),
            "WORKER_KEY_FILE": str(top / "key"),
            "CONVEX_URL": "http://127.0.0.1:9",
            "ANTHROPIC_API_KEY": "placeholder-of-a-key",
            "STATE_DIR": str(top / "state"),
            "TEMP_DIR": str(top / "state" / "work"),
        }
        findings = await as_root(another_user, settings, cwd=tmp_path)
        seen = [file.read_text(encoding="utf-8") for file in (top / "seen").iterdir()]
        owners = {file.stat().st_uid for file in (top / "seen").iterdir()}
    assert len(seen) == 2  # its version, and the canaries
    assert owners == {61234}
    for status in seen:
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == ["61234"] * 4
        assert fields["Gid"].split() == ["61234"] * 4
        assert (fields["Groups"].split(), int(fields["CapEff"], 16)) == ([], 0)
    assert "user fondation-worker (61234)" in findings["user"]["words"]
    for name in ("configuration", RUN, *TRAPS, "state directory", "work directory"):
        assert findings[name]["level"] == "ok", findings[name]


async def as_root(
    view: list[str], settings: dict[str, str], *, cwd: Path
) -> dict[str, dict[str, Any]]:
    """Return what the doctor finds in *view*, by name; no secret may be in it."""
    process = await asyncio.create_subprocess_exec(
        *view,
        *(str(PROGRAM), "doctor", "--json"),
        env={"PATH": os.environ["PATH"], "HOME": "/root"} | settings,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b"", shlex.join(view)
    assert b"canary-of-the-worker" not in out
    return {finding["name"]: finding for finding in json.loads(out)["findings"]}
