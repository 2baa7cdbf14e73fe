"""The linters are tests, so that one command is the whole gate."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SCRIPTS = (
    *("dev", ".ci/run", "packaging/apt-repository"),
    *("packaging/image/claude", "packaging/localconvex/start"),
    *("debian/build-environment", "debian/build-documents"),
    *(f"debian/fondation-worker.{script}" for script in ("postinst", "prerm", "postrm")),
)

DOCKERFILES = ("Dockerfile", "packaging/localconvex/Dockerfile")
COMPOSE = "packaging/compose.yaml"
KUBERNETES = "packaging/kubernetes/worker.yaml"

LINTERS: dict[str, list[str | Path]] = {
    "ruff format": [BIN / "ruff", "format", "--check", "."],
    "ruff check": [BIN / "ruff", "check", "."],
    "mypy": [BIN / "mypy"],
    "codespell": [BIN / "codespell"],
    "shellcheck": [BIN / "shellcheck", *SCRIPTS],
    "hadolint": [BIN / "hadolint", *DOCKERFILES],
    # By the published schemas, which these packages carry: nothing is fetched.
    "compose": [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
    "kubernetes": [BIN / "kubernetes-validate", "--strict", KUBERNETES],
    "biome": [BIN / "node", "node_modules/.bin/biome", "check"],
    "tsc": [BIN / "node", "node_modules/.bin/tsc", "-p", "tsconfig.json"],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("linter", LINTERS)
def test_the_linter_has_nothing_to_say(linter: str) -> None:
    """What it says is shown."""
    run = subprocess.run(LINTERS[linter], cwd=TOP, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


def test_no_merge_was_left_unfinished() -> None:
    """Its markers would be read as text."""
    marks = ["git", "grep", "-nE", "^(<{7}|>{7}|\\|{7})( |$)"]
    found = subprocess.run(marks, cwd=TOP, capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_no_machine_or_registry_is_named() -> None:
    """The project must build wherever it is cloned."""
    forbidden = ("pypi." + "org", "npmjs." + "org", "/work/" + "main", "/work/" + "shared")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout
    found = [
        f"{name}: {word}"
        for name in listed.split("\0")[:-1]
        for word in forbidden
        if (TOP / name).is_file()
        and word in (TOP / name).read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []
