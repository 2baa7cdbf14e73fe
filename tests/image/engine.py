"""A Docker as far as these tests need one, on buildah and runc, in a network of its own.

    async with engine({"fondation-worker": built("bookworm")}) as docker:
        await docker.line("docker run -d --name w -p 8080:8080 fondation-worker")
        await docker("logs", "w")

Nothing of it is left at the end, and it checks that. What it does not know it refuses. It needs
root; while it is open the thread that opened it is in the engine's network, "the host".
"""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.image.arguments import Parser, Refused, run_of, variables
from tests.image.container import Container
from tests.image.host import Host, host
from tests.image.images import Build, Failed
from tests.image.lines import exec_of, names_of, timed_of, words_of
from tests.image.log import text_of
from tests.image.made import Done, Executed
from tests.image.reports import document, formatted, table
from tests.image.terminal import Terminal

NOT_A_TERMINAL = "the input device is not a TTY\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A command at a terminal."""

    terminal: Terminal
    ended: Callable[[], Awaitable[int]]  # waits for the end; gives the exit status


class Engine:
    """Docker's command line: call it with the words after `docker`."""

    def __init__(self, place: Host, build: Callable[[Build], str] | None) -> None:
        self.host = place
        self._build_image = build or place.images.build
        self._commands = {
            "build": self._build,
            "exec": self._exec,
            "inspect": self._inspect,
            "kill": self._kill,
            "logs": self._logs,
            "ps": self._ps,
            "restart": self._restart,
            "rm": self._rm,
            "run": self._run,
            "start": self._start,
            "stop": self._stop,
            "volume": self._volume,
            "wait": self._wait,
        }

    async def __call__(self, *words: str, check: bool = True, given: bytes = b"") -> Done:
        """Do what `docker WORD…` does, with *given* on its standard input; return how it ended.

        Raises Refused for what is not known here, AssertionError when it fails and *check* is set.
        """
        if words[0] not in self._commands:
            raise Refused(f"docker {words[0]}")
        try:
            done = await self._commands[words[0]](words[1:], given)
        except Failed as error:
            done = Done(status=error.status, err=f"{error}\n")
        said = f"docker {shlex.join(words)}: exit {done.status}\n{done.out}{done.err}"
        assert not check or done.status == 0, said
        return done

    async def line(self, text: str, *, check: bool = True, given: bytes = b"") -> Done:
        """Do a line as people write it for their shell, which begins with `docker`."""
        return await self(*words_of(text), check=check, given=given)

    def container(self, name: str) -> Container:
        """Return a container: its processes, its log by streams, its address."""
        return self.host.find(name)

    async def expose(self, port: int) -> str:
        """Let containers reach what listens on *port* of the host's loopback; return where."""
        return await self.host.expose(port)

    @asynccontextmanager
    async def at_terminal(self, *words: str) -> AsyncIterator[Session]:
        """Do `docker run -it …` or `docker exec -it …` at a terminal; it is hung up at the end."""
        if words[0] == "run":
            container = await self.host.create(run_of(words[1:]))
            await container.start()
            assert container.terminal is not None, "no -t"
            yield Session(terminal=container.terminal, ended=container.ended)
        elif words[0] == "exec":
            executed = await self._executed(words[1:])
            assert executed.running.terminal is not None, "no -t"
            try:
                yield Session(terminal=executed.running.terminal, ended=executed.running.ended)
            finally:
                await executed.running.hang_up()
        else:
            raise Refused(f"docker {words[0]} at a terminal")

    async def _build(self, words: Sequence[str], _: bytes) -> Done:
        parser = Parser("build")
        parser.lists("-t|--tag", "--build-arg")
        parser.add_argument("-f", "--file", type=Path)
        parser.add_argument("context", type=Path)
        asked = parser.parse_args(words)
        build = Build(
            arguments=tuple(asked.build_arg),
            file=asked.file or asked.context / "Dockerfile",
            context=asked.context,
        )
        made = await asyncio.to_thread(self._build_outside, build)
        for tag in asked.tag:
            self.host.images.names[tag.removesuffix(":latest")] = made
        return Done(status=0, out=f"{made}\n")

    def _build_outside(self, build: Build) -> str:
        with self.host.outside.entered():
            return self._build_image(build)

    async def _run(self, words: Sequence[str], given: bytes) -> Done:
        run = run_of(words)
        if run.terminal and run.interactive and not run.detach:
            return Done(status=1, err=NOT_A_TERMINAL)
        container = await self.host.create(run)
        await container.start()
        if run.detach:
            return Done(status=0, out=f"{container.made.id}\n")
        container.give(given)
        return await container.done()

    async def _exec(self, words: Sequence[str], given: bytes) -> Done:
        if exec_of(words).tty and exec_of(words).interactive:
            return Done(status=1, err=NOT_A_TERMINAL)
        executed = await self._executed(words)
        executed.running.give(given)
        return await executed.ended()

    async def _executed(self, words: Sequence[str]) -> Executed:
        asked = exec_of(words)
        container = self.host.find(asked.container)
        own = container.made.run
        run = replace(
            own,
            interactive=asked.interactive,
            terminal=asked.tty,
            user=asked.user or own.user,
            directory=asked.workdir or own.directory,
            environment=(*own.environment, *variables(asked.env)),
        )
        return await container.execute(asked.command, run)

    async def _start(self, words: Sequence[str], _: bytes) -> Done:
        async def start(container: Container) -> None:
            await container.start()

        return await self._each(names_of("start").parse_args(words).names, start)

    async def _stop(self, words: Sequence[str], _: bytes) -> Done:
        asked = timed_of("stop").parse_args(words)

        async def stop(container: Container) -> None:
            await container.stop(asked.time)

        return await self._each(asked.names, stop)

    async def _restart(self, words: Sequence[str], _: bytes) -> Done:
        asked = timed_of("restart").parse_args(words)

        async def restart(container: Container) -> None:
            await container.stop(asked.time)
            await container.start()

        return await self._each(asked.names, restart)

    async def _kill(self, words: Sequence[str], _: bytes) -> Done:
        parser = names_of("kill")
        parser.add_argument("-s", "--signal", default="KILL")
        asked = parser.parse_args(words)

        async def kill(container: Container) -> None:
            await container.kill(asked.signal)

        return await self._each(asked.names, kill)

    async def _rm(self, words: Sequence[str], _: bytes) -> Done:
        parser = names_of("rm")
        parser.flags("-f|--force", "-v|--volumes")
        asked = parser.parse_args(words)

        async def remove(container: Container) -> None:
            if container.alive and not asked.force:
                raise Failed(
                    "Error response from daemon: cannot remove container"
                    f' "/{container.made.name}": container is {container.status}'
                )
            await self.host.remove(container, volumes=asked.volumes)

        return await self._each(asked.names, remove)

    async def _wait(self, words: Sequence[str], _: bytes) -> Done:
        names = names_of("wait").parse_args(words).names
        statuses = [await self.host.find(name).ended() for name in names]
        return Done(status=0, out="".join(f"{status}\n" for status in statuses))

    async def _logs(self, words: Sequence[str], _: bytes) -> Done:
        parser = Parser("logs")
        parser.flags("-f|--follow")
        parser.add_argument("-n", "--tail", type=lambda text: None if text == "all" else int(text))
        parser.add_argument("name")
        asked = parser.parse_args(words)
        container = self.host.find(asked.name)
        if asked.follow:
            await container.ended()
        lines = container.log.lines(asked.tail)
        return Done(status=0, out=text_of(lines, "stdout"), err=text_of(lines, "stderr"))

    async def _ps(self, words: Sequence[str], _: bytes) -> Done:
        parser = Parser("ps")
        parser.flags("-a|--all", "-q|--quiet")
        asked = parser.parse_args(words)
        shown = [one for one in self.host.containers.values() if asked.all or one.alive]
        if asked.quiet:
            return Done(status=0, out="".join(f"{one.made.id[:12]}\n" for one in shown))
        return Done(status=0, out=table(shown))

    async def _inspect(self, words: Sequence[str], _: bytes) -> Done:
        parser = names_of("inspect")
        parser.add_argument("-f", "--format")
        asked = parser.parse_args(words)
        containers = [self.host.find(name) for name in asked.names]
        found = [document(one, await one.health()) for one in containers]
        if asked.format is None:
            return Done(status=0, out=f"{json.dumps(found, indent=4)}\n")
        return Done(status=0, out="".join(f"{formatted(asked.format, one)}\n" for one in found))

    async def _volume(self, words: Sequence[str], _: bytes) -> Done:
        volumes = self.host.volumes
        match list(words):
            case ["create", *names] if len(names) <= 1:
                return Done(status=0, out=f"{volumes.create(*names)}\n")
            case ["ls"]:
                return Done(status=0, out="".join(f"{name}\n" for name in volumes.names()))
            case ["rm", *names] if names:
                for name in names:
                    await self.host.remove_volume(name)
                return Done(status=0, out="".join(f"{name}\n" for name in names))
        raise Refused(f"docker volume {shlex.join(words)}")

    async def _each(self, names: Sequence[str], do: Callable[[Container], Awaitable[None]]) -> Done:
        """Do something to every container; say its name."""
        for name in names:
            await do(self.host.find(name))
        return Done(status=0, out="".join(f"{name}\n" for name in names))


@asynccontextmanager
async def engine(
    images: Mapping[str, str],
    *,
    build: Callable[[Build], str] | None = None,
    paths: Mapping[str, Path] | None = None,
) -> AsyncIterator[Engine]:
    """Give an engine that calls *images* of this project's storage by other names.

    *build* makes an image and returns its name in the storage, in a thread that is in the network
    outside; buildah does it otherwise, and what it has built is removed at the end.
    *paths* says where paths of the host, and all below, really are: for lines out of documents.
    """
    async with host(images, paths or {}) as place:
        yield Engine(place, build)
