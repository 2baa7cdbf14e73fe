"""Whose rights a command has: what root starts, and what runs foreign programs, gives them up.

The Claude CLI and whatever a repository could talk it into never run as root here, where there is
somebody else to run as.
"""

import os
import pwd
from dataclasses import dataclass
from typing import TypedDict

from fondation_worker.errors import OperatorError
from fondation_worker.installation import USER

NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of this host."""

    name: str
    uid: int
    gid: int
    home: str


class ChildRights(TypedDict, total=False):
    """What `subprocess` takes to run a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


def service_user() -> User | None:
    """Return the user that packaged workers run as, if there is one here."""
    return _user(USER)


def child_rights() -> ChildRights:
    """Return the rights of a foreign program that this process starts: less than root's.

    For who is not root they are our own. Raises OperatorError where root has nobody to be instead.
    """
    if os.geteuid() != 0:
        return {}
    user = service_user() or _user(NOBODY)
    if user is None:
        raise OperatorError(
            f"there is no user {USER} and no user {NOBODY}: a program that was only just"
            " fetched is not run as root"
        )
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


def own_name() -> str:
    """Return whose rights this process has, in words."""
    uid = os.geteuid()
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def become(user: User) -> None:
    """Give up root for good, and be *user*: no group but its own, its home, no open directory.

    The kernel takes such a process for one that nobody else of that user may look into (ptrace(2)),
    so its memory, secrets included, stays closed to the programs that it starts.
    """
    os.chdir("/")
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    os.umask(0o077)
    os.environ["HOME"] = user.home


def _user(name: str) -> User | None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name=name, uid=found.pw_uid, gid=found.pw_gid, home=found.pw_dir)
