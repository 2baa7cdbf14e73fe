"""What is written down of attempts, whatever happens to the books."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from fondation_worker.history import History, Past
from fondation_worker.ledger import Ledger
from fondation_worker.metrics import PREFIX, Metrics
from fondation_worker.pipeline import JobEnd
from fondation_worker.queue import Queue
from fondation_worker.redact import Redactor
from fondation_worker.trace import Trace
from fondation_worker.verdict import Verdict
from tests.unit.test_board import claimed


class Burnt(History):
    """A history that meets a fault of this program."""

    def begin(self) -> NoReturn:
        """Fail."""
        raise RuntimeError("no book")

    def add(self, past: Past) -> NoReturn:
        """Fail."""
        raise RuntimeError(f"no book for {past.job_id}")


def ledger(metrics: Metrics, history: History) -> Ledger:
    """Return the books of a worker that was never answered by Convex."""
    queue = Queue(
        None,  # type: ignore[arg-type]  # nobody is asked
        key="", worker_id="w", instance="w-1", lease_time=60, redact=Redactor([]),
    )  # fmt: skip
    return Ledger(metrics, history, queue)


def test_a_fault_in_the_books_reaches_no_job(caplog: pytest.LogCaptureFixture) -> None:
    """It would end every slot of the process, with what runs in them."""
    books, end = ledger(Metrics(), Burnt()), JobEnd(words="completed", outcome="completed")
    books.began(claimed(), "push")
    books.ended(claimed(), end, seconds=1.0, trace=Trace())
    books.crashed(claimed().token, "pending")
    assert caplog.text.count("not written down") == 3


@pytest.mark.parametrize("due", [None, math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_poisons_no_sum(due: float | None) -> None:
    """Whatever an application has put into the row."""
    metrics = Metrics()
    known = claimed()
    job = msgspec.structs.replace(known.job, due_at=due)
    ledger(metrics, History()).began(replace(known, job=job), "push")
    assert value(metrics, "attempts_total") == 1
    assert value(metrics, "job_queue_wait_seconds_sum") == 0


def test_a_failure_of_a_canceled_job_is_no_failure(tmp_path: Path) -> None:
    """Convex did not take it any more; but the worker heeds what it says of the credential."""
    metrics, history = Metrics(), History(tmp_path / "h")
    verdict = Verdict(failure="credential_refused", message="no", own="no", pause=60.0)
    end = JobEnd(words="failure not taken", outcome="canceled", verdict=verdict)
    ledger(metrics, history).ended(claimed(), end, seconds=1.0, trace=Trace())
    assert history.totals.failed == 0
    assert history.recent(1)[0].error_class is None


def value(metrics: Metrics, name: str) -> float:
    """Return a sample without labels."""
    (found,) = (
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"{PREFIX}_{name}"
    )
    return found


def test_a_status_that_convex_invents_is_no_label_of_its_own(tmp_path: Path) -> None:
    """The page names it."""
    metrics, history = Metrics(), History(tmp_path / "h")
    books = ledger(metrics, history)
    for number in range(30):
        end = JobEnd(words="failed", outcome=f"status-{number}")
        books.ended(claimed(), end, seconds=1.0, trace=Trace())
        books.crashed(claimed().token, f"status-{number}")
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    outcomes = {sample.labels.get("outcome", "") for sample in samples}
    assert {outcome for outcome in outcomes if outcome.startswith("status")} == set()
    assert history.recent(1)[0].outcome == "status-29"
