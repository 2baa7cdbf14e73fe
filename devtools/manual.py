"""Prints a manual page in roff: `python -m devtools.manual 8`, or `5` for that of the settings.

What the pages say in prose stands in packaging/manual/; what the program knows itself is filled in
here. It needs no more than the program does: the package is built with what is installed.
"""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from devtools import commandpages, roff
from devtools.explained import SECRETS, SHOWN, explained
from fondation_worker import __version__
from fondation_worker.host import ENVIRONMENT
from fondation_worker.installation import SECRET_FILES

_TOP = Path(__file__).parents[1]
_PAGES = {5: "fondation-worker.conf", 8: "fondation-worker"}
_MANUALS = {5: "File Formats", 8: "System Administration"}
_FIELDS = {
    "FONDATION_INSTANCE": "One start of one worker, by the name that Convex knows it by.",
    "FONDATION_JOB_ID": "The job, in all of its attempts, instances and restarts.",
    "FONDATION_ATTEMPT": "The attempt at it, counted from 1.",
    "FONDATION_REPOSITORY": "The repository of the job.",
    "FONDATION_EVENT": "What happened, in one word, as job_completed.",
    "MESSAGE_ID": "The same, as an id that never changes.",
}


def text(section: int) -> str:
    """Return the manual page of *section*, 5 or 8."""
    title = _PAGES[section]
    return roff.page(
        title.upper(),
        section,
        date=_date(os.environ.get("SOURCE_DATE_EPOCH")),
        source=f"fondation-worker {__version__}",
        manual=_MANUALS[section],
        body=_filled((_TOP / f"packaging/manual/{title}.{section}.md").read_text(encoding="utf-8")),
    )


def _filled(prose: str) -> str:
    """Return *prose* with each {name} that is a paragraph replaced by what it stands for."""
    blocks: list[str] = []
    for block in prose.split("\n\n"):
        name = block.strip()
        blocks += _FILLERS[name]() if name in _FILLERS else [block]
    return "\n\n".join(blocks)


def _settings() -> Iterator[str]:
    """Yield a section for each group of settings."""
    for setting in SHOWN:
        entry = explained(setting)
        if entry.heading:
            yield f"# {entry.heading.upper()}"
        facts = " ".join(filter(None, (entry.meaning, entry.takes, entry.default, entry.note)))
        yield f"`{entry.key}`\n: {facts} Example: `{entry.example}`."


def _secrets() -> Iterator[str]:
    for setting in SECRETS:
        entry = explained(setting)
        yield f"`{SECRET_FILES[setting.name]}`\n: `{entry.key}`: {entry.meaning}"


def _environment() -> Iterator[str]:
    names = sorted(ENVIRONMENT, key=lambda name: (name.upper(), name))
    yield ", ".join(f"`{name}`" for name in names)


def _fields() -> Iterator[str]:
    for name, meaning in _FIELDS.items():
        yield f"`{name}`\n: {meaning}"


_FILLERS: dict[str, Callable[[], Iterator[str]]] = {
    "{settings}": _settings,
    "{secrets}": _secrets,
    "{shared}": commandpages.shared,
    "{commands}": commandpages.commands,
    "{statuses}": commandpages.statuses,
    "{environment}": _environment,
    "{fields}": _fields,
}


def _date(epoch: str | None) -> str:
    """Return the day of *epoch*, or that of the package's changelog: a build can be repeated."""
    if epoch:
        moment = datetime.fromtimestamp(int(epoch), UTC)
    else:
        changelog = (_TOP / "debian/changelog").read_text(encoding="utf-8").splitlines()
        trailer = next(line for line in changelog if line.startswith(" -- "))
        moment = parsedate_to_datetime(trailer.rpartition("  ")[2])
    return f"{moment:%Y-%m-%d}"


if __name__ == "__main__":
    sys.stdout.write(text(int(sys.argv[1])))
