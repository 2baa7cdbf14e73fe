"""What `--instance` stands for, and that the units say the same."""

import hashlib
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fondation_worker import events
from fondation_worker.cli.main import EXIT_BAD_SETTINGS, EXIT_UPGRADED
from fondation_worker.config import load
from fondation_worker.errors import BadSettings
from fondation_worker.host import settled_on_this_host
from fondation_worker.installation import (
    CACHE,
    CREDENTIAL,
    ETC,
    IMAGE_PREFIX,
    KEPT_SECRETS,
    LOGIN,
    PORT,
    RUN,
    STATE,
    USER,
    Instance,
    differing,
    mounted_secrets,
)
from fondation_worker.settings import label

UNITS = Path(__file__).parents[2] / "systemd"


def unit(name: str) -> dict[str, list[str]]:
    """Return the directives of a unit of ours, each with its values in order."""
    found = defaultdict(list)
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line and line[0].isalpha():
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)


def secrets_in(directory: Path, **files: str) -> dict[str, str]:
    """Put *files* where systemd puts a unit's credentials; return the environment."""
    for name, content in files.items():
        path = directory / f"{CREDENTIAL}_{name.replace('_', '-')}"
        path.write_text(f"{content}\n", encoding="utf-8")
    return {"CREDENTIALS_DIRECTORY": str(directory)}


def test_the_units_agree_with_the_program() -> None:
    """Directories, sockets, user and secrets are named in both."""
    service, listening = unit("fondation-worker@.service"), unit("fondation-worker@.socket")
    assert service["StateDirectory"] == [f"{STATE.name}/%i"]
    assert service["CacheDirectory"] == [f"{CACHE.name}/%i"]
    assert service["LoadCredential"] == [f"{CREDENTIAL}:{KEPT_SECRETS}"]
    assert service["User"] == service["Group"] == listening["SocketGroup"] == [USER]
    assert service["ReadWritePaths"] == [f"-{LOGIN.parent}"]
    assert service["SuccessExitStatus"] == service["RestartForceExitStatus"]
    assert service["SuccessExitStatus"] == [str(EXIT_UPGRADED)]
    assert service["RestartPreventExitStatus"] == [str(EXIT_BAD_SETTINGS)]
    assert listening["ListenStream"] == [f"127.0.0.%i:{PORT}", f"{RUN}/%i.sock"]


def test_each_event_has_its_entry_in_the_catalog() -> None:
    """And none is left there of an event that went."""
    catalog = (UNITS / "fondation-worker.catalog").read_text(encoding="utf-8")
    known = {each.id: each.name for each in vars(events).values() if isinstance(each, events.Event)}
    assert set(re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.MULTILINE)) == set(known)
    assert len(set(known.values())) == len(known)


def test_an_instance_has_places_of_its_own(tmp_path: Path) -> None:
    """Nothing of one is another's, but the login."""
    environ = secrets_in(tmp_path, worker_key="a-key-of-this-worker")
    config = load(environ | {"CONVEX_URL": "https://happy.convex.cloud"}, instance=Instance("7"))
    assert config.state_dir == STATE / "7"
    assert config.temp_dir == CACHE / "7"
    assert config.control_socket == RUN / "7.sock"
    assert config.health_address == ("127.0.0.7", PORT)
    assert (config.worker_id or "").endswith("-7")
    assert config.worker_key == "a-key-of-this-worker"
    assert config.credential.is_login
    assert config.credential.value == str(LOGIN)


def test_what_is_set_rules_over_an_instance_s_defaults(tmp_path: Path) -> None:
    """A file, the environment; and a key over the login."""
    environ = secrets_in(
        tmp_path, worker_key="a-key-of-this-worker", anthropic_api_key="placeholder"
    )
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\nconvex_url = https://one.convex.cloud\nworker_id = a\n")
    environ |= {"HEALTH_ADDRESS": "127.0.0.1:9"}
    config = load(environ, file=file, instance=Instance("blue"))
    assert config.worker_id == "a"
    assert config.health_address == ("127.0.0.1", 9)
    assert config.credential.kind == "ANTHROPIC_API_KEY"


