"""Scales hubs by the load: who provides the workers that the policy wants, and when hubs of a batch system end.

The hubs that are connected provide workers first, in the order in which they came, each as many as it was started with.
Then come the hubs of a batch system, whole, as far as a launcher offers them (OfferHubs). What is left beyond all of
them is added to the first hub. Workers end in the reverse order. A hub that a batch system has
started gets no new work and ends when nothing runs on it; the others stay connected without workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import msgspec

from nblb.protocol.commands import KeepSetting
from nblb.protocol.messages import AdaptWorkers, Answer, OfferHubs, ScaleHub
from nblb.scheduling.adapting.demand import demand
from nblb.scheduling.adapting.policy import Adapting, AdaptPolicy, refusal, sentence
from nblb.scheduling.hubs import Hub
from nblb.scheduling.reporting.calls import counting_pace_s
from nblb.scheduling.state import ConnectedClient, State

SETTING = "adapt"  # under which the limits are kept
LOOK_S = 1.0  # between two measurements of the load
REASON = "the cluster adapts, and its workers are not needed"
OFFER_S = 10.0  # after which an offer that is not repeated lapses


class _Offer:
    """Hubs that a launcher would start, as it last offered them."""

    def __init__(self, message: OfferHubs, now: float) -> None:
        self.message, self.until = message, now + OFFER_S
        self.wanted = 0


class Adaptation:
    """Handles AdaptWorkers and OfferHubs, and scales hubs.

    Parameters
    ----------
    state
        The scheduler's state.
    end_when_idle
        Gives a hub no more work, and ends it for this reason when nothing runs on it.
    keep
        Takes that back, if it was for this reason.
    """

    def __init__(
        self, state: State, end_when_idle: Callable[[Hub, str], None], keep: Callable[[Hub, str], None]
    ) -> None:
        self.state = state
        self._end_when_idle, self._keep_hub = end_when_idle, keep
        self.policy = AdaptPolicy(state.policy.adapting) if state.policy.adapting is not None else None
        self._look_at = 0.0
        self._order: dict[str, int] = {}  # hub's id -> when it was first seen
        self._seen = 0
        self._asked: dict[str, int] = {}  # hub's id -> number of workers that it was last sent
        self._ending: set[str] = set()  # ids of hubs that end because too little is left for them
        self._offers: dict[str, _Offer] = {}

    # ── requests ──

    def adapt(self, client: ConnectedClient, message: AdaptWorkers, _now: float) -> None:
        limits = Adapting(message.minimum, message.maximum, message.idle_s)
        reason = refusal(limits) if message.on else ""
        if reason:
            self.state.send(client.address, Answer(request=message.request, error=reason, kind="NblbError"))
            return
        if message.on:
            self._begin(limits, client.user)
        else:
            self.end(f"{client.user} asked for it")
        has_hubs = bool(self._hubs() or self._offers)
        answer = {"adapts": self.described(), "has_hubs": has_hubs}
        self.state.send(client.address, Answer(request=message.request, value=answer))

    def offer(self, client: ConnectedClient, message: OfferHubs, now: float) -> None:
        known = self._offers.get(message.place)
        offer = self._offers[message.place] = _Offer(message, now)
        if known is None:
            self._look_at = 0.0
        else:
            offer.wanted = known.wanted
        if self.policy is not None and known is None:
            self._look(now)
        self.state.send(
            client.address, Answer(request=message.request, value=offer.wanted if self.policy is not None else None)
        )

    def end(self, why: str) -> None:
        """Stop adapting; the workers stay as they are."""
        if self.policy is None:
            return
        self.policy = None
        for hub in self._hubs():
            self._keep(hub)
        self._asked.clear()
        self._ending.clear()
        self.state.out.append(KeepSetting(SETTING, None))
        self.state.log("info", f"LB - ADAPTS NO MORE : {why}")

    def described(self) -> dict[str, Any] | None:
        """Return limits, wanted number and reason for status queries; None if the cluster does not adapt."""
        policy = self.policy
        if policy is None:
            return None
        text = sentence(policy.limits, policy.wanted, policy.why)
        return {**msgspec.structs.asdict(policy.limits), "wanted": policy.wanted, "why": policy.why, "text": text}

    # ── time ──

    def tick(self, now: float) -> None:
        if self.policy is not None and now >= self._look_at:
            self._look(now)

    def next_deadline(self) -> float | None:
        """Return when the load is measured again; None while that can wait for a message."""
        return None if self.policy is None or self.policy.is_settled else self._look_at

    # ── the rest ──

    def _begin(self, limits: Adapting, user: str) -> None:
        self.policy = AdaptPolicy(limits)
        self._look_at = 0.0
        self.state.out.append(KeepSetting(SETTING, msgspec.structs.asdict(limits)))
        self.state.log("info", f"LB - ADAPTS : between {limits.minimum} and {limits.maximum} workers, by {user}")

    def _look(self, now: float) -> None:
        policy = self.policy
        assert policy is not None
        self._look_at = now + max(LOOK_S, counting_pace_s(self.state))
        self._offers = {place: offer for place, offer in self._offers.items() if offer.until >= now}
        before = policy.wanted
        wanted = policy.choose(demand(self.state, now), now)
        if wanted != before:
            self.state.log("info", f"LB - ADAPTS : {wanted} workers, because {policy.why}")
        hubs = self._hubs()
        present = {hub.id for hub in hubs}
        self._ending &= present
        self._asked = {name: workers for name, workers in self._asked.items() if name in present}
        self._provide(wanted, hubs)

    def _hubs(self) -> list[Hub]:
        """Return the hubs that stay, those of the core's computer first, then in the order in which they came."""
        hubs = [hub for hub in self.state.hubs.values() if not hub.leaves]
        self._order = {hub.id: self._order.get(hub.id, self._seen + n) for n, hub in enumerate(hubs, 1)}
        self._seen += len(hubs)
        return sorted(hubs, key=lambda hub: (not self._is_here(hub), self._order[hub.id]))

    def _is_here(self, hub: Hub) -> bool:
        """Return whether the hub runs on the core's computer: names of processes begin with the mark of its boot."""
        mark = self.state.policy.process[:8]
        return mark != "" and hub.id.partition("-")[0] == mark

    def _provide(self, wanted: int, hubs: Sequence[Hub]) -> None:
        offered = {job: offer for offer in self._offers.values() for job in offer.message.jobs}
        fixed = [hub for hub in hubs if hub.hello.batch_job not in offered and not hub.draining]
        left = wanted
        sizes: dict[str, int] = {}
        for hub in fixed:
            sizes[hub.id] = min(left, full_size(hub))
            left -= sizes[hub.id]
        for offer in self._offers.values():
            message = offer.message
            offer.wanted = min(message.hubs, ceil(left / message.workers)) if message.workers > 0 else 0
            left = max(0, left - offer.wanted * message.workers)
            self._end_surplus(offer, [hub for hub in hubs if offered.get(hub.hello.batch_job) is offer])
        if fixed:
            sizes[fixed[0].id] += left
        for hub in fixed:
            self._scale(hub, sizes[hub.id])

    def _scale(self, hub: Hub, workers: int) -> None:
        if self._asked.get(hub.id, sum(group.workers for group in hub.hello.groups)) != workers:
            self._asked[hub.id] = workers
            self.state.send(hub.address, ScaleHub(hub=hub.id, workers=workers))

    def _end_surplus(self, offer: _Offer, hubs: Sequence[Hub]) -> None:
        """Let the hubs of an offer end that are too many, those with the least work first, and keep the others.

        A hub that was drained before, perhaps for an earlier core, ends as well: its batch job is of no more use.
        """
        drained = [hub for hub in hubs if hub.draining and hub.id not in self._ending]
        for hub in drained:
            self._end_when_idle(hub, REASON)
        usable = [hub for hub in hubs if hub not in drained]
        surplus = len(usable) - offer.wanted
        for number, hub in enumerate(sorted(usable, key=lambda hub: (hub.id not in self._ending, len(hub.in_flight)))):
            if number >= surplus:
                self._keep(hub)
            elif hub.id not in self._ending:
                self._ending.add(hub.id)
                self._end_when_idle(hub, REASON)

    def _keep(self, hub: Hub) -> None:
        if hub.id in self._ending:
            self._ending.discard(hub.id)
            self._keep_hub(hub, REASON)


def full_size(hub: Hub) -> int:
    """Return the number of workers with which a hub was started."""
    return hub.hello.started_with or sum(group.workers for group in hub.hello.groups)
