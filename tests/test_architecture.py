"""Imports point downward only: a module knows those above it in this list, never those below."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fondation_worker"

# Lowest layer first; the text on the right says what a line of modules has in common.
ORDER = (
    *("__init__", "errors", "clock", "tidy", "durable"),  # no imports of ours
    *("disguise", "redact", "settings", "installation", "advice", "sources"),  # pure
    *("config", "words"),
    *("filenames", "admission", "job", "events", "result", "transcript", "account", "stall"),
    *("telling", "verdict", "statusline", "snapshot", "trouble"),
    *("history", "metrics", "exposition"),
    *("journal", "systemd", "login", "host", "logs", "convex", "wakeup_child", "wakeup"),
    *("web", "web.answers", "web.connection", "web.server"),  # edges
    *("web.health", "web.figures", "web.control", "reload"),
    *("web.phrases", "web.plots", "web.sections", "web.vitals", "web.page", "web.status"),
    "web.pages",
    *("leftovers", "runner", "runner.launcher", "runner.process", "treesize"),
    *("credential_helper", "credential", "gitprocess", "clone", "memory", "workspace"),
    *("family", "ticks"),
    *("life", "claims", "entry"),  # what outlives a run
    *("trace", "claude_package", "invocation", "claude", "probing"),
    *("pause", "gate", "queue", "board", "lease", "livelog"),
    *("handin", "refused", "outbox"),  # steps
    *("presence", "pipeline", "ledger", "slots", "signals"),  # flow
    *("diagnosis", "lookout", "caretaker", "assembly", "standby", "daemon"),
    *("control_client", "operator", "saving"),  # the operator's side
    *("privileges", "claude_tarball", "claude_install"),
    *("cli.flags", "cli.main", "cli", "__main__"),
    *("cli.ending", "cli.options", "cli.terminal", "cli.following", "cli.jobview", "cli.joblog"),
    *("cli.jobs", "cli.workers", "cli.control"),  # imported when they are asked for
    *("doctor", "doctor.findings", "doctor.examination", "doctor.deployment", "doctor.known"),
    *("doctor.credentials", "doctor.places", "doctor.programs", "doctor.units", "doctor.waiting"),
    *("doctor.scripted", "doctor.hostile", "doctor.canaries", "doctor.checkup"),
    *("cli.install_claude", "cli.findings", "cli.doctor"),
)

# Each library of an outside system is known to one module.
OWNERS = {
    "aiohttp": {
        *("convex", "doctor.scripted"),
        *("web.answers", "web.connection", "web.server", "web.health", "web.figures"),
        *("web.control", "web.status"),
    },
    "convex": {"convex", "wakeup_child"},
    "git": {"clone", "gitprocess"},
    "sdnotify": {"systemd"},
    "systemd": {"journal", "systemd"},
    "click": {
        *("cli.main", "cli.flags", "cli.options", "cli.ending", "cli.terminal"),
        *("cli.jobs", "cli.workers", "cli.control", "cli.install_claude", "cli.doctor"),
    },
    "markupsafe": {"web.phrases", "web.plots", "web.sections", "web.vitals", "web.page"},
    "prometheus_client": {"exposition", "metrics"},
    "rich": {"cli.terminal", "cli.following"},
    "msgspec": {"claims", "entry", "history", "job", "operator", "queue", "transcript", "wakeup"},
}

SOURCES = {
    path.relative_to(PACKAGE)
    .with_suffix("")
    .as_posix()
    .replace("/", ".")
    .removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """Return the full names of everything that the module at *path* imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_module_has_its_place() -> None:
    """A new module must be put into the list, and one that went must leave it."""
    assert set(SOURCES) - {"__main__"} == set(ORDER) - {"__main__"}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_downward(module: str) -> None:
    """Whoever reads a module needs to know only those before it."""
    prefix = f"{PACKAGE.name}."
    ours = {
        name.removeprefix(prefix) for name in imported(SOURCES[module]) if name.startswith(prefix)
    }
    lower = set(ORDER[: ORDER.index(module)])
    assert ours & set(ORDER) <= lower


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_known_to_its_own_modules_only(library: str) -> None:
    """Then it can be replaced, and its exceptions cross no border."""
    users = {
        module
        for module, path in SOURCES.items()
        if any(name == library or name.startswith(f"{library}.") for name in imported(path))
    }
    assert users == OWNERS[library]
