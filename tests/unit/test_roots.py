"""Where roots are made from is read from this host's own apt sources."""

from pathlib import Path

import pytest

from devtools.roots import build_dependencies, mirror

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/security
Suites: trixie-security
Components: main

Types: deb
URIs: http://mirror.example/debian http://second.example/debian
Suites: trixie trixie-updates
Components: main
"""
ONE_LINE = """\
# deb http://old.example/debian trixie main
deb [signed-by=/usr/share/keyrings/x.gpg] http://mirror.example/security trixie-security main
deb [arch=amd64] http://mirror.example/debian trixie main contrib
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Make an /etc of Debian 13 without a source."""
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text("PRETTY_NAME=x\nVERSION_CODENAME=trixie\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list.d/debian.sources", DEB822),
        ("sources.list", ONE_LINE),
        ("sources.list.d/debian.list", ONE_LINE),
    ],
)
def test_the_mirror_is_the_one_that_has_the_release_itself(etc: Path, file: str, text: str) -> None:
    """Not its security updates, and not what is commented out."""
    (etc / "apt" / file).write_text(text)
    assert mirror(etc) == "http://mirror.example/debian"


def test_without_a_source_it_says_so(etc: Path) -> None:
    """There is no mirror to fall back to: none is named in this project."""
    with pytest.raises(SystemExit, match="no apt source of this host has trixie"):
        mirror(etc)


def test_build_dependencies_are_those_of_the_source_package() -> None:
    """By name, without versions."""
    names = build_dependencies()
    assert {"debhelper", "libsystemd-dev", "python3-venv"} <= set(names)
    assert all(name.strip(" (|,") == name for name in names)
