"""The one clock that leases and due times are reckoned on, and the one that is only shown."""

import time


def boottime() -> float:
    """Return seconds on CLOCK_BOOTTIME: it counts while the host sleeps, and nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_clock() -> float:
    """Return seconds since the epoch as this host has them, to be shown: nothing is decided by it.

    It may be wrong, and may be set at any moment.
    """
    return time.time()
