"""What the settings come to: every fault reported at once, one frozen value for each program."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fondation_worker import advice
from fondation_worker.errors import BadSettings
from fondation_worker.installation import (
    FOR_ALL,
    Instance,
    hostname,
    is_packaged,
    secret_files,
)
from fondation_worker.settings import CONTROL_SETTINGS, OPERATOR_KEY, OPERATOR_SETTINGS, SETTINGS
from fondation_worker.sources import CREDENTIAL_KINDS, TOKEN_KIND, Sources, missing, read

__all__ = [
    "CREDENTIAL_KINDS",
    "LOGIN_KIND",
    "Config",
    "ControlConfig",
    "Credential",
    "OperatorConfig",
    "Survey",
    "load",
    "load_control",
    "load_operator",
    "secrets_of",
    "survey",
]


LOGIN_KIND = "CLAUDE_CONFIG_DIR"
CONTROL_NAME = "control.sock"  # below STATE_DIR


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the model's service is shown; `kind` is the environment variable that carries it.

    With a login that is CLAUDE_CONFIG_DIR, and the value no secret but the directory that the CLI
    keeps its login in. It is used in place, never a copy: the CLI renews it, and each of its
    refresh tokens serves once.
    """

    kind: str  # ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN or LOGIN_KIND
    value: str = field(repr=False)

    @property
    def is_login(self) -> bool:
        """Whether it is a login that the CLI keeps by itself."""
        return self.kind == LOGIN_KIND


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, checked. Durations are seconds."""

    convex_url: str
    worker_key: str = field(repr=False)
    convex_functions: str  # a path prefix that ends in "/", or ""
    worker_id: str | None  # None: a name is made once and kept in state_dir
    poll_interval: float
    lease_time: float
    heartbeat_interval: float
    max_concurrent_jobs: int
    job_timeout: float
    clone_timeout: float
    stall_time: float
    tool_time: float
    repository_size_limit: int  # bytes
    repository_files_limit: int
    disk_floor: int  # bytes; 0 for none
    memory_pressure_limit: float  # per cent of 10 s
    drain_time: float
    upgrade_drain: float
    temp_dir: Path
    state_dir: Path
    control_socket: Path
    allow_local_repositories: bool
    claude_cli: str
    claude_model: str | None
    anthropic_base_url: str | None
    credential: Credential
    health_address: tuple[str, int] | None
    log_format: str
    log_level: str

    def key_travels_in_the_open(self) -> bool:
        """Whether the key leaves this host without encryption."""
        parts = urlsplit(self.convex_url)
        here = {"localhost", "127.0.0.1", "::1"}
        return parts.scheme == "http" and parts.hostname not in here


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """What the operator's commands about jobs need: a deployment, and the key to it."""

    convex_url: str
    convex_functions: str
    operator_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """Where a worker on this host is asked."""

    control_socket: Path
    fallback_socket: Path  # where it listens when it could not have that one
    health_address: tuple[str, int] | None
    instance: Instance | None  # of the package, if it is one


class Survey(NamedTuple):
    """Settings that may have faults: the values of those that have none, by NAME."""

    values: Mapping[str, Any]
    faults: list[str]
    files: tuple[Path, ...]  # that were read


def load(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
    instance: Instance | None = None,
) -> Config:
    """Return the settings of *file*, overridden by *environ*, overridden by *flags* (by NAME).

    Below all of them are those of the packaged *instance*. Raises BadSettings with every fault that
    was found. Empty values count as not set.
    """
    faults: list[str] = []
    values = read(SETTINGS, _sources(environ, flags, file, instance), faults)
    _cross_checks(values, faults)
    if faults:
        raise BadSettings(faults)
    return _config(values, environ)


def load_operator(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
    instance: Instance | None = None,
) -> OperatorConfig:
    """Return what the commands about jobs need, from the same sources; raise BadSettings.

    The worker's own settings may stand beside it, and are neither needed nor judged.
    """
    faults: list[str] = []
    values = read(OPERATOR_SETTINGS, _sources(environ, flags, file, instance), faults)
    missing(OPERATOR_SETTINGS, values, faults)
    if faults:
        raise BadSettings(faults)
    return OperatorConfig(**{name.lower(): value for name, value in values.items()})


