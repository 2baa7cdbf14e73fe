"""What is written down of attempts, whatever happens to the books."""

from pathlib import Path
from typing import NoReturn

import pytest

from fondation_worker.history import History, Past
from fondation_worker.ledger import Ledger
from fondation_worker.metrics import Metrics
from fondation_worker.pipeline import JobEnd
from fondation_worker.queue import Queue
from fondation_worker.redact import Redactor
from fondation_worker.trace import Trace
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
