"""The alerts, as Debian's Prometheus judges them."""

import re
import subprocess
from pathlib import Path

import pytest

from devtools.dashboards import BOARDS
from devtools.visuals import Panel
from tests.fleet.prometheus import EXAMPLE, PLACE, RULES

TESTS = PLACE / "fondation-worker.tests.yml"
TEXT = RULES.read_text(encoding="utf-8")
ALERTS = re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", TEXT, re.DOTALL)
BODIES = dict(ALERTS)


def promtool(*arguments: str | Path, given: str = "") -> str:
    """Run it; return what it said, or fail with that."""
    run = subprocess.run(
        ["promtool", *arguments],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def test_the_rules_can_be_loaded() -> None:
    """All that the file has, and none twice."""
    said = promtool("check", "rules", RULES)
    assert f"{len(BODIES)} rules found" in said
    assert len(ALERTS) == len(BODIES)


def test_the_example_configuration_can_be_loaded_with_them() -> None:
    """Where it lies: it names the rules beside it."""
    assert "rule files found" in promtool("check", "config", EXAMPLE)


def test_each_alert_fires_in_time_and_resolves() -> None:
    """And not just below its threshold: series for each are beside the rules."""
    promtool("test", "rules", TESTS)


@pytest.mark.parametrize("alert", BODIES)
def test_each_alert_has_series_that_make_it_fire_and_resolve(alert: str) -> None:
    """The last time that is looked at, it is over."""
    text = TESTS.read_text(encoding="utf-8")
    expected = re.findall(rf"alertname: {alert}\n +exp_alerts:( \[\])?", text)
    assert "" in expected
    blocks = [block for block in text.split("  - name: ") if f"alertname: {alert}\n" in block]
    firing = [block for block in blocks if "exp_labels" in block]
    assert any(block.rstrip().endswith("exp_alerts: []") for block in firing)


@pytest.mark.parametrize("alert", BODIES)
def test_each_alert_says_how_bad_it_is_and_where_to_read_on(alert: str) -> None:
    """By the same name."""
    body = BODIES[alert]
    assert re.search(r"\n          severity: (page|warning|info)\n", body)
    assert re.search(r"\n          summary: \S", body)
    assert re.search(r"\n          description: \S", body)
    assert body.rstrip().endswith(f"runbook: docs/operations.md#{alert.lower()}")


DRAWN = {
    f"{name} {panel.title}": panel
    for name, board in BOARDS.items()
    for row in board.rows
    for panel in row.panels
    if panel.alert
}


@pytest.mark.parametrize("panel", DRAWN.values(), ids=DRAWN)
def test_a_dashboard_draws_the_threshold_of_the_alert(panel: Panel) -> None:
    """Where a panel turns red or not, somebody is told or not."""
    body = " ".join(BODIES[panel.alert or ""].partition("for:")[0].split())
    found = re.findall(r"(==|>=?|<)(?: on \([\w, ]+\) group_left \(\))? ([\d.]+)(?![\w.])", body)
    assert found, body
    is_yes_or_no = {("==", "0"), ("==", "1"), (">", "0")}
    wanted = {1.0 if pair in is_yes_or_no else float(pair[1]) for pair in found}
    assert wanted & {step for step, _ in panel.steps}, (wanted, panel.steps)
