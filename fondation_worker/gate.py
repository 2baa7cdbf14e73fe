"""The gate before every claim: closed while a job would only be claimed to fail, or to wait.

What closes it is said in words in /health, and in the log when it changes. Jobs that run go on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fondation_worker import events
from fondation_worker.admission import Level, Reason
from fondation_worker.clock import boottime
from fondation_worker.errors import CredentialRefused, JobError, Wait
from fondation_worker.pause import Pause

logger = logging.getLogger(__name__)

KEY = "convex"  # what a key that Convex refuses closes the gate with
_EVENTS = {"credential": events.CREDENTIAL_REFUSED, KEY: events.KEY_REFUSED}
LOOK = 1.0  # seconds between two looks at what closes the gate
HOST_LOOK = 5.0  # seconds that a reading of the host is good for those who only tell of it
FIRST_TEST = 60.0  # seconds before a refused credential is tested; then doubling
LONGEST_TEST = 3600.0


class Gate:
    """Whether this worker may claim now, and if not, why.

    *host* reads what of the host speaks against it. Before a claim it is always asked. Each reason
    that begins to hold is told to *held*, by its key.
    """

    def __init__(
        self,
        host: Callable[[], tuple[Reason, ...]],
        pause: Pause,
        held: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._held = held
        self._host = host
        self._pause = pause
        self._host_says: tuple[Reason, ...] = ()
        self._host_was_asked = float("-inf")  # on `boottime`
        self._until: dict[str, tuple[float, str]] = {}  # by key: when on `boottime`, and why
        self._refusal: str | None = None
        self._refused = asyncio.Event()  # set while there is a refusal
        self._is_accepted = False  # a run or a test went through with this credential
        self._told: frozenset[str] = frozenset()
        self.test_now = False  # there is a new credential: nothing to wait for

    @property
    def is_paused(self) -> bool:
        """Whether an operator has paused this worker."""
        return self._pause.reason is not None

    @property
    def credential_is_refused(self) -> bool:
        """Whether the model's service refused the credential, and has not taken it since."""
        return self._refusal is not None

    @property
    def credential(self) -> str:
        """What is known of the credential: `untested`, `accepted` or `refused`."""
        if self._refusal is not None:
            return "refused"
        return "accepted" if self._is_accepted else "untested"

    def waits(self, key: str) -> float | None:
        """Return the seconds for which `close` still holds under *key*; None: it does not."""
        until, _ = self._until.get(key, (0.0, ""))
        left = until - boottime()
        return left if left > 0 else None

    def close(self, key: str, seconds: float, words: str) -> None:
        """Claim nothing for *seconds*, because of *words*; what *key* closed before is replaced."""
        self._until[key] = (boottime() + seconds, words)

    def open(self, key: str) -> None:
        """Take back what `close` did under *key*."""
        self._until.pop(key, None)

    def refuse(self, words: str) -> None:
        """Claim nothing until the credential has passed a test."""
        self._refusal, self._is_accepted = words, False
        self.test_now = False  # it was the new credential, if there is one
        self._refused.set()

    def accept(self) -> None:
        """Take note that the model's service takes the credential."""
        self._refusal, self._is_accepted = None, True
        self._refused.clear()

    def worked(self) -> None:
        """Take note that a run went through with the credential; a refusal since then stands."""
        self._is_accepted = self._refusal is None

    def renew_credential(self) -> None:
        """Take note of a new credential: nothing is known of it; a refusal is tested at once."""
        self.open("model")
        self.test_now, self._is_accepted = True, False

    async def refused(self) -> None:
        """Wait until the credential is refused."""
        await self._refused.wait()

    def reasons(self) -> tuple[Reason, ...]:
        """Return everything that keeps this worker from claiming; of the host, lately."""
        if boottime() - self._host_was_asked >= HOST_LOOK:
            self._ask_host()
        found = []
        if paused := self._pause.reason:
            words = f"paused: {paused}"
            found.append(Reason(key="paused", words=words, level=Level.DEGRADED))
        if self._refusal:
            found.append(Reason(key="credential", words=f"credential refused: {self._refusal}"))
        for key, (until, why) in self._until.items():
            if (left := until - boottime()) > 0:
                level = Level.UNHEALTHY if key == KEY else Level.DEGRADED
                words = f"waiting for {left:.0f} s: {why}"
                found.append(Reason(key=key, words=words, level=level))
        return (*found, *self._host_says)

    def _ask_host(self) -> None:
        self._host_says, self._host_was_asked = self._host(), boottime()

    async def opened(self) -> None:
        """Wait until nothing speaks against a claim; say what does, once."""
        while True:
            self._ask_host()
            reasons = self.reasons()
            self._tell(reasons)
            if not reasons:
                return
            await asyncio.sleep(LOOK)  # short: the loop's own clock stands while a host sleeps

    def _tell(self, reasons: tuple[Reason, ...]) -> None:
        keys = frozenset(reason.key for reason in reasons)
        for reason in reasons:
            if reason.key not in self._told:
                event = _EVENTS.get(reason.key, events.HELD)
                logger.warning("claiming nothing: %s", reason.words, extra=event.extra)
                self._held(reason.key)
        if self._told and not keys:
            logger.info("claiming again", extra=events.RESUMED.extra)
        self._told = keys


async def keep_testing(
    gate: Gate, test: Callable[[], Awaitable[None]], pause_for: Callable[[Wait], float]
) -> None:
    """Test a refused credential with a request of its own, for ever, ever less often.

    *test* raises JobError; *pause_for* tells how long to wait for a service that takes the
    credential and has no capacity now.
    """
    tries = 0
    while True:
        await gate.refused()
        due = boottime() + wait_before_test(tries)
        while gate.credential_is_refused and boottime() < due and not gate.test_now:
            await asyncio.sleep(LOOK)
        if gate.credential_is_refused:
            tries, gate.test_now = (1 if gate.test_now else tries + 1), False
            await _tested(gate, test, pause_for)
        if not gate.credential_is_refused:
            tries = 0


def wait_before_test(tries: int) -> float:
    """Return the seconds before the credential is tested again after *tries* tests."""
    return float(min(FIRST_TEST * 2 ** min(tries, 16), LONGEST_TEST))


async def _tested(
    gate: Gate, test: Callable[[], Awaitable[None]], pause_for: Callable[[Wait], float]
) -> None:
    """Test the credential once, and open the gate when the service took it."""
    try:
        await test()
    except CredentialRefused as error:
        logger.warning("the credential was tested and is still refused: %s", error)
        return
    except Wait as error:  # who has no capacity for us has let us in
        gate.close("model", pause_for(error), str(error))
    except JobError as error:
        logger.warning("the credential could not be tested: %s", error)
        return
    except Exception:  # a fault of ours here must not end the jobs that run
        logger.exception("a fault of this program: the credential could not be tested")
        return
    logger.info("the credential was tested and is taken")
    gate.accept()
