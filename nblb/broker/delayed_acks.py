"""Acknowledgements that wait a moment for company: nobody acts on them, and each alone wakes a process for nothing.

A lone task would have its client woken for the acceptance and its hub for the end's receipt, both while others of the
few processors' users are at the task itself. So they leave with whatever goes the same way next, or a little later.
"""

from __future__ import annotations

from collections.abc import Sequence

from nblb.protocol.messages import EndCommitted, Message, TaskAccepted

PATIENT_S = 0.02
MOST_PATIENT = 8  # more than a few are worth a message of their own


def is_patient(message: Message) -> bool:
    """Does nobody wait for this? (One that tells of a refusal is news.)"""
    kind = type(message)
    return kind is EndCommitted or (kind is TaskAccepted and not message.items)  # type: ignore[attr-defined]


class DelayedAcks:
    """For which addresses something waits, and until when."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def deadline(self) -> float | None:
        return min(self._until.values(), default=None)

    def holds(self, to: str, messages: Sequence[Message], now: float) -> bool:
        """Whether these, all that there is for this address, wait longer."""
        until = self._until.get(to)
        if len(messages) <= MOST_PATIENT and (until is None or now < until) and all(map(is_patient, messages)):
            if until is None:
                self._until[to] = now + PATIENT_S
            return True
        if until is not None:
            del self._until[to]
        return False

    def forget(self, to: str) -> bool:
        """Nothing waits for this address any more; whether something did."""
        return self._until.pop(to, None) is not None

    def clear(self) -> None:
        self._until.clear()