def test_a_secret_in_a_file_of_settings_rules_over_the_unit_s(tmp_path: Path) -> None:
    """Of both kinds of credential, too: the later source has chosen."""
    environ = secrets_in(tmp_path, worker_key="from-the-unit", anthropic_api_key="placeholder")
    file = tmp_path / "worker.conf"
    file.write_text("[worker]\nworker_key = from-the-file\nclaude_code_oauth_token = a-token-1\n")
    environ |= {"CONVEX_URL": "https://one.convex.cloud"}
    config = load(environ, file=file, instance=Instance("1"))
    assert config.worker_key == "from-the-file"
    assert config.credential.kind == "CLAUDE_CODE_OAUTH_TOKEN"


def test_an_empty_secret_is_told_with_its_file(tmp_path: Path) -> None:
    """`touch` is not enough; what it should hold is said."""
    environ = secrets_in(tmp_path, worker_key="") | {"CONVEX_URL": "https://one.convex.cloud"}
    with pytest.raises(BadSettings) as refused:
        load(environ, instance=Instance("1"))
    (fault,) = refused.value.faults
    assert "fondation_worker-key" in fault
    assert "8 or more" in fault


def test_a_secret_that_changed_is_noticed(tmp_path: Path) -> None:
    """What an operator's drop-in hands over, encrypted say, is none of that directory's."""
    secrets_in(tmp_path, worker_key="old", operator_key="elsewhere", anthropic_api_key="same")
    contents = {
        "worker-key": b"new\n",
        "anthropic-api-key": b"same\n",
        "claude-oauth-token": b"x\n",
    }
    kept = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert differing(kept, tmp_path) == ("claude-oauth-token", "worker-key")
    assert differing({"../worker-key": "0"}, tmp_path) == ()


@pytest.mark.parametrize("name", ["home", "worker", "", "-a", "a/b", "..", "a" * 33])
def test_a_name_that_means_something_else_is_refused(name: str) -> None:
    """The shared home, the settings of all, a way out."""
    with pytest.raises(ValueError, match=r"^is "):
        Instance(name)


@given(st.text(max_size=40))
def test_a_name_is_safe_in_paths_and_labels_or_refused(name: str) -> None:
    """It becomes a directory, a socket, and a part of the worker's label."""
    try:
        instance = Instance(name)
    except ValueError:
        return
    assert all(path.parent == ETC for path in instance.files)
    assert instance.control_socket.parent == RUN
    assert Path(instance.defaults("host")["STATE_DIR"]).parent == STATE
    label(instance.defaults("a" * 80)["WORKER_ID"])


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("1", "127.0.0.1:8080"),
        ("254", "127.0.0.254:8080"),
        ("255", "off"),
        ("01", "off"),
        ("x", "off"),
    ],
)
def test_a_number_has_an_address_of_its_own(name: str, address: str) -> None:
    """As systemd's socket unit has it."""
    assert Instance(name).defaults("host")["HEALTH_ADDRESS"] == address


