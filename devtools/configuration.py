"""Prints /etc/fondation-worker/worker.conf: every setting, as a comment."""

import sys
import textwrap
from collections.abc import Iterator

from devtools.explained import SECRETS, SHOWN, Explained, explained
from fondation_worker.installation import SECRET_FILES

_WIDTH = 98  # columns of text, after "# "

_HEAD = """\
Settings of fondation-worker, for all instances on this host.

For the instance fondation-worker@N, the file /etc/fondation-worker/N.conf rules over this one; it
is written the same way. The environment (/etc/default/fondation-worker) rules over both.

To set something, take the # from the line below its explanation. A duration has a unit: 500ms,
5s, 5min, 1h; a bare number is milliseconds. So has a size: 500MiB, 2GiB; a bare number is bytes.
A $ is written $$, and ${name} is a value of this file.

A change is taken by `systemctl reload fondation-worker@N`, which lists every fault if there is one;
where it says so, by `systemctl restart fondation-worker@N`. `fondation-worker doctor -i N` looks at
the settings, and at all that they speak of. The manual: fondation-worker.conf(5).
"""

_SECRETS = """\
Secrets do not belong here, where everybody can read them. Each is a file of its own, which root
alone can read, in /etc/fondation-worker/credentials. A restart takes a change.
"""

_INSTALL = "install -m 600 /dev/stdin /etc/fondation-worker/credentials/worker-key"


def text() -> str:
    """Return the whole file."""
    lines = [*_comment(_HEAD), "#", *_comment(_SECRETS), "#", *_secrets(), "", "[worker]"]
    for setting in SHOWN:
        lines += ["", *_entry(explained(setting))]
    return "\n".join(lines) + "\n"


def _secrets() -> Iterator[str]:
    """Yield the names of the secrets' files, and how one is written."""
    for setting in SECRETS:
        meaning = explained(setting).meaning
        yield f"#   {SECRET_FILES[setting.name]:<20}{meaning[0].lower()}{meaning[1:].rstrip('.')}"
    yield "#"
    yield "# This takes one from the keyboard, ended by Return and Ctrl-D:"
    yield f"#   {_INSTALL}"


def _entry(entry: Explained) -> Iterator[str]:
    """Yield the explanation of one setting, and a line to be uncommented."""
    if entry.heading:
        yield f"# {entry.heading} {'-' * (_WIDTH - len(entry.heading) - 1)}"
        yield ""
    yield from _comment(entry.meaning)
    yield from _comment(" ".join(filter(None, (entry.takes, entry.default, entry.note))))
    yield f"#{entry.key} = {entry.example.replace('$', '$$')}"


def _comment(paragraphs: str) -> Iterator[str]:
    """Yield *paragraphs*, parted by empty lines, as comments."""
    for i, paragraph in enumerate(paragraphs.strip().split("\n\n")):
        if i:
            yield "#"
        for line in textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False):
            yield f"# {line}"


if __name__ == "__main__":
    sys.stdout.write(text())
