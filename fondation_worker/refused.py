"""Results that Convex will never take, and what was damaged: kept a week, for people to look at."""

import logging
import secrets
from pathlib import Path

from fondation_worker import durable, events

logger = logging.getLogger(__name__)

KEPT_FOR = 7 * 86400.0  # seconds
REASON = "reason"
SINCE = "refused-at"  # a file: seconds since the epoch, by Convex's clock


class RefusedResults:
    """The directory STATE_DIR/refused, which workers may share."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "refused"

    def take(self, place: Path, reason: str) -> None:
        """Move *place* here with the *reason*. Raises OSError when it could not be moved."""
        durable.make(self._directory)
        try:
            durable.put(place / REASON, f"{reason}\n".encode())
        except OSError as error:  # a full disk, or no directory: it is moved all the same
            logger.warning("%s: the reason could not be written: %s", place, error)
        target = self._directory / f"{place.name}-{secrets.token_hex(4)}"
        place.rename(target)
        words = "%s is kept for a week: %s"
        logger.error(words, target, reason, extra=events.RESULT_REFUSED.extra)
        durable.settle(self._directory)

    def count(self) -> int:
        """Return how many there are."""
        return len(self._places())

    def purge(self, now: float) -> None:
        """Remove what is here for more than a week; *now* is seconds since the epoch by Convex."""
        for place in self._places():
            try:
                if now - _since(place, now) > KEPT_FOR:
                    durable.remove_quietly(place)
                    durable.remove_quietly(place.with_name(f"{place.name}.{SINCE}"))
            except OSError as error:
                logger.warning("%s stays: %s", place, error)

    def _places(self) -> list[Path]:
        try:
            found = sorted(self._directory.iterdir())
        except OSError:  # nothing was refused yet
            return []
        return [place for place in found if not place.name.endswith(f".{SINCE}")]


def _since(place: Path, now: float) -> float:
    """Return when *place* was first looked at; noted here, because Convex's clock is known here."""
    file = place / SINCE if place.is_dir() else place.with_name(f"{place.name}.{SINCE}")
    try:
        return float(file.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        durable.put(file, f"{now:.0f}\n".encode())
        return now
