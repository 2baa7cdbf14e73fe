"""What is seen of the Claude CLI while it runs: of one run, and of all runs of this worker."""

from dataclasses import dataclass

from fondation_worker.result import Usage


@dataclass(slots=True, kw_only=True)
class Trace:
    """One run. Times are seconds on `boottime`."""

    heard: float | None = None  # the last sign of life; None: it does not run
    usage: Usage | None = None  # what it cost, once the CLI has said so, however the run ended

    def silent(self, now: float) -> float | None:
        """Return the seconds since the last sign of life; None: no run goes on."""
        return None if self.heard is None else max(0.0, now - self.heard)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What any run has shown last."""

    version: str | None = None  # the CLI's
    trouble: str | None = None  # why it could not tell its version
    limit_resets_at: float | None = None  # seconds since the epoch
