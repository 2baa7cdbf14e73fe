"""One panel: what it says, and how Grafana draws it.

`@` in a query stands for the dashboard's own job and instances.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
ITS = 'job="$job", instance=~"$instance"'
GREEN, ORANGE, RED = "green", "orange", "red"

_LEGEND: Json = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
_TOOLTIP: Json = {"mode": "multi", "sort": "desc"}
_REDUCED: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of Prometheus, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. *steps* colour values from each figure on; the first holds from the lowest."""

    title: str
    words: str  # what it shows, and what to make of it
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    steps: tuple[tuple[float | None, str], ...] = ()
    alert: str | None = None  # whose threshold is drawn: that of `steps`
    stacked: bool = False
    words_for: Mapping[int, tuple[str, str]] | None = None  # text and colour of a value
    hidden: tuple[str, ...] = ()  # columns of a table


def drawn(panel: Panel) -> Json:
    """Return a panel as Grafana has it, but for its place."""
    document: Json = {
        "datasource": SOURCE,
        "description": panel.words,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, n, query) for n, query in enumerate(panel.queries)],
        "title": panel.title,
        "type": panel.kind,
    }
    if panel.kind == "table":
        excluded = dict.fromkeys(("Time", "Value", "__name__", "job", *panel.hidden), True)
        options = {"excludeByName": excluded, "indexByName": {}, "renameByName": {}}
        document["transformations"] = [{"id": "organize", "options": options}]
    return document


def _target(panel: Panel, number: int, query: Query) -> Json:
    is_state = panel.kind in {"stat", "table"}
    formats = {"table": "table", "heatmap": "heatmap"}
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr.replace("@", ITS),
        "format": formats.get(panel.kind, "time_series"),
        "instant": is_state,
        "legendFormat": query.legend,
        "range": not is_state,
        "refId": chr(ord("A") + number),
    }


def _defaults(panel: Panel) -> Json:
    steps = panel.steps or ((None, GREEN),)
    return {
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": _custom(panel),
        "mappings": _mappings(panel.words_for or {}),
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": color, "value": value} for value, color in steps],
        },
        "unit": panel.unit,
    }


def _mappings(words: Mapping[int, tuple[str, str]]) -> list[Json]:
    if not words:
        return []
    options = {
        str(value): {"color": color, "index": n, "text": text}
        for n, (value, (text, color)) in enumerate(words.items())
    }
    return [{"options": options, "type": "value"}]


def _custom(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {
                "drawStyle": "line",
                "fillOpacity": 30 if panel.stacked else 0,
                "lineWidth": 1,
                "showPoints": "auto",
                "spanNulls": False,
                "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
                "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
            }
        case "state-timeline":
            return {"fillOpacity": 80, "lineWidth": 0}
        case "table":
            return {"align": "auto", "cellOptions": {"type": "auto"}}
    return {}


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "stat":
            return {
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "orientation": "auto",
                "reduceOptions": _REDUCED,
                "textMode": "auto",
            }
        case "table":
            return {"cellHeight": "sm", "showHeader": True}
        case "heatmap":
            return _heatmap(panel.unit)
        case "state-timeline":
            return {
                "alignValue": "left",
                "legend": _LEGEND | {"showLegend": False},
                "mergeValues": True,
                "rowHeight": 0.9,
                "showValue": "never",
                "tooltip": {"mode": "single", "sort": "none"},
            }
    return {"legend": _LEGEND, "tooltip": _TOOLTIP}


def _heatmap(unit: str) -> Json:
    scheme = {"exponent": 0.5, "mode": "scheme", "reverse": False, "scheme": "Oranges", "steps": 64}
    return {
        "calculate": False,
        "cellGap": 1,
        "color": scheme,
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "yAxis": {"axisPlacement": "left", "unit": unit},
    }
