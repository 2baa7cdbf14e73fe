"""What of this host keeps a worker from claiming: a pure decision over readings.

A run that begins on a full disk or on a host that is out of memory ends in a failure and costs an
attempt; a claim that is not made costs nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


class Level(IntEnum):
    """How well a worker is; the worst of what is found counts."""

    HEALTHY = 0
    DEGRADED = 1  # it works, or waits for what passes by itself or was wished for
    UNHEALTHY = 2  # it does not do what it is for, and somebody has to look

    @property
    def word(self) -> str:
        """The word of /health."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What is not as it should be: *words* for people; *key* stays while figures change."""

    key: str
    words: str
    level: Level = Level.UNHEALTHY
    blocks: bool = True  # whether nothing is claimed meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What was read of the file system below one directory."""

    setting: str  # that names the directory
    path: str
    free: int  # bytes, for this user
    inodes: int | None  # free ones, for this user; None where the file system does not count them
    trouble: str | None  # why it cannot be written, or be read at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was read of this host at one moment."""

    places: tuple[Place, ...]
    memory_pressure: float | None  # per cent of the last 10 s; None where the kernel does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the settings ask of the host."""

    disk_floor: int  # bytes; 0 for none
    memory_pressure: float  # per cent


def refusals(readings: Readings, limits: Limits) -> tuple[Reason, ...]:
    """Return what keeps this host from a further job; nothing where a reading is missing."""
    return (*_of_places(readings, limits), *_of_memory(readings, limits))


def _of_places(readings: Readings, limits: Limits) -> Iterator[Reason]:
    for place in readings.places:
        where = f"{place.setting} ({place.path})"
        if place.trouble:
            yield Reason(
                key=f"unwritable {place.setting}",
                words=f"{where} cannot be used: {place.trouble}",
            )
        elif place.free < limits.disk_floor:
            yield Reason(
                key=f"disk {place.setting}",
                words=f"{in_units(place.free)} free below {where}, less than DISK_FLOOR"
                f" ({in_units(limits.disk_floor)}); make room, or lower it",
            )
        elif place.inodes == 0:
            yield Reason(
                key=f"inodes {place.setting}",
                words=f"no inode is free below {where}; remove files",
            )


def _of_memory(readings: Readings, limits: Limits) -> Iterator[Reason]:
    pressure = readings.memory_pressure
    if pressure is not None and pressure > limits.memory_pressure:
        yield Reason(
            key="memory",
            level=Level.DEGRADED,
            words=f"memory is short: tasks waited for it {pressure:g} % of 10 s, more than"
            f" MEMORY_PRESSURE_LIMIT ({limits.memory_pressure:g} %)",
        )


def in_units(size: float) -> str:
    """Return *size* bytes as people read it."""
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.4g} {unit}"
        size /= _STEP
    return f"{size:.4g} {_UNITS[-1]}"
