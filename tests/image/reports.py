"""What `docker inspect` and `docker ps` tell about containers."""

import json
import re
from collections.abc import Iterable
from typing import Any

from tests.image.arguments import Refused
from tests.image.container import Container
from tests.image.made import Done


def document(container: Container, health: Done | None) -> dict[str, Any]:
    """Return what `docker inspect` shows; *health* is how the health check ended, if it ran."""
    made = container.made
    state: dict[str, Any] = {
        "Status": container.status,
        "Running": container.status == "running",
        "Restarting": container.status == "restarting",
        "OOMKilled": container.memory_killed,
        "Pid": container.pid,
        "ExitCode": container.exit_code,
    }
    if health is not None:
        state["Health"] = {
            "Status": "unhealthy" if health.status else "healthy",
            "Log": [{"ExitCode": health.status, "Output": health.out + health.err}],
        }
    return {
        "Id": made.id,
        "Name": f"/{made.name}",
        "State": state,
        "RestartCount": container.restarts,
        "Config": {
            "Image": made.run.image,
            "Hostname": made.hostname,
            "User": made.image.user if made.run.user is None else made.run.user,
            "StopSignal": made.image.stop_signal,
        },
        "NetworkSettings": {"IPAddress": made.address},
        "Mounts": [
            {
                "Type": mount.kind,
                "Source": mount.source,
                "Destination": mount.target,
                "RW": not mount.read_only,
            }
            for mount in made.mounts
        ],
    }


def formatted(template: str, found: dict[str, Any]) -> str:
    """Fill a template that has nothing but `{{.Name.Name}}` and `{{json .Name}}`; raise Refused."""

    def value(match: re.Match[str]) -> str:
        at: Any = found
        for name in filter(None, match[2].split(".")):
            at = at[name]
        if match[1] or isinstance(at, (bool, dict, list)):
            return json.dumps(at)
        return str(at)

    filled = re.sub(r"\{\{(json )?((?:\.\w+)+)\}\}", value, template)
    if "{{" in filled:
        raise Refused(f"docker inspect: --format {template}")
    return filled


def table(containers: Iterable[Container]) -> str:
    """Return what `docker ps` shows."""
    rows = [("CONTAINER ID", "IMAGE", "STATUS", "NAMES")]
    for container in containers:
        made = container.made
        ended = f" ({container.exit_code})" if container.status == "exited" else ""
        rows.append((made.id[:12], made.run.image, container.status + ended, made.name))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)
