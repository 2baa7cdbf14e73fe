"""What of a host keeps a worker from claiming."""

import pytest
from hypothesis import given, strategies as st

from fondation_worker.admission import Limits, Place, Readings, in_units, refusals

GIB = 1024**3
LIMITS = Limits(disk_floor=2 * GIB, memory_pressure=40.0)


def readings(
    *,
    free: int = 10 * GIB,
    inodes: int | None = 1000,
    trouble: str | None = None,
    pressure: float | None = 0.0,
) -> Readings:
    """Return what a host might tell."""
    place = Place(setting="TEMP_DIR", path="/work", free=free, inodes=inodes, trouble=trouble)
    return Readings(places=(place,), memory_pressure=pressure)


def test_a_host_with_room_may_claim() -> None:
    """Nothing speaks against it."""
    assert refusals(readings(), LIMITS) == ()


@pytest.mark.parametrize(
    ("found", "key", "words"),
    [
        (readings(free=2 * GIB - 1), "disk TEMP_DIR", "2 GiB free below TEMP_DIR (/work)"),
        (readings(inodes=0), "inodes TEMP_DIR", "no inode is free"),
        (readings(trouble="it is read-only"), "unwritable TEMP_DIR", "it is read-only"),
        (readings(pressure=40.1), "memory", "40.1 % of 10 s"),
    ],
    ids=["disk", "inodes", "read-only", "memory"],
)
def test_each_shortage_is_told_in_words(found: Readings, key: str, words: str) -> None:
    """With the figures, and the setting that judges them."""
    (reason,) = refusals(found, LIMITS)
    assert reason.key == key
    assert words in reason.words


def test_every_place_and_the_memory_are_told_at_once() -> None:
    """One look must be enough to mend them all."""
    places = tuple(
        Place(setting=name, path=f"/{name}", free=0, inodes=5, trouble=None)
        for name in ("TEMP_DIR", "STATE_DIR")
    )
    found = refusals(Readings(places=places, memory_pressure=99.0), LIMITS)
    assert [reason.key for reason in found] == ["disk TEMP_DIR", "disk STATE_DIR", "memory"]


@pytest.mark.parametrize(
    ("found", "limits"),
    [
        (readings(pressure=None), LIMITS),
        (readings(inodes=None), LIMITS),
        (readings(pressure=100.0), Limits(disk_floor=0, memory_pressure=100.0)),
        (readings(free=0), Limits(disk_floor=0, memory_pressure=40.0)),
        (readings(free=2 * GIB, pressure=40.0), LIMITS),
    ],
    ids=["no PSI", "uncounted inodes", "100 for never", "0 for none", "at the limit"],
)
def test_what_is_not_known_or_not_asked_for_is_not_judged(found: Readings, limits: Limits) -> None:
    """A kernel without PSI, a file system without inode counts."""
    assert refusals(found, limits) == ()


@given(free=st.integers(0, 10**15), floor=st.integers(0, 10**15))
def test_the_key_of_a_reason_has_no_figures(free: int, floor: int) -> None:
    """Or the log would have a line for every byte that comes or goes."""
    limits = Limits(disk_floor=floor, memory_pressure=100.0)
    keys = {reason.key for reason in refusals(readings(free=free), limits)}
    assert keys == ({"disk TEMP_DIR"} if free < floor else set())


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2 * GIB, "2 GiB")],
)
def test_sizes_are_told_as_people_read_them(size: int, words: str) -> None:
    """The units are those that the settings take."""
    assert in_units(size) == words
