"""A Debian that is not booted, and a signed repository for it: enough to install and to remove."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools.roots import TOP, entering

KEY = "package@example.org"
STRANGER = "stranger@example.org"


class Host:
    """A Debian that is not booted, with a repository of ours and no network."""

    def __init__(self, place: Path, repository: Path, suite: str) -> None:
        self.place = place
        self._repository = repository
        self._suite = suite

    def run(self, *words: str) -> str:
        """Run a program in it; return what it printed."""
        options = [f"--bind={self._repository}:/srv/apt", "--setenv=DEBIAN_FRONTEND=noninteractive"]
        run = subprocess.run(
            entering(self.place, *words, options=options),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{words}: {run.stdout}\n{run.stderr}"
        return run.stdout

    def apt(self, *words: str) -> str:
        """Run apt-get as a careful operator does, who keeps his own configuration."""
        return self.run("apt-get", "--quiet", "--yes", *words)

    def know_repository(self) -> None:
        """Add the repository, by the lines that are given to users."""
        # A throw-away host need not survive a loss of power.
        (self.place / "etc/dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n")
        key = "/etc/apt/keyrings/fondation-worker.asc"
        self.run("cp", "/srv/apt/fondation-worker.asc", key)
        line = f"deb [signed-by={key}] file:/srv/apt {self._suite} main\n"
        (self.place / "etc/apt/sources.list.d/fondation-worker.list").write_text(line)
        self.apt("update")

    def files(self) -> set[str]:
        """Return everything on its disk but what Debian's own tools keep for themselves."""
        own = (
            "var/cache/debconf",
            "var/lib/dpkg",
            "var/lib/apt",
            "var/cache/apt",
            "var/log",
            "var/cache/ldconfig",
            "etc/apt",
        )
        found = (path.relative_to(self.place) for path in self.place.rglob("*"))
        return {str(path) for path in found if not str(path).startswith(own)}

    def accounts(self) -> dict[str, str]:
        """Return its users and groups."""
        return {
            name: (self.place / "etc" / name).read_text() for name in ("passwd", "group", "shadow")
        }


@contextmanager
def signed(deb: Path, suite: str, home: Path) -> Iterator[Path]:
    """Make a signed repository with *deb* for *suite* in *home*, with the keys of KEY and STRANGER.

    Give *home*: dist/ is what goes into the repository, apt/ is the repository, gpg/ has the keys.
    """
    (home / "gpg").mkdir(mode=0o700)
    (home / "dist" / suite).mkdir(parents=True)
    shutil.copy(deb, home / "dist" / suite)
    try:
        for key in (KEY, STRANGER):
            gpg(home, "--passphrase", "", "--quick-generate-key", key, "ed25519", "sign", "1d")
        sign(home)
        yield home
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=_environment(home), check=True)


def gpg(home: Path, *words: str) -> bytes:
    """Run gpg with the keys of *home*; return its output."""
    words = ("gpg", "--batch", *words)
    return subprocess.run(words, env=_environment(home), check=True, capture_output=True).stdout


def sign(home: Path) -> None:
    """Put what is in dist/ of *home* into its repository."""
    script = (TOP / "packaging/apt-repository", home / "apt", KEY, home / "dist")
    subprocess.run(script, env=_environment(home), check=True, capture_output=True)


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"GNUPGHOME": str(home / "gpg")}
