"""`install-claude`: the pinned CLI from the real registry, and every tarball that is not it."""

import base64
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from fondation_worker import claude_tarball
from fondation_worker.claude_install import install
from fondation_worker.claude_package import (
    LOCK,
    OLDEST_TESTED,
    Package,
    is_tested,
    package_for,
    package_for_this_host,
    pinned_version,
    range_in_words,
    version_in,
)
from fondation_worker.claude_tarball import by_npm, check_integrity, from_file, unpack
from fondation_worker.errors import OperatorError
from fondation_worker.privileges import child_rights
from tests.edges.test_disk import small_disk
from tests.terminals import run

PINNED = f"claude-{pinned_version()}"


@pytest.fixture
def prefix() -> Iterator[Path]:
    """Give a directory that every user of this host may enter, as /opt is; pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="fondation-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made) / "opt"


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the real package, fetched by the real client."""
    return by_npm(package_for_this_host(), os.environ)(tmp_path_factory.mktemp("npm"))


def package(tmp_path: Path, program: str, version: str = "9.9.9") -> tuple[Package, Path]:
    """Return a package, and its tarball, whose program is the shell script *program*."""
    file = archive(tmp_path / "made.tgz", {"package/claude": f"#!/bin/sh\n{program}\n".encode()})
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    return Package(name="made", version=version, integrity=f"sha512-{digest}"), file


