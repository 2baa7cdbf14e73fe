"""The one clock that leases and due times are reckoned on."""

import time


def boottime() -> float:
    """Return seconds on CLOCK_BOOTTIME: it counts while the host sleeps, and nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
