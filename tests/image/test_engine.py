"""The engine that the image's tests stand on: it keeps the promises of a real one."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from devtools.image import built
from devtools.roots import TOP
from devtools.storage import buildah
from tests.image.arguments import Refused
from tests.image.engine import Engine, engine
from tests.image.images import Build, Images
from tests.image.network import GATEWAY, interfaces
from tests.image.runc import CGROUPS, control_groups
from tests.processes import running, until

DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG WORD=none
ENV WORD=${WORD}
USER root
RUN install -d -o 1001 -g 1001 -m 750 /srv/own && echo kept >/srv/own/file && touch /srv/plain
USER worker
WORKDIR /srv
VOLUME /srv/own
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["sleep", "1000"]
HEALTHCHECK CMD ["test", "!", "-e", "/home/worker/ill"]
"""
BOUNDING = "00000000a80425fb"  # Docker's default capabilities
VOLUMES = 2  # of the image: its own, and that of what it is made from
NONE = "0000000000000000"
SERVE = ("python3", "-m", "http.server", "8080", "--directory")


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a directory to build an image from."""
    directory = tmp_path_factory.mktemp("context")
    (directory / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def base() -> str:
    """Build the worker's image, which has tini, Python and Debian's own tools."""
    return built("bookworm", with_claude=False)


@pytest.fixture(scope="session")
def image(context: Path, base: str) -> Iterator[str]:
    """Build an image with something for every promise."""
    build = Build(arguments=(f"BASE={base}",), file=context / "Dockerfile", context=context)
    identity = Images({}).build(build)
    yield identity
    buildah("rmi", identity)


@pytest_asyncio.fixture
async def docker(image: str) -> AsyncIterator[Engine]:
    """Give an engine that has the image `tiny`."""
    async with engine({"tiny": image}) as running_engine:
        yield running_engine


async def status(docker: Engine, *words: str) -> dict[str, str]:
    """Return /proc/self/status of a process in a container that is made for it."""
    done = await docker("run", "--rm", *words, "cat", "/proc/self/status")
    return dict(line.split(":\t", 1) for line in done.out.splitlines() if ":\t" in line)


async def fetched(place: str) -> str:
    """Wait until HTTP answers at a place on this network; return what."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        curl = ("curl", "--silent", place)
        asked = await asyncio.create_subprocess_exec(*curl, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asked.communicate()
        if asked.returncode == 0:
            return answer.decode()
    raise AssertionError(f"nobody answers at {place}")


# Who and what a process is


async def test_the_first_process_is_the_entrypoint_as_the_images_user(docker: Engine) -> None:
    """In its directory, with its variables, in namespaces of its own."""
    script = "id; pwd; tr '\\0' ' ' </proc/1/cmdline; echo; hostname; echo $HOSTNAME"
    done = await docker("run", "--rm", "-h", "there", "tiny", "sh", "-c", script)
    identity, directory, first, *names = done.out.splitlines()
    assert identity.startswith("uid=1001(worker) gid=1001(worker)")
    assert directory == "/srv"
    assert first.startswith("/usr/bin/tini -- sh -c")
    assert names == ["there", "there"]


@pytest.mark.parametrize(
    ("user", "numbers"),
    [("4242", "4242 0"), ("4242:4243", "4242 4243"), ("nobody", "65534 65534"), ("0", "0 0")],
)
async def test_a_container_runs_as_any_user(docker: Engine, user: str, numbers: str) -> None:
    """A number that is nobody's in the image is in the group root."""
    done = await docker("run", "--rm", "--user", user, "tiny", "sh", "-c", "echo $(id -u) $(id -g)")
    assert done.out == f"{numbers}\n"


async def test_a_user_that_the_image_does_not_know_is_an_error(docker: Engine) -> None:
    """A name must be there; and the container stays, as if it had not been started."""
    done = await docker("run", "--name=c", "--user=nonesuch", "tiny", check=False)
    assert done.status == 125
    assert "unable to find user nonesuch" in done.err
    assert docker.container("c").status == "created"


async def test_variables_come_from_words_files_and_this_process(
    docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later ones count, those of the image least."""
    (tmp_path / "env").write_text("# no\nA=file\nB=file\n\n", encoding="utf-8")
    monkeypatch.setenv("C", "ours")
    words = ["-e", "A=word", "-e", "C", "-e", "UNSET_HERE", "-e", "WORD=a b"]
    done = await docker("run", "--env-file", str(tmp_path / "env"), *words, "tiny", "env")
    assert {"A=word", "B=file", "C=ours", "WORD=a b"} <= set(done.out.splitlines())
    assert "UNSET_HERE" not in done.out


async def test_entrypoint_and_directory_can_be_others(docker: Engine) -> None:
    """The image's own words go with its entrypoint."""
    done = await docker("run", "--rm", "--entrypoint=pwd", "-w", "/usr", "tiny")
    assert done.out == "/usr\n"


@pytest.mark.parametrize(
    ("options", "bounding", "effective"),
    [
        ([], BOUNDING, NONE),
        (["--user=0"], BOUNDING, BOUNDING),
        (["--user=0", "--cap-drop=ALL"], NONE, NONE),
        (["--user=0", "--cap-drop=ALL", "--cap-add=CHOWN"], NONE[:-1] + "1", NONE[:-1] + "1"),
        (["--user=0", "--cap-drop=CAP_CHOWN"], BOUNDING[:-1] + "a", BOUNDING[:-1] + "a"),
    ],
)
async def test_capabilities(
    docker: Engine, options: list[str], bounding: str, effective: str
) -> None:
    """They are Docker's default set, less what is dropped; only root has them at once."""
    found = await status(docker, *options, "tiny")
    assert (found["CapBnd"], found["CapEff"]) == (bounding, effective)


async def test_no_new_privileges_are_as_asked(docker: Engine) -> None:
    """It is off by default, as in Docker."""
    assert (await status(docker, "tiny"))["NoNewPrivs"] == "0"
    options = ["--security-opt=no-new-privileges", "tiny"]
    assert (await status(docker, *options))["NoNewPrivs"] == "1"


SYSTEM_CALLS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    answer = libc.syscall(number, *arguments)
    return "allowed" if answer >= 0 else errno.errorcode[ctypes.get_errno()]
clone, clone3, unshare, set_mempolicy, keyctl = {
    "x86_64": (56, 435, 272, 238, 250), "aarch64": (220, 435, 97, 237, 219)
}[os.uname().machine]
user = 0x10000000
print(call(clone, user | 17, 0, 0, 0, 0), call(clone3, 0, 0), call(unshare, user))
print(call(set_mempolicy, 0, 0, 0), call(keyctl, 0, 0))
print(libc.umount(b"/proc"), errno.errorcode[ctypes.get_errno()])
"""


async def test_system_calls_are_those_of_dockers_profile(docker: Engine) -> None:
    """Namespaces, memory policies and keys are refused; clone3 looks as if the kernel were old."""
    assert (await status(docker, "tiny"))["Seccomp"] == "2"
    done = await docker("run", "--rm", "--user=0", "tiny", "python3", "-c", SYSTEM_CALLS)
    assert done.out.splitlines() == ["EPERM ENOSYS EPERM", "EPERM EPERM", "-1 EPERM"]


async def test_what_is_in_proc_for_the_host_only_is_hidden(docker: Engine) -> None:
    """Root in a container may not write there either."""
    script = "cat /proc/keys /proc/timer_list; echo 1 >/proc/sys/kernel/panic; ls /sys/firmware"
    done = await docker("run", "--rm", "--user=0", "tiny", "sh", "-c", script)
    assert done.out == ""
    assert "Read-only file system" in done.err


# What it sees of files


async def test_a_read_only_root_refuses_writes_and_memory_takes_them(docker: Engine) -> None:
    """Nothing in a tmpfs is executed, unless that is asked for."""
    script = """
        touch /home/worker/x; touch /etc/hosts /work/x /open/x /dev/shm/x
        for directory in /work /open; do
            cp /usr/bin/true $directory/; $directory/true && echo $directory runs it
        done
    """
    mounts = ["--tmpfs=/work", "--tmpfs=/open:exec,size=1m,mode=1777"]
    options = ["--user=0", "--read-only", *mounts]
    done = await docker("run", "--rm", *options, "tiny", "sh", "-c", script)
    refused = [line for line in done.err.splitlines() if "Read-only" in line]
    assert len(refused) == 2, done.err
    assert "/work/true: Permission denied" in done.err
    assert done.out == "/open runs it\n"


async def test_a_tmpfs_has_the_size_that_it_is_given(docker: Engine) -> None:
    """By either option."""
    script = "df -B1 --output=size /a /b | tail -n +2"
    mounts = ["--tmpfs=/a:size=1m", "--mount", "type=tmpfs,dst=/b,tmpfs-size=2m"]
    done = await docker("run", "--rm", *mounts, "tiny", "sh", "-c", script)
    assert done.out.split() == [str(1 << 20), str(2 << 20)]


async def test_a_named_volume_begins_as_the_images_directory_and_outlives(docker: Engine) -> None:
    """Content, owner and mode are copied once."""
    look = "stat -c '%u:%g %a' /srv/own; cd own; cat *; rm file; echo new >file"
    first = await docker("run", "--rm", "-v", "data:/srv/own", "tiny", "sh", "-c", look)
    again = await docker("run", "--rm", "-v", "data:/srv/own", "tiny", "sh", "-c", look)
    assert first.out == "1001:1001 750\nkept\n"
    assert again.out == "1001:1001 750\nnew\n"
    assert (await docker("volume", "ls")).out == "data\n"
    await docker("volume", "rm", "data")
    assert (await docker("volume", "ls")).out == ""


async def test_a_volume_for_what_the_image_has_not_is_roots(docker: Engine) -> None:
    """So is one that was made by hand."""
    await docker("volume", "create", "data")
    look = "stat -c '%u:%g %a' /data; touch /data/x"
    done = await docker("run", "-v", "data:/data", "tiny", "sh", "-c", look, check=False)
    assert (done.status, done.out) == (1, "0:0 755\n")
    assert (await docker("volume", "rm", "data", check=False)).status == 1  # it is in use


async def test_a_volume_of_the_image_goes_with_its_container(docker: Engine) -> None:
    """With --rm and with -v; else it stays."""
    await docker("run", "--rm", "tiny", "true")
    assert (await docker("volume", "ls")).out == ""
    await docker("run", "--name=a", "tiny", "touch", "/srv/own/x")
    await docker("run", "--name=b", "tiny", "true")
    assert len((await docker("volume", "ls")).out.split()) == 2 * VOLUMES
    await docker("rm", "-v", "a")
    await docker("rm", "b")
    assert len((await docker("volume", "ls")).out.split()) == VOLUMES


async def test_a_directory_of_the_host_is_seen_and_may_be_read_only(
    docker: Engine, tmp_path: Path
) -> None:
    """Its owner and mode are what they are."""
    tmp_path.chmod(0o777)
    (tmp_path / "file").write_text("ours\n", encoding="utf-8")
    script = "cat /data/file; touch /data/x"
    for access, answer in (("", 0), (":ro", 1)):
        words = ("-v", f"{tmp_path}:/data{access}", "tiny", "sh", "-c", script)
        done = await docker("run", "--rm", *words, check=False)
        assert (done.status, done.out) == (answer, "ours\n")
    mount = f"type=bind,source={tmp_path},target=/data,readonly"
    done = await docker("run", "--rm", "--mount", mount, "tiny", "sh", "-c", script, check=False)
    assert "Read-only file system" in done.err


async def test_a_path_that_is_not_there_is_made_for_v_and_an_error_for_mount(
    docker: Engine, tmp_path: Path
) -> None:
    """What is made is root's."""
    look = ("tiny", "stat", "-c", "%u %a", "/data")
    done = await docker("run", "--rm", "-v", f"{tmp_path}/a/b:/data", *look)
    assert done.out == "0 755\n"
    mount = f"type=bind,source={tmp_path}/c,target=/data"
    done = await docker("run", "--rm", "--mount", mount, *look, check=False)
    assert done.status == 125
    assert "bind source path does not exist" in done.err


async def test_paths_of_documents_are_elsewhere(image: str, tmp_path: Path) -> None:
    """A line that names /srv does not touch this machine's."""
    async with engine({"tiny": image}, paths={"/srv": tmp_path}) as docker:
        await docker.line("docker run --rm --user 0 -v /srv/creds:/data tiny touch /data/file")
    assert (tmp_path / "creds/file").exists()


# How it lives and ends


ORPHAN = """
    (sh -c 'until test -e /tmp/go; do sleep 0.01; done' & echo $! >/tmp/orphan)
    exec tail -f /dev/null
"""
ZOMBIES = "grep -qs '^State:.Z' /proc/[0-9]*/status"


async def test_an_orphan_is_reaped_by_tini(docker: Engine) -> None:
    """Without it as the first process there is a zombie: this test could see one."""
    for name, options in (("tini", []), ("tail", ["--entrypoint="])):
        await docker("run", "-d", f"--name={name}", *options, "tiny", "sh", "-c", ORPHAN)
        # A shell that still waits would reap it too.
        await until_exec(docker, name, "grep -qsx tail /proc/[0-9]*/comm")
        await docker("exec", name, "sh", "-c", "touch /tmp/go")
    await until_exec(docker, "tail", ZOMBIES)
    await until_exec(docker, "tini", "! test -e /proc/$(cat /tmp/orphan)")


async def until_exec(docker: Engine, name: str, script: str) -> None:
    """Wait until a script in a container succeeds."""
    deadline = time.monotonic() + 10
    while (await docker("exec", name, "sh", "-c", script, check=False)).status != 0:
        assert time.monotonic() < deadline, script


async def test_stop_sends_the_stop_signal_and_waits(docker: Engine) -> None:
    """A program that heeds it ends by itself."""
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    await docker("run", "-d", "--name=c", "tiny", "sh", "-c", script)
    await until(lambda: "up" in docker.container("c").log.text())
    await docker("stop", "c")
    assert docker.container("c").exit_code == 0
    assert (await docker("logs", "c")).out == "up\nbye\n"


@pytest.mark.parametrize("limit", [["run", "--stop-timeout=0.4"], ["stop", "-t", "0.4"]])
async def test_who_does_not_heed_it_is_killed_after_the_grace(
    docker: Engine, limit: list[str]
) -> None:
    """The limit is the container's, or the command's."""
    mine, theirs = (limit[1:], []) if limit[0] == "run" else ([], limit[1:])
    script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    await docker("run", "-d", "--name=c", *mine, "tiny", "sh", "-c", script)
    await until(lambda: "up" in docker.container("c").log.text())
    before = time.monotonic()
    await docker("stop", *theirs, "c")
    assert 0.4 <= time.monotonic() - before < 5
    assert docker.container("c").exit_code == 137


async def test_kill_sends_any_signal(docker: Engine) -> None:
    """KILL by default; and who has ended cannot be killed."""
    script = "trap 'echo hup' HUP; echo up; while :; do sleep 0.02; done"
    await docker("run", "-d", "--name=c", "tiny", "sh", "-c", script)
    await until(lambda: "up" in docker.container("c").log.text())
    await docker("kill", "-s", "SIGHUP", "c")
    await until(lambda: "hup" in docker.container("c").log.text())
    await docker("kill", "c")
    assert (await docker("wait", "c")).out == "137\n"
    assert (await docker("kill", "c", check=False)).status == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["tiny", "sh", "-c", "exit 3"], 3),
        (["tiny", "sh", "-c", "kill -KILL $$"], 137),
        (["--entrypoint=nonesuch", "tiny"], 127),
        (["--entrypoint=/srv/plain", "tiny"], 126),
        (["nonesuch"], 125),
    ],
)
async def test_exit_statuses_are_dockers(docker: Engine, words: list[str], answer: int) -> None:
    """Those of the program, and docker's own."""
    done = await docker("run", "--rm", *words, check=False)
    assert done.status == answer, done


