"""What an engine has of containers, volumes and networks, until nothing of it is left."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

from tests.image import network
from tests.image.arguments import Mount, Run
from tests.image.container import Container
from tests.image.images import Failed, Image, Images, Root
from tests.image.made import Made
from tests.image.network import Forwarder, Namespace
from tests.image.runc import Runc, control_groups
from tests.image.volumes import Volumes
from tests.image.workplace import ROOTS, workplace
from tests.processes import running, until

HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
HOST_GATEWAY = "host-gateway"


class Host:
    """What an engine has, below one directory; *outside* is the network that it came from."""

    def __init__(
        self,
        directory: Path,
        images: Mapping[str, str],
        paths: Mapping[str, Path],
        *,
        inside: Namespace,
        outside: Namespace,
    ) -> None:
        self.directory = directory
        self.inside = inside
        self.outside = outside
        self.images = Images(images)
        self.volumes = Volumes(directory / "volumes")
        self.runc = Runc(directory)
        self._paths = paths
        self.containers: dict[str, Container] = {}
        self._settling: list[Container] = []
        self._roots: list[Root] = []
        self._forwarders: list[Forwarder] = []
        self._number = 1  # the bridge's own address

    def find(self, name: str) -> Container:
        """Return the container of that name, or else one whose id begins so; raise Failed."""
        if name in self.containers:
            return self.containers[name]
        for container in self.containers.values():
            if name and container.made.id.startswith(name):
                return container
        raise Failed(f"Error response from daemon: No such container: {name}")

    async def create(self, run: Run) -> Container:
        """Make a container that does not run yet; raise Failed."""
        identity = secrets.token_hex(32)
        name = run.name or f"nameless_{identity[:6]}"
        if name in self.containers:
            raise Failed(
                f'docker: Error response from daemon: Conflict. The container name "/{name}" is'
                " already in use",
                125,
            )
        image = await self.images.find(run.image)
        number = self._number = self._number + 1
        label = f"{self.directory.name}-{number}"
        (self.directory / ROOTS / label).touch()
        root = await self.images.root(image, label)
        self._roots.append(root)
        wanted = _every_mount(run, image)
        try:
            mounts = [await self._source(mount, root) for mount in wanted]
        except BaseException:
            await self._remove_root(root)
            raise
        new = [path for mount, path in zip(wanted, mounts, strict=True) if mount.nameless]
        cable, address = await network.plugged(self.inside, number)
        directory = self.directory / "containers" / identity
        directory.mkdir(parents=True)
        made = Made(
            id=identity,
            name=name,
            run=run,
            image=image,
            root=root,
            directory=directory,
            logs=self.directory / identity,
            network=cable,
            number=number,
            address=address,
            mounts=tuple(mounts),
            nameless=tuple(Path(mount.source).parent.name for mount in new),
            cgroup=f"/{label}",
        )
        _write_etc(made)
        self.containers[name] = Container(made, self.runc, self._gone)
        return self.containers[name]

    async def remove(self, container: Container, *, volumes: bool) -> None:
        """Remove a container, ended or not; its nameless *volumes* too."""
        await container.end()
        if container in self.containers.values():
            await self._put_away(container, volumes=volumes)

    async def expose(self, port: int) -> str:
        """Let containers reach what listens on *port* of the host's loopback; return where."""
        forwarder = Forwarder("127.0.0.1", port)
        await forwarder.listen(network.GATEWAY, port)
        self._forwarders.append(forwarder)
        return f"{network.GATEWAY}:{port}"

    async def remove_volume(self, name: str) -> None:
        """Remove a volume that no container has; raise Failed."""
        path = str(self.volumes.path(name))
        for container in self.containers.values():
            if path in [mount.source for mount in container.made.mounts]:
                raise Failed(f"Error response from daemon: remove {name}: volume is in use")
        await self.volumes.remove(name)

    async def close(self) -> None:
        """Remove everything."""
        for container in list(self.containers.values()):
            await self.remove(container, volumes=True)
        for container in self._settling:
            await container.settled()
        for forwarder in self._forwarders:
            await forwarder.close()
        for name in self.volumes.names():
            await self.volumes.remove(name)
        await self.images.remove_built()

    async def nothing_is_left(self) -> None:
        """Check it."""
        roots = [root.name for root in self._roots if await self.images.has(root)]
        left = [*await self.runc.names(), *roots, *control_groups(self.directory.name)]
        assert not left, f"left: {left}"
        await until(lambda: running(str(self.directory)) == [], what="for runc to end")
        mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        for place in (self.directory, *(root.path for root in self._roots)):
            assert f"{place} " not in mounted, f"still mounted: {place}"
        await until(lambda: network.interfaces() == ["lo", network.BRIDGE], what="for cables")

    async def _gone(self, container: Container) -> None:
        """Put away a container that was to be removed at its end."""
        await self._put_away(container, volumes=True)

    async def _put_away(self, container: Container, *, volumes: bool) -> None:
        made = container.made
        del self.containers[made.name]
        self._settling.append(container)
        await network.unplugged(self.inside, made.number, made.network)
        await self._remove_root(made.root)
        await asyncio.to_thread(shutil.rmtree, made.directory)
        for name in made.nameless if volumes else ():
            await self.volumes.remove(name)

    async def _remove_root(self, root: Root) -> None:
        await self.images.remove(root)
        (self.directory / ROOTS / root.name).unlink()

    async def _source(self, mount: Mount, root: Root) -> Mount:
        """Return *mount* with a path for its source, which is there."""
        if mount.kind == "volume":
            name = self.volumes.create(mount.source)
            await self.volumes.fill(name, root.path, mount.target)
            return replace(mount, source=str(self.volumes.path(name)))
        if mount.kind == "tmpfs":
            return mount
        path = self._path(mount.source)
        if mount.create and not path.exists():
            await asyncio.to_thread(path.mkdir, parents=True, exist_ok=True)
        if not path.exists():
            raise Failed(
                'docker: Error response from daemon: invalid mount config for type "bind":'
                f" bind source path does not exist: {path}",
                125,
            )
        return replace(mount, source=str(path))

    def _path(self, source: str) -> Path:
        """Return where a path of the host really is."""
        path = Path(source).absolute()
        for above, place in self._paths.items():
            if path.is_relative_to(above):
                return place / path.relative_to(above)
        return path


