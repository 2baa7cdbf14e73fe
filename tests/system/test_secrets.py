"""Keys and people: what is missing, what is wrong, what is changed, and who may do what."""

import aiohttp
import pytest

from fondation_worker.installation import LOGIN
from tests.fakes.messages_api import Status, say
from tests.logins import FILE, TOKEN, login
from tests.system.machine import both
from tests.system.site import CREDENTIALS, Site, service, socket_of, url

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def fails_once(site: Site) -> str:
    """Check that worker 1 fails to start, once and for good; return its `systemctl status`."""
    await site.stop(1)
    started = await site.machine.run("systemctl", "start", service(1), check=False)
    assert started.returncode != 0
    shown = await site.machine.show(service(1), "ActiveState", "NRestarts", "ExecMainStatus")
    assert shown == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78"}
    await site.become("inactive", socket_of(1))
    status = await site.machine.run("systemctl", "status", "--full", service(1), check=False)
    await site.machine.run("systemctl", "reset-failed", service(1))
    return status.stdout


async def test_without_a_key_it_fails_once_and_names_the_file(site: Site) -> None:
    """No restart mends that."""
    await site.machine.run("rm", f"{CREDENTIALS}/worker-key")
    said = await fails_once(site)
    await site.give_secrets()
    assert "WORKER_KEY" in said
    assert f"{CREDENTIALS}: worker-key," in said


async def test_without_a_credential_for_the_model_it_fails_once_and_names_the_file(
    site: Site,
) -> None:
    """Neither key, nor token, nor a login of the service user."""
    await site.machine.run("rm", f"{CREDENTIALS}/anthropic-api-key")
    said = await fails_once(site)
    await site.give_secrets()
    assert "ANTHROPIC_API_KEY" in said
    assert f"{CREDENTIALS}: worker-key, anthropic-api-key," in said


async def test_a_login_of_the_services_user_serves_instead_of_a_key(site: Site) -> None:
    """It lies in that user's home, where the unit may write: the CLI renews it there."""
    await site.machine.run("rm", f"{CREDENTIALS}/anthropic-api-key")
    owned = ("install", "--owner=fondation-worker", "--group=fondation-worker")
    await site.machine.run(*owned, "--mode=700", "--directory", str(LOGIN))
    await site.machine.write("/run/login", login(), 0o600)
    await site.machine.run(*owned, "--mode=600", "/run/login", f"{LOGIN}/{FILE}")
    await site.systemctl("restart", 1)
    await site.only(1)
    await site.outside.completed(await site.outside.enqueue("by a login"))
    (asked, *_) = site.outside.api.asked("by a login")
    assert asked.credential == ("authorization", f"Bearer {TOKEN}")
    assert await site.machine.exists(f"{LOGIN}/.claude.json")
    await site.machine.run("rm", "--recursive", str(LOGIN), "/run/login")
    await site.give_secrets()
    await site.systemctl("restart", 1)


async def test_encrypted_secrets_serve_as_the_guide_says(site: Site) -> None:
    """One of them, by a drop-in: it rules over the plain file, which may be gone."""
    await site.machine.run("mkdir", "--parents", "/etc/fondation-worker/encrypted")
    encrypted = "/etc/fondation-worker/encrypted/worker-key"
    await site.machine.run(
        *("systemd-creds", "encrypt", "--with-key=host", "--name=fondation_worker-key"),
        *(f"{CREDENTIALS}/worker-key", encrypted),
    )
    await site.machine.run("rm", f"{CREDENTIALS}/worker-key")
    line = f"LoadCredentialEncrypted=fondation_worker-key:{encrypted}"
    await site.drop_in("encrypted", f"[Service]\n{line}\n")
    await site.systemctl("restart", 1)
    await site.becomes_ready()
    await site.no_drop_in("encrypted")
    await site.machine.run("rm", "--recursive", "/etc/fondation-worker/encrypted")
    await site.give_secrets()
    await site.systemctl("restart", 1)


async def test_a_key_that_convex_does_not_know_is_said(site: Site) -> None:
    """The worker runs, is not ready, and names the key."""
    await site.give_secrets(**{"worker-key": "a-key-that-nobody-knows"})
    await site.systemctl("restart", 1)

    async def refused() -> tuple[int, str] | None:
        status, reason = await site.readiness()
        return (status, reason) if status == 503 and "key" in reason.lower() else None

    await site.machine.until(refused, what="for /readyz to name the key")
    assert await site.state() == "active"
    assert "key" in (await site.status()).lower()
    await site.give_secrets()
    await site.systemctl("restart", 1)
    await site.becomes_ready()


async def test_a_changed_key_is_noticed_by_a_reload_and_used_after_a_restart(site: Site) -> None:
    """While both are valid, no job is lost."""
    await site.give_secrets(**{"worker-key": site.outside.next_key})
    await site.systemctl("reload", 1)
    (line,) = await site.events("restart_needed")
    assert "worker-key" in line["MESSAGE"]
    await site.systemctl("restart", 1)
    await site.only(1)
    job = await site.outside.enqueue("rotated")
    await site.outside.completed(job)
    await site.give_secrets()
    await site.systemctl("restart", 1)


async def test_a_credential_that_the_model_refuses_closes_the_gate(site: Site) -> None:
    """The job waits unspent, and /readyz and the journal say why."""
    await site.only(1)
    refused = say("# Done\n", Status(code=401, times=2))
    job = await site.outside.enqueue("refused credential", refused)

    async def said() -> list[dict[str, object]]:
        return await site.events("credential_refused")

    (line, *_) = await site.machine.until(said, limit=60, what="for the refused credential")
    assert line["PRIORITY"] == "4"
    assert (await site.outside.queue.job(job))["attempts"] == 0
    await site.outside.queue.cancel(job)
    await site.systemctl("restart", 1)


async def test_only_root_and_its_group_may_pause_a_worker(site: Site) -> None:
    """Over the unix socket; the TCP address answers nobody's orders."""
    await site.machine.run("useradd", "--no-create-home", "stranger")
    await site.machine.run("useradd", "--no-create-home", "--groups=fondation-worker", "member")

    async def ask(user: str, verb: str) -> tuple[int, str]:
        words = ("fondation-worker", verb, "--instance", "1")
        done = await site.machine.run("runuser", "--user", user, "--", *words, check=False)
        return done.returncode, both(done)

    status, said = await ask("stranger", "pause")
    assert status != 0, said
    assert (await site.health())["paused"] is None
    for user in ("root", "member"):
        status, said = await ask(user, "pause")
        assert status == 0, said
        assert (await site.health())["paused"] is not None
        assert (await site.readiness())[0] == 503
        status, said = await ask(user, "resume")
        assert status == 0, said
        assert (await site.health())["paused"] is None
    async with aiohttp.request("POST", url(1, "pause")) as answer:
        assert answer.status in {403, 404, 405}
    assert (await site.health())["paused"] is None
