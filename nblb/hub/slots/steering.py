"""Messages between running tasks and their watchers (output, emitted values, knobs); a part of slots.py; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nblb.hub.slots.attempts import Attempt, WorkerSlot
from nblb.hub.slots.in_flight import InFlight
from nblb.protocol.messages import KnobOffered, Message, StopAndKeep, TaskCheckpointed, TaskEmitted, TurnKnob


class AttemptSteering:
    """Forwards these messages if they are about a current attempt."""

    def __init__(self, hands: InFlight, say: Callable[[Message], None]) -> None:
        self._in_flight, self._say = hands, say
        self.from_core: dict[type, Callable[[Any, float], None]] = {
            TurnKnob: self._turn_knob,
            StopAndKeep: self._stop_and_keep,
        }
        self.from_worker: dict[type, Callable[[WorkerSlot, Any, float], None]] = {
            TaskEmitted: self._told,
            TaskCheckpointed: self._told,
            KnobOffered: self._told,
        }

    def _slice(self, message: Any) -> Attempt | None:
        return self._in_flight.slices.get((message.task, message.first, message.attempt))

    def _told(self, _worker: WorkerSlot, message: Any, _now: float) -> None:
        """Forward an emitted value, a saved state or a knob; the latest of each is sent again after a Welcome."""
        slice_ = self._slice(message)
        if slice_ is None:
            return
        if slice_.told is None:
            slice_.told = {}
        slice_.told[_key(message)] = message
        self._say(message)

    def _turn_knob(self, message: TurnKnob, _now: float) -> None:
        slice_ = self._slice(message)
        if slice_ is not None:
            self._in_flight.turn(slice_, message)

    def _stop_and_keep(self, message: StopAndKeep, _now: float) -> None:
        slice_ = self._slice(message)
        if slice_ is not None:
            self._in_flight.keep(slice_, message.item)


def _key(message: Message) -> str:
    """Return what the message replaces: the latest one with this key counts."""
    if type(message) is KnobOffered:
        return f"knob {message.name}"
    return f"checkpoint {message.offset}" if type(message) is TaskCheckpointed else ""
