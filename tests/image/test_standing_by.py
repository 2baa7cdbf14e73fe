"""What is missing or wrong in a container is no crash: it is told, with what to add."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.image.dock import Dock
from tests.logins import TOKEN, login

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOG_IN = (
    "sudo install -d -m 700 -o 1001 -g 1001 /srv/claude-creds; then docker run -it --rm"
    " -v /srv/claude-creds:/home/worker/.claude fondation-worker /bin/sh"
)


async def test_without_anything_everything_to_add_is_told_at_once(dock: Dock) -> None:
    """The image alone, as somebody starts it who has read nothing."""
    await dock.docker("run", "-d", "--name=bare", "fondation-worker")
    said = await dock.stands_by("bare", "-e CONVEX_URL=https://")
    assert "-v /srv/worker-key:/run/secrets/worker-key:ro" in said
    assert LOG_IN in said
    assert (await dock.state("bare"))["Health"]["Status"] == "unhealthy"
    await dock.docker("stop", "bare")
    assert (await dock.state("bare"))["ExitCode"] == 0
    await dock.remove("bare")


async def test_a_read_only_login_does_jobs(dock: Dock) -> None:
    """By its access token: not a byte of it changes."""
    creds = dock.log_in("creds-good")
    mount = ("-v", f"{creds}:/home/worker/.claude:ro")
    await dock.start("reads", *mount, model=False)
    job_id = await dock.outside.enqueue_held("with a login")
    await dock.outside.asked("with a login")
    told = ""  # one more may be asked for its version
    for pid in await dock.runs_of_claude("reads"):
        with suppress(OSError):
            told += Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
    assert f"CLAUDE_CODE_OAUTH_TOKEN={TOKEN}\0" in told
    assert "=/home/worker/.claude\0" not in told
    dock.outside.release("with a login")
    await dock.outside.completed(job_id)
    assert os.listdir(dock.srv / "creds-good") == [".credentials.json"]  # noqa: PTH208
    await dock.remove("reads")


async def test_an_empty_directory_waits_for_a_login(dock: Dock) -> None:
    """As docker makes one that is not there: root's. With a login it begins by itself."""
    creds = dock.directory("creds-empty", user=0, mode=0o755)
    await dock.start("empty", "-v", f"{creds}:/home/worker/.claude:ro", model=False)
    said = await dock.stands_by("empty", "there is no login")
    assert LOG_IN in said
    dock.log_in("creds-empty")
    await dock.becomes_ready("empty")
    await dock.remove("empty")


async def test_an_unreadable_directory_is_told_with_its_user(dock: Dock) -> None:
    """Somebody else's login: the command that gives it to the container's user is there."""
    creds = dock.log_in("creds-closed", user=0)
    await dock.start("closed", "-v", f"{creds}:/home/worker/.claude:ro", model=False)
    said = await dock.stands_by("closed", "user 1001 may not read the login")
    assert "sudo chown -R 1001:1001 /srv/claude-creds" in said
    for path in (dock.srv / "creds-closed", dock.srv / "creds-closed/.credentials.json"):
        os.chown(path, 1001, 1001)
    await dock.becomes_ready("closed")
    await dock.remove("closed")


async def test_an_expired_login_claims_nothing_until_there_is_a_new_one(dock: Dock) -> None:
    """It is not renewed behind its owner's back, and no job is spent on it."""
    creds = dock.log_in("creds-expired", good_for=-7200)
    job_id = await dock.outside.enqueue("with an expired login")
    await dock.start("expired", "-v", f"{creds}:/home/worker/.claude:ro", model=False)
    said = await dock.stands_by("expired", "expired 2 h ago, and it is not renewed")
    assert LOG_IN in said
    assert (await dock.outside.queue.job(job_id))["status"] == "pending"
    dock.give("creds-expired/.credentials.json", login(), mode=0o600)
    await dock.outside.completed(job_id)
    await dock.remove("expired")


async def test_another_user_without_a_directory_is_told_how_to_give_it_one(dock: Dock) -> None:
    """What docker makes belongs to the image's user."""
    await dock.start("stranger", "--user=2000")
    said = await dock.stands_by("stranger", "STATE_DIR: '/var/lib/fondation-worker/state'")
    assert "sudo install -d -m 700 -o 2000 -g 2000 /srv/fondation-state" in said
    assert "-v /srv/fondation-state:/var/lib/fondation-worker" in said
    await dock.remove("stranger")


async def test_a_read_only_root_without_memory_for_work_is_told(dock: Dock) -> None:
    """With what to add."""
    await dock.start("tight", "--read-only")
    assert "add --tmpfs /tmp" in await dock.stands_by("tight", "TEMP_DIR: '/tmp/fondation/work'")
    doctor = await dock.docker("exec", "tight", "fondation-worker", "doctor", check=False)
    assert "is there room for temporary files" in doctor.out
    assert "a fault of this program" not in doctor.out
    await dock.remove("tight")


async def test_a_secret_that_cannot_be_read_is_told_with_its_user(dock: Dock) -> None:
    """Files keep their owner when they are mounted."""
    path = dock.give("root.key", dock.outside.keys.worker, user=0)
    await dock.start("secret", "-v", f"{path}:/run/secrets/WORKER_KEY:ro", key=False)
    said = await dock.stands_by("secret", "'/run/secrets/WORKER_KEY' cannot be read")
    assert "user 1001 may read" in said
    assert dock.outside.keys.worker not in dock.messages("secret")
    os.chown(dock.srv / "root.key", 1001, 1001)
    await dock.becomes_ready("secret")
    await dock.remove("secret")


async def test_an_image_without_the_cli_says_so(dock: Dock) -> None:
    """Whoever built it has to mount one."""
    await dock.docker("build", "-t", "small", "--build-arg", "WITH_CLAUDE=0", ".")
    await dock.start("small", image="small")
    said = await dock.stands_by("small", "CLAUDE_CLI: '/opt/fondation-worker/bin/claude'")
    assert "built with WITH_CLAUDE=0" in said
    await dock.remove("small")
