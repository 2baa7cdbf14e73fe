"""What the settings come to: three sources, every fault reported at once, one frozen value.

A later source rules over an earlier one: INI file, environment, flags. Nothing here touches the
file system but `load`, which reads the INI file and the files that `*_FILE` settings name.
"""

import configparser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fondation_worker.errors import BadSettings
from fondation_worker.redact import Redactor
from fondation_worker.settings import SETTINGS, Setting

SECTION = "worker"
CREDENTIAL_KINDS = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What the model's service is shown; `kind` is the environment variable that carries it."""

    kind: str  # ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN
    value: str = field(repr=False)


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


def load(
    environ: Mapping[str, str],
    *,
    flags: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Return the settings of *file*, overridden by *environ*, overridden by *flags* (by NAME).

    Raises BadSettings with every fault that was found. Empty values count as not set.
    """
    faults: list[str] = []
    texts = _from_file(file, faults) if file else {}
    for source in (environ, flags or {}):
        said = {name: source[name] for name in _known_names() if source.get(name)}
        _overrule(texts, said)
        texts |= said
    values = dict(_parsed(texts, faults))
    _cross_checks(values, faults)
    if faults:
        raise BadSettings(faults)
    return _config(values, environ)


def _overrule(texts: dict[str, str], said: Mapping[str, str]) -> None:
    """Drop from *texts* what a later source has *said* in another form, NAME or NAME_FILE."""
    for setting in SETTINGS:
        forms = {setting.name, f"{setting.name}_FILE"}
        if setting.name in CREDENTIAL_KINDS:  # and so are the two kinds of credential
            forms = {form for kind in CREDENTIAL_KINDS for form in (kind, f"{kind}_FILE")}
        if setting.secret and forms & set(said):
            for form in forms:
                texts.pop(form, None)


def _known_names() -> Iterator[str]:
    for setting in SETTINGS:
        yield setting.name
        if setting.secret:
            yield f"{setting.name}_FILE"


def _from_file(file: Path, faults: list[str]) -> dict[str, str]:
    """Return the values in *file* by NAME, adding what is wrong with it to *faults*."""
    parser = configparser.ConfigParser(
        interpolation=configparser.ExtendedInterpolation(), default_section="-"
    )
    try:
        parser.read_string(file.read_text(encoding="utf-8"), source=str(file))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        faults.append(f"{file}: cannot be read: {error}")
        return {}
    faults.extend(
        f"{file}: section [{section}] is unknown; settings stand in [{SECTION}]"
        for section in parser.sections()
        if section != SECTION
    )
    if not parser.has_section(SECTION):
        return {}
    known = set(_known_names())
    texts = {}
    for key in parser.options(SECTION):
        if key.upper() not in known:
            faults.append(f"{file}: {key} is not a setting")
            continue
        try:
            if text := parser.get(SECTION, key):
                texts[key.upper()] = text
        except configparser.InterpolationError:
            faults.append(
                f"{file}: {key}: a $ is written $$, and ${{name}} is a value of this file"
            )
    return texts


def _parsed(texts: Mapping[str, str], faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of every setting that is set or has a default."""
    for setting in SETTINGS:
        text = _text_of(setting, texts, faults)
        if text is None:
            continue
        try:
            yield setting.name, setting.parse(text)
        except ValueError as error:
            shown = "the value" if setting.secret else repr(Redactor([])(text[:200]))
            faults.append(f"{setting.name}: {shown} {error}; for example: {setting.example}")


def _text_of(setting: Setting, texts: Mapping[str, str], faults: list[str]) -> str | None:
    """Return what was written for *setting*, from its own name, its _FILE or its default."""
    name_file = f"{setting.name}_FILE"
    if not setting.secret or name_file not in texts:
        return texts.get(setting.name, setting.default)
    if setting.name in texts:
        faults.append(f"{setting.name} and {name_file} are both set; keep one")
    try:
        return Path(texts[name_file]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{name_file}: {texts[name_file]!r} cannot be read: {error}")
        return None


def _cross_checks(values: Mapping[str, Any], faults: list[str]) -> None:
    """Add what is wrong between settings, and what is missing."""
    said = " ".join(faults)
    for setting in SETTINGS:
        required = "(required)" in setting.help
        if required and setting.name not in values and setting.name not in said:
            also = f" or {setting.name}_FILE" if setting.secret else ""
            faults.append(f"{setting.name}{also} is not set; for example: {setting.example}")
    lease, heartbeat = values.get("LEASE_TIME"), values.get("HEARTBEAT_INTERVAL")
    if lease and heartbeat and heartbeat > lease / 2:
        faults.append(
            f"HEARTBEAT_INTERVAL: {heartbeat:g} s is more than half of LEASE_TIME ({lease:g} s):"
            f" one lost renewal would lose the job; for example: {max(1, int(lease / 5))}s"
        )
    set_kinds = [kind for kind in CREDENTIAL_KINDS if kind in values]
    if len(set_kinds) > 1:
        faults.append(f"{' and '.join(set_kinds)} are both set; keep one")
    if not set_kinds and not any(kind in said for kind in CREDENTIAL_KINDS):
        faults.append(
            "ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (or the same with _FILE) is not set; for"
            " example: CLAUDE_CODE_OAUTH_TOKEN_FILE=/etc/fondation-worker/token, with what"
            " `claude setup-token` printed"
        )


def _config(values: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Put the parsed values together."""
    plain: dict[str, Any] = {f.name: values.get(f.name.upper()) for f in fields(Config)}
    kind = next(kind for kind in CREDENTIAL_KINDS if kind in values)
    plain["credential"] = Credential(kind=kind, value=values[kind])
    plain["state_dir"] = plain["state_dir"] or _state_home(environ) / "fondation-worker"
    plain["control_socket"] = plain["control_socket"] or plain["state_dir"] / "control.sock"
    return Config(**plain)


def _state_home(environ: Mapping[str, str]) -> Path:
    """Return where a user's programs keep their state (XDG Base Directory Specification)."""
    set_to = Path(environ.get("XDG_STATE_HOME", ""))
    return set_to if set_to.is_absolute() else Path(environ.get("HOME", "/")) / ".local" / "state"


def secrets_of(config: Config) -> tuple[str, ...]:
    """Return every secret in *config*, for the redactor."""
    return (config.worker_key, config.credential.value)
