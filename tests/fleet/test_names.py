"""Dashboards and alerts ask for what a worker exports, and for nothing else."""

import json
import re
from collections.abc import Iterator

import pytest

from devtools.dashboards import PLACE
from tests.fleet.exposed import exposed, families
from tests.fleet.prometheus import RULES, TOP
from tests.fleet.promql import Matcher, names

OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "job"}}
OF_TARGETS = {"job", "instance"}
# Labels whose values are all known to the program; models and versions are not.
LISTED = {"outcome", "error_class", "reason", "setting", "source", "status", "directory", "le"}
SUFFIXES = ("_bucket", "_count", "_sum", "_total", "_info")


def of_dashboards() -> Iterator[str]:
    """Yield every query of the dashboards."""
    for file in sorted(PLACE.glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"]


def of_rules() -> Iterator[str]:
    """Yield every query of the rules: what stands after `expr:`, up to the next key."""
    text = RULES.read_text(encoding="utf-8")
    for query in re.findall(r"\n        expr: (?:>-\n)?(.*?)\n        \w+:", text, re.DOTALL):
        yield " ".join(query.split())


QUERIES = sorted({*of_dashboards(), *of_rules()})


def test_all_queries_were_found() -> None:
    """None of the rules has another form."""
    assert len(list(of_rules())) == RULES.read_text(encoding="utf-8").count("- alert: ")


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_is_exported(query: str) -> None:
    """Metrics, their labels, and values of these that exist."""
    asked = names(query)
    assert asked.selectors
    known = set(OF_TARGETS) | asked.made
    for selector in asked.selectors:
        labels = labels_of(selector.metric)
        known |= labels
        for matcher in selector.matchers:
            assert matcher.label in labels | OF_TARGETS, (selector.metric, matcher.label)
            assert missing(selector.metric, matcher) == [], selector.metric
    assert asked.grouped <= known


def labels_of(metric: str) -> set[str]:
    """Return the labels of *metric*, which must exist."""
    if metric in OF_PROMETHEUS:
        return OF_PROMETHEUS[metric]
    assert metric in exposed(), metric
    return set(exposed()[metric])


def missing(metric: str, matcher: Matcher) -> list[str]:
    """Return the values that a matcher asks for and the metric never has."""
    if matcher.label not in LISTED or "$" in matcher.value:
        return []
    values = matcher.value.split("|") if "~" in matcher.operator else [matcher.value]
    return [value for value in values if value not in exposed()[metric][matcher.label] | {""}]


def test_every_metric_is_looked_at() -> None:
    """One that no dashboard and no alert asks for is not worth its place."""
    asked = {selector.metric for query in QUERIES for selector in names(query).selectors}
    bare = {re.sub(rf"({'|'.join(SUFFIXES)})$", "", metric) for metric in asked}
    assert (
        sorted(name for name in families() if re.sub(r"(_total|_info)$", "", name) not in bare)
        == []
    )


@pytest.mark.parametrize("document", ["docs/operations.md", "packaging/README.md"])
def test_documents_name_what_is_exported(document: str) -> None:
    """With or without labels behind it."""
    text = (TOP / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:fondation_worker|process)_\w+)", text))
    assert sorted(named - set(exposed()) - families()) == []
