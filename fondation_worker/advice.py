"""What to do about a setting that is missing or cannot be used, for where this program is.

On a host somebody edits files and becomes another user; in the container image there is nothing but
what `docker run` is given, and the host around it. The paths on that host are those of the
documents.
"""

import errno
import os
from pathlib import Path

from fondation_worker.installation import ETC, MOUNTED_SECRETS, SECRET_FILES, STATE, is_image
from fondation_worker.settings import Setting

LOGIN = "/srv/claude-creds"  # on the host of a container
_SHARED_WORK = Path("/tmp")  # noqa: S108 an image's own; in it the worker has a place for itself
_FULL = {errno.ENOSPC, errno.EDQUOT}


def to_set(setting: Setting) -> str:
    """Return how *setting* may be set."""
    file = SECRET_FILES[setting.name] if setting.secret else ""
    if not is_image():
        written = f"{setting.name}_FILE={ETC / file}, with " if file else ""
        return f"for example: {written}{setting.example}"
    if not file:
        return f"add -e {setting.name}={setting.example}"
    if MOUNTED_SECRETS.exists() and not os.access(MOUNTED_SECRETS, os.X_OK):
        return f"user {os.geteuid()} may not look into {MOUNTED_SECRETS}, if it is there"
    return f"add -v /srv/{file}:{MOUNTED_SECRETS / file}:ro, a file with {setting.example}"


def to_read(error: Exception) -> str:
    """Return what makes a secret's file one that can be read; empty where *error* says it all."""
    if not is_image():
        return ""
    if isinstance(error, IsADirectoryError):  # what docker makes where the host has nothing
        return "; on the host: rmdir it, write the file, and start the container again"
    return f"; it must be one that user {os.geteuid()} may read"


def to_write(name: str, directory: Path, error: OSError | None = None) -> str:
    """Return how the *directory* that setting *name* names can be had, after *error* to make it."""
    if error and error.errno in _FULL:
        return "make room"
    if not is_image():
        return "let this user write there, or name another"
    # What is mounted there already may hold results: it is given to this user, and not replaced.
    user, place, kept = os.geteuid(), directory, "/srv/fondation-state"
    if name == "TEMP_DIR":
        if directory.is_relative_to(_SHARED_WORK):
            return f"add --tmpfs {_SHARED_WORK}, or give what is mounted there to user {user}"
        kept = "/srv/fondation-work"
    elif directory.is_relative_to(STATE):
        place = STATE
    return (
        f"on the host, what is mounted at {place}: sudo chown -R {user}:{user} it; if nothing is:"
        f" sudo install -d -m 700 -o {user} -g {user} {kept}; then add -v {kept}:{place}"
    )


def to_own(name: str, directory: Path, *, is_own: bool) -> str:
    """Return what to do about a *directory* of others, or one of our own that others may write."""
    if not is_image():
        return f"for example: {name}=/var/tmp/fondation-{os.geteuid()}"
    # What lies elsewhere in a container is gone with it.
    return f"in here: chmod go-w {directory}" if is_own else f"add -e {name}={directory}/own"


def to_have_the_cli() -> str:
    """Return how to come to the Claude CLI."""
    if not is_image():
        return "for example: fondation-worker install-claude, or CLAUDE_CLI=/usr/bin/claude"
    return (
        "was this image built with WITH_CLAUDE=0? Build one with it, or mount a CLI and name it by"
        " -e CLAUDE_CLI=PATH"
    )


def to_open(directory: Path) -> str:
    """Return how the login that is in *directory* becomes this user's."""
    user = os.geteuid()
    if not is_image():
        return f"as root: chown -R {user} {str(directory)!r}"
    return f"on the host: sudo chown -R {user}:{user} {LOGIN}"


def to_log_in(directory: Path) -> str:
    """Return how to come to a login in *directory*, or to another credential."""
    if not is_image():
        return (
            "log the CLI in as the worker's user (claude auth login), or put a token of `claude"
            " setup-token` or an API key where the worker's secrets are"
        )
    user, mount = os.geteuid(), f"-v {LOGIN}:{directory}"
    return (
        f"on the host: sudo install -d -m 700 -o {user} -g {user} {LOGIN}; then docker run -it --rm"
        f" {mount} fondation-worker /bin/sh, and in it: claude login; then run this worker with"
        f" {mount}:ro; or with a token of `claude setup-token` in a file: -v"
        " /srv/claude-token:/run/secrets/claude-oauth-token:ro"
    )
