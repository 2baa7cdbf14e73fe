"""What a check has found: a level, what there is, and for everything not fine what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. An error keeps a worker from its work, or makes that dangerous."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    level: Level
    words: str
    advice: str | None = None  # what to do


def ok(name: str, words: str) -> Finding:
    """Return that all is well."""
    return Finding(name=name, level=Level.OK, words=words)


def warning(name: str, words: str, advice: str) -> Finding:
    """Return what a worker can live with, and what to do about it."""
    return Finding(name=name, level=Level.WARNING, words=words, advice=advice)


def error(name: str, words: str, advice: str) -> Finding:
    """Return what a worker cannot live with, and what to do about it."""
    return Finding(name=name, level=Level.ERROR, words=words, advice=advice)


def count(findings: Iterable[Finding], level: Level) -> int:
    """Return how many *findings* are of *level*."""
    return sum(finding.level is level for finding in findings)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 where all is well, 1 for warnings, 2 for errors."""
    levels = {finding.level for finding in findings}
    return 2 if Level.ERROR in levels else 1 if Level.WARNING in levels else 0
