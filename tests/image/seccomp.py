"""The system calls that a container may make.

Debian's profile for containers (of golang-github-containers-common, which buildah needs) is laxer
than Docker's: it lets everybody make namespaces and mounts, and it answers "not implemented" where
Docker answers "not permitted". This closes what Docker keeps closed.
"""

import json
import platform
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

PROFILE = Path("/usr/share/containers/seccomp.json")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHITECTURES = {
    "amd64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "arm64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
ALLOW = "SCMP_ACT_ALLOW"
NOT_PERMITTED = 1  # errno(3)
NOT_IMPLEMENTED = 38

# For everybody in Debian's profile; in Docker's for those only who have the capability, or nobody.
GUARDED = {
    "CAP_SYS_ADMIN": [
        *("clone3", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr"),
        *("move_mount", "open_tree", "setns", "syslog", "umount", "umount2", "unshare"),
    ],
    "CAP_SYS_BOOT": ["reboot"],
    "CAP_SYS_NICE": ["get_mempolicy", "mbind", "set_mempolicy"],
    "CAP_SYS_PTRACE": ["pidfd_getfd"],
    "nobody": ["add_key", "keyctl", "pivot_root", "request_key"],
}
# Without CAP_SYS_ADMIN clone(2) makes no namespace: none of the CLONE_NEW* flags but CLONE_NEWTIME.
NAMESPACES = 0x7E020000
CLONE = {
    "names": ["clone"],
    "action": ALLOW,
    "args": [{"index": 0, "value": NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}],
}


def profile(capabilities: Collection[str]) -> dict[str, Any]:
    """Return the OCI configuration's `seccomp` for a process that may have *capabilities*."""
    machine = MACHINES[platform.machine()]
    rules = list(_translated(machine, capabilities))
    if "CAP_SYS_ADMIN" not in capabilities:
        # The C library falls back to clone(2), whose flags can be looked at.
        rules.append(_refusal(["clone3"], NOT_IMPLEMENTED))
        rules.append(CLONE)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": NOT_PERMITTED,
        "architectures": ARCHITECTURES[machine],
        "syscalls": rules,
    }


def _translated(machine: str, capabilities: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the file's rules that apply, in the OCI configuration's own words."""
    closed = {name for needed in GUARDED if needed not in capabilities for name in GUARDED[needed]}
    if "CAP_SYS_ADMIN" not in capabilities:
        closed.add("clone")
    for rule in json.loads(PROFILE.read_text(encoding="utf-8"))["syscalls"]:
        names = rule["names"]
        if rule["action"] == ALLOW:
            names = [name for name in names if name not in closed]
        if names and _applies(rule, machine, capabilities):
            kept = {key: rule[key] for key in ("action", "args", "errnoRet") if rule.get(key)}
            yield {"names": names} | kept


def _applies(rule: dict[str, Any], machine: str, capabilities: Collection[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        all(name in capabilities for name in includes.get("caps", ()))
        and machine in includes.get("arches", [machine])
        and not any(name in capabilities for name in excludes.get("caps", ()))
        and machine not in excludes.get("arches", ())
    )


def _refusal(names: list[str], errno: int) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
