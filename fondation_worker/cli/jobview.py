"""Jobs as people see them: a row of a table each, or all of one."""

from collections.abc import Sequence

from fondation_worker.cli import terminal
from fondation_worker.cli.following import state_of
from fondation_worker.cli.terminal import Column
from fondation_worker.operator import JobRow
from fondation_worker.words import ago, length, moment

_COLUMNS = (
    Column(title="JOB"),
    Column(title="STATUS"),
    Column(title="CREATED"),
    Column(title="TRIES"),
    Column(title="REPOSITORY", gives=True),
    Column(title="STATE", gives=True),
)


def show_table(rows: Sequence[JobRow], now: float) -> None:
    """Print a line for each job."""
    terminal.show_table(
        _COLUMNS,
        [
            (
                row.id,
                row.status,
                ago(row.created_at, now),
                f"{row.attempts:g}/{row.max_attempts:g}",
                row.repository,
                _when(row, now) + state_of(row),
            )
            for row in rows
        ],
    )


def _when(row: JobRow, now: float) -> str:
    waits = row.status == "pending" and row.run_at is not None and row.run_at > now
    return f"{ago(row.run_at or 0, now)} " if waits else ""


def show_fields(row: JobRow, now: float) -> None:
    """Print all of a job."""
    terminal.show_fields(_fields(row, now))


def _fields(row: JobRow, now: float) -> list[tuple[str, str | None]]:
    """Return what `show` shows, in order."""

    def at(time_: float | None) -> str | None:
        return None if time_ is None else f"{moment(time_)} ({ago(time_, now)})"

    step = f"step {row.current_step:.0f} of {row.total_steps:.0f}" if row.total_steps else None
    return [
        ("job", row.id),
        ("status", row.status),
        ("repository", row.repository),
        ("clone URL", row.clone_url if row.clone_url != row.repository else None),
        ("ref", row.ref),
        ("commit", row.commit),
        ("subdirectory", row.subdirectory),
        ("analysed commit", row.resolved_commit),
        ("model", row.model),
        ("time limit", None if row.timeout_ms is None else length(row.timeout_ms / 1000)),
        ("priority", f"{row.priority:g}"),
        (
            "attempts",
            f"{row.attempts:g} spent of {row.max_attempts:g}; claimed {row.attempt:g} times",
        ),
        ("created", at(row.created_at)),
        ("not before", at(row.run_at) if row.status == "pending" else None),
        ("changed", at(row.updated_at)),
        ("ended", at(row.completed_at)),
        ("worker", row.worker_id),
        ("lease until", None if row.ended else at(row.lease_until)),
        ("step", None if row.ended else step),
        ("progress", row.progress),
        ("documents", None if row.docs_count is None else f"{row.docs_count:.0f}"),
        ("result", row.outcome),
        ("usage", row.usage.in_words() if row.usage else None),
        ("error class", row.error_class),
        ("error", row.error),
        ("last error", row.last_error if row.last_error != row.error else None),
        ("prompt", row.prompt),
    ]
