"""packaging/compose.yaml: what it says fits the image, the settings, and this tree.

Its form is judged by the published schema (tests/test_linters.py).
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml.constructor import DuplicateKeyError

from devtools.dashboards import BOARDS
from fondation_worker import config
from fondation_worker.installation import SECRET_FILES
from tests.fleet.containers import (
    BY_NAME,
    COMPOSE,
    KUBERNETES,
    SECRETS,
    composed,
    documents,
    image_environment,
    seconds,
    size,
    variables,
)
from tests.fleet.prometheus import TOP

PLACE = COMPOSE.parent
YAMLS = [COMPOSE, KUBERNETES, *sorted((PLACE / "compose").rglob("*.y*ml"))]
URL = {"CONVEX_URL": "https://happy-otter-123.convex.cloud"}
ALL = composed(URL)
SERVICES: dict[str, dict[str, Any]] = ALL["services"]
WORKER = SERVICES["worker"]
OURS = ("worker", "operator")
MARGIN = 10.0  # seconds that giving back what runs may take
MIB = 1 << 20
OF_THE_WORKER, OF_A_RUN = 100 * MIB, 450 * MIB  # docs/operations.md, "Memory issues"

of_each = pytest.mark.parametrize("name", SERVICES)


def settings(service: dict[str, Any]) -> config.Config:
    """Return the settings of a worker that runs as *service* says; BadSettings for a fault."""
    secrets = {"WORKER_KEY": "a worker's key", "ANTHROPIC_API_KEY": "placeholder"}
    keys = {name: value.replace(" ", "-") for name, value in secrets.items()}
    return config.load(image_environment() | service["environment"] | keys)


def bound(service: dict[str, Any]) -> dict[str, Path]:
    """Return what of this host a service sees, by the path that it sees it at."""
    mounts = [mount.split(":") for mount in service.get("volumes", ())]
    return {target: PLACE / source for source, target, *_ in mounts if source.startswith(".")}


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.name)
def test_no_key_stands_twice(file: Path) -> None:
    """The second would rule without a word."""
    assert all(documents(file))


def test_a_key_that_stands_twice_is_found(tmp_path: Path) -> None:
    """By the reader that is used here."""
    (tmp_path / "twice.yaml").write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(DuplicateKeyError):
        documents(tmp_path / "twice.yaml")


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    """And none is misspelt."""
    assert set(BY_NAME) >= set(SERVICES[name]["environment"])


def test_the_values_are_those_of_a_worker_that_starts() -> None:
    """Together with the image's own."""
    assert settings(WORKER).convex_url == URL["CONVEX_URL"]
    assert settings(WORKER).max_concurrent_jobs == 1


def test_a_deployment_must_be_named() -> None:
    """In words, before anything is started."""
    with pytest.raises(KeyError, match=r"CONVEX_URL is not set\. Write into \.env beside"):
        composed({})


def test_there_is_time_to_drain() -> None:
    """And then to give back what runs."""
    drain = settings(WORKER).drain_time
    assert drain == 60
    assert seconds(WORKER["stop_grace_period"]) >= drain + MARGIN


