"""The dashboards: what is imported is what is described, and Grafana knows all of it."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from devtools.dashboards import BOARDS, PLACE, text

register_default_plugins()
KINDS = {"row", "timeseries", "stat", "table", "heatmap", "state-timeline"}
UNITS = {"short", "s", "bytes", "currencyUSD", "percentunit"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

of_each_board = pytest.mark.parametrize("name", BOARDS)


def document(name: str) -> dict[str, Any]:
    """Return what is imported."""
    found: dict[str, Any] = json.loads((PLACE / name).read_text(encoding="utf-8"))
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in document(name)["panels"] if panel["type"] != "row"]


@of_each_board
def test_the_file_is_what_is_described(name: str) -> None:
    """`./dev format` writes it anew."""
    assert (PLACE / name).read_text(encoding="utf-8") == text(BOARDS[name])


@of_each_board
def test_grafana_has_every_field(name: str) -> None:
    """Its own types for 11.6 read the dashboard; what they do not know they drop."""
    ours = document(name)
    theirs = json.loads(json.dumps(Dashboard.from_json(ours), cls=JSONEncoder))
    assert list(dropped(ours, theirs)) == []


def dropped(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Yield what of *ours* is not in *theirs*; more may be there: what Grafana adds."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from dropped(value, theirs.get(key, "nothing"), f"{place}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from dropped(one, other, f"{place}/{number}")
    elif ours != theirs:
        yield f"{place}: {ours!r} is {theirs!r}"


def test_what_grafana_does_not_know_is_found() -> None:
    """An option that was misspelt, in the depth of a panel."""
    ours = document("fleet.json")
    ours["panels"][1]["options"]["colourMode"] = "value"
    theirs = json.loads(json.dumps(Dashboard.from_json(ours), cls=JSONEncoder))
    assert list(dropped(ours, theirs)) == ["/panels/1/options/colourMode: 'value' is 'nothing'"]


@of_each_board
def test_every_panel_has_an_id_of_its_own(name: str) -> None:
    """Grafana links by it."""
    counted = Counter(panel["id"] for panel in document(name)["panels"])
    assert set(counted.values()) == {1}


@of_each_board
def test_no_panel_lies_over_another(name: str) -> None:
    """Nor beyond the 24 columns."""
    taken: Counter[tuple[int, int]] = Counter()
    for panel in document(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken.update(
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        )
    assert set(taken.values()) == {1}


@of_each_board
def test_every_panel_explains_itself(name: str) -> None:
    """A title that no other has, words, a unit, and names for more than one series."""
    titles = Counter(panel["title"] for panel in panels(name))
    for panel in panels(name):
        assert titles[panel["title"]] == 1, panel["title"]
        assert panel["type"] in KINDS
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]
        assert panel["type"] in {"stat", "table"} or all(legends), panel["title"]


@of_each_board
def test_every_question_goes_to_the_chosen_prometheus(name: str) -> None:
    """No dashboard knows the id that a data source has somewhere."""
    found = document(name)
    asked = [target for panel in panels(name) for target in panel["targets"]]
    variables = [one for one in found["templating"]["list"] if one["type"] == "query"]
    for one in (*asked, *panels(name), *variables):
        assert one["datasource"] == SOURCE
    (chosen,) = (one for one in found["templating"]["list"] if one["type"] == "datasource")
    assert (chosen["name"], chosen["query"]) == ("datasource", "prometheus")


@of_each_board
def test_every_query_is_about_the_chosen_workers(name: str) -> None:
    """Other jobs may export the process's metrics, too."""
    for panel in panels(name):
        for target in panel["targets"]:
            assert 'job="$job"' in target["expr"], panel["title"]
            assert "@" not in target["expr"], panel["title"]


@of_each_board
def test_it_can_be_imported_beside_others(name: str) -> None:
    """By an id that stays; what is written has no number that one Grafana gave it."""
    found = document(name)
    assert 8 <= len(found["uid"]) <= 40
    assert "id" not in found
    assert found["refresh"] == "30s"
    assert found["time"] == {"from": "now-6h", "to": "now"}
    assert [one["name"] for one in found["templating"]["list"]][:3] == [
        "datasource",
        "job",
        "instance",
    ]