@pytest.fixture
def in_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this program be the one in the container image."""
    monkeypatch.setattr(sys, "prefix", str(IMAGE_PREFIX))


@pytest.mark.parametrize("spelling", ["worker-key", "WORKER_KEY", "worker_key"])
def test_a_mounted_secret_is_found_by_any_of_its_names(tmp_path: Path, spelling: str) -> None:
    """Each kind of container host has rules of its own for them."""
    (tmp_path / spelling).touch()
    (tmp_path / "somebody-elses").touch()
    assert mounted_secrets(tmp_path) == {"WORKER_KEY_FILE": str(tmp_path / spelling)}


def test_of_two_spellings_the_package_s_own_counts(tmp_path: Path) -> None:
    """Whatever the order in which a directory is read."""
    for spelling in ("anthropic_api_key", "ANTHROPIC_API_KEY", "anthropic-api-key"):
        (tmp_path / spelling).touch()
    assert mounted_secrets(tmp_path) == {
        "ANTHROPIC_API_KEY_FILE": str(tmp_path / "anthropic-api-key")
    }


def test_no_directory_of_secrets_is_no_secret(tmp_path: Path) -> None:
    """Somebody gives them by the environment, then."""
    assert mounted_secrets(tmp_path / "none") == {}


@pytest.mark.usefixtures("in_image")
def test_in_the_image_each_fault_says_what_to_add() -> None:
    """In the words of `docker run`, that can be copied."""
    with pytest.raises(BadSettings) as refused:
        load({"CLAUDE_CONFIG_DIR": "/home/worker/.claude"})
    assert refused.value.faults == [
        "CONVEX_URL is not set; add -e CONVEX_URL=https://happy-otter-123.convex.cloud",
        (
            "WORKER_KEY or WORKER_KEY_FILE is not set; add"
            " -v /srv/worker-key:/run/secrets/worker-key:ro, a file with"
            " a key whose SHA-256 the deployment knows"
        ),
    ]


def faults_in_image(**settings: str) -> str:
    """Return what is wrong here with *settings*, for a container's operator."""
    environ = {
        "CONVEX_URL": "https://happy.convex.cloud",
        "WORKER_KEY": "a-key-of-this-worker",
        "ANTHROPIC_API_KEY": "placeholder-of-a-key",
        "CLAUDE_CLI": "/nonexistent/claude",
        **settings,
    }
    with pytest.raises(BadSettings) as refused:
        settled_on_this_host(load(environ))
    return "\n".join(refused.value.faults)


@pytest.mark.usefixtures("in_image")
def test_in_the_image_what_cannot_be_written_says_what_to_mount() -> None:
    """Read-only, or another user's: for the user that the container has."""
    said = faults_in_image(STATE_DIR="/proc/fondation", TEMP_DIR="/proc/work/of-this")
    user = os.geteuid()
    for kept, place in (("state", "/proc/fondation"), ("work", "/proc/work/of-this")):
        made = f"sudo install -d -m 700 -o {user} -g {user} /srv/fondation-{kept}; then add"
        assert f"{made} -v /srv/fondation-{kept}:{place}\n" in said
        assert f"what is mounted at {place}: sudo chown -R {user}:{user} it" in said
    assert "WITH_CLAUDE=0" in said


@pytest.mark.usefixtures("in_image")
def test_in_the_image_a_directory_of_others_is_never_left_for_one_that_is_lost(
    tmp_path: Path,
) -> None:
    """Results wait in STATE_DIR; /var/tmp is gone with its container."""
    state, work = tmp_path / "state", tmp_path / "work"
    for place, owner, mode in ((state, os.geteuid(), 0o770), (work, 12345, 0o777)):
        place.mkdir()
        os.chown(place, owner, -1) if os.geteuid() == 0 else None
        place.chmod(mode)
    said = faults_in_image(STATE_DIR=str(state), TEMP_DIR=str(work))
    assert f"in here: chmod go-w {state}" in said
    if os.geteuid() == 0:
        assert f"add -e TEMP_DIR={work}/own" in said
    assert "/var/tmp" not in said  # noqa: S108 no place is made there


@pytest.mark.usefixtures("in_image")
def test_a_directory_that_docker_made_of_a_secret_is_told(tmp_path: Path) -> None:
    """It does so where the host has no such file; a file that is put there then lies inside."""
    with pytest.raises(BadSettings) as refused:
        load({"CONVEX_URL": "https://happy.convex.cloud", "WORKER_KEY_FILE": str(tmp_path)})
    assert "rmdir it, write the file, and start the container again" in refused.value.faults[0]
