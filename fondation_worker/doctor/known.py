"""What is known of a worker's settings, however faulty they are; and their own check."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fondation_worker.config import CREDENTIAL_KINDS, LOGIN_KIND, Credential, Survey
from fondation_worker.doctor.deployment import Deployment
from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.installation import KEPT_SECRETS, Instance

CONFIGURATION = "configuration"
_SECRETS = ("WORKER_KEY", "OPERATOR_KEY", *CREDENTIAL_KINDS)
_HERE = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the checks look at. None stands for a setting that is missing or has a fault."""

    instance: Instance | None
    faults: tuple[str, ...]
    files: tuple[Path, ...]
    deployment: Deployment
    credential: Credential | None
    claude_cli: str | None
    state_dir: Path
    temp_dir: Path | None
    disk_floor: int | None
    secrets: tuple[str, ...] = field(repr=False)
    closed: Path | None  # where secrets are that this user may not read


def known_from(survey: Survey, instance: Instance | None) -> Known:
    """Return what is known after a look at the settings."""
    values = survey.values
    return Known(
        instance=instance,
        faults=tuple(survey.faults),
        files=survey.files,
        deployment=Deployment(
            url=values.get("CONVEX_URL"),
            functions=values.get("CONVEX_FUNCTIONS", ""),
            worker_key=values.get("WORKER_KEY"),
            operator_key=values.get("OPERATOR_KEY"),
        ),
        credential=_credential(values),
        claude_cli=values.get("CLAUDE_CLI"),
        state_dir=values["STATE_DIR"],
        temp_dir=values.get("TEMP_DIR"),
        disk_floor=values.get("DISK_FLOOR"),
        secrets=tuple(values[name] for name in _SECRETS if name in values),
        closed=KEPT_SECRETS if instance and _is_closed(KEPT_SECRETS) else None,
    )


def look_at_configuration(known: Known) -> Sequence[Finding]:
    """Tell every fault of the settings, and where they are read."""
    files = ", ".join(map(str, known.files)) or "no file"
    where = f"{files}, then the environment and flags"
    advice = f"settings are read from {where}; the last rules"
    found = [error(CONFIGURATION, fault, advice) for fault in known.faults]
    if known.closed:
        words = f"this user may not look into {known.closed}, where the secrets are"
        found.append(warning(CONFIGURATION, words, "look as root, with sudo"))
    if not found:
        found.append(ok(CONFIGURATION, f"every setting can be used; read from {where}"))
    return [*found, *_of_the_way(known.deployment.url)]


def _is_closed(directory: Path) -> bool:
    """Whether *directory* is there and this user may not look into it."""
    return os.access(directory, os.F_OK) and not os.access(directory, os.R_OK | os.X_OK)


def _of_the_way(url: str | None) -> Sequence[Finding]:
    """Warn of a key that leaves this host without encryption."""
    parts = urlsplit(url or "")
    if parts.scheme != "http" or parts.hostname in _HERE:
        return ()
    words = "CONVEX_URL is http: the key travels in the open"
    return [warning(CONFIGURATION, words, "use the deployment's https address")]


def _credential(values: Mapping[str, Any]) -> Credential | None:
    for kind in (*CREDENTIAL_KINDS, LOGIN_KIND):
        if kind in values:
            return Credential(kind=kind, value=str(values[kind]))
    return None
