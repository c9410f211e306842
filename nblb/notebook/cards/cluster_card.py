"""The cluster's card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook.cards import view_model, wording
from nblb.notebook.cards.card import Card, Look

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.notebook.cards.widget import CardWidget

LOOK_S = 1.0
WORKERS_LIMIT = 9_999


class ClusterCard(Card):
    """Shows name, address, hubs, workers, queue and durability; buttons: Scale, Open monitor, Stop."""

    def described(self, thing: Cluster) -> dict[str, Any]:
        return view_model.cluster(thing.snapshot(), stopped=bool(getattr(thing, "stopped", False)))

    def look(self, thing: Cluster, _now: float) -> Look:
        return Look(self.described(thing))

    def pace(self, _shown_s: float) -> float:
        return LOOK_S

    def act(self, thing: Cluster, click: str, value: Any) -> str:
        if click == "scale":
            if not isinstance(value, int) or not 0 <= value <= WORKERS_LIMIT:
                return f"the number of workers is a whole number from 0 to {WORKERS_LIMIT:,}"
            thing.scale(value)
            return f"scaling to {wording.number(value, 'worker')}"
        if click == "stop":
            thing.stop()
            return "stopped"
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import ClusterWidget

        return ClusterWidget(**traits)
