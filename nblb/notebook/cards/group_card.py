"""The card of futures that are awaited together: single tasks, the calls of an executor or of joblib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook.cards import view_model
from nblb.notebook.cards.card import Card, Look
from nblb.notebook.cards.job_card import STRIP_ITEMS, STRIP_S, fit
from nblb.notebook.cards.restart import restarted
from nblb.notebook.cards.static_html import look

if TYPE_CHECKING:
    from nblb.client.futures.group import FutureGroup
    from nblb.notebook.cards.widget import CardWidget
    from nblb.notebook.kernel.environment import Mode


class GroupCard(Card):
    """Shows progress, counts, running and failed members of a group; button: Cancel."""

    def __init__(self, thing: FutureGroup, mode: Mode) -> None:
        from nblb.client.snapshots import MARKED

        self.states = tuple((state, *look(state)) for state in MARKED)
        self._strip_due = float("-inf")
        super().__init__(thing, mode)

    def described(self, thing: FutureGroup) -> dict[str, Any]:
        card = view_model.job(thing.snapshot())
        card["can"] = {name: card["can"][name] for name in ("cancel", "start")}
        return card

    def look(self, thing: FutureGroup, now: float) -> Look:
        snapshot = thing.snapshot()
        found = Look(self.described(thing), view_model.job_failures(snapshot))
        if self.widget is not None and (found.now["over"] or now >= self._strip_due):
            found.strip = fit(thing.marked_states(), STRIP_ITEMS, [state for state, _, _ in self.states])
            self._strip_due = now + STRIP_S * len(found.strip) / STRIP_ITEMS
        return found

    def act(self, thing: FutureGroup, click: str, _value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling what has not ended"
        if click == "start":
            restarted()
            return "the core was started"
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import JobWidget

        return JobWidget(**traits)
