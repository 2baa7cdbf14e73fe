"""Keeps secrets out of text that leaves the process: log lines, errors, progress, a job's log.

Two rules: the secrets that this process knows are replaced wherever and in whatever form they
stand, and so is whatever has the shape of a well-known token or stands as user information in a
URL. Documents are not passed through here: they are the customer's.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from fondation_worker.disguise import LONGEST_FORM, SHAPES, SHORTEST_PART, escaped, literals

MASK = "[redacted]"
WINDOW = 4096  # characters without a blank that a stream holds back, at least
_BLANK = re.compile(r"\s")
_OPENING = re.compile(r"bearer|authorization|x-api-key", re.IGNORECASE)
_OPENING_REACH = 64  # characters from such a word to the secret that it announces, at most
_REST = re.compile(r"[^\s@&\"']*")


class Span(NamedTuple):
    """A stretch of a text that holds a secret."""

    context: int  # where the words begin by which it was known
    begin: int
    end: int


class Redactor:
    """Replaces the *secrets* it was made with, and everything shaped like a token."""

    _guests: ClassVar[Counter[str]] = Counter()  # known for a time, to every redactor

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(secret for secret in secrets if secret)
        self._all: tuple[str, ...] | None = None
        self._known: re.Pattern[str] | None = None

    @classmethod
    @contextmanager
    def also(cls, secret: str | None) -> Iterator[None]:
        """Let every redactor of this process know *secret*, if there is one, inside the context."""
        guest = Counter([secret] if secret else [])
        cls._guests = cls._guests + guest
        try:
            yield
        finally:
            cls._guests = cls._guests - guest

    def __call__(self, text: str) -> str:
        """Return *text* without secrets; a part of one, where the text was cut, goes as well."""
        masked = _masked(text, self.spans(text), end=len(text))
        return self.without_last_part(self.without_first_part(masked))

    def stream(self) -> "Stream":
        """Return a redactor for one text that comes in chunks."""
        return Stream(self)

    @property
    def known(self) -> tuple[str, ...]:
        """The secrets that are known now, the longest first."""
        known = tuple(sorted(self._secrets.union(self._guests), key=lambda one: (-len(one), one)))
        if known != self._all:
            fixed = sorted({form for one in known for form in literals(one)}, key=len, reverse=True)
            forms = [*map(re.escape, fixed), *map(escaped, known)]
            # Looking ahead finds those that overlap, too.
            self._known = re.compile(f"(?=({'|'.join(forms)}))") if forms else None
            self._all = known
        return known

    def spans(self, text: str) -> list[Span]:
        """Return where secrets stand in *text*, in order; they may overlap."""
        found: list[Span] = []
        if self.known and self._known:
            found += [Span(m.start(), *m.span(1)) for m in self._known.finditer(text)]
        for match in SHAPES.finditer(text):
            begin = match.end(match.lastgroup) if match.lastgroup else match.start()
            found.append(Span(match.start(), begin, match.end()))
        return sorted(found)

    def without_first_part(self, text: str) -> str:
        """Return *text* without the end of a secret at its start: texts are cut to a length."""
        for secret in self.known:
            for length in range(len(secret) - 1, SHORTEST_PART - 1, -1):
                if text.startswith(secret[-length:]):
                    return MASK + text[length:]
        return text

    def without_last_part(self, text: str) -> str:
        """Return *text* without the start of a secret at its end."""
        for secret in self.known:
            for length in range(len(secret) - 1, SHORTEST_PART - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + MASK
        return text


class Stream:
    """Redacts one text that comes in chunks; what may be the start of a secret is held back.

    Secrets have no blank in them, mostly: so text goes out up to its last blank. Where there is
    none for long, or where a secret has one, it goes out but for as much as a secret can take.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._held: list[str] = []
        self._length = 0  # characters in _held
        self._is_first = True
        self._in_secret = False  # one that is longer than what is held back

    def feed(self, chunk: str) -> str:
        """Take *chunk*; return what is safe to show by now."""
        if self._in_secret:
            chunk = _REST.sub("", chunk, count=1)
            self._in_secret = not chunk
        self._held.append(chunk)
        self._length += len(chunk)
        known = self._redact.known
        reach = max(WINDOW, LONGEST_FORM * max(map(len, known), default=0))
        by_words = not any(map(_BLANK.search, known))
        if self._length < 2 * reach and not (by_words and _BLANK.search(chunk)):
            return ""  # to look at all that is held for every chunk would take too long
        return self._take("".join(self._held), reach, by_words=by_words)

    def end(self) -> str:
        """Return the rest."""
        text = "".join(self._held)
        shown = _masked(text, self._redact.spans(text), end=len(text))
        self._held, self._length = [], 0
        return self._redact.without_last_part(self._first(shown))

    def _take(self, text: str, reach: int, *, by_words: bool) -> str:
        """Return what is safe to show of *text*, all that is held; hold the rest."""
        spans = self._redact.spans(text)
        cut = _last_word(text) if by_words else 0
        if len(text) - cut >= 2 * reach:
            cut = len(text) - reach
        for span in reversed(spans):
            if span.context < cut < span.end:  # more of it may come
                cut = span.context
        if len(text) - cut > 4 * reach:  # one that does not end
            cut, self._in_secret = len(text), True
        self._held, self._length = [text[cut:]], len(text) - cut
        return self._first(_masked(text, spans, end=cut)) if cut else ""

    def _first(self, shown: str) -> str:
        """Return *shown*, without the end of a secret if it is the first to be shown."""
        was_first, self._is_first = self._is_first, False
        return self._redact.without_first_part(shown) if was_first else shown


def _masked(text: str, spans: Iterable[Span], *, end: int) -> str:
    """Return *text* up to *end*, with a mask in place of each stretch that *spans* cover."""
    pieces: list[str] = []
    done = 0
    for span in spans:
        if span.begin >= end or span.end <= done:
            continue
        if span.begin > done or not pieces:
            pieces += (text[done : span.begin], MASK)
        done = span.end
    return "".join((*pieces, text[done:end]))


def _last_word(text: str) -> int:
    """Return where the last word of *text* begins, or the words that may announce a secret."""
    rest = "" if text[-1:].isspace() else text.rsplit(None, 1)[-1]
    begin = len(text) - len(rest)
    near = max(0, begin - _OPENING_REACH)
    opening = _OPENING.search(text, near, begin)
    return opening.start() if opening else begin