async def test_a_failure_is_tried_again_as_often_as_the_policy_says(docker: Engine) -> None:
    """In the same container: what it wrote is there."""
    script = "echo x >>/tmp/lives; wc -l </tmp/lives; exit 4"
    await docker("run", "-d", "--name=c", "--restart=on-failure:2", "tiny", "sh", "-c", script)
    async with asyncio.timeout(20):
        assert (await docker("wait", "c")).out == "4\n"
    assert (await docker("logs", "c")).out == "1\n2\n3\n"
    assert (await docker("inspect", "-f", "{{.RestartCount}}", "c")).out == "2\n"


async def test_unless_stopped_starts_it_again_until_it_is_stopped(docker: Engine) -> None:
    """A success too; `start` begins anew."""
    await docker("run", "-d", "--name=c", "--restart=unless-stopped", "tiny", "echo", "alive")
    await until(lambda: docker.container("c").restarts >= 2)
    await docker("stop", "c")
    assert docker.container("c").status == "exited"
    lives = (await docker("logs", "c")).out
    assert lives == "alive\n" * (docker.container("c").restarts + 1)
    await docker("start", "c")
    await until(lambda: docker.container("c").log.text() > lives)


async def test_restart_ends_it_and_starts_it(docker: Engine) -> None:
    """That is no restart of the policy's."""
    await docker("run", "-d", "--name=c", "tiny")
    before = docker.container("c").pid
    await docker("restart", "-t", "5", "c")
    assert docker.container("c").pid not in {0, before}
    assert docker.container("c").restarts == 0


