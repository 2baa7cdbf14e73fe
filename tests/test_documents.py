"""What the documents say is what the code does."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from devtools import commands
from fondation_worker import __version__
from fondation_worker.settings import SETTINGS

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_readme_has_every_setting_with_its_default(setting: object) -> None:
    """The table is what an operator has."""
    name, default = getattr(setting, "name", ""), getattr(setting, "default", None)
    (row,) = (line for line in README.splitlines() if line.startswith(f"| `{name}`"))
    assert row.split("|")[2].strip() == (f"`{default}`" if default else "")


def test_the_versions_agree() -> None:
    """The program's, the Debian package's, and the CLI's that readers are told to install."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    changelog = (TOP / "debian/changelog").read_text(encoding="utf-8")
    assert changelog.startswith(f"fondation-worker ({__version__}) ")
    functions = (TOP / "convex/about.ts").read_text(encoding="utf-8")
    assert f'export const version = "{__version__}";' in functions
    pinned = json.loads((TOP / "packaging/claude-cli/package.json").read_text(encoding="utf-8"))
    package = "@anthropic-ai/claude-code"
    assert f"{package}@{pinned['dependencies'][package]}" in README


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *(TOP / "docs").glob("*.md")])
def test_links_between_documents_lead_somewhere(document: str | Path) -> None:
    """A reader who follows one must not end in nothing."""
    path = TOP / document
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{document}: {target}"


def test_every_dependency_has_its_reason() -> None:
    """In docs/why.md."""
    why = (TOP / "docs/why.md").read_text(encoding="utf-8")
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    node = json.loads((TOP / "package.json").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"]
    for group in ("build", "dev", "image"):
        wanted += project["dependency-groups"][group]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in wanted}
    names |= set(node["dependencies"]) | set(node["devDependencies"])
    assert sorted(name for name in names if f"`{name}`" not in why) == []


def test_the_commands_are_documented_as_they_are() -> None:
    """`./dev format` writes the file anew."""
    assert (TOP / "docs/commands.md").read_text(encoding="utf-8") == commands.text()
