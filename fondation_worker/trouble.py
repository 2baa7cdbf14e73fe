"""Since when the other side has not done what it was asked, and why: pure; times come in.

Calls aside of the work (reports) neither begin a trouble nor end one that the work has met a moment
ago: claims may fail for days while reports are taken. Times are seconds on `boottime`.
"""

FRESH = 30.0  # seconds within which what was in trouble is asked for again


class Trouble:
    """What the last calls say; it begins with *words*, for nothing was asked yet."""

    def __init__(self, words: str, now: float) -> None:
        self._at_first = words
        self.words: str | None = words  # None: all is well
        self.since = now
        self._met = float("-inf")  # when the work met it last
        self.well: float | None = None  # when the other side last did what it was asked

    def meet(self, words: str, now: float, *, aside: bool = False) -> None:
        """Take note that a call came to nothing."""
        if aside and self.words != self._at_first:
            return
        self._met = now
        if self.words is None:
            self.since = now
        self.words = words

    def end(self, now: float, *, aside: bool = False) -> None:
        """Take note that a call did what it was to do."""
        self.well = now
        if not aside or now - self._met > FRESH:
            self.words = None