@pytest.mark.usefixtures("memory_kill")
async def test_too_much_memory_kills_and_is_told(docker: Engine) -> None:
    """The limit is a true one."""
    eat = ("python3", "-c", "b'x' * (200 << 20)")
    done = await docker("run", "--name=c", "--memory=64m", "tiny", *eat, check=False)
    assert done.status == 137
    assert (await docker("inspect", "-f", "{{.State.OOMKilled}}", "c")).out == "true\n"
    assert (await docker("run", "--rm", "--memory=512m", "tiny", *eat)).status == 0


async def test_more_processes_than_allowed_are_refused(docker: Engine) -> None:
    """The limit is a true one."""
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done"
    done = await docker("run", "--pids-limit=6", "tiny", "sh", "-c", script, check=False)
    assert "fork" in done.err


# Its network


async def test_ports_are_published_and_two_containers_have_one_each(docker: Engine) -> None:
    """Each listens on the same port of its own."""
    for name, port in (("a", "8080"), ("b", "127.0.0.1:8081")):
        words = ("tiny", "sh", "-c", f"echo {name} >/tmp/name; exec {' '.join(SERVE)} /tmp")
        await docker("run", "-d", f"--name={name}", "-p", f"{port}:8080", *words)
    assert await fetched("http://localhost:8080/name") == "a\n"
    assert await fetched("http://127.0.0.1:8081/name") == "b\n"
    taken = await docker("run", "-p", "8080:8080", "tiny", check=False)
    assert taken.status == 125
    assert "8080 failed" in taken.err
    await docker("stop", "a")
    await docker("run", "-d", "-p", "8080:8080", "tiny")


