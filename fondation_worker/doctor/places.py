"""Looks at the directories that a worker writes, and at what is free below them."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from fondation_worker.admission import Limits, Readings, in_units, refusals
from fondation_worker.doctor.findings import Finding, error, ok
from fondation_worker.host import place

NAMES = {"STATE_DIR": "state directory", "TEMP_DIR": "work directory"}
DISK = "disk"


def look_at_directory(setting: str, path: Path, *, is_made: bool) -> Sequence[Finding]:
    """Find out whether this user's worker could use the directory that *setting* names.

    With *is_made* systemd makes it at a start, if it is not there.
    """
    name = NAMES[setting]
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return [_of_missing(name, setting, path, is_made=is_made)]
    except OSError as failure:
        advice = "look with root's rights, or with the worker's user"
        return [error(name, f"{path} cannot be looked at: {failure.strerror}", advice)]
    return [judge_directory(name, path, found, can_write=os.access(path, os.W_OK | os.X_OK))]


def judge_directory(name: str, path: Path, found: os.stat_result, *, can_write: bool) -> Finding:
    """Judge what is at *path*, as a worker's start does."""
    mode = stat.S_IMODE(found.st_mode)
    words = f"{path} (mode {mode:04o})"
    if not stat.S_ISDIR(found.st_mode):
        return error(name, f"{path} is no directory", "name another, or move away what is there")
    if found.st_uid != os.geteuid():
        advice = f"chown {os.geteuid()} {path}; or look as the worker's user, or as root"
        return error(name, f"{words} belongs to user {found.st_uid}", advice)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return error(name, f"{words} can be written by others", f"chmod go-w {path}")
    if not can_write:
        advice = "is the file system mounted read-only? chmod u+wx makes it this user's"
        return error(name, f"{words} cannot be written", advice)
    return ok(name, words)


def _of_missing(name: str, setting: str, path: Path, *, is_made: bool) -> Finding:
    parent = _nearest(path)
    if is_made or os.access(parent, os.W_OK | os.X_OK):
        return ok(name, f"{path} is not there yet; a start makes it")
    words = f"{path} is not there, and this user cannot make it in {parent}"
    return error(name, words, f"make it for this user, mode 700, or name another by {setting}")


def look_at_disk(places: Sequence[tuple[str, Path]], disk_floor: int) -> Sequence[Finding]:
    """Find out whether what is free below the directories is enough to claim a job."""
    read = tuple(place(setting, _nearest(path)) for setting, path in places)
    writable = tuple(each for each in read if each.trouble is None)  # else it was told by now
    readings = Readings(places=writable, memory_pressure=None)
    limits = Limits(disk_floor=disk_floor, memory_pressure=100.0)
    short = [
        error(DISK, reason.words, "no job is claimed until then")
        for reason in refusals(readings, limits)
    ]
    free = ", ".join(f"{in_units(each.free)} below {each.setting}" for each in read)
    return short or [ok(DISK, f"free: {free}; DISK_FLOOR is {in_units(disk_floor)}")]


def _nearest(path: Path) -> Path:
    """Return *path*, or what there is above it."""
    while not os.access(path, os.F_OK):
        path = path.parent
    return path
