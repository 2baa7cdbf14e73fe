"""A packaged worker as a service: started, stopped, restarted, hung, reloaded."""

import re
from pathlib import Path

import pytest

from tests.fleet.prometheus import example, prometheus
from tests.system.site import WORKER_CONF, Site, service, socket_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOCKET = "/run/fondation-worker/1.sock"
SHORT_WATCHDOG = "[Service]\nWatchdogSec=3s\n"


async def test_health_is_answered_on_an_address_of_its_own(site: Site) -> None:
    """Instance 1 on localhost, instance 2 beside it, and readiness in one word."""
    for host, worker in (("localhost", "1"), ("127.0.0.2", "2")):
        asked = ("curl", "--silent", "--show-error", "--fail")
        await site.becomes_ready(int(worker))
        health = await site.machine.run(*asked, f"http://{host}:8080/health")
        assert f'"workerId": "{site.machine.suite}-{worker}"' in health.stdout
        ready = await site.machine.run(*asked, f"http://{host}:8080/readyz")
        assert ready.stdout.strip() == "ready"


async def test_curl_and_jq_read_what_a_worker_says(site: Site) -> None:
    """As the documents write it, on the machine itself."""
    await site.systemctl("restart", 1)  # its counters begin at 0
    await site.becomes_ready()
    for line, words in (
        ("curl -s localhost:8080/health | jq -r .status", "healthy"),
        ("curl -s localhost:8080/metrics | jq .jobs_total", "0"),
        ("curl -s localhost:8080/metrics | jq .worker_max_concurrent_jobs", "1"),
    ):
        assert (await site.machine.run("sh", "-c", line)).stdout.strip() == words, line


async def test_a_restart_loses_no_request(site: Site) -> None:
    """The socket stays, and whoever asks meanwhile waits for the new process."""
    await site.becomes_ready()
    before = await site.main_pid()
    async with site.asked_all_the_time() as answers:
        await site.systemctl("restart", 1)
        await site.becomes_ready()
    assert set(answers) == {200}
    assert await site.main_pid() != before


async def test_a_crash_loses_no_request(site: Site) -> None:
    """They wait for RestartSec, too."""
    await site.becomes_ready()
    before = await site.main_pid()
    async with site.asked_all_the_time() as answers:
        await site.machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", service(1))
        await site.machine.until(site.another_than(before), what="for the restart")
        await site.becomes_ready()
    assert set(answers) == {200}


async def test_a_stopped_worker_stays_stopped(site: Site) -> None:
    """Nobody listens any more: a scrape is refused, and starts nothing."""
    await site.stop(1)
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await site.health()
    refused = await site.machine.run(
        "curl", "--unix-socket", "/run/fondation-worker/1.sock", "http://-/health", check=False
    )
    assert refused.returncode != 0
    assert await site.state() == "inactive"
    await site.systemctl("start", 1)
    await site.becomes_ready()


async def test_the_target_stops_and_starts_those_that_are_enabled(site: Site) -> None:
    """One word for all of them."""
    await site.systemctl("enable", 1)
    await site.machine.run("systemctl", "stop", "fondation-worker.target")
    await site.become("inactive", service(1), service(2))
    await site.machine.run("systemctl", "start", "fondation-worker.target")
    await site.becomes_ready(1)
    assert await site.state(2) == "inactive"
    await site.systemctl("disable", 1)
    await site.systemctl("start", 2)


async def test_a_hung_worker_is_restarted_with_its_stacks_in_the_journal(site: Site) -> None:
    """Stopped by SIGSTOP it feeds no watchdog; SIGABRT makes it tell where it stood."""
    await site.drop_in("watchdog", SHORT_WATCHDOG)
    await site.systemctl("restart", 1)
    await site.becomes_ready()
    hung = await site.main_pid()
    await site.machine.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", service(1))
    await site.machine.until(site.another_than(hung), limit=40, what="for the restart")
    lines = await site.machine.journal(f"--unit={service(1)}", f"_PID={hung}")
    said = "\n".join(str(line["MESSAGE"]) for line in lines)
    assert "Fatal Python error: Aborted" in said
    # Of the loop's own thread; continued by then, it may be cut short anywhere below its top.
    assert re.search(r'File ".*/asyncio/\w+\.py", line \d+ in \w+', said), said
    assert (await site.machine.show(service(1), "NRestarts"))["NRestarts"] == "1"
    await site.no_drop_in("watchdog")
    await site.systemctl("restart", 1)
    await site.becomes_ready()