async def test_containers_reach_what_tests_listen_with_and_nothing_else(docker: Engine) -> None:
    """By the bridge's address, when it is exposed; the world is not there."""

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await docker.expose(port) == f"{GATEWAY}:{port}"
    script = (
        "import socket; s = socket.create_connection(('host.docker.internal', %d), 5);"
        "print(s.recv(9)); s.close();"
        "print(socket.socket().connect_ex(('192.0.2.1', 80)) != 0)"
    )
    gateway = "--add-host=host.docker.internal:host-gateway"
    done = await docker("run", "--rm", gateway, "tiny", "python3", "-c", script % port)
    assert done.out == "b'here'\nTrue\n"
    server.close()
    await server.wait_closed()


# What people do with it


async def test_exec_is_another_process_in_it(docker: Engine) -> None:
    """With a user and variables of its own if need be, and something to read."""
    await docker("run", "-d", "--name=c", "-e", "A=1", "tiny")
    script = "id -u; echo $A $B; cat; exit 5"
    words = ("-i", "-u", "0", "-e", "B=2", "c", "sh", "-c", script)
    done = await docker("exec", *words, check=False, given=b"given\n")
    assert (done.status, done.out) == (5, "0\n1 2\ngiven\n")
    assert (await docker("exec", "c", "nonesuch", check=False)).status == 127
    await docker("stop", "c")
    assert (await docker("exec", "c", "true", check=False)).status == 1


