"""The card of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook import describe
from nblb.notebook.card import Card, Look

if TYPE_CHECKING:
    from nblb.client.task_future import TaskFuture
    from nblb.notebook.widget import CardWidget


class TaskCard(Card):
    """State, progress, the tail of its output, how it failed; Cancel."""

    def described(self, thing: TaskFuture) -> dict[str, Any]:
        return self.look(thing, 0.0).now

    def look(self, thing: TaskFuture, _now: float) -> Look:
        card = describe.task(thing.snapshot())
        return Look(card, card.pop("failures", []))

    def act(self, thing: TaskFuture, click: str, _value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling"
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.widget import TaskWidget

        return TaskWidget(**traits)
