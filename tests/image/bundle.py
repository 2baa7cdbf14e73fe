"""The OCI configuration of a container, as dockerd would write it (config.json of runc)."""

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.image.arguments import Mount, Run
from tests.image.images import Failed, Image
from tests.image.seccomp import profile
from tests.image.users import User

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
FILES = 1048576  # open files of a process, where this host allows as many
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
QUIET = ("nosuid", "noexec", "nodev")
SYSTEM = (
    ("proc", "/proc", QUIET),
    ("tmpfs", "/dev", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "devpts",
        "/dev/pts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    ("sysfs", "/sys", (*QUIET, "ro")),
    ("cgroup", "/sys/fs/cgroup", (*QUIET, "ro")),
    ("mqueue", "/dev/mqueue", QUIET),
    ("tmpfs", "/dev/shm", (*QUIET, "mode=1777", "size=65536k")),  # noqa: S108 # the container's
)


def configuration(
    *,
    run: Run,
    image: Image,
    user: User,
    root: Path,
    hostname: str,
    network: str,
    cgroup: str,
    files: Path,
    mounts: Sequence[Mount],
) -> dict[str, Any]:
    """Return the whole of it.

    *network* is the path of its namespace, *files* the directory with its `hosts`, `hostname` and
    `resolv.conf`; a volume's source is a path already.
    """
    etc = [
        Mount(kind="bind", source=str(files / name), target=f"/etc/{name}", read_only=run.read_only)
        for name in ("hosts", "hostname", "resolv.conf")
    ]
    # A place inside another is mounted after it.
    ordered = sorted((*etc, *mounts), key=lambda mount: mount.target.count("/"))
    return {
        "ociVersion": "1.0.2",
        "process": process(run, image, user, words=words_of(run, image), hostname=hostname),
        "root": {"path": str(root), "readonly": run.read_only},
        "hostname": hostname,
        "mounts": [
            *({"type": t, "source": t, "destination": d, "options": o} for t, d, o in SYSTEM),
            *(_mount(mount) for mount in ordered),
        ],
        "linux": {
            "namespaces": [
                {"type": "network", "path": network},
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")),
            ],
            "cgroupsPath": cgroup,
            "resources": _limits(run),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": profile(capabilities_of(run)),
        },
    }


def words_of(run: Run, image: Image) -> tuple[str, ...]:
    """Return the words of the first process."""
    if run.entrypoint is not None:
        return (*filter(None, [run.entrypoint]), *run.command)
    return (*image.entrypoint, *(run.command or image.command))


def process(
    run: Run, image: Image, user: User, *, words: Sequence[str], hostname: str
) -> dict[str, Any]:
    """Return a process of the container: its first, or another by `docker exec`."""
    files = min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    allowed = capabilities_of(run)
    return {
        "args": list(words),
        "env": _environment(run, image, hostname),
        "cwd": run.directory or image.directory,
        "terminal": run.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), allowed),
        "noNewPrivileges": run.no_new_privileges,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": files, "soft": files}],
        "oomScoreAdj": 0,
    }


def capabilities_of(run: Run) -> list[str]:
    """Return the capabilities that processes of the container may have."""
    dropped = {_capability(name) for name in run.capabilities_dropped}
    added = [_capability(name) for name in run.capabilities_added]
    if "CAP_ALL" in added:
        raise Failed("--cap-add ALL is not known here", 125)
    kept = [] if "CAP_ALL" in dropped else [f"CAP_{name}" for name in CAPABILITIES]
    return sorted({*(name for name in kept if name not in dropped), *added})


def _capability(name: str) -> str:
    return f"CAP_{name.upper().removeprefix('CAP_')}"


def _environment(run: Run, image: Image, hostname: str) -> list[str]:
    """Return the variables; of two with one name the later counts."""
    terminal = ["TERM=xterm"] if run.terminal else []
    every = (PATH, f"HOSTNAME={hostname}", *terminal, *image.environment, *run.environment)
    return list({text.partition("=")[0]: text for text in every}.values())


def _mount(mount: Mount) -> dict[str, Any]:
    access = ["ro"] if mount.read_only else []
    if mount.kind == "tmpfs":
        options = [*QUIET, *mount.options, *access]
        return {"type": "tmpfs", "source": "tmpfs", "destination": mount.target, "options": options}
    options = ["rbind", "rprivate", *access]
    return {
        "type": "bind",
        "source": mount.source,
        "destination": mount.target,
        "options": options,
    }


def _limits(run: Run) -> dict[str, Any]:
    """Return what the control groups are told: no device but runc's own few, and the limits."""
    limits: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if run.memory is not None:
        limits["memory"] = {"limit": run.memory}
    if run.processes is not None:
        limits["pids"] = {"limit": run.processes}
    return limits
