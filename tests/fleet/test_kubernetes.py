"""packaging/kubernetes/worker.yaml: what it says fits the image, the settings, and itself.

Its form is judged by Kubernetes' own schemas (tests/test_linters.py).
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fondation_worker import config
from fondation_worker.installation import SECRET_FILES
from tests.fleet.containers import (
    BY_NAME,
    KUBERNETES,
    SECRETS,
    UID,
    documents,
    image_environment,
    size,
)
from tests.fleet.prometheus import TOP
from tests.fleet.test_compose import MARGIN, OF_A_RUN, OF_THE_WORKER
from tests.fleet.test_rules import promtool

CLAIM, DEPLOYMENT = documents(KUBERNETES)
TEMPLATE = DEPLOYMENT["spec"]["template"]
POD: dict[str, Any] = TEMPLATE["spec"]
(WORKER,) = POD["containers"]
ENV = {variable["name"]: variable for variable in WORKER["env"]}
MOUNTS = {mount["name"]: mount for mount in WORKER["volumeMounts"]}
VOLUMES = {volume["name"]: volume for volume in POD["volumes"]}
PORT_LABEL = "__meta_kubernetes_pod_container_port_name"
PORT = {"path": "/livez", "port": "health"}


def its_settings() -> config.Config:
    """Return the settings of the worker in the pod; BadSettings for a fault."""
    values = {name: variable.get("value", "a-name") for name, variable in ENV.items()}
    keys = {"WORKER_KEY": "a-worker's-key", "ANTHROPIC_API_KEY": "placeholder"}
    return config.load(image_environment() | values | keys)


def test_every_variable_is_a_setting() -> None:
    """With a value that a worker starts with, or the pod's name."""
    assert set(BY_NAME) >= set(ENV)
    assert its_settings().max_concurrent_jobs == 1
    source = {"fieldRef": {"fieldPath": "metadata.name"}}
    assert [name for name, variable in ENV.items() if "value" not in variable] == ["WORKER_ID"]
    assert ENV["WORKER_ID"]["valueFrom"] == source


def test_there_is_time_to_drain() -> None:
    """And then to give back what runs."""
    assert its_settings().drain_time == 60
    assert POD["terminationGracePeriodSeconds"] >= 60 + MARGIN


def test_it_has_no_privilege() -> None:
    """Nor a way to one."""
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert WORKER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(POD)


def test_only_a_process_that_does_nothing_is_restarted() -> None:
    """By `/livez`, after two minutes; a start has a minute. `/readyz` shows."""
    probes = {name: WORKER[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    asked = {name: probe["httpGet"] for name, probe in probes.items()}
    assert asked == {"startup": PORT, "liveness": PORT, "readiness": PORT | {"path": "/readyz"}}
    patience = {
        name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in probes.items()
    }
    assert patience == {"startup": 60, "liveness": 120, "readiness": 30}


def test_it_is_asked_where_it_answers() -> None:
    """At the address that the image sets."""
    (port,) = WORKER["ports"]
    assert its_settings().health_address == ("0.0.0.0", port["containerPort"])  # noqa: S104
    assert port["name"] == "health"


def test_what_it_writes_is_writable() -> None:
    """Its state outlives the pod; clones and the socket do not."""
    its = its_settings()
    assert Path(MOUNTS["state"]["mountPath"]) in its.state_dir.parents
    for path in (its.temp_dir, its.control_socket):
        assert Path(MOUNTS["tmp"]["mountPath"]) in path.parents
    claim = VOLUMES["state"]["persistentVolumeClaim"]["claimName"]
    assert claim == CLAIM["metadata"]["name"]
    assert its.disk_floor < size(CLAIM["spec"]["resources"]["requests"]["storage"])


def test_one_disk_has_one_pod() -> None:
    """Two would wait for each other's, at every change."""
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}


def test_a_clone_fits_and_so_does_a_run() -> None:
    """The largest clone takes its size twice; the rest is for the CLI's own files."""
    its, resources = its_settings(), WORKER["resources"]
    scratch = size(VOLUMES["tmp"]["emptyDir"]["sizeLimit"])
    assert 2 * its.repository_size_limit * its.max_concurrent_jobs < scratch
    assert scratch <= size(resources["requests"]["ephemeral-storage"])
    assert scratch < size(resources["limits"]["ephemeral-storage"])
    needed = OF_THE_WORKER + its.max_concurrent_jobs * OF_A_RUN
    for kind in ("requests", "limits"):
        assert needed <= size(resources[kind]["memory"])


def test_secrets_are_files_under_the_names_that_the_worker_looks_for() -> None:
    """Readable to its group alone; the command that makes them names them so."""
    mount, secret = MOUNTS["secrets"], VOLUMES["secrets"]["secret"]
    assert (mount["mountPath"], mount["readOnly"]) == (SECRETS, True)
    assert secret == {"secretName": "fondation-worker", "defaultMode": 0o440}
    text = KUBERNETES.read_text(encoding="utf-8")
    (command,) = re.findall(r"kubectl create secret generic (.+)$", text, re.MULTILINE)
    name, *files = command.split()
    assert name == secret["secretName"]
    named = {file.removeprefix("--from-file=") for file in files}
    assert named == {"worker-key", "claude-oauth-token"} <= set(SECRET_FILES.values())


def test_prometheus_finds_the_pods(tmp_path: Path) -> None:
    """By what docs/containers.md has it look for, and under their names.

    Debian's knows no Kubernetes: it is told of two pods as that would tell it.
    """
    text = (TOP / "docs" / "containers.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", text, re.DOTALL)
    asked = "kubernetes_sd_configs:\n      - role: pod\n"
    assert asked in written
    pods = [
        {"targets": [f"10.0.0.{number}:8080"], "labels": labels}
        for number, labels in enumerate((_of_the_pod(), _of_the_pod() | {PORT_LABEL: "other"}))
    ]
    told = written.replace(asked, f"static_configs: {json.dumps(pods)}\n")
    (tmp_path / "prometheus.yml").write_text(told, encoding="utf-8")
    said = promtool(
        *("check", "service-discovery", "--timeout=1s"),
        *(tmp_path / "prometheus.yml", "fondation-worker"),
    )
    found = [target["labels"] for target in json.loads(said) if target["labels"]]
    assert [(one["job"], one["instance"]) for one in found] == [("fondation-worker", "a-pod")]


def _of_the_pod() -> dict[str, str]:
    """Return what Kubernetes tells Prometheus of a pod of ours."""
    label = TEMPLATE["metadata"]["labels"]["app.kubernetes.io/name"]
    return {
        "__meta_kubernetes_pod_label_app_kubernetes_io_name": label,
        PORT_LABEL: WORKER["ports"][0]["name"],
        "__meta_kubernetes_pod_name": "a-pod",
    }


def test_the_image_is_this_version() -> None:
    """So that two pods of one manifest are one program."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert WORKER["image"].endswith(f"/{project['name']}:{project['version']}")


def test_the_deployment_finds_its_pods() -> None:
    """By the labels that it gives them."""
    wanted = DEPLOYMENT["spec"]["selector"]["matchLabels"].items()
    assert wanted <= TEMPLATE["metadata"]["labels"].items()


@pytest.mark.parametrize("place", sorted(MOUNTS))
def test_every_mount_has_its_volume(place: str) -> None:
    """And every volume is used."""
    assert set(MOUNTS) == set(VOLUMES)
    assert MOUNTS[place]["mountPath"].startswith("/")
