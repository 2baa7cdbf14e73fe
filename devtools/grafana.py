"""Dashboards as Grafana imports them: panels on a grid of 24 columns.

Panels of a row follow each other, and break where the row is full.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from devtools.visuals import ITS, SOURCE, Json, Panel, drawn

COLUMNS = 24
SCHEMA = 38  # Grafana 10.0's: later versions read it, earlier ones are not asked to


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def row(title: str, *panels: Panel) -> Row:
    """Return *panels* under one heading."""
    return Row(title=title, panels=panels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    words: str
    many: bool  # whether several instances are shown at once
    rows: tuple[Row, ...]
    labels: tuple[tuple[str, str], ...] = ()  # further variables: name, and a metric that has it

    def to_document(self) -> Json:
        """Return what Grafana imports."""
        return {
            "annotations": {"list": []},
            "description": self.words,
            "editable": True,
            "graphTooltip": 1,
            "links": [_link()],
            "panels": list(_placed(self.rows)),
            "refresh": "30s",
            "schemaVersion": SCHEMA,
            "tags": ["fondation-worker"],
            "templating": {"list": list(self._variables())},
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
        }

    def _variables(self) -> Iterator[Json]:
        yield {
            "hide": 0,
            "label": "Prometheus",
            "name": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "type": "datasource",
        }
        yield _variable("job", "fondation_worker_build_info", many=False)
        metric = 'fondation_worker_build_info{job="$job"}'
        yield _variable("instance", metric, many=self.many)
        for name, metric in self.labels:
            yield _variable(name, f"{metric}{{{ITS}}}", many=True)


def _variable(name: str, metric: str, *, many: bool) -> Json:
    query = f"label_values({metric}, {name})"
    variable: Json = {
        "datasource": SOURCE,
        "hide": 0,
        "includeAll": many,
        "label": name.capitalize(),
        "multi": many,
        "name": name,
        "query": {"qryType": 1, "query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
    if many:
        variable |= {"allValue": ".+", "current": {"text": "All", "value": "$__all"}}
    return variable


def _link() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["fondation-worker"],
        "targetBlank": False,
        "title": "fondation-worker",
        "tooltip": "The other dashboards of fondation-worker",
        "type": "dashboards",
        "url": "",
    }


def _placed(rows: Iterable[Row]) -> Iterator[Json]:
    """Yield every panel with an id and a place of its own."""
    number, top = 1, 0
    for row in rows:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {
            "collapsed": False,
            "gridPos": place,
            "id": number,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        number, top, left, tallest = number + 1, top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield {"gridPos": place, "id": number, **drawn(panel)}
            number, left, tallest = number + 1, left + panel.width, max(tallest, panel.height)
        top += tallest
