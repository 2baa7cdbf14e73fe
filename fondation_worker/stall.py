"""When a run of the CLI stands still: decided from its events and the time, without a clock.

A run is quiet while the model thinks, and while one of the CLI's tools works; both may take long,
but not for ever. Times are seconds on `boottime`.
"""

from dataclasses import dataclass, field

from fondation_worker.errors import Stalled
from fondation_worker.transcript import Event, Finished, Started, ToolCall, ToolDone


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a run may stand still, in seconds."""

    stall: float  # without any sign of life, while no tool runs
    tool: float  # in one tool
    after_result: float = 15.0  # once the result is there


@dataclass(slots=True, kw_only=True)
class Watch:
    """What is known of a run's progress; *heard* is when it began."""

    limits: Limits
    heard: float  # the last sign of life
    tools: dict[str, tuple[str, float]] = field(default_factory=dict)  # id: name, begin
    has_result: bool = False

    def hear(self, now: float) -> None:
        """Take note of a sign of life: any output at all."""
        self.heard = now

    def take(self, event: Event, now: float) -> None:
        """Take note of what begins and ends."""
        match event:
            case ToolCall():
                self.tools[event.id] = (event.name, now)
            case ToolDone():
                self.tools.pop(event.id, None)
            case Finished():
                self.has_result = True
            case Started():  # the CLI began anew
                self.has_result = False

    def left(self, now: float) -> float:
        """Return the seconds until the run stands still, if nothing is heard before."""
        return self._until() - now

    def _until(self) -> float:
        if self.has_result:
            return self.heard + self.limits.after_result
        if self.tools:
            return min(begin for _, begin in self.tools.values()) + self.limits.tool
        return self.heard + self.limits.stall

    def verdict(self, now: float) -> Stalled | None:
        """Return what to say of a run that stands still; None when its result is there."""
        if self.has_result:
            return None
        if self.tools:
            name, begin = min(self.tools.values(), key=lambda tool: tool[1])
            return Stalled(
                f"the tool {name} was not done after {now - begin:.0f} s (TOOL_TIME), and the run"
                " was killed"
            )
        return Stalled(
            f"Claude gave no sign of life for {now - self.heard:.0f} s (STALL_TIME), and the run"
            " was killed"
        )
