"""Keeps secrets out of text that leaves the process: log lines, errors, progress.

Two rules: the secrets that this process knows are replaced wherever they stand, and so is whatever
has the shape of a well-known token or stands as user information in a URL. Documents are not
passed through here: they are the customer's.
"""

import re
from collections.abc import Iterable

MASK = "[redacted]"

_SHAPES = re.compile(
    r"""
    sk-ant-[A-Za-z0-9_-]{8,}            # Anthropic keys and OAuth tokens
    | gh[pousr]_[A-Za-z0-9]{16,}        # GitHub tokens
    | github_pat_[A-Za-z0-9_]{16,}
    | (?<=://)[^\s/@]{1,512}(?=@)  # user information in a URL
    | (?<=[Bb]earer\ )[A-Za-z0-9._~+/-]{8,}=*
    """,
    re.VERBOSE,
)


class Redactor:
    """Replaces the *secrets* it was made with, and everything shaped like a token."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Return *text* without secrets."""
        if self._known:
            text = self._known.sub(MASK, text)
        return _SHAPES.sub(MASK, text)
