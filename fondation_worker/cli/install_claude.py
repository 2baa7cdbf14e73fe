"""`fondation-worker install-claude`: the Claude CLI that this program was tested with."""

import os
from pathlib import Path

import click

from fondation_worker.claude_install import PREFIX, Installed, install
from fondation_worker.claude_package import package_for_this_host
from fondation_worker.claude_tarball import by_npm, from_file
from fondation_worker.cli.ending import STATUSES, ending
from fondation_worker.words import plain


@click.command("install-claude", epilog=STATUSES)
@click.option(
    "--tarball",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The package's tarball, for a host without npm or without a network.",
)
@click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=PREFIX,
    show_default=True,
    help="Where to put it.",
)
def install_claude(tarball: Path | None, prefix: Path) -> None:
    """Install the Claude CLI that this program was tested with.

    Its package is fetched by npm, or taken from --tarball. Either way its hash must be the one that
    this program carries; then the one program in it is unpacked, tried (not as root), and
    PREFIX/bin/claude is switched to it. Workers that run take it for their next job. Other
    versions below PREFIX are removed, except those that a process still runs. Done again, it
    changes nothing.
    """
    with ending():
        package = package_for_this_host()
        fetch = from_file(tarball) if tarball else by_npm(package, os.environ)
        for line in _in_words(install(prefix, package, fetch)):
            click.echo(plain(line))


def _in_words(done: Installed) -> list[str]:
    state = "is already there" if done.was_there else "is installed"
    lines = [f"Claude CLI {done.version} {state}: {done.program}"]
    if done.removed:
        lines.append(f"removed: {', '.join(done.removed)}")
    if done.kept:
        lines.append(f"kept, because a process runs it: {', '.join(done.kept)}")
    return lines
