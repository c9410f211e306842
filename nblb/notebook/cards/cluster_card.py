"""The cluster's card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook.cards import view_model, wording
from nblb.notebook.cards.card import Card, Look
from nblb.notebook.cards.restart import restarted

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.notebook.cards.widget import CardWidget

LOOK_S = 1.0
WORKERS_LIMIT = 9_999


class ClusterCard(Card):
    """Shows name, address, hubs, workers, queue and durability; buttons: Scale, Open monitor, Stop."""

    _stopped: Cluster | None = None  # kept, so that Start works where no variable holds the cluster

    def described(self, thing: Cluster) -> dict[str, Any]:
        stopped = bool(getattr(thing, "stopped", False))
        self._stopped = thing if stopped else None
        return view_model.cluster(thing.snapshot(), stopped=stopped)

    def look(self, thing: Cluster, _now: float) -> Look:
        return Look(self.described(thing))

    def pace(self, _shown_s: float) -> float:
        return LOOK_S

    def act(self, thing: Cluster, click: str, value: Any) -> str:
        if click == "scale":
            if not isinstance(value, int) or not 0 <= value <= WORKERS_LIMIT:
                return f"the number of workers is a whole number from 0 to {WORKERS_LIMIT:,}"
            thing.scale(value)
            return f"scaling to {wording.number(value, 'worker')}{view_model.beyond(value)}"
        if click == "start":
            self.follow(restarted(thing))
            return "started"
        if click == "stop":
            thing.stop()
            return "stopped"
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import ClusterWidget

        return ClusterWidget(**traits)
