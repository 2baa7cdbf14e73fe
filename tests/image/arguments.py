"""What a `docker` command line says, as values. What this engine does not know it refuses."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Refused(Exception):
    """This engine does not know it; a real one may."""


class Parser(argparse.ArgumentParser):
    """A command's options; its first word that is none ends them, as with docker."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"docker {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise Refused."""
        raise Refused(f"{self.prog}: {message}")

    def flags(self, *names: str) -> None:
        """Know options that have no value."""
        for name in names:
            self.add_argument(*name.split("|"), action="store_true")

    def lists(self, *names: str) -> None:
        """Know options that may be given many times."""
        for name in names:
            self.add_argument(*name.split("|"), action="append", default=[])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """What is to be seen at *target*: a path of the host, a volume (new without a name), memory."""

    kind: str  # bind, volume or tmpfs
    target: str
    source: str = ""
    read_only: bool = False
    create: bool = False  # a path that is not there is made, a directory of root's
    options: tuple[str, ...] = ()  # of a tmpfs

    @property
    def nameless(self) -> bool:
        """Whether it is a volume that nobody named."""
        return self.kind == "volume" and not self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a container, published at one of the host's."""

    address: str
    outer: int
    inner: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When a container that has ended is started again."""

    policy: str  # no, on-failure, unless-stopped or always
    limit: int = 0  # of restarts; 0 for none

    def wanted(self, status: int, restarts: int) -> bool:
        """Tell whether to start it again, after its exit *status* and so many *restarts*."""
        if self.policy == "on-failure":
            return status != 0 and (self.limit == 0 or restarts < self.limit)
        return self.policy != "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The words of `docker run`."""

    image: str
    command: tuple[str, ...]
    name: str | None
    detach: bool
    interactive: bool
    terminal: bool
    remove: bool
    restart: Restart
    ports: tuple[Port, ...]
    environment: tuple[str, ...]  # NAME=VALUE
    mounts: tuple[Mount, ...]
    read_only: bool
    capabilities_dropped: tuple[str, ...]
    capabilities_added: tuple[str, ...]
    no_new_privileges: bool
    user: str | None
    stop_timeout: float | None  # seconds
    memory: int | None  # bytes
    processes: int | None
    hosts: tuple[str, ...]  # NAME:ADDRESS
    hostname: str | None
    entrypoint: str | None
    directory: str | None


def run_of(words: Sequence[str]) -> Run:
    """Parse the words after `docker run`; raise Refused."""
    parser = Parser("run")
    parser.flags("-d|--detach", "-i|--interactive", "-t|--tty", "--rm", "--read-only")
    parser.lists("-p|--publish", "-e|--env", "--env-file", "-v|--volume", "--mount", "--tmpfs")
    parser.lists("--cap-drop", "--cap-add", "--security-opt", "--add-host", "--log-opt")
    for option in ("--name", "--entrypoint", "-w|--workdir", "-u|--user", "-h|--hostname"):
        parser.add_argument(*option.split("|"))
    parser.add_argument("--restart", type=restart, default=Restart(policy="no"))
    parser.add_argument("--stop-timeout", type=float)
    parser.add_argument("-m", "--memory", type=size)
    parser.add_argument("--pids-limit", type=int)
    parser.add_argument("--log-driver", choices=("json-file", "local"))
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args(words)
    unknown = set(given.security_opt) - {"no-new-privileges", "no-new-privileges:true"}
    if unknown:
        parser.error(f"--security-opt {', '.join(unknown)}")
    return Run(
        image=given.image,
        command=tuple(given.command),
        name=given.name,
        detach=given.detach,
        interactive=given.interactive,
        terminal=given.tty,
        remove=given.rm,
        restart=given.restart,
        ports=tuple(port(text) for text in given.publish),
        environment=(*_of_files(given.env_file), *variables(given.env)),
        mounts=(
            *(volume(text) for text in given.volume),
            *(mount(text) for text in given.mount),
            *(tmpfs(text) for text in given.tmpfs),
        ),
        read_only=given.read_only,
        capabilities_dropped=tuple(given.cap_drop),
        capabilities_added=tuple(given.cap_add),
        no_new_privileges=bool(given.security_opt),
        user=given.user,
        stop_timeout=given.stop_timeout,
        memory=given.memory,
        processes=given.pids_limit,
        hosts=tuple(given.add_host),
        hostname=given.hostname,
        entrypoint=given.entrypoint,
        directory=given.workdir,
    )


def restart(text: str) -> Restart:
    """Parse `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`."""
    policy, colon, limit = text.partition(":")
    if policy == "on-failure":
        return Restart(policy=policy, limit=int(limit or 0))
    if policy in {"no", "always", "unless-stopped"} and not colon:
        return Restart(policy=policy)
    raise argparse.ArgumentTypeError(f"no such policy: {text}")


def size(text: str) -> int:
    """Parse a size in bytes, as 512m."""
    found = re.fullmatch(r"(\d+)([bkmg]?)", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"no size: {text}")
    return int(found[1]) * UNITS[found[2]]


def port(text: str) -> Port:
    """Parse `[ADDRESS:]OUTER:INNER[/tcp]`."""
    found = re.fullmatch(r"(?:([\d.]+):)?(\d+):(\d+)(?:/tcp)?", text)
    if found is None:
        raise Refused(f"docker run: --publish {text}")
    return Port(address=found[1] or "0.0.0.0", outer=int(found[2]), inner=int(found[3]))  # noqa: S104


def volume(text: str) -> Mount:
    """Parse `[SOURCE:]TARGET[:ro]`."""
    match text.split(":"):
        case [target]:
            return Mount(kind="volume", target=target)
        case [source, target]:
            pass
        case [source, target, "ro" | "rw"]:
            pass
        case _:
            raise Refused(f"docker run: --volume {text}")
    found = Mount(kind="volume", source=source, target=target, read_only=text.endswith(":ro"))
    return replace(found, kind="bind", create=True) if "/" in source else found


def mount(text: str) -> Mount:
    """Parse `type=bind|volume|tmpfs,source=…,target=…[,readonly]` and the like."""
    parts = (part.partition("=") for part in text.split(","))
    given = {key: value if equals else "true" for key, equals, value in parts}
    kind = given.pop("type", "volume")
    source = given.pop("source", given.pop("src", ""))
    target = given.pop("target", given.pop("destination", given.pop("dst", "")))
    read_only = given.pop("readonly", given.pop("ro", "false")) == "true"
    options = [
        f"{key.removeprefix('tmpfs-')}={given.pop(key)}"
        for key in ("tmpfs-size", "tmpfs-mode")
        if key in given
    ]
    if given or not target or kind not in {"bind", "volume", "tmpfs"}:
        raise Refused(f"docker run: --mount {text}")
    return Mount(
        kind=kind,
        source=source,
        target=target,
        read_only=read_only,
        options=tuple(options),
    )


def tmpfs(text: str) -> Mount:
    """Parse `TARGET[:OPTION,…]`."""
    target, _, options = text.partition(":")
    return Mount(kind="tmpfs", target=target, options=tuple(filter(None, options.split(","))))


def variables(given: Sequence[str]) -> list[str]:
    """Give each variable its value; a bare NAME has that of this process, or is left out."""
    known = [text for text in given if "=" in text or text in os.environ]
    return [text if "=" in text else f"{text}={os.environ[text]}" for text in known]


def _of_files(paths: Sequence[str]) -> list[str]:
    """Return the variables that files name, one in a line."""
    lines = [line for path in paths for line in Path(path).read_text("utf-8").splitlines()]
    return variables([line for line in lines if line.strip() and not line.startswith("#")])
