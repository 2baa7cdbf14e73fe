"""What is exported: documented, bounded, and whole before anything has happened."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from fondation_worker.errors import JobError
from fondation_worker.exposition import Exposition
from fondation_worker.gate import KEY
from fondation_worker.metrics import MOST_MODELS, OTHER, PREFIX, Metrics, pause_of
from fondation_worker.result import Share, Usage
from fondation_worker.verdict import ACTIONS
from tests.snapshots import JOB, WELL, worker

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram|info) \|([^|]*)\|", re.MULTILINE)


def used() -> Metrics:
    """Return metrics to which everything has happened once."""
    metrics = Metrics()
    metrics.began()
    metrics.ended("completed", "", 1)
    with metrics.step("cloning"):
        pass
    metrics.waited("push", 1)
    metrics.called("queue:claim", "ok", 0.1)
    metrics.renewal("ok", 3.0)
    metrics.cost(Usage(turns=2), [Share(model="m", cost_usd=0.5, input_tokens=3)])
    return metrics


def openmetrics_families(text: str) -> Iterator[Metric]:
    """Yield what *text* exports."""
    yield from text_string_to_metric_families(text)  # type: ignore[no-untyped-call]


def families(accept: str = OPENMETRICS) -> dict[str, tuple[str, set[str]]]:
    """Return type and labels of everything that is exported, by its name."""
    snapshot = worker(
        running=(JOB,),
        claude=WELL.claude.__class__(
            version="2", credential="refused", paused=None, limit_resets_at=1.0
        ),
    )
    body, _ = Exposition(used(), lambda: snapshot).render(accept)
    found = {}
    for family in openmetrics_families(body.decode()):
        labels = {label for sample in family.samples for label in sample.labels}
        found[family.name] = (family.type, labels - {"le"})
    return found


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return the same, as the document says."""
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    return {
        f"{PREFIX}_{name.removesuffix('_info') if kind == 'info' else name}": (
            kind,
            set(re.findall(r"`(\w+)`", labels)),
        )
        for name, kind, labels in rows
    }


def test_the_document_names_what_is_exported() -> None:
    """Each metric, its type and its labels: no more, no less."""
    exported = {name: told for name, told in families().items() if name.startswith(PREFIX)}
    assert documented() == exported


def test_the_document_names_the_figures_of_the_library_too() -> None:
    """They come with the registry."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, (kind, _) in families().items():
        if not name.startswith(PREFIX):
            assert f"`{name}{'_total' if kind == 'counter' else ''}`" in text


def test_both_formats_say_the_same() -> None:
    """And each is named in the content type."""
    exposition = Exposition(used(), lambda: worker(running=(JOB,)))
    text, kind = exposition.render("text/plain;version=0.0.4")
    assert kind.startswith("text/plain; version=0.0.4")
    plain = {family.name for family in plain_families(text.decode())}
    text, kind = exposition.render(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    openly = {family.name for family in openmetrics_families(text.decode())}
    assert {name.removesuffix("_info") for name in plain} == openly


PROMETHEUS = (  # what version 3 sends
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        (PROMETHEUS.replace("1.0.0", "0.0.1"), "text/plain; version=0.0.4"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=2.\udcff", "text/plain; version=0.0.4"),
        (f"text/plain;version={'9' * 5000}", "text/plain; version=0.0.4"),
        ("text/plain;version=x,text/plain;version=1.0.0", "text/plain; version=1.0.0"),
    ],
)
def test_an_accept_that_is_not_understood_is_no_fault(accept: str, kind: str) -> None:
    """Each one would be a traceback in the log, written by whoever reaches the port."""
    _, answered = Exposition(Metrics(), worker).render(accept)
    assert answered.startswith(kind)


@given(st.text().map("application/openmetrics-text;version={}".format))
def test_any_accept_is_answered(accept: str) -> None:
    """With a content type that stands in a header."""
    _, answered = Exposition(Metrics(), worker).render(accept)
    assert answered.isascii()
    assert answered.isprintable()


def test_what_can_happen_is_there_before_it_has() -> None:
    """`increase()` does not see a series that begins with 1."""
    body, _ = Exposition(Metrics(), worker).render("text/plain;version=0.0.4")
    for error in ACTIONS:
        assert f'jobs_total{{error_class="{error.failure}",outcome="dead"}} 0.0' in body.decode()
    assert 'wakeups_total{source="poll"} 0.0' in body.decode()


def test_what_is_unknown_has_no_sample() -> None:
    """A slack of 0 would be an alarm."""
    body, _ = Exposition(Metrics(), worker).render("text/plain;version=0.0.4")
    assert not re.search(rf"^{PREFIX}_lease_slack_seconds ", body.decode(), re.MULTILINE)
    assert not re.search(rf"^{PREFIX}_\w+ nan", body.decode(), re.MULTILINE | re.IGNORECASE)


@given(st.lists(st.text(max_size=20)), st.lists(st.integers() | st.none()), st.lists(st.text()))
def test_no_label_grows_without_bound(
    tools: list[str], statuses: list[int | None], models: list[str]
) -> None:
    """Whatever a repository makes a model call, and whatever a service answers."""
    metrics = Metrics()
    for tool in tools:
        metrics.tool_call(tool)
    for status in statuses:
        metrics.retry(status)
    for model in models:
        metrics.cost(Usage(), [Share(model=model)])
    values: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            for label in ("tool", "status", "model"):
                values.setdefault(label, set()).add(sample.labels.get(label, ""))
    assert len(values["tool"] - {""}) <= 4
    assert len(values["status"] - {""}) <= 14
    assert len(values["model"] - {""}) <= MOST_MODELS + 1


def test_every_reason_that_holds_the_gate_has_its_word() -> None:
    """Those of a directory are about the disk."""
    words = {"disk STATE_DIR": "disk", "unwritable TEMP_DIR": "disk", "inodes TEMP_DIR": "disk"}
    words |= {KEY: "convex", "model": "model", "trouble": "trouble", "news": OTHER}
    assert {key: pause_of(key) for key in words} == words


def test_a_run_without_shares_counts_under_its_model() -> None:
    """An older CLI tells only the whole."""
    metrics = Metrics()
    metrics.cost(Usage(model="m", cost_usd=0.5, input_tokens=7, turns=2), [])
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    assert told[f"{PREFIX}_claude_cost_dollars_total", "m"] == 0.5
    assert told[f"{PREFIX}_claude_tokens_total", "m", "input"] == 7
    assert told[f"{PREFIX}_claude_turns_total",] == 2


def test_every_failure_has_a_class_of_its_own() -> None:
    """It is a label."""
    classes = [error.failure for error in ACTIONS]
    assert len(set(classes)) == len(classes)
    assert all(issubclass(error, JobError) for error in ACTIONS)
