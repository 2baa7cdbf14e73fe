"""packaging/compose/prometheus.yml: workers are found by their service's name, however many."""

import os
import shutil
from pathlib import Path

import pytest

from tests.fakes.messages_api import say
from tests.fleet.containers import COMPOSE, composed
from tests.fleet.names import name_server
from tests.fleet.prometheus import own_address, prometheus
from tests.fleet.test_rules import promtool
from tests.flow.stage import on_stage

CONFIGURATION = COMPOSE.parent / "compose" / "prometheus.yml"
SERVICES = composed({"CONVEX_URL": "https://happy-otter-123.convex.cloud"})["services"]


def test_it_can_be_loaded_with_the_rules(tmp_path: Path) -> None:
    """Where the compose file puts both, beside each other."""
    shown = [mount.split(":") for mount in SERVICES["prometheus"]["volumes"]]
    for source, target, *_ in (mount for mount in shown if mount[0].startswith(".")):
        place = tmp_path / target.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(COMPOSE.parent / source, place)
    (option,) = (
        word for word in SERVICES["prometheus"]["command"] if word.startswith("--config.file=")
    )
    said = promtool("check", "config", tmp_path / option.removeprefix("--config.file=/"))
    assert "1 rule files found" in said


@pytest.mark.timeout(120)
@pytest.mark.skipif(os.geteuid() != 0, reason="a name server has a port below 1024")
async def test_scaled_workers_are_found(tmp_path: Path) -> None:
    """Each as a target of its own, of the job that the rules want."""
    text = CONFIGURATION.read_text(encoding="utf-8").replace("_interval: 15s", "_interval: 1s")
    addresses: list[str] = []
    server = own_address()
    async with on_stage(tmp_path / "stage", say("# Done\n")) as stage:
        for _ in range(2):
            addresses.append(own_address())
            await stage.worker(HEALTH_ADDRESS=f"{addresses[-1]}:8080")
        async with (
            name_server(server, "worker", addresses),
            prometheus(tmp_path / "prometheus", text, name_server=server) as there,
        ):
            await there.until('sum(up{job="fondation-worker"})', 2)
            addresses.append(own_address())
            await stage.worker(HEALTH_ADDRESS=f"{addresses[-1]}:8080")
            await there.until("count(fondation_worker_active_jobs)", 3)
            up = await there.ask('up{job="fondation-worker"} == 1')
            assert {row["metric"]["instance"] for row in up} == {f"{at}:8080" for at in addresses}
            del addresses[0]
            await there.until('count(up{job="fondation-worker"})', 2)
