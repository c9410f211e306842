"""Where a task runs, and how much of it goes at once.

Among the groups with room whose band takes the task: one with a free worker, then one whose hub already holds its
function and inputs, then the narrowest band, then the least loaded (DESIGN 4.4). Slices of a record are cut by the
measured run time of the function, so that one is worth about PREFETCH of work and the last ones end together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from math import ceil
from typing import TypeAlias

from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.free_capacity import FreeCapacity
from nblb.scheduling.hubs import GroupOfWorkers, Hub
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission

MAX_ITEMS = 4096
OVERHEAD_S = 50e-6  # what a slice costs beside its items; keeps the number in flight bounded
LEAST_S = 10 * OVERHEAD_S  # shorter slices, at the end of a record, would cost more than they even out
SMOOTHING = 0.25
MOST_COMPARED = 32  # groups with room that can run a task, where it is not the least loaded that is best
MOST_PRIORITIES = 1000  # whose rooms are remembered
Rooms: TypeAlias = (
    "tuple[FreeCapacity | None, tuple[FreeCapacity, ...]]"  # the only one that takes a priority; all, narrowest first
)


class Estimates:
    """How long one item of a function runs: an exponential moving average, quick to learn from longer slices."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._items: dict[str, float] = {}  # in the slices that this was learnt from

    def item_s(self, record: Submission) -> float | None:
        return self._seconds.get(record.spec.function or record.spec.name)

    def slice_s(self, record: Submission, items: int) -> float | None:
        one = self._seconds.get(record.spec.function or record.spec.name)
        return None if one is None else one * items + OVERHEAD_S

    def learn(self, record: Submission, duration_s: float, items: int) -> None:
        key, seconds = record.spec.function or record.spec.name, duration_s / max(1, items)
        old, before = self._seconds.get(key, seconds), self._items.get(key, 0.0)
        # A slice of many more items says more: what one costs beside its items is spread over them.
        share = max(SMOOTHING, 1.0 - before / max(1, items))
        self._seconds[key] = old + share * (seconds - old)
        self._items[key] = before + share * (items - before)

    def at_least(self, record: Submission, running_s: float, items: int) -> None:
        """A slice has been running for so long already."""
        seconds = running_s / max(1, items)
        if seconds > (self.item_s(record) or 0.0):
            self._seconds[record.spec.function or record.spec.name] = seconds