def archive(file: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    """Make a tarball of files by name, and of other entries as they are."""
    with tarfile.open(file, "w:gz") as made:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                made.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            made.addfile(entry, io.BytesIO(content))
    return file


def said_by(program: Path) -> str:
    """Return what *program* says of its version."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


@contextmanager
def running(program: Path) -> Iterator[None]:
    """Let a copy of `sleep` run meanwhile."""
    with subprocess.Popen([program, "60"]) as process:
        yield
        process.kill()


async def test_npm_fetches_it_and_a_second_time_nothing_is_done(prefix: Path) -> None:
    """The program is root's to change and everybody's to run, and is the one that was tested."""
    settings = {"PATH", "HOME"}
    known = {
        name: value
        for name, value in os.environ.items()
        if name in settings or "CERT" in name or name.lower().startswith(("npm_", "http"))
    }
    done = await run("install-claude", "--prefix", str(prefix), **known)
    assert (done.status, done.err) == (0, "")
    assert f"Claude CLI {pinned_version()} is installed: {prefix}/bin/claude" in done.out
    program = prefix / "bin" / "claude"
    assert version_in(said_by(program)) == pinned_version()
    assert program.resolve() == prefix / PINNED / "claude"
    assert program.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in prefix.iterdir()) == ["bin", PINNED]
    again = await run("install-claude", "--prefix", str(prefix), PATH="/nonexistent")
    assert (again.status, "is already there" in again.out) == (0, True)


async def test_a_tarball_replaces_what_was_there_but_for_what_runs(
    prefix: Path, tarball: Path
) -> None:
    """The link is switched at once; a version that a process runs stays until the next time."""
    for name in ("claude-1.0.0", "claude-1.0.1"):
        (prefix / name).mkdir(parents=True)
        shutil.copy("/bin/sleep", prefix / name / "claude")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "claude").symlink_to("../claude-1.0.1/claude")
    (prefix / ".claude-1.0.2.0123abcd").mkdir()
    for other in ("claude-notes", ".claude-code-router"):  # a prefix may be somebody's home
        (prefix / other).mkdir()
    with running(prefix / "claude-1.0.1" / "claude"):
        done = await run("install-claude", "--tarball", str(tarball), "--prefix", str(prefix))
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[1:] == [
        "removed: claude-1.0.0",
        "kept, because a process runs it: claude-1.0.1",
    ]
    assert os.readlink(prefix / "bin" / "claude") == f"../{PINNED}/claude"  # noqa: PTH115 as written
    left = {"bin", "claude-1.0.1", PINNED, "claude-notes", ".claude-code-router"}
    assert {path.name for path in prefix.iterdir()} == left
    last = await run("install-claude", "--prefix", str(prefix), PATH="/nonexistent")
    assert "removed: claude-1.0.1" in last.out


@pytest.mark.parametrize("harm", ["tampered", "truncated", "other"])
async def test_a_tarball_that_is_not_the_one_is_refused_unopened(
    prefix: Path, tarball: Path, tmp_path: Path, harm: str
) -> None:
    """And what was there is as it was."""
    (prefix / "claude-1.0.0").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin" / "claude").symlink_to("../claude-1.0.0/claude")
    content = bytearray(tarball.read_bytes() if harm != "other" else b"no tarball")
    if harm == "tampered":
        content[len(content) // 2] ^= 1
    (tmp_path / "harmed.tgz").write_bytes(content[: -1 if harm == "truncated" else None])
    done = await run(
        *("install-claude", "--tarball", str(tmp_path / "harmed.tgz"), "--prefix", str(prefix))
    )
    assert (done.status, done.out) == (1, "")
    assert "its hash is sha512-" in done.err
    assert "nothing was unpacked" in done.err
    assert os.readlink(prefix / "bin" / "claude") == "../claude-1.0.0/claude"  # noqa: PTH115 same
    assert sorted(path.name for path in prefix.iterdir()) == ["bin", "claude-1.0.0"]


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    """Return an entry that leads elsewhere."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


PROGRAM = {"package/claude": b"x"}


@pytest.mark.parametrize(
    "members",
    [
        PROGRAM | {"package/../../evil": b"x"},
        {"../evil": b"x"} | PROGRAM,
        PROGRAM | {"/evil": b"x"},
        PROGRAM | {"other/file": b"x"},
        {"package/claude": link("package/claude", "/bin/sh", tarfile.SYMTYPE)},
        {"package/claude": link("package/claude", "package/other", tarfile.LNKTYPE)},
        {"package/claude": link("package/claude", "", tarfile.CHRTYPE)},
        {"package/other": b"x"},
        {},
        PROGRAM | {"second": link("package/claude", "", tarfile.REGTYPE)},
    ],
    ids=["up", "up first", "root", "beside", "link", "hard", "device", "none", "empty", "twice"],
)
def test_an_archive_with_what_no_package_has_is_refused(
    tmp_path: Path, members: Mapping[str, bytes | tarfile.TarInfo]
) -> None:
    """Also one whose hash is right: nothing but the program is written, and only where it is to."""
    file = archive(tmp_path / "strange.tgz", members)
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises((OperatorError, FileExistsError)):
        unpack(file, tmp_path / "a" / "b" / "claude")
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/evil").exists()


@pytest.mark.parametrize("cut", [0, 5, 30, 2500])
def test_a_broken_archive_is_told(tmp_path: Path, cut: int) -> None:
    """In words, whatever of the format it breaks."""
    whole = archive(tmp_path / "whole.tgz", {"package/claude": os.urandom(5000)}).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[:cut])
    with pytest.raises(OperatorError, match="the tarball"):
        unpack(tmp_path / "cut.tgz", tmp_path / "claude")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("echo 9.9.8", "ended with status 0: 9.9.8"),
        ("echo no >&2; exit 3", "ended with status 3: no"),
        ('[ "$(id -u)" = 0 ] && exit 4; exit 5', "status 5"),
        ("env; exit 6", "DISABLE_AUTOUPDATER=1"),
    ],
)
def test_a_program_that_does_not_answer_is_not_switched_to(
    prefix: Path, tmp_path: Path, program: str, words: str
) -> None:
    """Though its hash is right. It is tried without root's rights, and without an environment."""
    made, file = package(tmp_path, program)
    with pytest.raises(OperatorError, match=words):
        install(prefix, made, from_file(file))
    assert not list(prefix.iterdir())


def test_the_trial_leaves_roots_rights() -> None:
    """Also its groups."""
    rights = child_rights()
    if os.geteuid():
        assert rights == {}
    else:
        assert (rights["user"] > 0, rights["group"] > 0, rights["extra_groups"]) == (True, True, [])


def test_an_installed_one_that_is_broken_is_replaced(prefix: Path, tmp_path: Path) -> None:
    """`already there` means that it answers."""
    made, file = package(tmp_path, "echo 9.9.9")
    (prefix / "claude-9.9.9").mkdir(parents=True)
    (prefix / "claude-9.9.9" / "claude").write_text("#!/bin/sh\nexit 1\n")
    assert not install(prefix, made, from_file(file)).was_there
    assert install(prefix, made, from_file(file)).was_there


async def test_without_npm_it_says_what_to_do(prefix: Path) -> None:
    """For this host, and for one without a network."""
    done = await run("install-claude", "--prefix", str(prefix), PATH="/nonexistent")
    assert done.status == 1
    assert "npm is not on PATH: apt-get install npm" in done.err
    assert f"npm pack {package_for_this_host().spec}" in done.err
    assert not list(prefix.iterdir())


