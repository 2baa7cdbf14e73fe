"""Where this project's container images are: a storage of buildah's that nothing else uses.

It lies beside the clean roots, outside the checkout, and is shared by all checkouts: whoever puts
something there gives it a name that means the same in each.
"""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools.roots import cache

ENOUGH = 16384  # open files, and processes, for any command of a build

CONFIGURATION = """\
[storage]
driver = "overlay"
graphroot = "{place}/layers"
runroot = "{place}/run"
[storage.options.overlay]
skip_mount_home = "true"
"""  # else a mount of the storage over itself stays behind


def environment() -> dict[str, str]:
    """Return the environment for buildah: this process's own, the storage, and chroot as isolation.

    chroot needs no network and no cgroup of its own, so it works inside most containers too.
    """
    place = cache("images")
    configuration = place / "storage.conf"
    draft = place / f".storage.{os.getpid()}"  # several may do this at once
    draft.write_text(CONFIGURATION.format(place=place), encoding="utf-8")
    draft.replace(configuration)
    return os.environ | {
        "CONTAINERS_STORAGE_CONF": str(configuration),
        "BUILDAH_ISOLATION": "chroot",
    }


def limits() -> Iterator[str]:
    """Yield the options of a build that limit its commands to what a host like this one allows.

    Debian 13's buildah would raise both to a million, which needs rights that root may not have.
    """
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        _, most = resource.getrlimit(kind)
        allowed = ENOUGH if most == resource.RLIM_INFINITY else min(most, ENOUGH)
        yield f"--ulimit={name}={allowed}:{allowed}"


def buildah(*words: str | Path) -> str:
    """Run buildah in the storage; return what it printed, or raise CalledProcessError."""
    argv = ("buildah", *words)
    done = subprocess.run(argv, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def has(image: str) -> bool:
    """Whether there is an *image* of that name."""
    return bool(buildah("images", "--quiet", "--filter", f"reference={image}"))


@contextmanager
def container(image: str) -> Iterator[str]:
    """Give the name of a new container of *image*, in which nothing runs; remove it at the end."""
    name = buildah("from", "--pull-never", *limits(), image)
    try:
        yield name
    finally:
        buildah("rm", name)


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """Give a writable root with the content of *image*, and remove it at the end."""
    with container(image) as name:
        yield Path(buildah("mount", name))
