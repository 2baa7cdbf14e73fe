"""Names of files for documents: pure. A slug comes from a model and may be anything."""

import re
import unicodedata
from collections.abc import Sequence

LONGEST = 120  # bytes of the slug's part: file systems take 255 for the whole name
_UNFIT = re.compile(r"[^\w.-]+|_+", re.UNICODE)
_SUFFIX = {"yaml": ".yaml"}


def file_names(documents: Sequence[tuple[str, str]]) -> list[str]:
    """Return a file name for each (slug, kind), in order: `01-introduction.md`.

    The number makes each name the only one of its kind, on file systems that do not tell upper
    case from lower too; what is left of the slug has no separator, no control character, and
    nothing a shell or a terminal would act upon.
    """
    digits = max(2, len(str(len(documents))))
    return [
        f"{number:0{digits}d}-{_stem(slug) or _stem(kind) or 'document'}{_SUFFIX.get(kind, '.md')}"
        for number, (slug, kind) in enumerate(documents, start=1)
    ]


def _stem(text: str) -> str:
    """Return what of *text* can stand in a file's name; it may be nothing."""
    text = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    text = _UNFIT.sub("-", text).removesuffix(".md").removesuffix(".yaml")
    cut = re.sub(r"-{2,}|\.{2,}", "-", text).strip(".-").encode()[:LONGEST]
    return cut.decode(errors="ignore").rstrip(".-")
