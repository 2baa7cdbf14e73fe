"""A login of the CLI instead of a key: used where it lies."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.stack import CLAUDE
from tests.fakes.messages_api import say
from tests.flow.stage import on_stage
from tests.logins import FILE, TOKEN, login
from tests.processes import until


def logged_in(directory: Path) -> Path:
    """Make *directory* what `claude auth login` leaves; return it."""
    directory.mkdir()
    (directory / FILE).write_text(login(), encoding="utf-8")
    return directory


async def test_a_job_runs_with_the_login_of_the_cli(tmp_path: Path) -> None:
    """In place: a copy that is renewed would log its owner out. It shows in no log."""
    place = logged_in(tmp_path / "login")
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(ANTHROPIC_API_KEY="", CLAUDE_CONFIG_DIR=str(place))
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        assert {request.credential for request in stage.api.asked("")} == {
            ("authorization", f"Bearer {TOKEN}")
        }
        assert TOKEN not in worker.messages()
        assert (place / ".claude.json").exists()


class ReadOnly:
    """A login in a file system that its worker may only read, as in a container's volume."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def keep(self, content: str) -> None:
        """Write the login, as somebody does who may write there."""
        self._remount("rw")
        (self.place / FILE).write_text(content, encoding="utf-8")
        self._remount("ro")

    def _remount(self, how: str) -> None:
        subprocess.run(("mount", "-o", f"remount,{how}", str(self.place)), check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[ReadOnly]:
    """Mount a place for a login."""
    place = tmp_path / "login"
    place.mkdir()
    mounting = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    if os.geteuid() or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root, and only where it may mount, can make a read-only place")
    try:
        yield ReadOnly(place)
    finally:
        subprocess.run(("umount", "--lazy", str(place)), check=True)


async def test_a_login_that_can_only_be_read_is_used_and_never_renewed(
    tmp_path: Path, read_only: ReadOnly
) -> None:
    """The run is given the access token alone: with nothing else it can renew nothing."""
    read_only.keep(login())
    before = (read_only.place / FILE).read_bytes()
    told, cli = tmp_path / "told", tmp_path / "claude"
    cli.write_text(f'#!/bin/sh\nenv >>{told}\nexec {CLAUDE} "$@"\n', encoding="utf-8")
    cli.chmod(0o755)
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(
            ANTHROPIC_API_KEY="", CLAUDE_CONFIG_DIR=str(read_only.place), CLAUDE_CLI=str(cli)
        )
        assert (await stage.ended(await stage.enqueue()))["status"] == "completed"
        assert {request.credential for request in stage.api.asked("")} == {
            ("authorization", f"Bearer {TOKEN}")
        }
        assert TOKEN not in worker.messages()
    environment = told.read_text(encoding="utf-8")
    assert f"CLAUDE_CODE_OAUTH_TOKEN={TOKEN}" in environment
    assert str(read_only.place) not in environment
    assert (read_only.place / FILE).read_bytes() == before
    assert [path.name for path in read_only.place.iterdir()] == [FILE]


async def test_a_login_that_has_expired_where_it_can_only_be_read_waits_for_its_owner(
    tmp_path: Path, read_only: ReadOnly
) -> None:
    """Nothing is claimed, the reason is told, and a new login ends it without a restart."""
    read_only.keep(login(good_for=-3600))
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        job_id = await stage.enqueue()
        worker = await stage.worker(ANTHROPIC_API_KEY="", CLAUDE_CONFIG_DIR=str(read_only.place))
        await until(lambda: "claiming nothing" in worker.messages())
        page = await stage.page(worker, "/readyz")
        assert page.status == 503
        assert "expired 60 min ago, and it is not renewed" in page.text
        assert (await stage.becomes(worker, "unhealthy", "expired")).status == 503
        assert (await stage.queue.job(job_id))["status"] == "pending"
        read_only.keep(login())
        assert (await stage.ended(job_id))["status"] == "completed"


async def test_no_credential_at_all_is_told_with_every_way_to_have_one(tmp_path: Path) -> None:
    """Nothing is claimed only to fail."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(ANTHROPIC_API_KEY="", CLAUDE_CONFIG_DIR=str(tmp_path / "none"))
        await until(lambda: "claude auth login" in worker.messages())
        assert await worker.ended() == 78
        assert "CLAUDE_CODE_OAUTH_TOKEN" in worker.messages()
        assert "there is no login" in worker.messages()
