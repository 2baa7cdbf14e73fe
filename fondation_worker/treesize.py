"""Judges a commit before it is checked out, from what `git ls-tree -r -t -l -z` says of it. Pure.

A few objects can name 10⁹ paths, and one small blob can unfold to gigabytes. So the list is read as
it comes, and the first entry that breaks a limit ends it.
"""

import hashlib
from dataclasses import dataclass, field

from fondation_worker.errors import InvalidJob, TooLarge

MOST_DEPTH = 100  # directories
LONGEST_PATH = 4095  # bytes, as on Linux
LONGEST_NAME = 255  # bytes, likewise
_PATH_SHARE = 256  # bytes of all paths together, for each file that is allowed
_SOME_PATHS = 1024 * 1024  # bytes of all paths that are never too many
_HEAD = 256  # bytes of an entry before its path, at most
_SHOWN = 80  # characters of a path in an error's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a repository may be."""

    size: int  # bytes, fetched as well as checked out
    files: int  # files and directories


@dataclass(slots=True)
class TreeJudge:
    """Takes the list in chunks of bytes; raises TooLarge or InvalidJob as soon as it must."""

    limits: Limits
    size: int = 0
    entries: int = 0
    listed: int = 0  # bytes of paths: git keeps all of them in memory for the checkout
    _rest: bytes = b""
    _seen: set[bytes] = field(default_factory=set)  # digests of the paths

    def feed(self, chunk: bytes) -> None:
        """Judge the entries that *chunk* completes."""
        *whole, self._rest = (self._rest + chunk).split(b"\0")
        for entry in whole:
            self._judge(entry)
        if len(self._rest) > LONGEST_PATH + _HEAD:
            raise TooLarge(f"the repository has a path of more than {LONGEST_PATH} bytes")

    def _judge(self, entry: bytes) -> None:
        head, _, path = entry.partition(b"\t")
        size = head.split()[-1]
        self.entries += 1
        self.size += int(size) if size.isdigit() else 0  # "-": a directory or a submodule
        if self.entries > self.limits.files:
            raise TooLarge(
                f"the repository has more than {self.limits.files} files and directories"
                " (REPOSITORY_FILES_LIMIT)"
            )
        if self.size > self.limits.size:
            raise TooLarge(
                f"the repository's files have more than {self.limits.size} bytes"
                " (REPOSITORY_SIZE_LIMIT)"
            )
        self._judge_path(path)

    def _judge_path(self, path: bytes) -> None:
        names = path.split(b"/")
        if len(names) > MOST_DEPTH:
            raise TooLarge(f"the repository is more than {MOST_DEPTH} directories deep")
        if len(path) > LONGEST_PATH:
            raise TooLarge(f"the repository has a path of more than {LONGEST_PATH} bytes")
        if max(map(len, names)) > LONGEST_NAME:
            raise TooLarge(f"the repository has a name of more than {LONGEST_NAME} bytes")
        if any(name.lower() in {b"", b".", b"..", b".git"} for name in names):
            raise InvalidJob(f"the repository has a file that git does not write: {_shown(path)}")
        self.listed += len(path)
        if self.listed > (most := max(self.limits.files * _PATH_SHARE, _SOME_PATHS)):
            raise TooLarge(
                f"the repository's paths have more than {most} bytes together"
                " (REPOSITORY_FILES_LIMIT)"
            )
        known = hashlib.blake2b(path, digest_size=16).digest()  # 200,000 paths can be 800 MB
        if known in self._seen:
            raise InvalidJob(f"the repository has two files of one name: {_shown(path)}")
        self._seen.add(known)


def _shown(path: bytes) -> str:
    return repr(path.decode(errors="replace")[:_SHOWN])