class Placement:
    """Knows every group by its band."""

    def __init__(self, prefetch_s: float) -> None:
        self.prefetch_s = prefetch_s
        self.estimates = Estimates()
        self.by_band: dict[Band, list[GroupOfWorkers]] = {}
        self.rooms: dict[Band, FreeCapacity] = {}
        self.bands: list[Band] = []  # narrowest first
        self._rooms: dict[float, Rooms] = {}  # by priority

    def add(self, hub: Hub) -> None:
        for group in hub.groups:
            if group.band not in self.by_band:
                self.by_band[group.band] = []
                self.rooms[group.band] = FreeCapacity(group.band, self.prefetch_s)
                self._rooms.clear()
                self.bands.append(group.band)
                self.bands.sort(key=lambda band: (band.high - band.low, band.low))
            self.by_band[group.band].append(group)
            group.room = self.rooms[group.band]

    def remove(self, hub: Hub) -> None:
        for group in hub.groups:
            self.by_band[group.band].remove(group)
            group.room.leave(group)

    def slice_items(self, task: Slice, user: UserQueue, band: Band) -> int:
        """How many items of the task to send at once."""
        if not task.record.spec.split or task.items == 1:
            return task.items
        one = self.estimates.item_s(task.record)
        if one is None:
            return 1
        one = max(one, 1e-7)
        by_time, least = int(self.prefetch_s / one), int(LEAST_S / one)
        # guided self-scheduling: shorter towards the end
        fair_end = ceil(user.waiting / (2 * max(1, self.workers(band))))
        return max(1, min(by_time, max(fair_end, least), MAX_ITEMS, task.items))

    def choose_free(self, record: Submission, band: Band | None = None) -> GroupOfWorkers | None:
        """The group for the record among all with a free worker that take it; `band`: only of this band."""
        spec = record.spec
        only, rooms = self._rooms.get(spec.priority) or self._find_rooms(spec.priority)
        group = only.free.first() if only is not None else None
        if group is not None:  # nearly always this one will do
            hub = group.hub
            if record.kind is hub.ran and record.alone and spec.function in hub.holds and not hub.suspect:
                return group
        return self._best(record, rooms if band is None else (self.rooms[band],), None)

    def choose_ahead(
        self, record: Submission, items: int, band: Band, closed: Sequence[Kind] = ()
    ) -> GroupOfWorkers | None:
        """The group of this band that so many items of the record can be sent ahead to, short as they are.

        Not one that can run any of the kinds `closed`: tasks of these wait for its next slot.
        """
        estimate = self.estimates.slice_s(record, items)
        return None if estimate is None else self._best(record, (self.rooms[band],), estimate, closed)

    def is_short(self, task: Slice, group: GroupOfWorkers) -> bool:
        """Is the least that can be sent of it known to be short enough to be sent ahead to this group?"""
        estimate = self.estimates.slice_s(task.record, 1 if task.record.spec.split else task.items)
        return estimate is not None and group.is_short(estimate, self.prefetch_s)

    def can_run(self, kind: Kind, band: Band) -> bool:
        """Is there a worker of this band, free or not, for tasks of this kind?"""
        groups = self.by_band[band]
        return any(group.alive and not group.hub.suspect and group.hub.runs(kind) for group in groups)

    def is_closed(self, band: Band, closed: Sequence[Kind]) -> bool:
        """Can all groups of this band that work could be sent ahead to run one of these kinds?"""
        ahead = islice(self.rooms[band].ahead, MOST_COMPARED)
        return all(any(group.hub.runs(kind) for kind in closed) for group in ahead)

    def _find_rooms(self, priority: float) -> Rooms:
        if len(self._rooms) >= MOST_PRIORITIES:
            self._rooms.clear()
        rooms = tuple(self.rooms[band] for band in self.bands if band.takes(priority))
        self._rooms[priority] = found = rooms[0] if len(rooms) == 1 else None, rooms
        return found

    def _best(
        self, record: Submission, rooms: tuple[FreeCapacity, ...], ahead_s: float | None, closed: Sequence[Kind] = ()
    ) -> GroupOfWorkers | None:
        """The best group with a free worker; or, given how much work it is, the best one to send it ahead to.

        That is the first in the narrowest room, if nothing speaks against it.
        """
        best, width = None, 0.0
        for room in rooms:
            if best is not None and room.width > width:
                break
            group = (room.free if ahead_s is None else room.ahead).first()
            if group is None:
                continue
            if not self._may_take(group, record, ahead_s, closed) or not holds_inputs(group.hub, record):
                return self._best_of_all(record, rooms, ahead_s, closed)
            if best is None or group.load < best.load:
                best, width = group, room.width
        return best

    def _best_of_all(
        self, record: Submission, rooms: tuple[FreeCapacity, ...], ahead_s: float | None, closed: Sequence[Kind]
    ) -> GroupOfWorkers | None:
        """The same the long way: hubs differ in what they hold, or in what they can run."""
        best: GroupOfWorkers | None = None
        best_rank: tuple[bool, float, float] | None = None
        for room in rooms:
            compared = 0
            for group in room.free if ahead_s is None else room.ahead:
                if not self._may_take(group, record, ahead_s, closed):
                    continue
                rank = (not holds_inputs(group.hub, record), room.width, group.load)
                if best_rank is None or rank < best_rank:
                    best, best_rank = group, rank
                compared += 1
                if compared >= MOST_COMPARED:
                    break
        return best

    def _may_take(
        self, group: GroupOfWorkers, record: Submission, ahead_s: float | None, closed: Sequence[Kind]
    ) -> bool:
        """Can the hub run it; and is it short enough, if it is to be sent ahead, and not in anybody's way?"""
        hub = group.hub
        if hub.suspect or not hub.runs(record.kind):
            return False
        if closed and any(hub.runs(kind) for kind in closed):
            return False
        return ahead_s is None or group.has_room(ahead_s, self.prefetch_s)

    def takers(self, record: Submission) -> Iterable[GroupOfWorkers]:
        """All groups that could ever run the record."""
        for band, groups in self.by_band.items():
            if band.takes(record.spec.priority):
                for group in groups:
                    if group.hub.runs(record.kind):
                        yield group

    def workers(self, band: Band) -> int:
        return self.rooms[band].workers


def holds_inputs(hub: Hub, record: Submission) -> bool:
    """Nothing would have to be sent to this hub before the record can run there."""
    spec = record.spec
    if spec.function and spec.function not in hub.holds:
        return False
    if record.alone:
        return True
    return all(name in hub.holds for name in (*spec.constants, *spec.depends))
