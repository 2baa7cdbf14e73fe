"""Settings: what is read, which source rules, and that every fault is told at once."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fondation_worker.config import load, load_control, load_operator, secrets_of
from fondation_worker.errors import BadSettings
from fondation_worker.installation import Instance
from fondation_worker.settings import SETTINGS, duration

ENOUGH = {
    "CONVEX_URL": "https://happy-otter-123.convex.cloud",
    "WORKER_KEY": "a-key-of-this-worker",
    "ANTHROPIC_API_KEY": "placeholder-credential",
}


def faults_of(environ: dict[str, str], file: Path | None = None) -> list[str]:
    """Return what is wrong with settings that must be refused."""
    with pytest.raises(BadSettings) as refused:
        load(environ, file=file)
    return refused.value.faults


def test_defaults_are_those_that_users_know() -> None:
    """They carry over from the Node worker; changing one breaks somebody's deployment."""
    config = load(ENOUGH | {"HOME": "/home/somebody"})
    assert (config.poll_interval, config.lease_time, config.heartbeat_interval) == (5, 300, 60)
    assert (config.max_concurrent_jobs, config.job_timeout, config.drain_time) == (1, 3600, 30)
    assert config.temp_dir == Path("/tmp/fondation")  # noqa: S108
    assert config.state_dir == Path("/home/somebody/.local/state/fondation-worker")
    assert config.health_address == ("127.0.0.1", 8080)
    assert not config.allow_local_repositories


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5000", 5), ("5s", 5), ("1.5 s", 1.5), ("5min", 300), ("250ms", 0.25), ("2H", 7200)],
)
def test_a_duration_is_milliseconds_or_has_a_unit(text: str, seconds: float) -> None:
    """A bare number is what the Node worker's users write."""
    assert duration(text) == pytest.approx(seconds)


@given(st.text())
def test_no_text_is_taken_for_a_duration_by_accident(text: str) -> None:
    """Whatever is written, it is either a positive time or a fault: never zero, never endless."""
    try:
        seconds = duration(text)
    except ValueError:
        return
    assert 0 < seconds <= 7 * 86400


def test_all_faults_are_told_at_once() -> None:
    """One restart must be enough to mend them all; each names setting, value and example."""
    faults = faults_of(
        {
            "CONVEX_URL": "not a url",
            "POLL_INTERVAL": "soon",
            "MAX_CONCURRENT_JOBS": "many",
            "LOG_FORMAT": "xml",
            "TEMP_DIR": "relative",
            "HEALTH_ADDRESS": "8080",
        }
    )
    text = "\n".join(faults)
    for name, value in (
        ("CONVEX_URL", "not a url"),
        ("POLL_INTERVAL", "soon"),
        ("MAX_CONCURRENT_JOBS", "many"),
        ("LOG_FORMAT", "xml"),
        ("TEMP_DIR", "relative"),
        ("HEALTH_ADDRESS", "8080"),
    ):
        fault = next(fault for fault in faults if fault.startswith(name))
        assert value in fault
        assert "for example: " in fault
    assert "WORKER_KEY or WORKER_KEY_FILE is not set" in text
    assert "ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN" in text
    assert len(faults) == 8


@pytest.mark.parametrize("heartbeat", ["150001", "5min", "1h"])
def test_a_heartbeat_above_half_the_lease_is_a_fault(heartbeat: str) -> None:
    """One lost renewal must not lose the job."""
    (fault,) = faults_of(ENOUGH | {"HEARTBEAT_INTERVAL": heartbeat})
    assert "HEARTBEAT_INTERVAL" in fault
    assert "LEASE_TIME" in fault


def test_half_the_lease_is_allowed() -> None:
    """The bound itself is not a fault."""
    assert load(ENOUGH | {"HEARTBEAT_INTERVAL": "150s"}).heartbeat_interval == 150