async def test_run_reads_what_it_is_given(docker: Engine) -> None:
    """With -i; without, there is nothing to read."""
    assert (await docker("run", "--rm", "-i", "tiny", "cat", given=b"text")).out == "text"
    assert (await docker("run", "--rm", "tiny", "cat", given=b"text")).out == ""


async def test_a_shell_at_a_terminal(docker: Engine) -> None:
    """As in `docker run -it IMAGE /bin/sh`; and another beside it."""
    async with docker.at_terminal("run", "-it", "--name=c", "tiny", "/bin/sh") as first:
        await first.terminal.shows("$ ")
        first.terminal.types("test -t 0 && test -t 1 && echo term=$TERM\n")
        await first.terminal.shows("term=xterm\r\n")
        async with docker.at_terminal("exec", "-it", "c", "tty") as second:
            assert await second.ended() == 0
            assert second.terminal.shown == "/dev/pts/1\r\n"
        first.terminal.types("exit 6\n")
        assert await first.ended() == 6
    assert (
        await docker("run", "-it", "tiny", check=False)
    ).err == "the input device is not a TTY\n"


async def test_logs_are_by_stream_and_in_order(docker: Engine) -> None:
    """And only the last lines, where those are asked for; -f waits for the end."""
    script = "for i in 1 2 3; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done"
    await docker("run", "-d", "--name=c", "tiny", "sh", "-c", script)
    done = await docker("logs", "-f", "c")
    assert (done.out, done.err) == ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")
    assert docker.container("c").log.text().split("\n")[:3] == ["out 1", "err 1", "out 2"]
    done = await docker("logs", "--tail", "1", "c")
    assert (done.out, done.err) == ("", "err 3\n")


