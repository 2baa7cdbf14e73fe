"""Looks at systemd: whether the worker's unit is up, and as closed as it was shipped.

The unit's own file is what is compared with: a drop-in may open what that closes, and an older
systemd may not know a line of it.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fondation_worker.doctor.findings import Finding, error, ok, warning
from fondation_worker.words import first_line

UNIT, SANDBOX, CGROUP = "unit", "sandbox", "memory control"
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
TEMPLATE = "fondation-worker@.service"
SHIPPED = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
DEFAULTS = Path("/etc/default/fondation-worker")  # EnvironmentFile= of the unit
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")  # of the unified hierarchy
VAR = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache"}  # systemd.exec(5)
ASK_LIMIT = 10.0  # seconds
_SECTION = re.compile(r"^\[(\w+)\]\s*$")
_LINE = re.compile(r"^(\w+)=(.*)$")
_CLOSING = re.compile(
    r"(Protect|Private|Restrict)\w+|NoNewPrivileges|LockPersonality|RemoveIPC|KeyringMode"
    r"|DevicePolicy|CapabilityBoundingSet|AmbientCapabilities|SystemCallFilter|User|Group|UMask"
)
# Lists of what is allowed are shown otherwise than they are written; ~ begins one of what is not.
_LISTS = {"RestrictAddressFamilies", "SystemCallFilter"}
LONGEST_SHOWN = 60  # characters of a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What systemd says of one instance's unit."""

    booted: bool  # whether systemd runs this host
    version: str = ""
    unit: str | None = None  # None: no instance was named
    properties: Mapping[str, str] = field(default_factory=dict)
    shipped: str = ""  # the text of the unit's own file
    controllers: str = ""  # of the unified cgroup hierarchy
    failure: str | None = None  # why systemd could not be asked


def ask_systemd(unit: str | None) -> Units:
    """Return what systemd says of *unit*. Before root's rights go: only root needs no D-Bus."""
    if not BOOTED.is_dir():
        return Units(booted=False, unit=unit)
    try:
        version = first_line(_systemctl("--version"))
        # All: without it, what is empty is left out, and so looks unknown.
        shown = _systemctl("show", "--all", "--no-pager", "--", unit) if unit else ""
    except (OSError, subprocess.SubprocessError) as failure:
        return Units(booted=True, unit=unit, failure=str(failure))
    properties = properties_in(shown)
    return Units(
        booted=True,
        version=version,
        unit=unit,
        properties=properties,
        shipped=_text_of_unit(properties.get("FragmentPath", "")),
        controllers=_text_of(CONTROLLERS),
    )


def judge_units(units: Units) -> Sequence[Finding]:
    """Judge what systemd said."""
    if not units.booted:
        return [
            ok(UNIT, "this is not a systemd host: a run is kept apart by the process room only")
        ]
    if units.failure:
        advice = "look with root's rights: systemctl show"
        return [warning(UNIT, f"systemd could not be asked: {units.failure}", advice)]
    if units.unit is None:
        words = f"{units.version}; no instance was named, so none was looked at"
        return [ok(UNIT, words), judge_control(units.controllers)]
    if units.properties.get("LoadState") != "loaded":
        words = f"{units.unit} is {units.properties.get('LoadState', 'unknown')}"
        return [warning(UNIT, words, "install the package, or look without an instance's name")]
    return [
        judge_state(units),
        judge_sandbox(units.shipped, units.properties),
        judge_control(units.controllers),
    ]


def judge_state(units: Units) -> Finding:
    """Judge whether the unit runs."""
    seen, unit = units.properties, units.unit
    state, enabled = seen.get("ActiveState", "unknown"), seen.get("UnitFileState", "unknown")
    words = f"{unit} is {state} ({seen.get('SubState', '')}), {enabled}"
    restarts = seen.get("NRestarts", "0")
    if state == "active" and enabled == "disabled":
        return warning(UNIT, f"{words}: a boot does not start it", f"systemctl enable {unit}")
    if state == "active":
        return ok(UNIT, f"{words}; {units.version}")
    if state == "failed" or seen.get("SubState") == "auto-restart":
        why = f"{words}: {seen.get('Result', '')}, exit status {seen.get('ExecMainStatus', '')}"
        advice = f"journalctl -xeu {unit} tells why; then systemctl restart {unit}"
        return error(UNIT, f"{why}, {restarts} restarts", advice)
    return warning(UNIT, words, f"systemctl enable --now {unit}")


