"""The card of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook.cards import live, view_model
from nblb.notebook.cards.card import Card, Look
from nblb.notebook.cards.restart import restarted

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture
    from nblb.notebook.cards.widget import CardWidget
    from nblb.notebook.kernel.environment import Mode

MORE_S = 1.0  # between two reads of long output


class TaskCard(Card):
    """Shows state, progress, pictures, knobs, end of the output and failure; buttons: Cancel, Stop early and keep."""

    def __init__(self, thing: TaskFuture, mode: Mode) -> None:
        self._pictures = live.Pictures()
        self._more = False  # the user has asked for more output
        self._more_at = float("-inf")
        self._more_note = ""
        super().__init__(thing, mode)

    def described(self, thing: TaskFuture) -> dict[str, Any]:
        card = view_model.task(thing.snapshot())
        card.pop("failures", None)  # a Look has its own field for them
        return card

    def look(self, thing: TaskFuture, now: float) -> Look:
        card = view_model.task(thing.snapshot())
        words = thing._port.live_state(thing)
        more = self._long(card, thing, now) if self._more else None
        card["can"]["more"] = bool(card.get("output_note")) and not self._more
        card["knobs"] = live.knobs(thing)
        card["emitted"] = live.last_value(thing)
        card["can"]["keep"] = card["can"]["cancel"] and words.count > 0
        pictures = self._pictures.look(thing, [words], now, final=card["over"])
        return Look(card, card.pop("failures", []), pictures=pictures, output=more)

    def _long(self, card: dict[str, Any], thing: TaskFuture, now: float) -> str | None:
        """All output that this process has, up to 128 KiB; read only once a second because it is large."""
        text = None
        if now >= self._more_at or card["over"]:
            self._more_at = now + MORE_S
            text = thing._port.latest_output(thing)
            self._more_note = view_model.output_note(len(text), thing.snapshot().output_bytes)
        card["output_note"] = self._more_note
        return text

    def act(self, thing: TaskFuture, click: str, value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling"
        if click == "start":
            restarted()
            return "the core was started"
        if click == "keep":
            return "it ends and keeps what it emitted last" if thing.stop_and_keep() else "it has ended already"
        if click == "knob":
            return live.turned(thing, value)
        if click == "more":
            self._more, self._more_at = True, float("-inf")
            return "as much of the output as the notebook holds"
        if click == "why":
            return thing.why()
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import TaskWidget

        return TaskWidget(**traits)
