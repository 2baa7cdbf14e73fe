"""docs/operations.md: whoever is woken finds an entry, and what the entry names is there."""

import re

import pytest

from devtools.commands import every_command
from fondation_worker import events
from tests.fleet.exposed import exposed, families
from tests.fleet.prometheus import TOP
from tests.fleet.test_rules import BODIES

TEXT = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
EVENTS = {value.name for value in vars(events).values() if isinstance(value, events.Event)}
METRICS = {*exposed(), *families(), "up"}
WANTED = (  # of any service of this kind
    "Worker not picking up jobs",
    "Claude CLI authentication issues",
    "Repository clone failures",
    "Memory issues",
)


def section(title: str) -> str:
    """Return what stands below the heading *title*."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def entries(title: str) -> dict[str, str]:
    """Return the entries of a section, by their headings."""
    parts = re.split(r"^### (.+)\n", section(title), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


COLUMN = re.findall(r"^\| (`.*?) \|", section("doctor"), re.MULTILINE)
CHECKS = set(re.findall(r"`([^`]+)`", " ".join(COLUMN)))
ALERTS, TROUBLES = entries("Alerts"), entries("Troubleshooting")
ENTRIES = ALERTS | TROUBLES


def found_by(entry: str) -> dict[str, set[str]]:
    """Return what an entry names, by kind."""
    (line,) = re.findall(r"^Found by: (.+)\.$", entry, re.MULTILINE)
    kinds = (part.split(maxsplit=1) for part in line.split("; "))
    return {kind: set(re.findall(r"`([^`]+)`", names)) for kind, names in kinds}


def test_every_alert_has_its_entry_and_every_entry_its_alert() -> None:
    """In the order of the rules."""
    assert list(ALERTS) == list(BODIES)


@pytest.mark.parametrize("alert", BODIES)
def test_the_entry_says_how_bad_it_is_when_and_what_to_do(alert: str) -> None:
    """As the rule has it."""
    (severity,) = re.findall(r"severity: (\w+)", BODIES[alert])
    waits = re.findall(r"\n        for: (\w+)", BODIES[alert])
    time = {"5m": "5 min", "15m": "15 min", "10m": "10 min", "2m": "2 min", "1m": "1 min"}
    later = f", after {time.get(waits[0], '1 h')}" if waits and waits[0] != "30s" else ""
    first, _, rest = ALERTS[alert].partition(". ")
    assert first in {f"`{severity}`", f"`{severity}`{later}"}
    assert "\nDo: " in rest


@pytest.mark.parametrize("title", ENTRIES)
def test_what_an_entry_names_is_there(title: str) -> None:
    """Checks of the doctor, events of the journal, metrics."""
    names = found_by(ENTRIES[title])
    assert set(names) <= {"doctor", "journal", "metric"}
    assert names.get("doctor", set()) <= CHECKS
    assert names.get("journal", set()) <= EVENTS
    assert names["metric"]
    assert names["metric"] <= METRICS


@pytest.mark.parametrize("title", TROUBLES)
def test_trouble_is_found_in_all_three_ways(title: str) -> None:
    """By who looks at a host, reads a journal, or sees a graph."""
    assert set(found_by(TROUBLES[title])) == {"doctor", "journal", "metric"}


def test_the_usual_troubles_have_an_entry() -> None:
    """Under the names that people look for."""
    assert set(WANTED) <= set(TROUBLES)


def test_links_within_the_document_lead_somewhere() -> None:
    """As a reader's program makes anchors of headings."""
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_links_to_the_systemd_page_lead_somewhere() -> None:
    """Its headings, too."""
    page = (TOP / "docs" / "systemd.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(systemd\.md#([^)]+)\)", TEXT)) <= anchors


def test_commands_that_are_named_exist() -> None:
    """Whoever types them in the night must not read usage."""
    commands = {context.command_path.split()[1] for context in every_command()}
    assert set(re.findall(r"`(?:sudo )?fondation-worker ([a-z-]+)", TEXT)) <= commands