async def test_what_npm_says_of_its_failure_is_told_and_it_gets_no_secret(
    prefix: Path, tmp_path: Path
) -> None:
    """Its settings, a proxy's for example, it does get."""
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\nenv >{tmp_path}/env\necho 'npm error: no such host' >&2\nexit 1\n")
    npm.chmod(0o755)
    said = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "npm_config_loglevel": "error"}
    secrets = {"WORKER_KEY": "canary-of-the-worker", "ANTHROPIC_API_KEY": "canary-of-the-model"}
    done = await run("install-claude", "--prefix", str(prefix), **said, **secrets)
    assert (done.status, "npm error: no such host" in done.err) == (1, True)
    seen = (tmp_path / "env").read_text()
    assert "npm_config_loglevel=error" in seen
    assert "canary" not in seen


async def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, tarball: Path) -> None:
    """It needs room for the tarball and for the program."""
    with small_disk(tmp_path / "disk") as disk:
        done = await run("install-claude", "--tarball", str(tarball), "--prefix", str(disk))
        assert (done.status, "no space left" in done.err) == (1, True)
        assert not list(disk.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_write_there_is_told_so(prefix: Path, tmp_path: Path) -> None:
    """Root may; or another place may be named."""
    made, file = package(tmp_path, "echo 9.9.9")
    prefix.mkdir()
    rights = child_rights()
    if os.fork() == 0:
        try:
            os.setgid(rights["group"])
            os.setuid(rights["user"])
            install(prefix, made, from_file(file))
        except OperatorError as error:
            os._exit(0 if "run it as root, or name another place by --prefix" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


def test_two_installations_do_not_meet(prefix: Path, tmp_path: Path) -> None:
    """The second one says so, and leaves the first one's draft alone."""
    made, file = package(tmp_path, "echo 9.9.9")
    (prefix / ".claude-9.9.9.draft").mkdir(parents=True)
    opened = os.open(prefix, os.O_RDONLY)
    fcntl.flock(opened, fcntl.LOCK_EX)
    with pytest.raises(OperatorError, match="another installation"):
        install(prefix, made, from_file(file))
    assert (prefix / ".claude-9.9.9.draft").exists()
    os.close(opened)


@pytest.mark.parametrize(("machine", "libc"), [("riscv64", "glibc"), ("x86_64", ""), ("", "musl")])
def test_a_host_without_a_tested_package_is_told(machine: str, libc: str) -> None:
    """Rather than given one that was never tried."""
    with pytest.raises(OperatorError, match="no tested Claude CLI for this host"):
        package_for(machine, libc)


def test_the_packages_are_those_of_the_lock_file() -> None:
    """Of one version, each with a hash of its own."""
    packages = [package_for(machine, "glibc") for machine in ("x86_64", "aarch64")]
    assert [each.spec for each in packages] == [
        f"@anthropic-ai/claude-code-linux-{kind}@{pinned_version()}" for kind in ("x64", "arm64")
    ]
    assert len({each.integrity for each in packages}) == 2
    assert all(each.integrity.startswith("sha512-") for each in packages)


def test_the_wheel_carries_the_lock_file(tmp_path: Path) -> None:
    """In the sources it is a link: there is one copy."""
    building = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    subprocess.run(building, cwd=LOCK.parents[2], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        assert opened.read("fondation_worker/pinned/package-lock.json") == LOCK.read_bytes()


def test_the_pinned_version_is_a_tested_one() -> None:
    """And the range has two ends."""
    assert is_tested(pinned_version())
    assert is_tested(OLDEST_TESTED)
    assert not is_tested("1.0.128")
    assert not is_tested("2.1.1000")
    assert pinned_version() in range_in_words()
    assert version_in("claude 2") is None


def test_a_hash_is_of_every_byte(tmp_path: Path) -> None:
    """One more is another tarball."""
    made, file = package(tmp_path, "echo 9.9.9")
    check_integrity(file, made)
    with file.open("ab") as opened:
        opened.write(b"\0")
    with pytest.raises(OperatorError, match="is not that of made"):
        check_integrity(file, made)


def test_npm_is_not_waited_for_without_end(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry may never answer."""
    monkeypatch.setattr(claude_tarball, "FETCH_LIMIT", 0.2)
    (tmp_path / "npm").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "npm").chmod(0o755)
    fetch = by_npm(package_for_this_host(), {"PATH": f"{tmp_path}:/bin"})
    with pytest.raises(OperatorError, match="npm took more than"):
        install(prefix, package_for_this_host(), fetch)
