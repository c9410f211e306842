"""Recalls work sent ahead that turns out to wait behind a long slice, or to delay another user.

A slice is sent ahead because its function has been short so far. When the slices in front of it run much longer, the
estimate of their function is raised, so that no more slices are sent behind them. Slices that have waited for PATIENCE
times LB_PREFETCH_MS are recalled with StopTask(why="recall") if a worker elsewhere is free for them, if they are no
longer known to be short, or if a user with fewer workers waits for one of the workers.

A user who begins to wait for the next free slot (dispatch.py) gets it: slices that users with more workers have sent
ahead there are recalled at once, unless there are so many that they finish sooner than they return.

A hub hands back only what it has not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.placement import MOST_COMPARED
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

PATIENCE = 5.0
MOST_AT_ONCE = 64  # slices ahead in a group: if there are more, each is so short that it ends soon


class Recall:
    """Checks the attempts of hubs while some of them are work ahead."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._wait_s = PATIENCE * state.policy.prefetch_s
        self._at: float | None = None
        self._made_way: dict[UserQueue, tuple[Band, int, int]] = {}  # by user: the slice for which this was done last

    def make_way(self, waiting: Sequence[tuple[UserQueue, Slice, Band]]) -> None:
        """Recall work sent ahead that would take the next free slot from these waiting users."""
        for user, task, band in waiting:
            key = band, task.record.number, task.first
            if self._made_way.get(user) == key:
                continue
            self._made_way[user] = key
            placement = self.state.placement
            for group in islice(chain(placement.rooms[band].full, placement.rooms[band].ahead), MOST_COMPARED):
                ahead = group.given - group.alive
                runs = 0 < ahead <= MOST_AT_ONCE and group.hub.runs(task.record.kind)
                if runs and not placement.is_short(task, group):
                    self._call_back(group, ahead, user)

    def _call_back(self, group: GroupOfWorkers, ahead: int, user: UserQueue) -> None:
        """Recall the latest slices of a group that have not begun, except of users with as few workers as `user`."""
        latest = (held for held in reversed(group.hub.in_hand.values()) if held.group is group)
        for held in islice(latest, ahead):
            if held.user.occupied > user.occupied + 1 and not held.recalled and not held.started_at:
                held.recalled = True
                self.state.stop(held, "recall")

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
        for held in group.hub.in_hand.values():  # in the order of assignment
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
        entry = held.group.band.first()
        if entry is not None and entry[0] + 1 < held.user.occupied and held.group.hub.runs(entry[4].record.kind):
            return True
        return any(
            group.given < group.alive and not group.hub.suspect and group is not held.group
            for group in placement.takers(held.record)
        )
