"""The look at queries sees what they name: the tests of dashboards and rules stand on it."""

import pytest

from tests.fleet.promql import Matcher, Selector, names


@pytest.mark.parametrize(
    ("query", "metrics"),
    [
        ("up", {"up"}),
        ("sum by (job) (up{job='x'}) == 0 or absent(up)", {"up"}),
        (
            "a_total offset 5m unless on (job, instance) b_bucket > bool 3e2",
            {"a_total", "b_bucket"},
        ),
        ("histogram_quantile(0.95, sum by (le) (rate(c_bucket[5m])))", {"c_bucket"}),
        ('label_replace(d{x="} e"}, "y", "$1", "z", "(.+)")', {"d"}),
        ("max_over_time((f > 0)[1h:1m]) / ignoring (le) group_left () g:sum", {"f", "g:sum"}),
        ("time() - h{}", {"h"}),
        ('"a string"', set()),
    ],
)
def test_metrics_are_told_from_words_functions_and_labels(query: str, metrics: set[str]) -> None:
    """Whatever stands around them."""
    assert {selector.metric for selector in names(query).selectors} == metrics


def test_matchers_belong_to_their_metric() -> None:
    """With operator and value; a brace in a value ends nothing."""
    found = names('sum(a{x="1", y!~"b|c"}) / on (x) d{z="{e}"}')
    first = Selector("a", (Matcher("x", "=", "1"), Matcher("y", "!~", "b|c")))
    assert found.selectors == (first, Selector("d", (Matcher("z", "=", "{e}"),)))


def test_labels_of_groups_and_joins_are_found() -> None:
    """And those that the query makes."""
    joined = "sum by (job, model) (a) * on (instance) group_left (version)"
    query = f'{joined} label_replace(b{{c="d"}}, "e", "$1", "f", ".*")'
    assert names(query).grouped == {"job", "model", "instance", "version"}
    assert names(query).made == {"e"}