def test_flags_rule_over_the_environment_and_it_over_the_file(tmp_path: Path) -> None:
    """A later source rules; what it does not name stays."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\npoll_interval = 1s\nworker_id = from-file\nlog_format = json\n")
    environ = ENOUGH | {"POLL_INTERVAL": "2s", "WORKER_ID": "from-environment"}
    config = load(environ, flags={"WORKER_ID": "from-flag"}, file=file)
    assert (config.worker_id, config.poll_interval, config.log_format) == ("from-flag", 2, "json")


def test_a_file_may_refer_to_its_own_values(tmp_path: Path) -> None:
    """ExtendedInterpolation: ${name} is another value, $$ a dollar."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\nstate_dir = /srv/one\ntemp_dir = ${state_dir}/$$work\n")
    assert load(ENOUGH, file=file).temp_dir == Path("/srv/one/$work")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[worker]\npoll_intervall = 5s\n", "poll_intervall is not a setting"),
        ("[workers]\npoll_interval = 5s\n", "[workers] is unknown"),
        ("[worker]\nworker_id = a$b\n", "a $ is written $$"),
        ("poll_interval = 5s\n", "cannot be read"),
        ("[worker]\npoll_interval = 5s\npoll_interval = 6s\n", "cannot be read"),
    ],
)
def test_a_faulty_file_is_told_in_words(tmp_path: Path, text: str, said: str) -> None:
    """A typing mistake must not be passed over."""
    file = tmp_path / "worker.conf"
    file.write_text(text)
    assert any(said in fault and str(file) in fault for fault in faults_of(ENOUGH, file))


def test_a_faulty_line_is_told_once(tmp_path: Path) -> None:
    """Not also as one that is missing."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\nconvex_url = https://$name.convex.cloud\n")
    environ = {name: value for name, value in ENOUGH.items() if name != "CONVEX_URL"}
    (fault,) = faults_of(environ, file)
    assert "CONVEX_URL: a $ is written $$" in fault


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    """The way for systemd credentials and container secrets; a last line break is no part."""
    file = tmp_path / "key"
    file.write_text("key-from-a-file\n")
    environ = {name: value for name, value in ENOUGH.items() if name != "WORKER_KEY"}
    config = load(environ | {"WORKER_KEY_FILE": str(file)})
    assert config.worker_key == "key-from-a-file"


def test_a_secret_given_twice_or_not_readable_is_a_fault(tmp_path: Path) -> None:
    """Which of two would rule is a guess; a file that is not there is named."""
    missing = str(tmp_path / "missing")
    (twice, unread) = faults_of(ENOUGH | {"WORKER_KEY_FILE": missing})
    assert "both set" in twice
    assert missing in unread


NOWHERE = (
    "https://x:99999 https://x:abc https://a..b ftp://host https:// https://h/path https://-a.b"
)


@pytest.mark.parametrize(
    "url", [*NOWHERE.split(), "https://a b.c", f"https://{'x' * 64}.c", "https://me:hush-hush@host"]
)
def test_a_url_that_leads_nowhere_is_a_fault(url: str) -> None:
    """Told at the start, not asked for ever; and without its password."""
    (fault,) = faults_of(ENOUGH | {"CONVEX_URL": url})
    assert fault.startswith("CONVEX_URL")
    assert "hush-hush" not in fault


def test_an_empty_value_is_as_good_as_none(tmp_path: Path) -> None:
    """Wherever it stands."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\npoll_interval =\nclaude_model =\n")
    config = load(ENOUGH | {"LEASE_TIME": ""}, file=file)
    assert (config.poll_interval, config.claude_model, config.lease_time) == (5, None, 300)


def test_a_later_source_rules_in_whatever_form_it_comes(tmp_path: Path) -> None:
    """A key in the file, its _FILE in the environment: the environment's; credentials likewise."""
    key, file = tmp_path / "key", tmp_path / "worker.conf"
    key.write_text("key-from-a-file")
    file.write_text("[worker]\nworker_key = key-in-the-ini\nanthropic_api_key = key-in-the-ini\n")
    environ = {
        "CONVEX_URL": ENOUGH["CONVEX_URL"],
        "WORKER_KEY_FILE": str(key),
        "CLAUDE_CODE_OAUTH_TOKEN": "token-of-the-environment",
    }
    config = load(environ, file=file)
    assert config.worker_key == "key-from-a-file"
    assert config.credential.kind == "CLAUDE_CODE_OAUTH_TOKEN"


def test_two_credentials_are_a_fault() -> None:
    """The CLI would choose one by rules of its own."""
    (fault,) = faults_of(ENOUGH | {"CLAUDE_CODE_OAUTH_TOKEN": "another-credential"})
    assert "both set" in fault


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.secret], ids=lambda s: s.name)
def test_a_faulty_secret_is_not_shown(setting: object) -> None:
    """Faults are logged: the value of a secret must not be in them."""
    name = getattr(setting, "name", "")
    faults = faults_of(ENOUGH | {name: "se cret"})
    assert any(name in fault for fault in faults)
    assert "se cret" not in "\n".join(faults)


