"""Files that outlive a power cut: each is there whole, or not at all."""

import os
import secrets
import shutil
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Make the file *path*, for this user alone, and wait until the disk has it. Raises OSError."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(opened, "wb") as file:  # noqa: PTH123 a descriptor, for its mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def put(path: Path, content: bytes) -> None:
    """Put a file in place, whole, replacing what is there. Raises OSError; nothing is left then."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write(draft, content)
        draft.rename(path)
    except BaseException:
        remove_quietly(draft)
        raise
    settle(path.parent)


def settle(directory: Path) -> None:
    """Wait until the disk has the names in *directory*. Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def make(directory: Path) -> None:
    """Make *directory*, for this user alone, with what is missing above. Raises OSError."""
    if not directory.is_dir():
        make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        settle(directory.parent)


def remove_quietly(path: Path) -> None:
    """Remove a file or a small directory of ours, as far as the disk lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a disk that does not let us remove has said so at the write before
        return
