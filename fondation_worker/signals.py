"""What this process is asked for by signals, from its start to its end."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from fondation_worker.slots import Ends


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that a signal asks for."""

    ends: Ends = field(default_factory=Ends)
    reload: asyncio.Event = field(default_factory=asyncio.Event)  # who heeds it clears it
    anything: asyncio.Event = field(default_factory=asyncio.Event)  # so does who waits for it


def heeded() -> Asked:
    """Return what is asked for from now on, as long as this event loop runs.

    SIGTERM and SIGINT ask for an end, a second time for one at once; SIGUSR1 says that this program
    was replaced on disk; SIGHUP asks to read the settings again.
    """
    asked, loop = Asked(), asyncio.get_running_loop()

    def heed(ask: Callable[[], None]) -> None:
        ask()
        asked.anything.set()

    for number, ask in (
        (signal.SIGTERM, asked.ends.ask),
        (signal.SIGINT, asked.ends.ask),
        (signal.SIGHUP, asked.reload.set),
        (signal.SIGUSR1, asked.ends.leave.set),
    ):
        loop.add_signal_handler(number, heed, ask)
    return asked
