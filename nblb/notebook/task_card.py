"""The card of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook import describe, said
from nblb.notebook.card import Card, Look

if TYPE_CHECKING:
    from nblb.client.task_future import TaskFuture
    from nblb.notebook.environment import Mode
    from nblb.notebook.widget import CardWidget


class TaskCard(Card):
    """State, progress, pictures, knobs, the tail of its output, how it failed; Cancel, Stop early and keep."""

    def __init__(self, thing: TaskFuture, mode: Mode) -> None:
        self._pictures = said.Pictures()
        super().__init__(thing, mode)

    def described(self, thing: TaskFuture) -> dict[str, Any]:
        card = describe.task(thing.snapshot())
        card.pop("failures", None)  # they have their own place in a Look
        return card

    def look(self, thing: TaskFuture, now: float) -> Look:
        card = describe.task(thing.snapshot())
        words = getattr(thing, "said", None)
        card["knobs"] = said.knobs(thing)
        card["emitted"] = said.last_value(thing)
        card["can"]["keep"] = card["can"]["cancel"] and words is not None and words.count > 0
        pictures = self._pictures.look(thing, [words], now, final=card["over"])
        return Look(card, card.pop("failures", []), pictures=pictures)

    def act(self, thing: TaskFuture, click: str, value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling"
        if click == "keep":
            return "it ends and keeps what it emitted last" if thing.stop_and_keep() else "it has ended already"
        if click == "knob":
            return said.turned(thing, value)
        if click == "why":
            return thing.why()
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.widget import TaskWidget

        return TaskWidget(**traits)