async def test_inspect_tells_state_and_health(docker: Engine) -> None:
    """The health check of the image runs when it is asked for."""
    await docker("run", "-d", "--name=c", "tiny")
    (found,) = json.loads((await docker("inspect", "c")).out)
    assert found["State"]["Status"] == "running"
    assert found["State"]["Health"]["Status"] == "healthy"
    await docker("exec", "c", "touch", "/home/worker/ill")
    line = "docker inspect --format '{{.State.Health.Status}} {{.Config.StopSignal}}' c"
    assert (await docker.line(line, check=False)).out == "unhealthy SIGTERM\n"


async def test_ps_shows_what_runs_or_all(docker: Engine) -> None:
    """And the processes of one as this host sees them."""
    await docker("run", "-d", "--name=up", "tiny")
    await docker("run", "--name=down", "tiny", "true")
    assert (await docker("ps")).out.count("\n") == 2
    assert "exited (0)   down" in (await docker("ps", "-a")).out
    assert len(await docker.container("up").processes()) == 2
    assert (await docker("rm", "up", check=False)).status == 1
    await docker("rm", "-f", "up")
    assert (await docker("ps", "-aq")).out.count("\n") == 1


async def test_a_container_is_found_by_its_name_before_any_id(docker: Engine) -> None:
    """Ids are hexadecimal, as short names may be."""
    identity = (await docker("run", "-d", "tiny")).out.strip()
    assert docker.container(identity[:12]).made.id == identity
    await docker("run", "-d", f"--name={identity[0]}", "tiny")
    assert docker.container(identity[0]).made.id != identity


async def test_a_name_is_taken_once(docker: Engine) -> None:
    """Until its container is removed."""
    await docker("run", "--name=c", "tiny", "true")
    assert (await docker("run", "--name=c", "tiny", "true", check=False)).status == 125
    await docker("rm", "c")
    await docker("run", "--name=c", "tiny", "true")


