"""Which turn of a script comes next, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.fakes.messages_api.conversation import Conversation
from tests.fakes.messages_api.explore import explore
from tests.fakes.messages_api.script import Explore, Fault, Script, Turn


def turn_for(script: Script | Explore, conversation: Conversation) -> Turn:
    """Return the next turn of the conversation; LookupError when the script has no more."""
    if isinstance(script, Explore):
        faults = script.faults if conversation.turn == 0 else ()
        turn = explore(conversation)
        return msgspec.structs.replace(turn, delay=script.delay, faults=faults)
    if conversation.turn >= len(script.turns):
        raise LookupError(f"it has {len(script.turns)} turns, asked for one more")
    turn = script.turns[conversation.turn]
    return msgspec.structs.replace(turn, text=_filled(turn.text, conversation))


def _filled(text: str, conversation: Conversation) -> str:
    for number, result in enumerate(conversation.results, start=1):
        text = text.replace(f"{{result {number}}}", result.text)
    return text


def fault_for(faults: Sequence[Fault], request: int) -> Fault | None:
    """Return the fault that request number `request` (from 1) for a turn meets, or None."""
    for fault in faults:
        if fault.times is None or request <= fault.times:
            return fault
        request -= fault.times
    return None
