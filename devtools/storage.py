"""Where this project's container images are: a storage of buildah's that nothing else uses.

It lies beside the clean roots, outside the checkout, and is shared by all checkouts: whoever puts
something there gives it a name that means the same in each.
"""

import os

from devtools.roots import cache

CONFIGURATION = """\
[storage]
driver = "overlay"
graphroot = "{place}/layers"
runroot = "{place}/run"
"""


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
