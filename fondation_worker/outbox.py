"""The outbox: finished results, on disk before their first offer, until Convex decides on them.

A result outlives its lease, its slot and its process. Each is offered once before the first claim
after a start or an outage, so that nobody claims the job whose result waits here, and then every
30 s beside the work; one that cannot be handed in stops nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fondation_worker import durable, entry, events
from fondation_worker.claims import Claims, Deployment, left_in
from fondation_worker.convex import wait_before
from fondation_worker.entry import Damaged, Entry
from fondation_worker.errors import ConvexError, LeaseLost, Refused
from fondation_worker.handin import hand_in
from fondation_worker.job import Token
from fondation_worker.life import Earlier, Life, drop_if_bare
from fondation_worker.queue import Queue
from fondation_worker.refused import RefusedResults
from fondation_worker.result import Result
from fondation_worker.tidy import to_the_end

logger = logging.getLogger(__name__)

OFFER_INTERVAL = 30.0  # seconds between two offers of a result that nobody waits for
OFFER_LIMIT = 900.0  # seconds that one offer may take
MOST_FAULTS = 8  # of this program, before a result is put away
CRASH = "the worker died during this attempt, and said so when it was started again"


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """A result that Convex has not decided on."""

    token: Token
    since: float  # seconds since the epoch, by Convex's clock
    place: Path | None = None  # None: the disk refused it, and it is in memory only
    is_unkept: bool = False  # the disk has refused it
    result: Result | None = None  # None: read it when it is offered
    stored: dict[int, str] = field(default_factory=dict)
    offered_after: int | None = None  # so many silences of Convex; None: not since the start
    is_attended: bool = False  # its slot waits, and offers it
    is_settled: bool = False
    faults: int = 0  # of this program, met with it
    trouble: Exception | None = None  # why the last offer came to nothing, or the refusal
    offering: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note(self, index: int, storage_id: str | None) -> None:
        """Keep a storage id, on disk as well where it can be."""
        if storage_id is None:
            self.stored.pop(index, None)
        else:
            self.stored[index] = storage_id
        if self.place:
            try:
                entry.note_stored(self.place, index, storage_id)
            except OSError as error:  # at worst a file is uploaded again
                logger.warning("%s: a storage id was not kept: %s", self.place, error)


class Outbox:
    """The results of this life, and those of earlier ones that belong to *deployment*.

    What Convex decides on one is told to *decided*: `accepted` or `refused`; an attempt that died
    with an earlier life to *crashed*, with its job's status after.
    """

    def __init__(
        self,
        life: Life,
        claims: Claims,
        deployment: Deployment,
        queue: Queue,
        decided: Callable[[str], None] = lambda _: None,
        crashed: Callable[[Token, str], None] = lambda *_: None,
    ) -> None:
        self._tell_crash = crashed
        self._decided = decided
        self._life = life
        self._claims = claims
        self._deployment = deployment
        self._queue = queue
        self._waiting: dict[Token, _Waiting] = {}
        self._attended: dict[Token, _Waiting] = {}  # those put, whose slot has yet to deliver them
        self._crashed: dict[Token, Path] = {}  # claims of earlier lives, and their files
        self._refused = RefusedResults(life.state_dir)
        self._catching_up = asyncio.Lock()
        self.elsewhere = 0  # results found that belong to another deployment

    @property
    def waiting(self) -> tuple[int, float | None]:
        """How many results wait, and for how many seconds the oldest has."""
        if not self._waiting:
            return 0, None
        oldest = min(waiting.since for waiting in self._waiting.values())
        return len(self._waiting), max(0.0, self._queue.now() - oldest)

    @property
    def in_memory(self) -> int:
        """How many results that wait the disk refused: they would die with this process."""
        return sum(waiting.is_unkept for waiting in self._waiting.values())

    @property
    def refused(self) -> int:
        """How many refused results are kept."""
        return self._refused.count()

    # What earlier lives left

    async def adopt(self) -> None:
        """Take over what earlier lives left for this deployment; leave the rest where it is."""
        await asyncio.to_thread(self._adopt)

    def _adopt(self) -> None:
        for earlier in tuple(self._life.earlier):
            for place in sorted((earlier.directory / "outbox").glob("*")):
                self._take_over(place)
            for file, deployment, token in left_in(earlier.directory):
                if deployment == self._deployment:
                    self._crashed[token] = file
        self._let_go()

    def _take_over(self, place: Path) -> None:
        """Take the result at *place*, if it is one for us."""
        if place.name.startswith("."):  # never finished, or handed in already
            durable.remove_quietly(place)
            return
        try:
            found = entry.read(place)
        except Damaged as error:
            self._put_away(place, f"damaged: {error}")
            return
        if found.deployment != self._deployment:
            self.elsewhere += 1
            words = "%s belongs to another deployment (%s) and stays where it is"
            logger.warning(words, place, found.deployment.url)
            return
        words = "a finished result of job %s waits since an earlier life"
        logger.info(words, found.token.job_id, extra=events.RESULT_WAITS.about(found.token))
        self._waiting[found.token] = _Waiting(
            token=found.token, since=found.since, place=place, stored=entry.stored_in(place)
        )

    def _let_go(self) -> None:
        """Remove the directories of earlier lives in which nothing of ours is left."""
        for earlier in tuple(self._life.earlier):
            if not self._has_ours(earlier):
                self._life.earlier.remove(earlier)
                drop_if_bare(earlier)

    def _has_ours(self, earlier: Earlier) -> bool:
        places = [waiting.place for waiting in self._waiting.values() if waiting.place]
        return any(
            place.is_relative_to(earlier.directory) for place in (*places, *self._crashed.values())
        )

    # A result of this life

    async def put(self, token: Token, result: Result) -> None:
        """Keep *result* until Convex decides on it; on disk if the disk takes it, which is logged.

        It is there, whole, also when this is cancelled.
        """
        waiting = _Waiting(token=token, since=self._queue.now(), result=result, is_attended=True)
        self._waiting[token] = self._attended[token] = waiting
        await to_the_end(self._keep(waiting))

    async def _keep(self, waiting: _Waiting) -> None:
        """Write the result to disk; a disk that refuses leaves it in memory."""
        async with waiting.offering:  # what is handed in meanwhile must not be written after that
            if waiting.result is not None and not waiting.is_settled:
                await self._write(waiting, waiting.result)

    async def _write(self, waiting: _Waiting, result: Result) -> None:
        kept = Entry(
            token=waiting.token,
            deployment=self._deployment,
            since=waiting.since,
            result=result,
        )
        try:
            parent = self._life.state() / "outbox"
            waiting.place = await asyncio.to_thread(entry.write, parent, kept)
            waiting.is_unkept = False
            logger.info("the result is on disk")
        except OSError as error:
            waiting.is_unkept = True
            logger.error("the result is not on disk, but in memory only: %s", error)  # noqa: TRY400

    def is_on_disk(self, token: Token) -> bool:
        """Whether a result that waits outlives this process."""
        waiting = self._waiting.get(token)
        return waiting is not None and waiting.place is not None

    async def deliver(self, token: Token) -> None:
        """Offer the result of *token* until Convex takes it. Raises LeaseLost and Refused."""
        waiting = self._attended.pop(token)  # a claim of another slot may have handed it in by now
        tries = 0
        try:
            while not waiting.is_settled:
                await self._offer(waiting)
                if not waiting.is_settled:
                    tries += 1
                    await self._wait(waiting, tries)
        finally:
            waiting.is_attended = False
        if waiting.trouble:
            raise waiting.trouble

    def leave(self, token: Token) -> None:
        """Take note that nobody waits for the result of *token*, if there is one: it is offered."""
        self._attended.pop(token, None)
        if waiting := self._waiting.get(token):
            waiting.is_attended = False

    async def _wait(self, waiting: _Waiting, tries: int) -> None:
        if tries in {1, 5} or tries % 20 == 0:
            logger.warning("%s; offering the result again (try %d)", waiting.trouble, tries + 1)
        if waiting.place is None:
            await to_the_end(self._keep(waiting))
        await asyncio.sleep(wait_before(tries))

    # Offers

    async def before_claim(self) -> None:
        """Wait until each result was offered once since the start or the last outage.

        Then nobody here claims a job that is done. What earlier lives died over is reported first.
        """
        async with self._catching_up:
            tries = 0
            while self._waiting or self._crashed:
                if self._queue.is_cut_off:
                    for waiting in self._waiting.values():
                        waiting.offered_after = None
                if await self._catch_up():
                    return
                tries += 1
                await asyncio.sleep(wait_before(tries))

    async def _catch_up(self) -> bool:
        """Report and offer what was not yet; return whether Convex answered."""
        if not await self._report_crashes():
            return False
        for waiting in tuple(self._waiting.values()):
            # Counted: of an outage that another call saw the end of, nothing else is left to see.
            if waiting.offered_after == self._queue.silences:
                continue
            await self._offer(waiting)
            if not waiting.is_settled and not await self._queue.answers():
                return False
            waiting.offered_after = self._queue.silences  # Convex answers: the trouble is its own
        return await self._report_crashes()  # those whose result turned out to be damaged

    async def _report_crashes(self) -> bool:
        """Fail the claims that died without a result; return whether Convex answered."""
        for token, file in tuple(self._crashed.items()):
            if token in self._waiting:
                continue
            try:
                status = await self._queue.fail_crashed(token, CRASH)
                self._tell_crash(token, status)
                words = "job %s: its last attempt crashed; reported"
                logger.warning(words, token.job_id, extra=events.FAILED.about(token))
            except (LeaseLost, Refused) as error:
                if _is_about_the_key(error):
                    return True  # kept, and reported with the next key
                logger.info("job %s: its crash is no news: %s", token.job_id, error)
            except ConvexError as error:
                logger.warning("a crash could not be reported: %s", error)
                if not await self._queue.answers():
                    return False
                continue
            durable.remove_quietly(file)
            del self._crashed[token]
        self._let_go()
        return True

    async def keep_offering(self) -> None:
        """Offer, for ever, what nobody waits for; and remove what was refused a week ago."""
        while True:
            await asyncio.sleep(OFFER_INTERVAL)
            for waiting in tuple(self._waiting.values()):
                if not waiting.is_attended:
                    await self._offer(waiting)
            if self._queue.skew is not None:  # else Convex's clock is not known yet
                self._refused.purge(self._queue.now())

    async def _offer(self, waiting: _Waiting) -> None:
        """Offer one result once, and settle it if Convex decides on it."""
        async with waiting.offering:
            if waiting.is_settled:
                return
            silences = self._queue.silences
            waiting.trouble = None
            try:
                async with asyncio.timeout(OFFER_LIMIT):
                    await self._hand_in(waiting)
            except (LeaseLost, Refused, Damaged) as error:
                waiting.trouble = error
                if not _is_about_the_key(error):
                    self._refuse(waiting, error)
            except (ConvexError, TimeoutError) as error:
                waiting.trouble = error
            except Exception as bug:  # one bad result must not hold up the others
                words = "a fault of this program: a result could not be offered"
                logger.exception(words, extra=events.FAULT.about(waiting.token))
                waiting.trouble = bug
                waiting.faults += 1
                if waiting.faults == MOST_FAULTS:
                    waiting.trouble = Refused("internal", "it cannot be offered: a fault of ours")
                    self._refuse(waiting, waiting.trouble)
            else:
                self._settle(waiting)
            waiting.offered_after = silences

    async def _hand_in(self, waiting: _Waiting) -> None:
        result = waiting.result
        if result is None and waiting.place:
            result = (await asyncio.to_thread(entry.read, waiting.place)).result
        if result is None:
            raise Damaged("neither on disk nor in memory")
        await hand_in(self._queue, waiting.token, result, stored=waiting.stored, note=waiting.note)
        extra = events.COMPLETED.about(waiting.token)
        logger.info("completed: job %s: %s", waiting.token.job_id, result.message, extra=extra)

    def _settle(self, waiting: _Waiting) -> None:
        """Forget a result that Convex has taken."""
        self._end(waiting)
        self._decided("accepted")
        if waiting.place is None:
            return
        gone = waiting.place.with_name(f".{waiting.place.name}")
        try:
            waiting.place.rename(gone)  # first: half of an entry would look like a damaged one
            durable.remove_quietly(gone)
        except OSError as error:  # offered again by the next life, and taken again
            logger.warning("%s: could not be removed: %s", waiting.place, error)
        self._let_go()

    def _refuse(self, waiting: _Waiting, error: Exception) -> None:
        """Put away a result that will never be taken."""
        self._end(waiting, is_reported=not isinstance(error, Damaged))
        self._decided("refused")
        if waiting.place:
            self._put_away(waiting.place, str(error))
        self._let_go()

    def _put_away(self, place: Path, reason: str) -> None:
        try:
            self._refused.take(place, reason)
        except OSError as error:
            logger.error("%s (%s) could not be put away: %s", place, reason, error)  # noqa: TRY400

    def _end(self, waiting: _Waiting, *, is_reported: bool = True) -> None:
        waiting.is_settled = True
        self._waiting.pop(waiting.token, None)
        if is_reported:
            self._claims.forget(waiting.token)
            if file := self._crashed.pop(waiting.token, None):
                durable.remove_quietly(file)


def _is_about_the_key(error: Exception) -> bool:
    """Whether *error* speaks of our key only, which an operator may be changing."""
    return isinstance(error, Refused) and error.code == "unauthorized"