async def test_build_makes_an_image(docker: Engine, context: Path, base: str) -> None:
    """With arguments, under the name that it is given."""
    await docker(
        "build", "-t", "new", "--build-arg", f"BASE={base}", "--build-arg=WORD=a", str(context)
    )
    assert (await docker("run", "--rm", "new:latest", "printenv", "WORD")).out == "a\n"


async def test_build_may_be_somebody_elses_and_is_done_outside(image: str) -> None:
    """The tests' own image is built as ./dev image builds it."""
    seen = []

    def build(asked: Build) -> str:
        seen.append((asked, interfaces()))
        return image

    ours = interfaces()
    async with engine({}, build=build) as docker:
        await docker.line("docker build --build-arg A=1 \\\n  -t name .")
        await docker.line("docker run --rm name true  # as documents have it")
    asked = Build(arguments=("A=1",), file=Path("Dockerfile"), context=Path())
    assert seen == [(asked, ours)]


# What it does not do, and does not leave


@pytest.mark.parametrize(
    "line",
    [
        "docker cp a b",
        "docker run --init tiny",
        "docker run --network host tiny",
        "docker run --privileged tiny",
        "docker run --memo 5m tiny",
        "docker run --memory much tiny",
        "docker run --security-opt seccomp=unconfined tiny",
        "docker run -v a:b:z tiny",
        "docker run -p 8080 tiny",
        "docker run --mount type=bind,source=/a,target=/b,bind-propagation=shared tiny",
        "docker run --restart sometimes tiny",
        "docker logs c | grep x",
        "docker run -v $PWD:/x tiny",
        "podman run tiny",
    ],
)
async def test_what_it_does_not_know_it_refuses(docker: Engine, line: str) -> None:
    """A test must not believe that an option was heeded."""
    async with asyncio.timeout(10):
        with pytest.raises(Refused):
            await docker.line(line)


async def test_nothing_is_left_of_what_was_never_ended(image: str) -> None:
    """Whatever was left running, being restarted, or stuck."""
    ours = interfaces()
    async with engine({"tiny": image}) as docker:
        place = docker.host.directory
        await docker("run", "-d", "-p", "8080:8080", "-v", "data:/data", "tiny")
        await docker("run", "-d", "--restart=always", "tiny", "false")
        await docker("run", "-dit", "--name=c", "tiny", "sh")
        await docker("exec", "c", "sh", "-c", "sleep 1000 >/dev/null 2>&1 &")
        roots = {container.made.root.path for container in docker.host.containers.values()}
        assert len(roots) == 3
        assert all((root / "etc").is_dir() for root in roots)
        assert running(str(place)) != []
        assert control_groups(place.name) != []
    assert not place.exists()
    assert not any((root / "etc").exists() for root in roots)
    assert running(str(place)) == []
    assert control_groups(place.name) == []
    assert interfaces() == ours


KILLED = """
import asyncio, os, signal, sys
from tests.image.engine import engine
async def main():
    async with engine({"tiny": sys.argv[1]}) as docker:
        script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
        await docker("run", "-d", "--name=c", "tiny", "sh", "-c", script)
        while "up" not in docker.container("c").log.text():
            await asyncio.sleep(0.02)
        print(docker.host.directory, docker.container("c").made.root.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_what_a_killed_engine_has_left_the_next_removes(image: str) -> None:
    """A test run that is killed can tidy nothing up."""
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, image), cwd=TOP, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await killed.communicate()
    place, root = (Path(word) for word in said.decode().split())
    assert killed.returncode == -signal.SIGKILL
    assert control_groups(place.name) != []
    async with engine({"tiny": image}):
        assert not place.exists()
        assert not (root / "etc").exists()
        assert control_groups(place.name) == []
        await until(lambda: running(str(place)) == [])


async def test_an_engine_that_leaves_something_fails(image: str) -> None:
    """Here a control group that it does not know."""
    top = CGROUPS / "memory" if (CGROUPS / "memory").exists() else CGROUPS
    left = []

    async def leave() -> None:
        async with engine({"tiny": image}) as docker:
            left.append(top / f"{docker.host.directory.name}-left")
            left[0].mkdir()

    with pytest.raises(AssertionError, match="left"):
        await leave()
    left[0].rmdir()