def load_control(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
    instance: Instance | None = None,
) -> ControlConfig:
    """Return where this host's worker is asked, from the same sources; raise BadSettings.

    What else is wrong with the files of an *instance* is no reason not to ask it: it has sockets
    that are known without them, and judges its files itself.
    """
    faults: list[str] = []
    values = read(CONTROL_SETTINGS, _sources(environ, flags, file, instance), faults)
    if instance:
        names = {setting.name for setting in CONTROL_SETTINGS}
        faults = [fault for fault in faults if fault.partition(":")[0] in names]
    if faults:
        raise BadSettings(faults)
    return ControlConfig(
        control_socket=_control_socket(values, environ),
        fallback_socket=_state_dir(values, environ) / CONTROL_NAME,
        health_address=values["HEALTH_ADDRESS"],
        instance=instance,
    )


def survey(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
    instance: Instance | None = None,
) -> Survey:
    """Return what there is of a worker's settings, and OPERATOR_KEY, with every fault of `load`."""
    faults: list[str] = []
    sources = _sources(environ, flags, file, instance)
    values = read((*SETTINGS, OPERATOR_KEY), sources, faults)
    _cross_checks(values, faults)
    found = {"STATE_DIR": _state_dir(values, environ)}
    return Survey(values=values | found, faults=faults, files=sources.files)


def _sources(
    environ: Mapping[str, str],
    flags: Mapping[str, str] | None,
    file: Path | None,
    instance: Instance | None,
) -> Sources:
    """Return where the settings are read: a packaged program knows its places by itself."""
    defaults, files = {}, [file] if file else []
    if instance:
        defaults = instance.defaults(hostname())
        files = [each for each in instance.files if each.exists()] + files
    elif is_packaged() and not file and FOR_ALL.exists():
        files = [FOR_ALL]
    on_host = instance is not None or is_packaged()
    return Sources(
        defaults=defaults | secret_files(environ, on_host=on_host),
        files=tuple(files),
        environ=environ,
        flags=flags or {},
    )


def _cross_checks(values: Mapping[str, Any], faults: list[str]) -> None:
    """Add what is wrong between settings, and what is missing."""
    said = " ".join(faults)
    missing(SETTINGS, values, faults)
    lease, heartbeat = values.get("LEASE_TIME"), values.get("HEARTBEAT_INTERVAL")
    if lease and heartbeat and heartbeat > lease / 2:
        faults.append(
            f"HEARTBEAT_INTERVAL: {heartbeat:g} s is more than half of LEASE_TIME ({lease:g} s):"
            f" one lost renewal would lose the job; for example: {max(1, int(lease / 5))}s"
        )
    set_kinds = [kind for kind in CREDENTIAL_KINDS if kind in values]
    if len(set_kinds) > 1:
        faults.append(f"{' and '.join(set_kinds)} are both set; keep one")
    is_known = set_kinds or LOGIN_KIND in values
    if not is_known and not any(kind in said for kind in (*CREDENTIAL_KINDS, LOGIN_KIND)):
        (token,) = (setting for setting in SETTINGS if setting.name == TOKEN_KIND)
        faults.append(
            "ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (or the same with _FILE) is not set;"
            f" {advice.to_set(token)}"
        )


def _config(values: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Put the parsed values together."""
    plain: dict[str, Any] = {f.name: values.get(f.name.upper()) for f in fields(Config)}
    kind = next(kind for kind in (*CREDENTIAL_KINDS, LOGIN_KIND) if kind in values)
    plain["credential"] = Credential(kind=kind, value=str(values[kind]))
    plain["state_dir"] = _state_dir(values, environ)
    plain["control_socket"] = _control_socket(values, environ)
    return Config(**plain)


def _control_socket(values: Mapping[str, Any], environ: Mapping[str, str]) -> Path:
    """Return where pause and resume are answered: the setting, or a name in the state directory."""
    socket: Path = values.get("CONTROL_SOCKET") or _state_dir(values, environ) / CONTROL_NAME
    return socket


def _state_dir(values: Mapping[str, Any], environ: Mapping[str, str]) -> Path:
    set_to: Path = values.get("STATE_DIR") or _state_home(environ) / "fondation-worker"
    return set_to


def _state_home(environ: Mapping[str, str]) -> Path:
    """Return where a user's programs keep their state (XDG Base Directory Specification)."""
    set_to = Path(environ.get("XDG_STATE_HOME", ""))
    return set_to if set_to.is_absolute() else Path(environ.get("HOME", "/")) / ".local" / "state"


def secrets_of(config: Config) -> tuple[str, ...]:
    """Return every secret in *config*, for the redactor."""
    credential = config.credential
    return (config.worker_key,) if credential.is_login else (config.worker_key, credential.value)
