"""What a run of the CLI said of itself, and the rule of success."""

from dataclasses import dataclass

from fondation_worker.errors import (
    ClaudeFailed,
    CredentialRefused,
    JobError,
    NoResult,
    Overloaded,
    RateLimited,
)
from fondation_worker.transcript import Event, Finished, LimitReached, Retrying, ToolCall
from fondation_worker.words import last_words

_REASON_LIMIT = 500  # characters


@dataclass(slots=True, kw_only=True)
class Account:
    """What a run said of itself, collected: the last event of each kind that decides."""

    finished: Finished | None = None
    retrying: Retrying | None = None
    limit: LimitReached | None = None

    def take(self, event: Event) -> None:
        """Remember *event* if it decides something."""
        match event:
            case Finished():
                self.finished = event
            case Retrying():
                self.retrying = event
            case LimitReached():
                self.limit = event
            case ToolCall():  # the model has answered since: that trouble is over
                self.retrying = None

    def success(self, *, exit_status: int | None, complaint: str) -> Finished:
        """Return the result if and only if the run was a success; else raise why it was not.

        A run is a success when all of six things hold; exit status and `subtype` alone both lie:

        1. this worker did not end it for any other reason: such a run never gets here;
        2. a result event arrived;
        3. its `is_error` is false;
        4. its `subtype` is `success`;
        5. the process ended by itself with status 0; or it stood still after its result and was
           ended for that, which *exit_status* None says;
        6. the text is not blank, and a model wrote it: the CLI answers some prompts by itself.

        *complaint* is the end of the CLI's standard error.
        """
        finished = self.finished
        if finished is None:
            words = f"the Claude CLI ended with status {exit_status} before it had a result"
            raise self.api_error() or ClaudeFailed(words, said=_end_of(complaint))
        if finished.is_error or finished.subtype != "success":
            said = _end_of(finished.text or complaint)
            words = f"the Claude CLI reported {finished.subtype}"
            raise self.api_error() or ClaudeFailed(words, said=said)
        if exit_status:
            words = f"the Claude CLI ended with status {exit_status}"
            raise ClaudeFailed(words, said=_end_of(complaint))
        if not finished.text.strip() or finished.usage.turns == 0:
            raise NoResult("Claude ended without writing anything; does the prompt ask for a text?")
        return finished

    def api_error(self) -> JobError | None:
        """Return what the run's last API error means for the job, or None when nothing special."""
        status = self.finished.status if self.finished else None
        if status is None and self.retrying:
            status = self.retrying.status
        match status:
            case 401 | 403:
                return CredentialRefused(
                    "the model's service refused this worker's credential;"
                    " an operator must renew it"
                )
            case 429:
                return RateLimited(
                    "the model's rate limit is used up; the job waits until it is renewed",
                    until=self.limit.resets_at if self.limit else None,
                )
            case 529:
                return Overloaded("the model's service is overloaded; the job waits")
        return None


def _end_of(text: str) -> str:
    """Return the end of *text*, for a reason."""
    return last_words(text.strip(), _REASON_LIMIT)
