"""`fondation-worker workers`: who works for a deployment."""

from typing import TYPE_CHECKING

import click

from fondation_worker.cli.ending import STATUSES
from fondation_worker.cli.flags import json_option
from fondation_worker.cli.options import asking_convex
from fondation_worker.words import ago

if TYPE_CHECKING:
    from fondation_worker.operator import Operator, WorkerRow

SILENT = 11 * 60 * 1000  # milliseconds: two reports of a worker, one each 5 minutes, did not come


@click.command(epilog=STATUSES)
@click.option("--all", "everyone", is_flag=True, help="Those that stopped or fell silent, too.")
@json_option
@asking_convex
async def workers(operator: "Operator", *, everyone: bool, as_json: bool) -> None:
    """List the workers of a deployment.

    The latest heard of stand first. A worker reports every 5 minutes and when its state changes;
    one that did not for 11 minutes is silent.
    """
    from fondation_worker.cli import terminal

    answer = await operator.workers()
    states = {row.instance: state_of(row, answer.now) for row in answer.workers}
    rows = [
        row
        for row in answer.workers
        if everyone or states[row.instance] not in {"stopped", "silent"}
    ]
    if as_json:
        listed = [row.to_document() | {"silent": states[row.instance] == "silent"} for row in rows]
        terminal.show_json({"workers": listed, "now": answer.to_document()["now"]})
        return
    if not rows:
        hidden = f" ({len(states)} stopped or silent: --all)" if states else ""
        terminal.remark(f"there is no worker{hidden}")
        return
    terminal.show_table(
        (
            terminal.Column(title="WORKER"),
            terminal.Column(title="BUSY"),
            terminal.Column(title="VERSION"),
            terminal.Column(title="STARTED"),
            terminal.Column(title="HEARD OF"),
            terminal.Column(title="STATE", gives=True),
            terminal.Column(title="INSTANCE", gives=True),
        ),
        [
            (
                row.worker_id,
                f"{row.busy}/{row.slots}",
                row.version,
                ago(row.started_at, answer.now),
                ago(row.seen_at, answer.now),
                states[row.instance],
                row.instance,
            )
            for row in rows
        ],
    )


def state_of(row: "WorkerRow", now: float) -> str:
    """Return the worker's state, as far as it is known *now* (milliseconds)."""
    if row.state != "stopped" and now - row.seen_at > SILENT:
        return "silent"
    return row.state
