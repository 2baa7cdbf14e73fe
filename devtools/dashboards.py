"""Writes packaging/grafana: a dashboard of the fleet, and one of a worker (`./dev format`)."""

import json
from pathlib import Path

from devtools.fleetboard import FLEET
from devtools.grafana import Board
from devtools.workerboard import WORKER

PLACE = Path(__file__).parents[1] / "packaging" / "grafana"
BOARDS = {"fleet.json": FLEET, "worker.json": WORKER}


def text(board: Board) -> str:
    """Return what the file of *board* should hold."""
    return json.dumps(board.to_document(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, board in BOARDS.items():
        (PLACE / name).write_text(text(board), encoding="utf-8")