def _every_mount(run: Run, image: Image) -> list[Mount]:
    """Return the mounts that were asked for, and new volumes where the image wants one."""
    asked = {mount.target.rstrip("/") for mount in run.mounts}
    own = [Mount(kind="volume", target=path) for path in image.volumes if path not in asked]
    return [*run.mounts, *own]


def _write_etc(made: Made) -> None:
    """Write the files that a container sees in /etc."""
    hosts = [line.partition(":")[::2] for line in made.run.hosts]
    lines = [
        f"{network.GATEWAY if address == HOST_GATEWAY else address}\t{name}\n"
        for name, address in hosts
    ]
    own = f"{made.address}\t{made.hostname}\n"
    (made.directory / "hosts").write_text(HOSTS + "".join(lines) + own, encoding="utf-8")
    (made.directory / "hostname").write_text(f"{made.hostname}\n", encoding="utf-8")
    # Nobody answers there, and says so at once.
    resolver = f"nameserver {network.GATEWAY}\n"
    (made.directory / "resolv.conf").write_text(resolver, encoding="utf-8")


@asynccontextmanager
async def host(images: Mapping[str, str], paths: Mapping[str, Path]) -> AsyncIterator[Host]:
    """Give a host, and move this thread into its network; at the end nothing of it is left."""
    async with workplace() as directory:
        with closing(network.here()) as outside, closing(await network.host()) as inside:
            made = Host(directory, images, paths, inside=inside, outside=outside)
            with inside.entered():
                try:
                    yield made
                finally:
                    await made.close()
                await made.nothing_is_left()