async def test_a_good_reload_is_applied(site: Site) -> None:
    """`systemctl reload` returns when it is done, and the journal says what changed."""
    await site.becomes_ready()
    before = await site.main_pid()
    already = len(await site.events("reloaded"))
    await site.configure(log_level="debug")
    await site.systemctl("reload", 1)
    (line,) = (await site.events("reloaded"))[already:]
    assert "LOG_LEVEL" in line["MESSAGE"]
    assert await site.main_pid() == before
    await site.configure(log_level="info")
    await site.systemctl("reload", 1)


async def test_a_bad_reload_fails_and_the_worker_goes_on(site: Site) -> None:
    """With the settings that it had; what is wrong stands in the journal."""
    await site.becomes_ready()
    before = await site.main_pid()
    await site.configure(poll_interval="soon", nonsense="1")
    reloaded = await site.machine.run("systemctl", "reload", service(1), check=False)
    assert reloaded.returncode != 0
    assert await site.events("reload_refused")
    journal = await site.machine.run("journalctl", "--no-pager", f"--unit={service(1)}")
    assert "POLL_INTERVAL: 'soon' is not a duration" in journal.stdout
    assert f"{WORKER_CONF}: nonsense is not a setting" in journal.stdout
    assert await site.state() == "active"
    assert await site.main_pid() == before
    del site.settings["nonsense"]
    await site.configure(poll_interval="1s")
    await site.systemctl("reload", 1)
    await site.only(1)
    job = await site.outside.enqueue("after a bad reload")
    await site.outside.completed(job)


async def test_a_port_that_is_taken_keeps_no_worker_from_its_work(site: Site) -> None:
    """It runs, and says what it could not have."""
    await site.stop(1, 2)
    with site.taken_port(1):
        await site.systemctl("start", 1)
        job = await site.outside.enqueue("the port is taken")
        await site.outside.completed(job)
        lines = await site.events("port_taken")
        assert any("127.0.0.1:8080" in line["MESSAGE"] for line in lines)
        assert {line["PRIORITY"] for line in lines} <= {"3", "4"}
        assert "127.0.0.1:8080" in await site.status()
        await site.machine.run("fondation-worker", "health", "--instance", "1")
        await site.systemctl("stop", 1)
    await site.machine.run("systemctl", "reset-failed", socket_of(1))
    await site.systemctl("start", 1, 2)
    await site.becomes_ready()


async def test_without_convex_it_starts_and_is_not_ready(site: Site) -> None:
    """An outage is no failure: the unit is active, says what is missing, and recovers by itself."""
    await site.stop(1)
    await site.outside.backend.stop()
    await site.systemctl("start", 1)
    await site.says("Convex unreachable, retrying")
    status, reason = await site.readiness()
    assert status == 503
    assert "Convex" in reason
    assert "\n" not in reason
    assert await site.state() == "active"
    await site.outside.backend.restart()
    await site.becomes_ready()
    await site.says("convex ok")


async def test_the_settings_are_found_by_every_command(site: Site) -> None:
    """The operator's commands need no flag but the instance."""
    seen = await site.machine.run("fondation-worker", "health", "--instance", "1")
    assert f"{site.machine.suite}-1" in seen.stdout
    assert await site.machine.exists(WORKER_CONF)


async def test_a_prometheus_scrapes_every_instance(site: Site, tmp_path: Path) -> None:
    """With the configuration and the rules of the package, as they are."""
    for number in (1, 2):
        await site.becomes_ready(number)
    async with prometheus(tmp_path / "prometheus", example({})) as asked:
        await asked.until("sum(up)", 2)
        await asked.until("sum(fondation_worker_ready)", 2)
        workers = await asked.ask("fondation_worker_worker_info")
        names = {series["metric"]["worker_id"] for series in workers}
        assert names == {f"{site.machine.suite}-1", f"{site.machine.suite}-2"}
        assert await asked.value("sum(fondation_worker_processes)") == 4


async def test_the_status_page_is_on_the_port_and_on_the_socket(site: Site) -> None:
    """Whoever has no port can still look."""
    for at in (("http://localhost:8080/",), ("--unix-socket", SOCKET, "http://-/")):
        page = await site.machine.run("curl", "--silent", "--fail", *at)
        assert f"{site.machine.suite}-1" in page.stdout
        assert "</html>" in page.stdout