def judge_sandbox(shipped: str, properties: Mapping[str, str]) -> Finding:
    """Judge whether the unit is as closed as its own file says."""
    dropped = [path for path in properties.get("DropInPaths", "").split() if path]
    if not shipped:
        advice = f"reinstall the package: {TEMPLATE} belongs to it"
        return warning(SANDBOX, "the file of the unit cannot be read", advice)
    opened = list(_opened(shipped, properties))
    by = f"; drop-ins: {', '.join(dropped)}" if dropped else ""
    if opened:
        words = f"{len(opened)} lines of the unit are not in force: {'; '.join(opened)}{by}"
        return error(SANDBOX, words, "take the drop-in back (systemctl revert), or update systemd")
    closing = sum(1 for _ in _closing(shipped))
    return ok(SANDBOX, f"all {closing} lines of the unit that close it are in force{by}")


def judge_control(controllers: str) -> Finding:
    """Judge whether the kernel can limit, and count, the memory of units."""
    if "memory" in controllers.split():
        return ok(CGROUP, "the unified cgroup hierarchy has a memory controller")
    words = (
        "no memory controller in a unified cgroup hierarchy: MemoryMax= and TasksMax= do nothing"
    )
    advice = "boot with systemd.unified_cgroup_hierarchy=1, or leave memory to the host"
    return warning(CGROUP, words, advice)


def properties_in(shown: str) -> dict[str, str]:
    """Return the properties that `systemctl show` printed."""
    lines = (line.partition("=") for line in shown.splitlines() if "=" in line)
    return {name: value for name, _, value in lines}


def makes(units: Units, directory: Path) -> bool:
    """Whether a start of the unit makes *directory*: it is one of its own, below /var."""
    names = ("StateDirectory", "CacheDirectory")
    own = {Path(VAR[name], each) for name in names for each in _words(units, name)}
    return directory in own


def environment_of(units: Units) -> dict[str, str]:
    """Return the variables that the unit's worker has: its own, and those of DEFAULTS, which rule.

    Quoted ones, which none of ours need be, are left out.
    """
    own = _words(units, "Environment")
    lines = _text_of(DEFAULTS).splitlines() if units.properties else []
    pairs = (word.strip().partition("=") for word in (*own, *lines) if not re.match(r"\s*#", word))
    return {name: value for name, is_set, value in pairs if is_set and '"' not in name + value}


def _words(units: Units, name: str) -> list[str]:
    return units.properties.get(name, "").split()


def _opened(shipped: str, properties: Mapping[str, str]) -> Iterator[str]:
    """Yield what the unit's file closes and systemd leaves open."""
    for name, value in _closing(shipped):
        shown = properties.get(name)
        if shown is None:
            yield f"{name}={value} (unknown to this systemd)"
        elif (shown[:1] in {"", "~"}) if name in _LISTS else (shown != value):
            yield f"{name}={value} (it is {shown[:LONGEST_SHOWN] or 'empty'})"


def _closing(shipped: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of the lines of a unit that close it; of repeated ones the last."""
    section, found = "", {}
    for line in shipped.splitlines():
        if head := _SECTION.match(line):
            section = head[1]
        elif section == "Service" and (match := _LINE.match(line)) and _CLOSING.fullmatch(match[1]):
            found[match[1]] = match[2].strip()
    yield from found.items()


def _text_of_unit(fragment: str) -> str:
    """Return the unit as it was shipped: a file of the same name in /etc takes its place."""
    for directory in SHIPPED:
        if text := _text_of(directory / TEMPLATE):
            return text
    return _text_of(Path(fragment)) if fragment else ""


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _systemctl(*words: str) -> str:
    argv = ("systemctl", *words)
    done = subprocess.run(argv, capture_output=True, check=True, timeout=ASK_LIMIT)
    return done.stdout.decode(errors="replace")
