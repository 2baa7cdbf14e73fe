"""What a reload changes, and what it must leave alone."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from devtools.stack import CLAUDE
from fondation_worker.config import Config, load
from fondation_worker.reload import Reloader, merged
from fondation_worker.settings import SETTINGS

OTHERS = {
    "CONVEX_URL": "https://other.convex.cloud",
    "WORKER_KEY": "another-key-of-this-worker",
    "CONVEX_FUNCTIONS": "other/",
    "WORKER_ID": "other",
    "CLAUDE_CLI": "/bin/sh",
    "CLAUDE_MODEL": "other",
    "ANTHROPIC_BASE_URL": "https://other.example.com",
    "ANTHROPIC_API_KEY": "another-credential",
    "TEMP_DIR": "/srv/other",
    "STATE_DIR": "/srv/other-state",
    "CONTROL_SOCKET": "/srv/other.sock",
    "ALLOW_LOCAL_REPOSITORIES": "1",
    "HEALTH_ADDRESS": "off",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "debug",
    "MAX_CONCURRENT_JOBS": "7",
    "MEMORY_PRESSURE_LIMIT": "7",
    "DISK_FLOOR": "7GiB",
    "REPOSITORY_SIZE_LIMIT": "7GiB",
    "REPOSITORY_FILES_LIMIT": "7",
    "LEASE_TIME": "17min",
}
AFTER_RESTART = {
    *("CONVEX_URL", "CONVEX_FUNCTIONS", "WORKER_ID", "LEASE_TIME", "HEARTBEAT_INTERVAL"),
    *("TEMP_DIR", "STATE_DIR", "CONTROL_SOCKET", "HEALTH_ADDRESS"),
}


INSTEAD_OF_THE_KEY = {"CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"}


def settings(home: Path, **changed: str) -> dict[str, str]:
    """Return the environment of a worker below *home*."""
    return {
        "CONVEX_URL": "https://happy.convex.cloud",
        "WORKER_KEY": "a-key-of-this-worker",
        "ANTHROPIC_API_KEY": "placeholder",
        "CLAUDE_CLI": str(CLAUDE),
        "STATE_DIR": str(home / "state"),
        "TEMP_DIR": str(home / "work"),
        "CONTROL_SOCKET": str(home / "control.sock"),
    } | changed


@pytest.mark.parametrize(
    "name", [setting.name for setting in SETTINGS if setting.name not in INSTEAD_OF_THE_KEY]
)
def test_each_setting_is_applied_or_told_to_need_a_restart(tmp_path: Path, name: str) -> None:
    """One or the other, for every row of the table; and nothing else changes with it."""
    before = load(settings(tmp_path))
    after, told = merged(before, load(settings(tmp_path, **{name: OTHERS.get(name, "7s")})))
    changed = {f.name for f in fields(Config) if getattr(before, f.name) != getattr(after, f.name)}
    if name in AFTER_RESTART:
        assert (told.applied, told.needs_restart, changed) == ((), (name,), set())
    else:
        field = "credential" if name == "ANTHROPIC_API_KEY" else name.lower()
        assert (told.applied, told.needs_restart, changed) == ((name,), (), {field})


@pytest.mark.parametrize(
    ("kind", "value"),
    [("CLAUDE_CODE_OAUTH_TOKEN", "a-long-token"), ("CLAUDE_CONFIG_DIR", "/srv/login")],
)
def test_another_kind_of_credential_is_applied(tmp_path: Path, kind: str, value: str) -> None:
    """From an API key to a token, or to a login."""
    before = load(settings(tmp_path))
    other = settings(tmp_path, ANTHROPIC_API_KEY="", **{kind: value})
    after, told = merged(before, load(other))
    assert told.applied == (kind,)
    assert (after.credential.kind, after.credential.value) == (kind, value)


class Program:
    """A program that can be reloaded, and what it was told to apply."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.applied: list[Config] = []
        started = load(self.environ)
        self.reloader = Reloader(started, lambda: load(self.environ), self.applied.append)


def test_faults_are_all_told_and_nothing_is_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even what is right beside them."""
    program = Program(settings(tmp_path))
    program.environ |= {"POLL_INTERVAL": "soon", "LOG_LEVEL": "loud", "DRAIN_TIME": "1s"}
    told = program.reloader.reload()
    assert program.applied == []
    assert (told.applied, len(told.faults)) == ((), 2)
    for words in ("POLL_INTERVAL: 'soon'", "LOG_LEVEL: 'loud'", "the settings stay as they were"):
        assert words in caplog.text


def test_what_only_the_host_can_tell_is_a_fault_too(tmp_path: Path) -> None:
    """A CLI that is not there would fail every job."""
    program = Program(settings(tmp_path))
    program.environ["CLAUDE_CLI"] = "/nowhere/claude"
    assert "CLAUDE_CLI" in program.reloader.reload().faults[0]
    assert program.applied == []


def test_a_restart_is_asked_for_until_it_happens(tmp_path: Path) -> None:
    """The second reload says so again, and does not say what is applied already."""
    program = Program(settings(tmp_path))
    program.environ |= {"STATE_DIR": str(tmp_path / "other"), "DRAIN_TIME": "7s"}
    first, second = program.reloader.reload(), program.reloader.reload()
    assert (first.applied, first.needs_restart) == (("DRAIN_TIME",), ("STATE_DIR",))
    assert (second.applied, second.needs_restart) == ((), ("STATE_DIR",))
    (config,) = program.applied
    assert (config.drain_time, config.state_dir) == (7.0, tmp_path / "state")
    assert not (tmp_path / "other").exists()


def test_the_log_names_what_changed_and_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Names only."""
    caplog.set_level("INFO")
    program = Program(settings(tmp_path))
    program.environ |= {"WORKER_KEY": "another-key-of-this-worker", "LOG_LEVEL": "debug"}
    program.reloader.reload()
    assert "changed: LOG_LEVEL, WORKER_KEY" in caplog.text
    assert "another-key" not in caplog.text