@pytest.mark.parametrize(
    ("url", "open_"),
    [
        ("https://happy-otter-123.convex.cloud", False),
        ("http://127.0.0.1:3210", False),
        ("http://localhost:3210", False),
        ("http://convex.internal:3210", True),
    ],
)
def test_a_key_that_leaves_the_host_unencrypted_is_known(url: str, *, open_: bool) -> None:
    """The log warns of it; inside a closed network it may be wanted."""
    assert load(ENOUGH | {"CONVEX_URL": url}).key_travels_in_the_open() == open_


def test_a_configuration_does_not_show_its_secrets() -> None:
    """It may end up in a traceback."""
    config = load(ENOUGH)
    assert set(secrets_of(config)) == {"a-key-of-this-worker", "placeholder-credential"}
    assert not any(secret in repr(config) for secret in secrets_of(config))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_each_default_is_valid(setting: object) -> None:
    """A default is written as a user would write it, so it goes through the same reader."""
    default, parse = getattr(setting, "default", None), getattr(setting, "parse", None)
    if default is not None and parse is not None:
        parse(default)


SHARED = f"""[worker]
convex_url = {ENOUGH["CONVEX_URL"]}
worker_key = a-key-of-this-worker
operator_key = a-key-of-an-operator
anthropic_api_key = placeholder-credential
state_dir = /srv/state
"""


def test_one_file_serves_the_worker_and_its_operator(tmp_path: Path) -> None:
    """Neither takes the other's settings for faults; the worker keeps nothing of the operator's."""
    file = tmp_path / "worker.conf"
    file.write_text(SHARED)
    worker = load({}, file=file)
    assert "a-key-of-an-operator" not in str([getattr(worker, name) for name in worker.__slots__])
    operator = load_operator({}, file=file)
    assert (operator.convex_url, operator.operator_key) == (
        ENOUGH["CONVEX_URL"],
        "a-key-of-an-operator",
    )
    assert "a-key-of-an-operator" not in repr(operator)
    assert load_control({}, file=file).control_socket == Path("/srv/state/control.sock")


def test_an_instance_is_asked_whatever_is_wrong_with_its_files(tmp_path: Path) -> None:
    """A reload must reach the worker, which then names every fault."""
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\nnonsense = 1\npoll_interval = soon\n", encoding="utf-8")
    config = load_control({}, file=file, instance=Instance("1"))
    assert config.control_socket == Path("/run/fondation-worker/1.sock")
    file.write_text("no section", encoding="utf-8")
    assert load_control({}, file=file, instance=Instance("1")) == config
    with pytest.raises(BadSettings, match="CONTROL_SOCKET"):
        load_control({"CONTROL_SOCKET": "relative"}, instance=Instance("1"))
    with pytest.raises(BadSettings):
        load_control({}, file=file)


def test_an_operator_needs_three_settings_only() -> None:
    """A worker's faults are not an operator's."""
    with pytest.raises(BadSettings) as refused:
        load_operator({"POLL_INTERVAL": "soon"})
    assert [fault.split()[0] for fault in refused.value.faults] == ["CONVEX_URL", "OPERATOR_KEY"]
    key = {"OPERATOR_KEY": "a-key-of-an-operator"}
    assert load_operator({"CONVEX_URL": ENOUGH["CONVEX_URL"], **key}).convex_functions == ""


def test_an_operator_key_comes_from_its_file_too(tmp_path: Path) -> None:
    """And a later source rules, in whatever form."""
    key, file = tmp_path / "key", tmp_path / "worker.conf"
    key.write_text("key-from-a-file\n")
    file.write_text(SHARED)
    flags = {"OPERATOR_KEY_FILE": str(key)}
    assert load_operator({}, flags=flags, file=file).operator_key == "key-from-a-file"


def test_the_workers_faults_do_not_name_an_operator_key() -> None:
    """It never needs one."""
    assert "OPERATOR_KEY" not in "\n".join(faults_of({}))


@pytest.mark.parametrize(
    "text",
    [
        "worker_key = {}\n",
        "[worker]\n{}\n",
        "[worker]\nworker_key = {}\nworker_key = {}\n",
        "[worker]\n[worker]\nworker_key = {}\n",
    ],
)
def test_a_broken_file_is_told_without_its_lines(tmp_path: Path, text: str) -> None:
    """They may hold a secret, and the fault is shown to everybody on the host."""
    file = tmp_path / "worker.conf"
    file.write_text(text.replace("{}", "a-key-of-this-worker"), encoding="utf-8")
    (fault, *_) = faults_of({}, file)
    assert "a-key-of-this-worker" not in fault
    assert re.match(rf"{file}: cannot be read: line \d", fault)
