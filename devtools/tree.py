"""The files of this tree: which there are, and a digest that changes when they do."""

import hashlib
import os
import subprocess

from devtools.roots import TOP


def listed(*below: str) -> list[str]:
    """Return the names of this tree's files, those not yet known to git too."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *below]
    names = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in set(names.split("\0")[:-1]) if os.path.lexists(TOP / name))


def digest(start: str, *below: str) -> str:
    """Return what stands for names, modes and contents of the files, and for *start*."""
    whole = hashlib.sha256(start.encode())
    for name in listed(*below):
        path = TOP / name
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        whole.update(f"{name} {path.lstat().st_mode} {len(content)}\n".encode() + content)
    return whole.hexdigest()
