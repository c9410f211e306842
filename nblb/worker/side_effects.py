"""One word that says whether the call at hand has left anything to be looked after: most have not, and cost one look.

Raised by what a task does: it printed, emitted, drew a bar or a figure, offered a knob, or was interrupted.
"""

from __future__ import annotations


class SideEffects:
    """Of this process, which runs one call at a time."""

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised = False


marks = SideEffects()
