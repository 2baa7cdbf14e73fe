"""The image's Dockerfile, the compose file and the manifest, read as Docker and Kubernetes do."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fondation_worker.settings import SETTINGS
from tests.fleet.prometheus import TOP

DOCKERFILE = TOP / "Dockerfile"
COMPOSE = TOP / "packaging" / "compose.yaml"
KUBERNETES = TOP / "packaging" / "kubernetes" / "worker.yaml"
SECRETS = "/run/secrets"
UID = 1001
BY_NAME = {setting.name: setting for setting in SETTINGS}

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


def documents(file: Path) -> list[Any]:
    """Return the documents in a YAML *file*; a key that stands there twice raises."""
    return list(YAML(typ="safe").load_all(file.read_text(encoding="utf-8")))


def composed(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the compose file as it is with the variables *environ*; KeyError for one that must be.

    The message of that one is what the user is told.
    """
    (document,) = documents(COMPOSE)
    filled: dict[str, Any] = _filled(document, environ)
    return filled


def variables() -> dict[str, str]:
    """Return the variables that the compose file knows, with their defaults."""
    found = _VARIABLE.findall(COMPOSE.read_text(encoding="utf-8"))
    return {name: words if how == ":-" else "" for _, name, how, words in found if name}


def _filled(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, environ) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, environ) for one in value]
    if not isinstance(value, str):
        return value

    def known(found: re.Match[str]) -> str:
        dollar, name, how, words = found.groups()
        if dollar:
            return "$"
        if how == ":?" and not environ.get(name):
            raise KeyError(f"{name} {words}")
        return environ.get(name) or (words if how == ":-" else "")

    return _VARIABLE.sub(known, value)


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^ENV (.+)$", text, re.MULTILINE)
    return dict(word.split("=", 1) for word in line.split())


def seconds(text: str) -> float:
    """Return the seconds of a duration as Docker writes it."""
    units = {"m": 60, "s": 1}
    assert re.fullmatch(r"(\d+[ms])+", text), text
    return float(sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([ms])", text)))


def size(text: str) -> int:
    """Return the bytes of a size, as Docker (`2g`) or Kubernetes (`2Gi`) writes it."""
    found = re.fullmatch(r"(\d+)([kmgKMG])i?", text)
    assert found, text
    return int(found[1]) << 10 * (1 + "kmg".index(found[2].lower()))
