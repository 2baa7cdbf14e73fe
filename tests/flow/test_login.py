"""A login of the CLI instead of a key: used where it lies."""

from pathlib import Path

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


async def test_no_credential_at_all_is_told_with_every_way_to_have_one(tmp_path: Path) -> None:
    """Nothing is claimed only to fail."""
    async with on_stage(tmp_path, say("# Done\n")) as stage:
        worker = await stage.worker(ANTHROPIC_API_KEY="", CLAUDE_CONFIG_DIR=str(tmp_path / "none"))
        await until(lambda: "claude auth login" in worker.messages())
        assert await worker.ended() == 78
        assert "CLAUDE_CODE_OAUTH_TOKEN" in worker.messages()
        assert "is not there" in worker.messages()
