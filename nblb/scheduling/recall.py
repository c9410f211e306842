"""Work ahead that turns out to stand behind a long task is called back (DESIGN 4.5).

A slice is sent ahead because its function was short until now. Where the slices in front of it run on and on, the
estimate of their function is raised, so that no more are sent behind them, and those that have waited for PATIENCE
times LB_PREFETCH_MS are asked for with StopTask(why="recall"): if a worker elsewhere is free for them, or if they
are no longer known to be short. A hub hands back only what it has not begun.
"""

from __future__ import annotations

from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.state import State

PATIENCE = 5.0


class Recall:
    """Looks at what hubs have in hand while some of it is work ahead."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._wait_s = PATIENCE * state.policy.prefetch_s
        self._at: float | None = None

    def next_deadline(self) -> float | None:
        return self._at

    def tick(self, now: float) -> None:
        if self._at is not None and now < self._at:
            return
        ahead = [group for hub in self.state.hubs.values() for group in hub.groups if group.given > group.alive]
        self._at = now + self._wait_s if ahead and self._wait_s > 0.0 else None
        if self._at is not None:
            for group in ahead:
                self._look(group, now)

    def _look(self, group: GroupOfWorkers, now: float) -> None:
        estimates = self.state.placement.estimates
        waiting: list[Assignment] = []
        for held in group.hub.in_hand.values():  # in the order in which they were given
            if now - held.given_at < self._wait_s:
                break
            if held.group is not group:
                continue
            if held.started_at:
                estimates.at_least(held.record, now - held.started_at, held.items)
            elif not held.recalled:
                waiting.append(held)
        for held in waiting:
            if self._better_elsewhere(held):
                held.recalled = True
                self.state.stop(held, "recall")

    def _better_elsewhere(self, held: Assignment) -> bool:
        placement = self.state.placement
        estimate = placement.estimates.slice_s(held.record, held.items)
        if estimate is None or not held.group.is_short(estimate, placement.prefetch_s):
            return True
        return any(
            group.given < group.alive and not group.hub.suspect and group is not held.group
            for group in placement.takers(held.record)
        )
