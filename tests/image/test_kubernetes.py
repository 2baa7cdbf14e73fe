"""The pod of packaging/kubernetes/worker.yaml, with directories as the kubelet makes them.

It gives them to the pod's group, and shows secrets through symbolic links.
"""

import json
import os
from pathlib import Path

from tests.fleet.containers import UID
from tests.fleet.test_kubernetes import ENV, MOUNTS, POD, VOLUMES, WORKER
from tests.image.test_localconvex import MODEL, World, world

BIND = "type=bind,source={},target={}"


def made(home: Path, secrets: Path) -> dict[str, Path]:
    """Make the volumes of the pod below *home*; return them by name."""
    places = {name: home / name for name in MOUNTS}
    home.mkdir()
    for name, mode in (("state", 0o2775), ("tmp", 0o2777), ("secrets", 0o2775)):
        places[name].mkdir()
        os.chown(places[name], 0, POD["securityContext"]["fsGroup"])
        places[name].chmod(mode)
    data = places["secrets"] / "..2026_11_26"
    data.mkdir()
    (places["secrets"] / "..data").symlink_to(data.name)
    for name in ("worker-key", MODEL):
        file = data / name
        file.write_bytes((secrets / name).read_bytes())
        os.chown(file, 0, POD["securityContext"]["fsGroup"])
        file.chmod(VOLUMES["secrets"]["secret"]["defaultMode"])
        (places["secrets"] / name).symlink_to(f"..data/{name}")
    return places


def words(there: World, places: dict[str, Path]) -> list[str]:
    """Return the words of docker that say what the manifest says."""
    values = {name: variable.get("value", "a-pod") for name, variable in ENV.items()}
    values |= {"CONVEX_URL": "http://convex:3210", "DISK_FLOOR": "1MiB"}
    security = POD["securityContext"]
    mounts = [
        BIND.format(places[name], mount["mountPath"]) + ",readonly" * mount.get("readOnly", False)
        for name, mount in MOUNTS.items()
    ]
    return [
        *("run", "--detach", "--name", "pod", "--read-only"),
        *("--security-opt", "no-new-privileges"),
        *(f"--cap-drop={name}" for name in WORKER["securityContext"]["capabilities"]["drop"]),
        f"--user={security['runAsUser']}:{security['runAsGroup']}",
        *(f"--mount={mount}" for mount in mounts),
        *(f"--env={name}={value}" for name, value in values.items()),
        *there.options,
        *there.hosts,
        there.project.image("worker"),
    ]


async def test_the_pod_does_a_job(suite: str, tmp_path: Path) -> None:
    """With a root that is read-only, as the user and with the volumes of the manifest."""
    async with world(suite, tmp_path) as there:
        await there.local_deployment()
        places = made(tmp_path / "pod", there.project.secrets)
        await there.docker(*words(there, places))
        job = await there.job("look")
        assert job["status"] == "completed", job
        health = await there.docker("exec", "pod", "fondation-worker", "health", "--json")
        assert json.loads(health.out)["workerId"] == "a-pod"
        await there.docker("stop", "--time", "20", "pod")
        assert await there.docker.container("pod").ended() == 0, there.says("pod")
        assert (places["state"] / "state").stat().st_uid == UID
        assert list((places["tmp"] / "fondation/work").iterdir()) == []