@of_each
def test_nothing_has_a_privilege(name: str) -> None:
    """Nor a way to one, nor a place to write that no line names."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    opened = {"privileged", "cap_add", "user", "devices", "pid", "ipc", "network_mode"}
    assert not opened & set(service)


@of_each
def test_nothing_fills_the_host(name: str) -> None:
    """Neither its disk with logs, nor its memory or its table of processes."""
    service = SERVICES[name]
    assert size(service["logging"]["options"]["max-size"]) <= 64 * MIB
    assert service["logging"]["options"]["max-file"] == "5"
    assert {"mem_limit", "pids_limit"} <= set(service)


@of_each
def test_ports_are_open_to_this_host_only(name: str) -> None:
    """There is no password on them."""
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_workers_can_be_many() -> None:
    """Nothing of one is in the way of the next, and each has a name of its own."""
    assert not {"container_name", "hostname"} & set(WORKER)
    (port,) = WORKER["ports"]
    first, last, inner = re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):(\d+)", port).groups()  # type: ignore[union-attr]
    assert int(last) - int(first) == 9
    assert settings(WORKER).health_address == ("0.0.0.0", int(inner))  # noqa: S104
    assert WORKER["command"] == ["sh", "-c", "WORKER_ID=$HOSTNAME exec fondation-worker run"]


def test_what_a_worker_writes_is_writable() -> None:
    """Its state outlives it; clones and the socket are its own."""
    its = settings(WORKER)
    (state,) = (mount.split(":")[1] for mount in WORKER["volumes"])
    assert Path(state) in its.state_dir.parents
    (scratch,) = (mount.split(":") for mount in WORKER["tmpfs"])
    for path in (its.temp_dir, its.control_socket):
        assert Path(scratch[0]) in path.parents
    assert "mode=1777" in scratch[1].split(",")  # for any uid


def test_a_clone_fits_into_the_memory_that_it_lies_in() -> None:
    """The largest takes its size twice, and a worker claims only above its floor."""
    its = settings(WORKER)
    (options,) = (mount.split(":")[1].split(",") for mount in WORKER["tmpfs"])
    scratch = size(options[0].removeprefix("size="))
    assert 2 * its.repository_size_limit + its.disk_floor <= scratch
    assert scratch + OF_THE_WORKER + its.max_concurrent_jobs * OF_A_RUN <= size(WORKER["mem_limit"])


@pytest.mark.parametrize("model", ["claude-oauth-token", "anthropic-api-key"])
def test_secrets_arrive_under_the_names_that_the_worker_looks_for(model: str) -> None:
    """As files; and each gets only what it needs."""
    chosen = composed(URL | {"MODEL_SECRET": model})
    files = {name: Path(secret["file"]) for name, secret in chosen["secrets"].items()}
    found = {}
    for name, service in chosen["services"].items():
        wanted = service.get("secrets", ())
        pairs = [(one, one) if isinstance(one, str) else one.values() for one in wanted]
        found[name] = {target: files[source].name for source, target in pairs}
    assert found.pop("worker") == {"worker-key": "worker-key", model: model}
    assert found.pop("operator") == {"operator-key": "operator-key"}
    assert set(found.pop("convex")) == {"worker-key", "operator-key"}
    assert not any(found.values())
    assert {file.name for file in files.values()} <= set(SECRET_FILES.values())


def test_no_secret_gets_into_the_repository() -> None:
    """Nor into the image."""
    places = [COMPOSE.parent / ".env", COMPOSE.parent / "secrets" / "worker-key"]
    ignored = subprocess.run(
        ["git", "check-ignore", *places], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.split() == [str(place) for place in places]
    for file in (TOP / ".dockerignore", TOP / "packaging/localconvex/Dockerfile.dockerignore"):
        everything, *let_in = [
            line for line in file.read_text(encoding="utf-8").splitlines() if line[:1] != "#"
        ]
        assert everything == "*"
        assert not {"!packaging", "!packaging/", "!*"} & set(let_in)


def test_the_local_deployment_is_where_the_workers_are_told() -> None:
    """Under the name of its service, and with the keys that it makes the digests of."""
    service = SERVICES["convex"]
    _, url = service["command"]
    port = url.rpartition(":")[2]
    assert url == f"http://convex:{port}"
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    dockerfile = (TOP / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    assert f"EXPOSE {port}\n" in dockerfile
    assert f"VOLUME {service['volumes'][0].split(':')[1]}\n" in dockerfile
    start = (TOP / "packaging/localconvex/start").read_text(encoding="utf-8")
    assert set(re.findall(r"\(digest ([\w-]+)\)", start)) == set(service["secrets"])
    assert f"{SECRETS}/$1" in start


def test_whatever_is_shown_to_a_service_is_there() -> None:
    """A directory that is not would be made, and be empty."""
    shown = [path for service in SERVICES.values() for path in bound(service).values()]
    assert shown
    assert [path for path in shown if not path.exists()] == []


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    """By the files that it is given at its start."""
    grafana, prometheus = SERVICES["grafana"], SERVICES["prometheus"]
    (sources,) = documents(PLACE / "compose/grafana/datasources/prometheus.yaml")
    (source,) = sources["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    port = prometheus["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{port}"
    (providers,) = documents(PLACE / "compose/grafana/dashboards/fondation-worker.yaml")
    where = providers["providers"][0]["options"]["path"]
    assert {file.name for file in bound(grafana)[where].glob("*.json")} == set(BOARDS)
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (str(home.parent), home.name) == (where, "fleet.json")


@of_each
def test_images_are_of_one_version(name: str) -> None:
    """Of others' programs; ours are built. No digest stands here: none was read from a registry."""
    image, service = SERVICES[name]["image"], SERVICES[name]
    assert "@" not in image
    assert "build" in service or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", image)


def test_the_pages_know_every_variable() -> None:
    """docs/containers.md has a table of them, with their defaults."""
    text = (TOP / "docs" / "containers.md").read_text(encoding="utf-8")
    section = text.partition("## Compose\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| (.*?) \|", section, re.MULTILINE)
    told = dict(pair for names, values in rows for pair in _pairs(names, values))
    assert told == variables()


def _pairs(names: str, values: str) -> Iterator[tuple[str, str]]:
    """Give each of the names in a row its default."""
    defaults = re.findall(r"`([^`]+)`", values)
    found = re.findall(r"`([^`]+)`", names)
    return zip(found, defaults or [""] * len(found), strict=True)
