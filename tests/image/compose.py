"""A service of packaging/compose.yaml as the words of `docker run`: what compose itself does."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.fleet.containers import COMPOSE, SECRETS, composed, seconds

# What is not said to docker, or not to the one of these tests.
LEFT_OUT = {"build", "image", "profiles", "logging", "cpus", "init", "scale", "healthcheck"}


class Project:
    """The compose file with its variables, whose files of secrets lie in a directory of ours."""

    def __init__(
        self, environ: Mapping[str, str], images: Mapping[str, str], secrets: Path
    ) -> None:
        self._document = composed(environ)
        self._images = images
        self.secrets = secrets

    def image(self, name: str) -> str:
        """Return the image of a service."""
        return self._images[name]

    def words(
        self, name: str, number: int, *options: str, command: tuple[str, ...] = ()
    ) -> list[str]:
        """Return what to say after `docker` for container *number* of a service.

        *options* are docker's own, beside; a *command* takes the place of the service's.
        """
        service = self._document["services"][name]
        known = dict(self._options(service, number))
        assert set(service) <= set(known) | LEFT_OUT | {"command", "entrypoint"}, name
        entrypoint, *more = service.get("entrypoint", [""])
        return [
            *("run", "--name", f"{name}-{number}"),
            *(word for words in known.values() for word in words),
            *(["--entrypoint", entrypoint] if entrypoint else []),
            *options,
            self.image(name),
            *more,
            *(command or service.get("command", ())),
        ]

    def _options(self, service: dict[str, Any], number: int) -> Iterator[tuple[str, list[str]]]:
        """Give what each key of a *service* means to docker."""
        yield "restart", ["--restart", service["restart"]]
        yield "read_only", ["--read-only"] * service["read_only"]
        yield "cap_drop", [f"--cap-drop={name}" for name in service["cap_drop"]]
        yield "security_opt", [f"--security-opt={text}" for text in service["security_opt"]]
        environment = service.get("environment", {})
        yield "environment", [f"--env={name}={value}" for name, value in environment.items()]
        yield "tmpfs", [f"--tmpfs={text}" for text in service.get("tmpfs", ())]
        yield "volumes", [f"--volume={self._volume(text)}" for text in service.get("volumes", ())]
        yield "secrets", [f"--mount={text}" for text in self._mounted(service.get("secrets", ()))]
        yield "ports", [f"--publish={_port(text, number)}" for text in service.get("ports", ())]
        for key, option in (("mem_limit", "--memory"), ("pids_limit", "--pids-limit")):
            yield key, [f"{option}={service[key]}"] if key in service else []
        grace = service.get("stop_grace_period")
        yield "stop_grace_period", [f"--stop-timeout={seconds(grace)}"] if grace else []

    def _volume(self, text: str) -> str:
        source, rest = text.split(":", 1)
        return f"{COMPOSE.parent / source if source.startswith('.') else source}:{rest}"

    def _mounted(self, wanted: list[str | dict[str, str]]) -> Iterator[str]:
        files = {name: Path(one["file"]).name for name, one in self._document["secrets"].items()}
        for one in wanted:
            source, target = (one, one) if isinstance(one, str) else one.values()
            file = self.secrets / files[source]
            yield f"type=bind,source={file},target={SECRETS}/{target},readonly"


def _port(text: str, number: int) -> str:
    """Return the port of container *number*, from a range if there is one."""
    address, outer, inner = text.split(":")
    first = re.split("-", outer)[0]
    return f"{address}:{int(first) + number - 1}:{inner}"
