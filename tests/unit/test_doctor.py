"""How the doctor judges what it saw, and how checks run beside each other."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fondation_worker import __version__
from fondation_worker.claude_package import OLDEST_TESTED, pinned_version
from fondation_worker.config import Credential
from fondation_worker.doctor.canaries import RUN, TRAPS, Outcome, judge
from fondation_worker.doctor.credentials import judge_login, look_at_credential
from fondation_worker.doctor.deployment import PROTOCOL, About, clocks, crons, fitting
from fondation_worker.doctor.examination import Check, examine, in_a_thread
from fondation_worker.doctor.findings import Finding, Level, error, exit_status, ok, warning
from fondation_worker.doctor.programs import judge_version
from fondation_worker.doctor.units import (
    Units,
    environment_of,
    judge_control,
    judge_sandbox,
    judge_units,
    makes,
    properties_in,
)
from fondation_worker.doctor.waiting import LONG, Result, judge_results
from fondation_worker.login import FILE

TOP = Path(__file__).parents[2]
UNIT = (TOP / "systemd" / "fondation-worker@.service").read_text(encoding="utf-8")
HOUR = 3_600_000.0  # milliseconds


def levels(findings: Sequence[Finding]) -> list[str]:
    """Return the levels of *findings*."""
    return [finding.level.value for finding in findings]


# How checks run


async def test_the_findings_stand_in_the_order_of_the_checks() -> None:
    """Whichever of them ends first."""
    second_is_done = asyncio.Event()

    async def first() -> list[Finding]:
        await second_is_done.wait()
        return [ok("first", "1"), ok("first", "2")]

    async def second() -> list[Finding]:
        second_is_done.set()
        return [ok("second", "3")]

    found = await examine([Check(name="first", look=first), Check(name="second", look=second)])
    assert [finding.words for finding in found] == ["1", "2", "3"]


async def test_a_check_that_crashes_is_a_finding_and_the_rest_goes_on() -> None:
    """With what to report; no traceback."""

    async def crash() -> list[Finding]:
        raise KeyError("missing")

    async def late() -> list[Finding]:
        raise TimeoutError("a call's own")

    async def well() -> list[Finding]:
        return [ok("well", "fine")]

    checks = [Check(name=look.__name__, look=look) for look in (crash, late, well)]
    found = await examine(checks)
    assert levels(found) == ["error", "error", "ok"]
    assert "KeyError: 'missing' (test_doctor.py:" in found[0].words
    assert "TimeoutError: a call's own" in found[1].words
    assert "report it" in str(found[0].advice)


async def test_a_check_has_its_time_and_not_more() -> None:
    """Also one that blocks, as a network disk that is gone does; nobody waits for its thread."""
    let_go = threading.Event()

    def block() -> list[Finding]:
        let_go.wait()
        return []

    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    checks = [
        Check(name="hang", look=hang, limit=0.05),
        Check(name="block", look=lambda: in_a_thread(block), limit=0.05),
    ]
    found = await examine(checks)
    let_go.set()
    assert [finding.words for finding in found] == ["there was no end to it within 0.05 s"] * 2


async def test_what_goes_wrong_in_a_thread_comes_back() -> None:
    """And a result does."""

    def fail() -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await in_a_thread(fail)
    assert await in_a_thread(lambda: 42) == 42


def test_the_worst_finding_decides_the_exit_status() -> None:
    """0, 1, 2."""
    fine, unwell, bad = ok("a", "b"), warning("a", "b", "c"), error("a", "b", "c")
    assert [exit_status(f) for f in ([fine], [fine, unwell], [bad, unwell, fine])] == [0, 1, 2]


# The deployment


@pytest.mark.parametrize(
    ("protocol", "version", "level"),
    [
        (PROTOCOL, __version__, "ok"),
        (PROTOCOL, "7.0", "ok"),
        (PROTOCOL + 1, "7.0", "ok"),
        (PROTOCOL - 1, "0.0.1", "error"),
    ],
)
def test_functions_of_this_protocol_and_newer_ones_fit(
    protocol: int, version: str, level: str
) -> None:
    """They are deployed before the workers that need them."""
    found = fitting(About(protocol=protocol, version=version, skew=0, now=0))
    assert found.level.value == level
    assert version in found.words


def test_the_protocol_of_the_functions_is_ours() -> None:
    """In one release they are the same."""
    functions = (TOP / "convex" / "about.ts").read_text(encoding="utf-8")
    assert f"export const protocol = {PROTOCOL};" in functions


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (0.2, "ok", "0 s ahead of"),
        (-59, "ok", "59 s behind"),
        (3600, "warning", "60 min ahead of"),
        (-90, "warning", "90 s behind"),
    ],
)
def test_clocks_may_be_a_minute_apart(skew: float, level: str, words: str) -> None:
    """Leases mind none of it; certificates do."""
    found = clocks(skew)
    assert (found.level.value, words in found.words) == (level, True)


@pytest.mark.parametrize(
    ("pulse", "level"),
    [(None, "ok"), (HOUR, "ok"), (HOUR - 149e3, "ok"), (HOUR - 200e3, "warning")],
)
def test_crons_run_every_minute(pulse: float | None, level: str) -> None:
    """Without them nothing expires."""
    assert crons(pulse, HOUR).level.value == level


# The credential


@pytest.mark.parametrize(
    ("kind", "value", "level"),
    [
        ("ANTHROPIC_API_KEY", "sk-ant-api03-canary", "ok"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-canary", "ok"),
        ("ANTHROPIC_API_KEY", "canary-of-a-gateway", "ok"),
        ("ANTHROPIC_API_KEY", "sk-ant-oat01-canary", "warning"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-api03-canary", "warning"),
    ],
)
def test_a_credential_of_the_other_kind_is_noticed(kind: str, value: str, level: str) -> None:
    """And none is shown."""
    (found,) = look_at_credential(Credential(kind=kind, value=value), 0)
    assert found.level.value == level
    assert "canary" not in found.words + str(found.advice)


def test_no_credential_is_an_error() -> None:
    """With how to get one."""
    (found,) = look_at_credential(None, 0)
    assert (found.level.value, "setup-token" in str(found.advice)) == ("error", True)


@pytest.mark.parametrize(
    ("login", "level", "words"),
    [
        ({"expiresAt": 9 * HOUR, "refreshToken": "canary"}, "ok", "renews by itself"),
        ({"expiresAt": HOUR, "refreshToken": "canary"}, "ok", "renews by itself"),
        ({"refreshToken": "canary", "refreshTokenExpiresAt": HOUR}, "error", "expired (4 h ago)"),
        ({"expiresAt": HOUR}, "error", "expired (4 h ago)"),
        ({"expiresAt": 9 * HOUR}, "warning", "expires in 4 h, and it has no refresh token"),
        ("canary", "error", "no login that can be read"),
        ({"expiresAt": "soon"}, "error", "no login that can be read"),
        ({"accessToken": 5}, "error", "no login that can be read"),
        (None, "error", "there is no login"),
    ],
)
def test_a_login_that_cannot_be_used_is_noticed(
    tmp_path: Path, login: object, level: str, words: str
) -> None:
    """One that the CLI renews is good, though its short-lived token is over."""
    if login is not None:
        kept = {"accessToken": "canary", **login} if isinstance(login, dict) else login
        file = json.dumps({"claudeAiOauth": kept})
        (tmp_path / FILE).write_text(file, encoding="utf-8")
    credential = Credential(kind="CLAUDE_CONFIG_DIR", value=str(tmp_path))
    (found,) = look_at_credential(credential, 5 * HOUR / 1000)
    assert (found.level.value, words in found.words) == (level, True)
    assert "canary" not in found.words


@pytest.mark.parametrize("text", ["", "[]", "null", '{"claudeAiOauth": []}', "\udcff"])
def test_a_login_file_of_another_form_is_told(tmp_path: Path, text: str) -> None:
    """Rather than a crash."""
    (tmp_path / FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    assert judge_login(tmp_path, 0).level is Level.ERROR


# The Claude CLI


@pytest.mark.parametrize(
    ("said", "level"),
    [
        pytest.param(pinned_version(), "ok", id="pinned"),
        pytest.param(OLDEST_TESTED, "ok", id="oldest"),
        ("1.0.128", "warning"),
        ("99.0.0", "warning"),
    ],
)
def test_the_version_of_the_cli_is_compared_with_the_tested_ones(said: str, level: str) -> None:
    """Another may work; the canaries tell."""
    found = judge_version(Path("/x/claude"), said)
    assert found.level.value == level
    assert level == "ok" or "install-claude" in str(found.advice)


def test_a_trap_that_was_sprung_is_an_error_whatever_came_of_the_run() -> None:
    """And its name says which."""
    found = judge(Outcome(sprung=frozenset({"canary hook"}), was_asked=False, failure="died"))
    by_name = {finding.name: finding for finding in found}
    assert set(by_name) == {RUN, *TRAPS}
    assert "heeds a hook" in by_name["canary hook"].words
    assert set(levels(found)) == {"error"}


def test_a_run_that_failed_proves_nothing() -> None:
    """Before a model was asked, that is; after it, the traps had their time."""
    before = judge(Outcome(sprung=frozenset(), was_asked=False, failure="died"))
    after = judge(Outcome(sprung=frozenset(), was_asked=True, failure="died"))
    well = judge(Outcome(sprung=frozenset(), was_asked=True, failure=None))
    assert set(levels(before)) == {"error"}
    assert levels(after) == ["error", *["ok"] * len(TRAPS)]
    assert set(levels(well)) == {"ok"}


# systemd


def shown(**other: str) -> dict[str, str]:
    """Return what systemd shows of the unit as it is shipped, but for *other*."""
    lines = (line.partition("=") for line in UNIT.splitlines() if "=" in line and line[0] != "#")
    seen = {name: value for name, _, value in lines}
    seen |= {
        "SystemCallFilter": "accept read",
        "UnitFileState": "enabled",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
    }
    seen |= {"StateDirectory": "fondation-worker/1", "CacheDirectory": "fondation-worker/1"}
    return seen | other


def units(**other: str) -> Units:
    """Return a host on which the unit is up."""
    return Units(
        booted=True,
        version="systemd 252",
        unit="fondation-worker@1.service",
        properties=shown(**other),
        shipped=UNIT,
        controllers="cpu memory pids\n",
    )


def test_a_unit_as_it_was_shipped_is_well() -> None:
    """Up, closed and limited."""
    assert levels(judge_units(units())) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NoNewPrivileges", "no"),
        ("ProtectSystem", "full"),
        ("ProtectHome", "no"),
        ("User", "root"),
        ("CapabilityBoundingSet", "cap_sys_admin"),
        ("SystemCallFilter", "~"),
        ("RestrictAddressFamilies", "~AF_PACKET"),
        ("PrivateUsers", "no"),
    ],
)
def test_a_drop_in_that_opens_the_unit_is_an_error(name: str, value: str) -> None:
    """It is named, with where it may come from."""
    dropped = "/etc/systemd/system/fondation-worker@1.service.d/override.conf"
    found = judge_sandbox(UNIT, shown(DropInPaths=dropped, **{name: value}))
    assert found.level is Level.ERROR
    assert f"{name}=" in found.words
    assert dropped in found.words


def test_a_line_that_an_older_systemd_does_not_know_is_an_error() -> None:
    """It warns of that in its journal only."""
    seen = shown()
    del seen["PrivateIPC"]
    found = judge_sandbox(UNIT, seen)
    assert (found.level, "PrivateIPC=yes (unknown" in found.words) == (Level.ERROR, True)


def test_a_drop_in_that_opens_nothing_is_only_named() -> None:
    """Limits, for example."""
    found = judge_sandbox(UNIT, shown(DropInPaths="/etc/x.conf", MemoryMax="4G"))
    assert (found.level, "/etc/x.conf" in found.words) == (Level.OK, True)
    assert judge_sandbox("", shown()).level is Level.WARNING


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        ({"ActiveState": "inactive"}, "warning", "systemctl enable --now"),
        ({"UnitFileState": "disabled"}, "warning", "systemctl enable"),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, "error", "journalctl -xeu"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "error", "journalctl -xeu"),
        ({"ActiveState": "activating", "SubState": "start"}, "warning", "systemctl"),
        ({"LoadState": "not-found"}, "warning", "install the package"),
    ],
)
def test_a_unit_that_is_not_up_is_told(seen: Mapping[str, str], level: str, words: str) -> None:
    """Failed is worse than stopped."""
    found = judge_units(units(**seen))[0]
    assert (found.level.value, words in str(found.advice)) == (level, True)


def test_a_host_without_systemd_is_no_fault() -> None:
    """A container has none. Where systemd is and cannot be asked, something is unknown."""
    assert levels(judge_units(Units(booted=False))) == ["ok"]
    assert levels(judge_units(Units(booted=True, failure="no bus"))) == ["warning"]
    assert levels(judge_units(Units(booted=True, controllers="memory"))) == ["ok", "ok"]
    assert judge_control("cpu pids").level is Level.WARNING
    assert judge_control("").level is Level.WARNING


def test_the_directories_of_the_unit_are_known() -> None:
    """A start makes those, and no other."""
    assert makes(units(), Path("/var/lib/fondation-worker/1"))
    assert makes(units(), Path("/var/cache/fondation-worker/1"))
    assert not makes(units(), Path("/var/lib/fondation-worker/2"))
    assert not makes(Units(booted=False), Path("/var/lib"))


def test_the_units_variables_are_read() -> None:
    """PATH is one: there the CLI is."""
    text = 'Environment=PATH=/opt/x/bin:/bin LANG=C.UTF-8 "A=b c"\nId=x\n\nnonsense\n'
    asked = Units(booted=True, properties=properties_in(text))
    assert environment_of(asked) == {"PATH": "/opt/x/bin:/bin", "LANG": "C.UTF-8"}


# Results


def result(**other: object) -> Result:
    """Return a result that waits for an hour beside a worker that runs."""
    fields = {
        "place": Path("/s/lives/a/outbox/j-1"),
        "age": 3600.0,
        "is_attended": True,
        "elsewhere": None,
        "damage": None,
    }
    return Result(**(fields | other))  # type: ignore[arg-type]


def test_results_are_judged_by_who_attends_to_them() -> None:
    """What no worker hands in is in danger; what one does, only when it takes long."""
    cases = [
        ([], ["ok"]),
        ([result(age=LONG)], ["ok"]),
        ([result()], ["warning"]),
        ([result(is_attended=False), result(is_attended=False), result(age=1.0)], ["error", "ok"]),
        ([result(elsewhere="https://b x/")], ["warning"]),
        ([result(damage="torn", is_attended=False)], ["error"]),
    ]
    for results, expected in cases:
        assert levels(judge_results(results)) == expected
    (found,) = judge_results([result(is_attended=False)] * 3)
    assert "3 finished results wait, the oldest 60 min" in found.words
