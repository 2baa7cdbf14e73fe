"""The operator's pause: kept in STATE_DIR, so that a restart does not end it."""

import contextlib
import os
from pathlib import Path

LONGEST_REASON = 500  # characters
NO_REASON = "no reason was given"


class Pause:
    """Whether an operator has paused the workers of one STATE_DIR.

    The file is the truth: it is looked at each time, so that workers that share a STATE_DIR agree.
    """

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "paused"
        self._unkept: str | None = None  # a pause that the disk refused to keep

    @property
    def reason(self) -> str | None:
        """Why claims are paused, in one line; None when they are not."""
        try:
            words = self._file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return self._unkept
        except OSError as error:  # it is there: better to wait than to work against a wish
            return f"{self._file} cannot be read: {error.strerror}"
        return _one_line(words)

    def begin(self, reason: str) -> bool:
        """Pause; return whether a restart will remember it. Running jobs go on."""
        self._unkept = _one_line(reason)
        draft = self._file.with_name(f".paused-{os.getpid()}")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(f"{self._unkept}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
            _settle(self._file.parent)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            return False
        self._unkept = None
        return True

    def end(self) -> None:
        """Resume. Raises OSError when the file cannot be removed; the pause goes on then."""
        self._file.unlink(missing_ok=True)
        self._unkept = None
        _settle(self._file.parent)


def _settle(directory: Path) -> None:
    """Make what was renamed or removed in *directory* outlive a power cut."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _one_line(words: str) -> str:
    text = words.encode(errors="replace").decode()  # halves of characters fit no file
    return " ".join(text.split())[:LONGEST_REASON] or NO_REASON
