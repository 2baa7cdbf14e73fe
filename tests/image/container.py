"""One container, from its start to its removal; dockerd's part, and containerd's."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from tests.image.arguments import Run
from tests.image.bundle import configuration, process
from tests.image.images import Failed
from tests.image.log import Log
from tests.image.made import Done, Executed, Made
from tests.image.network import Forwarder, Tasks
from tests.image.runc import Runc, Running, memory_kills, status_of
from tests.image.terminal import Terminal
from tests.image.users import User, user_of
from tests.processes import until

START_LIMIT = 20.0  # seconds
STOP_TIME = 10.0  # seconds between the stop signal and the kill
FIRST_DELAY = 0.1  # seconds before the first start anew; it doubles
LAST_DELAY = 60.0
STABLE = 10.0  # seconds of life after which the delay is the first again


class Container:
    """A container, and how it is."""

    def __init__(
        self, made: Made, runc: Runc, gone: Callable[["Container"], Awaitable[None]]
    ) -> None:
        self.made = made
        self.log = Log(made.logs)
        self.status = "created"
        self.exit_code = 0
        self.restarts = 0
        self.memory_killed = False
        self.terminal: Terminal | None = None
        self._runc = runc
        self._gone = gone
        self._running: Running | None = None
        self._forwarders: list[Forwarder] = []
        self._tasks = Tasks()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._executed = 0

    @property
    def pid(self) -> int:
        """The id of its first process as this host sees it; 0 when it has none."""
        file = self.made.directory / "pid"
        with suppress(FileNotFoundError, ValueError):
            return int(file.read_text(encoding="utf-8"))
        return 0

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended for good."""
        return not self._ended.is_set()

    async def start(self) -> None:
        """Start it; raise Failed when its first process or one of its ports is not to be had."""
        if self.alive:
            return
        self._stopping.clear()
        try:
            await self._publish()
            await self._begin()
        except BaseException:
            await self._unpublish()
            raise
        self._ended.clear()
        self._tasks.start(self._supervise())

    def give(self, text: bytes) -> None:
        """Give its first process *text* and the end of its standard input."""
        if self._running is not None:
            self._running.give(text)

    async def ended(self) -> int:
        """Wait until it has ended and is not started again; return its exit status."""
        await self._ended.wait()
        return self.exit_code

    async def done(self) -> Done:
        """Wait so, and tell how it ended."""
        status = await self.ended()
        return Done(status=status, out=self.log.text("stdout"), err=self.log.text("stderr"))

    async def health(self) -> Done | None:
        """Run the image's health check, once and now; None when there is none or it cannot run."""
        check = self.made.image.health
        if not check or not self.pid:
            return None
        words = check[1:] if check[0] == "CMD" else ("/bin/sh", "-c", *check[1:])
        executed = await self.execute(words, replace(self.made.run, terminal=False))
        try:
            async with asyncio.timeout(self.made.image.health_limit):
                return await executed.ended()
        except TimeoutError:
            await executed.running.hang_up()
            return Done(status=1, err="Health check exceeded timeout")

    async def kill(self, signal: str) -> None:
        """Send a signal to its first process; after some it is not started again."""
        if not self.alive:
            raise Failed(f"Error response from daemon: container {self.made.id} is not running")
        signal = signal.upper().removeprefix("SIG")
        if signal in {"9", "KILL", self.made.image.stop_signal.removeprefix("SIG")}:
            self._stopping.set()
        await self._runc.kill(self.made.id, signal)

    async def stop(self, seconds: float | None) -> None:
        """Send the stop signal, and after some *seconds* the kill; wait for the end."""
        self._stopping.set()
        if not self.alive:
            return
        await self._runc.kill(self.made.id, self.made.image.stop_signal)
        own = self.made.run.stop_timeout
        default = STOP_TIME if own is None else own
        try:
            async with asyncio.timeout(default if seconds is None else seconds):
                await self._ended.wait()
        except TimeoutError:
            await self._runc.kill(self.made.id, "KILL")
            await self._ended.wait()

    async def processes(self) -> list[int]:
        """Return the ids of its processes as this host sees them."""
        return await self._runc.processes(self.made.id) if self.pid else []

    async def execute(self, words: Sequence[str], run: Run) -> Executed:
        """Begin another process in it, with the user, environment and terminal of *run*."""
        if not self.pid:
            raise Failed(f"Error response from daemon: container {self.made.id} is not running")
        self._executed += 1
        file = self.made.directory / f"exec-{self._executed}"
        document = process(
            run, self.made.image, self._user(run), words=words, hostname=self.made.hostname
        )
        file.write_text(json.dumps(document), encoding="utf-8")
        log = Log(self.made.logs.with_suffix(f".{self._executed}"))
        running = await self._runc.begin(
            *("exec", "--process", file, self.made.id),
            log=log,
            open_input=run.interactive,
            terminal=run.terminal,
        )
        return Executed(running=running, log=log)

    async def end(self) -> None:
        """Kill it, if it has not ended, and wait for the end."""
        self._stopping.set()
        if self.alive:
            await self._runc.kill(self.made.id, "KILL")
            await self._ended.wait()

    async def settled(self) -> None:
        """Wait until nothing is done about it any more."""
        await self._tasks.end()

    def _user(self, run: Run) -> User:
        wanted = self.made.image.user if run.user is None else run.user
        try:
            return user_of(self.made.root.path, wanted)
        except LookupError as error:
            raise Failed(f"docker: Error response from daemon: {error.args[0]}", 125) from error

    async def _publish(self) -> None:
        for port in self.made.run.ports:
            forwarder = Forwarder(self.made.address, port.inner)
            self._forwarders.append(forwarder)
            try:
                await forwarder.listen(port.address, port.outer)
            except OSError as error:
                raise Failed(
                    "docker: Error response from daemon: driver failed programming external"
                    f" connectivity: Bind for {port.address}:{port.outer} failed: {error.strerror}",
                    125,
                ) from error

    async def _unpublish(self) -> None:
        for forwarder in self._forwarders:
            await forwarder.close()
        self._forwarders.clear()

    async def _begin(self) -> None:
        """Start its first process; raise Failed when there is none."""
        made = self.made
        document = configuration(
            run=made.run,
            image=made.image,
            user=self._user(made.run),
            root=made.root.path,
            hostname=made.hostname,
            network=made.network.path,
            cgroup=made.cgroup,
            files=made.directory,
            mounts=made.mounts,
        )
        (made.directory / "config.json").write_text(json.dumps(document), encoding="utf-8")
        running = await self._runc.begin(
            *("run", "--keep", "--bundle", made.directory),
            *("--pid-file", made.directory / "pid", made.id),
            log=self.log,
            open_input=made.run.interactive,
            terminal=made.run.terminal,
        )
        self._running, self.terminal = running, running.terminal
        await until(lambda: self.pid or running.process.returncode is not None, limit=START_LIMIT)
        if not self.pid:
            await self._over(running)
            said = self.log.text().splitlines()[-1:]
            raise Failed(
                f"docker: Error response from daemon: {''.join(said)}", status_of(self.log.text())
            )
        self.status = "running"

    async def _supervise(self) -> None:
        """Wait for its end, and start it again as often as its policy wants."""
        delay = FIRST_DELAY
        try:
            while self._running is not None:
                began = time.monotonic()
                self.exit_code = await self._over(self._running)
                if time.monotonic() - began >= STABLE:
                    delay = FIRST_DELAY
                again = self.made.run.restart.wanted(self.exit_code, self.restarts)
                if not again or await self._stopped_within(delay):
                    break
                delay = min(2 * delay, LAST_DELAY)
                self.restarts += 1
                await self._begin()
        finally:
            await self._unpublish()
            self.status = "exited"
            try:
                if self.made.run.remove:
                    await self._gone(self)
            finally:
                self._ended.set()

    async def _stopped_within(self, seconds: float) -> bool:
        self.status = "restarting"
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _over(self, running: Running) -> int:
        """Wait until a life of it is over; return its exit status."""
        status = await running.ended()
        self.memory_killed = memory_kills(self.made.cgroup) > 0
        await self._runc.delete(self.made.id)
        (self.made.directory / "pid").unlink(missing_ok=True)
        self._running = None
        return status
