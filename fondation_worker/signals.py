"""What this process is asked for by signals, from its start to its end."""

import asyncio
import signal
from dataclasses import dataclass, field

from fondation_worker.slots import Ends


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that a signal asks for."""

    ends: Ends = field(default_factory=Ends)
    reload: asyncio.Event = field(default_factory=asyncio.Event)  # who heeds it clears it

    async def anything(self) -> None:
        """Wait until something is asked for."""
        waited = [each.wait() for each in (self.ends.stop, self.ends.leave, self.reload)]
        tasks = [asyncio.ensure_future(each) for each in waited]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def heeded() -> Asked:
    """Return what is asked for from now on, as long as this event loop runs.

    SIGTERM and SIGINT ask for an end, a second time for one at once; SIGUSR1 says that this program
    was replaced on disk; SIGHUP asks to read the settings again.
    """
    asked, loop = Asked(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.ends.ask)
    loop.add_signal_handler(signal.SIGHUP, asked.reload.set)
    loop.add_signal_handler(signal.SIGUSR1, asked.ends.leave.set)
    return asked
