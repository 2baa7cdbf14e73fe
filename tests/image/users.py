"""Who a container's processes run as: the names are those of the image."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The numbers of a process."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def user_of(root: Path, wanted: str) -> User:
    """Return who `USER[:GROUP]`, names or numbers, is in *root*; raise LookupError.

    A number that is nobody's there is taken as it is, in group 0; no user at all is root.
    """
    name, _, group = (wanted or "0").partition(":")
    accounts = _table(root / "etc/passwd")
    found = next((row for row in accounts if name in (row[0], row[2])), None)
    if found is None and not name.isdecimal():
        raise LookupError(f"unable to find user {name}: no matching entries in passwd file")
    uid, gid = (int(found[2]), int(found[3])) if found else (int(name), 0)
    groups = _table(root / "etc/group")
    if group:
        row = next((row for row in groups if group in (row[0], row[2])), None)
        if row is None and not group.isdecimal():
            raise LookupError(f"unable to find group {group}: no matching entries in group file")
        return User(uid=uid, gid=int(row[2]) if row else int(group), groups=())
    also = [int(row[2]) for row in groups if found and found[0] in row[3].split(",")]
    return User(uid=uid, gid=gid, groups=tuple(also))


def _table(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split(":") for line in lines if line.count(":") >= 3]
