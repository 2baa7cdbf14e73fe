"""What a person reads on a host: worker.conf, the manual pages, the environment file."""

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from devtools import configuration, manual
from devtools.commands import every_command
from devtools.explained import HEADINGS, SECRETS, SHOWN, explained
from devtools.roff import page
from fondation_worker.host import ENVIRONMENT
from fondation_worker.installation import SECRET_FILES
from fondation_worker.settings import SETTINGS, Setting
from fondation_worker.sources import Sources, read

TOP = Path(__file__).parents[1]
EPOCH = "1764547200"  # 2025-12-01


@pytest.fixture(autouse=True)
def _build_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)


def faults_of(text: str, directory: Path) -> list[str]:
    """Return what is wrong with *text* as a configuration file."""
    file = directory / "worker.conf"
    file.write_text(text, encoding="utf-8")
    faults: list[str] = []
    read(SETTINGS, Sources(files=(file,)), faults)
    return faults


def uncommented(setting: Setting, text: str) -> str:
    """Return *text* with the # taken from the line of *setting*."""
    line = f"#{setting.name.lower()} = "
    assert text.count(f"\n{line}") == 1
    return text.replace(line, line[1:])


def test_the_configuration_as_installed_says_nothing(tmp_path: Path) -> None:
    """It is all comments, and no fault."""
    assert faults_of(configuration.text(), tmp_path) == []
    said = [line for line in configuration.text().splitlines() if line and line[0] != "#"]
    assert said == ["[worker]"]


@pytest.mark.parametrize("setting", SHOWN, ids=lambda setting: setting.name)
def test_an_example_can_be_uncommented(setting: Setting, tmp_path: Path) -> None:
    """Whoever takes a # away gets a setting, not a fault."""
    assert faults_of(uncommented(setting, configuration.text()), tmp_path) == []


def test_all_examples_can_be_uncommented(tmp_path: Path) -> None:
    """They do not contradict each other."""
    text = configuration.text()
    for setting in SHOWN:
        text = uncommented(setting, text)
    assert faults_of(text, tmp_path) == []


def test_a_secret_is_explained_and_not_offered() -> None:
    """The file can be read by everybody."""
    text = configuration.text()
    for setting in SECRETS:
        assert SECRET_FILES[setting.name] in text
        assert f"#{setting.name.lower()}" not in text


def test_the_configuration_fits_a_terminal() -> None:
    """Of 100 columns, in ASCII."""
    assert configuration.text().isascii()
    assert max(map(len, configuration.text().splitlines())) <= 100


def test_every_setting_says_what_it_takes() -> None:
    """In the words of its own reader."""
    said = {setting.name: explained(setting).takes for setting in SETTINGS}
    assert said["MAX_CONCURRENT_JOBS"] == "A whole number from 1 to 64."
    assert said["LOG_FORMAT"] == "One of text, json."
    assert said["ALLOW_LOCAL_REPOSITORIES"] == "1 or 0."
    assert said["HEALTH_ADDRESS"] == "HOST:PORT or off."
    assert [name for name, takes in said.items() if takes.startswith("Is ")] == []


def test_a_default_has_a_unit() -> None:
    """The table has some in bare milliseconds, which few can read."""
    said = {setting.name: explained(setting).default for setting in SETTINGS}
    assert said["POLL_INTERVAL"] == "Default: 5s."
    assert said["LEASE_TIME"] == "Default: 5min."
    assert said["CONVEX_URL"] == "Required."


def test_headings_stand_above_settings() -> None:
    """One of a setting that went would be lost without a word."""
    assert set(HEADINGS) <= {setting.name for setting in SHOWN}


@pytest.mark.parametrize("section", [5, 8])
def test_a_manual_page_is_well_formed(section: int, tmp_path: Path) -> None:
    """For mandoc and for groff, which differ."""
    file = tmp_path / f"page.{section}"
    file.write_text(manual.text(section), encoding="utf-8")
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", file], capture_output=True, text=True, check=False
    )
    assert (lint.stdout, lint.returncode) == ("", 0)
    groff = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", file],
        env=os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (groff.stderr, groff.returncode) == ("", 0)


@pytest.mark.parametrize("section", [5, 8])
def test_a_manual_page_fits_a_terminal(section: int) -> None:
    """Of 80 columns: an example that is wider would be broken anywhere."""
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=78"],
        input=manual.text(section),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    plain = re.sub(".\b", "", shown)  # bold is a letter struck twice
    assert [line for line in plain.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("section", [5, 8])
def test_nothing_is_left_to_fill_in(section: int) -> None:
    """A misspelt placeholder would be printed as it is."""
    assert [line for line in manual.text(section).splitlines() if line.startswith("{")] == []


def test_the_page_of_settings_has_every_setting() -> None:
    """Those of the program and the operator's key."""
    text = manual.text(5)
    assert [each.name for each in SHOWN if f"\n\\fB{each.name.lower()}\\fR\n" not in text] == []
    assert [name for name in SECRET_FILES.values() if name.replace("-", "\\-") not in text] == []


def test_the_page_of_commands_has_every_command_and_option() -> None:
    """Also those that are explained once for all."""
    text = manual.text(8).replace("\\-", "-")
    for context in every_command():
        assert f'\n.SS "{context.command_path}' in text
        section = text.partition(f'\n.SS "{context.command_path}')[2].partition("\n.S")[0]
        for parameter in context.command.get_params(context):
            for flag in set(parameter.opts) - {"-h", "--help"}:
                assert flag in section or not flag.startswith("-"), context.command_path


def test_a_page_is_dated_by_the_build() -> None:
    """Two builds of one version are the same."""
    assert manual.text(8).startswith('.TH "FONDATION\\-WORKER" 8 2025-12-01 ')


def test_roff_takes_no_text_for_a_request() -> None:
    """Every character of the text is on the page."""
    text = ".so /etc/passwd\n\n'quoted' \\fBnot bold\\fR ~ ^ -- \N{RIGHTWARDS ARROW}\n\n    .PP \\n"
    made = page("T", 7, date="2025-12-01", source="s", manual="m", body=text)
    shown = subprocess.run(
        ["mandoc", "-T", "utf8"], input=made, capture_output=True, text=True, check=True
    ).stdout
    for line in text.splitlines():
        assert line.strip() in shown


@pytest.mark.parametrize("arguments", [["configuration"], ["manual", "5"], ["manual", "8"]])
def test_the_build_needs_what_the_program_needs(arguments: list[str]) -> None:
    """The package is made with its own private environment: nothing of the developers' is there."""
    module, *rest = arguments
    script = (
        f"import runpy, sys; sys.argv = {['manual', *rest]!r}\n"
        f"runpy.run_module('devtools.{module}', run_name='__main__')\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, check=True
    )
    owners = packages_distributions()
    used = {name.lower() for module_ in ran.stderr.split() for name in owners.get(module_, [])}
    assert used & (locked("dev") - locked("systemd")) == set()


def locked(requirements: str) -> set[str]:
    """Return the names of the packages in a lock file."""
    lines = (TOP / f"requirements/{requirements}.txt").read_text(encoding="utf-8").splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line}


def test_every_variable_in_the_environment_file_is_heeded() -> None:
    """A line there that does nothing would be a lie; a secret there would be public."""
    lines = (TOP / "packaging/default").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    names = re.findall(r"^#([A-Z_]+)=", "\n".join(lines), re.MULTILINE)
    assert len(names) > 5
    assert set(names) <= ENVIRONMENT | {setting.name for setting in SHOWN}
