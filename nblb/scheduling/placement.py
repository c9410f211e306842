"""Chooses the group on which a slice runs, and how many items are sent at once.

The group must have capacity, and its band must take the submission. The order of preference is: a free worker, a hub
that already has the function and the inputs, the narrowest band, the least load. A submission is cut into slices by
the measured run time of its function, so that a slice is about PREFETCH of work and the last ones end together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from math import ceil
from typing import TypeAlias

from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band, Breadth
from nblb.scheduling.free_capacity import FreeCapacity
from nblb.scheduling.hubs import NEVER, GroupOfWorkers, Hub
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission

MAX_ITEMS = 4096
OVERHEAD_S = 50e-6  # cost of a slice beside its items; bounds the number in flight
LEAST_S = 10 * OVERHEAD_S  # shorter slices at the end of a submission would cost more than they balance
SMOOTHING = 0.25
MOST_COMPARED = 32  # groups compared where the least loaded is not the best
MOST_PRIORITIES = 1000  # priorities whose rooms are cached
SPARE = 1.1  # of the measured run time must be left on a hub whose batch job ends
Rooms: TypeAlias = (
    "tuple[FreeCapacity | None, tuple[FreeCapacity, ...]]"  # the only one that takes a priority; all, narrowest first
)


class Estimates:
    """Run time of one item per function: an exponential moving average in which longer slices weigh more."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._items: dict[str, float] = {}  # weighted items per slice of these measurements

    def item_s(self, record: Submission) -> float | None:
        return self._seconds.get(record.spec.function or record.spec.name)

    def slice_s(self, record: Submission, items: int) -> float | None:
        one = self._seconds.get(record.spec.function or record.spec.name)
        return None if one is None else one * items + OVERHEAD_S

    def learn(self, record: Submission, duration_s: float, items: int) -> None:
        key, seconds = record.spec.function or record.spec.name, duration_s / max(1, items)
        old, before = self._seconds.get(key, seconds), self._items.get(key, 0.0)
        # A slice of many more items is more precise: the cost of the slice itself is spread over them.
        share = max(SMOOTHING, 1.0 - before / max(1, items))
        self._seconds[key] = old + share * (seconds - old)
        self._items[key] = before + share * (items - before)

    def at_least(self, record: Submission, running_s: float, items: int) -> None:
        """Raise the estimate, since a slice has already been running for `running_s`."""
        seconds = running_s / max(1, items)
        if seconds > (self.item_s(record) or 0.0):
            self._seconds[record.spec.function or record.spec.name] = seconds


class Placement:
    """All groups by band, and the choice among them."""

    def __init__(self, prefetch_s: float) -> None:
        self.prefetch_s = prefetch_s
        self.estimates = Estimates()
        self.by_band: dict[Band, list[GroupOfWorkers]] = {}
        self.rooms: dict[Band, FreeCapacity] = {}
        self.bands: list[Band] = []  # narrowest first
        self._has_owners = False  # some bands are of some users only
        self._rooms: dict[object, Rooms] = {}  # by priority, and by user and needs if these matter
        self.now = 0.0  # the time of the choice

    def add(self, hub: Hub) -> None:
        for group in hub.groups:
            if group.band not in self.by_band:
                self.by_band[group.band] = []
                self.rooms[group.band] = FreeCapacity(group.band, self.prefetch_s)
                self._rooms.clear()
                self._has_owners = self._has_owners or bool(group.band.only)
                self.bands.append(group.band)
                self.bands.sort(key=lambda band: (band.breadth, band.low, sorted(band.only), band.has.features))
            self.by_band[group.band].append(group)
            group.room = self.rooms[group.band]

    def remove(self, hub: Hub) -> None:
        for group in hub.groups:
            self.by_band[group.band].remove(group)
            group.room.leave(group)

    def slice_items(self, task: Slice, user: UserQueue, band: Band) -> int:
        """Return how many items of the slice to send at once."""
        if not task.record.spec.split or task.items == 1:
            return task.items
        one = self.estimates.item_s(task.record)
        if one is None:
            return 1
        one = max(one, 1e-7)
        by_time, least = int(self.prefetch_s / one), int(LEAST_S / one)
        # guided self-scheduling: shorter slices towards the end
        fair_end = ceil(user.waiting / (2 * max(1, self.workers(band))))
        return max(1, min(by_time, max(fair_end, least), MAX_ITEMS, task.items))

    def choose_free(self, record: Submission, band: Band | None = None) -> GroupOfWorkers | None:
        """Return the best group with a free worker that takes the submission; `band`: only groups of this band."""
        spec = record.spec
        plain = spec.priority if spec.needs is None else None
        only, rooms = self._rooms.get(plain) or self._find_rooms(record)
        group = only.free.first() if only is not None else None
        if group is not None:  # nearly always this one fits
            hub = group.hub
            same = record.kind is hub.ran and record.alone and spec.function in hub.holds and not hub.suspect
            if same and (spec.needs is None or group.has_needs(record.kind)):
                return group
        return self._best(record, rooms if band is None else (self.rooms[band],), None)

    def choose_ahead(
        self, record: Submission, items: int, band: Band, closed: Sequence[Kind] = ()
    ) -> GroupOfWorkers | None:
        """Return the group of this band to which these items can be sent ahead, if they are short enough.

        Groups that can run any of the kinds `closed` are excluded: slices of these kinds wait for their next slot.
        """
        estimate = self.estimates.slice_s(record, items)
        return None if estimate is None else self._best(record, (self.rooms[band],), estimate, closed)

    def is_short(self, task: Slice, group: GroupOfWorkers) -> bool:
        """Return whether the smallest part of it is known to be short enough to be sent ahead to this group."""
        estimate = self.estimates.slice_s(task.record, 1 if task.record.spec.split else task.items)
        return estimate is not None and group.is_short(estimate, self.prefetch_s)

    def can_run(self, kind: Kind, band: Band) -> bool:
        """Return whether this band has a worker, free or not, for this kind."""
        groups = self.by_band[band]
        return any(group.alive and not group.hub.suspect and group.runs(kind) for group in groups)

    def is_closed(self, band: Band, closed: Sequence[Kind]) -> bool:
        """Return whether each group of this band that is open to work ahead can run one of these kinds."""
        ahead = islice(self.rooms[band].ahead, MOST_COMPARED)
        return all(any(group.runs(kind) for kind in closed) for group in ahead)

    def _find_rooms(self, record: Submission) -> Rooms:
        priority, user = record.spec.priority, record.user
        needs, kind = record.spec.needs, record.kind
        key: object = (priority, user, needs) if self._has_owners or needs is not None else priority
        found = self._rooms.get(key)
        if found is None:
            if len(self._rooms) >= MOST_PRIORITIES:
                self._rooms.clear()
            bands = (band for band in self.bands if band.takes(priority) and band.admits(user) and band.fits(kind))
            rooms = tuple(self.rooms[band] for band in bands)
            self._rooms[key] = found = rooms[0] if len(rooms) == 1 else None, rooms
        return found

    def _best(
        self, record: Submission, rooms: tuple[FreeCapacity, ...], ahead_s: float | None, closed: Sequence[Kind] = ()
    ) -> GroupOfWorkers | None:
        """Return the best group with a free worker; or, given the amount of work, the best one to send it ahead to.

        Usually that is the first group in the narrowest room.
        """
        best: GroupOfWorkers | None = None
        width: Breadth = 0.0, 0, 0, 0.0, True
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
        """Compare all groups, since hubs differ in the blobs they have or in what they can run."""
        best: GroupOfWorkers | None = None
        best_rank: tuple[bool, Breadth, float] | None = None
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
        """Return whether the hub can run it and, for work ahead, whether it is short and delays no waiting kind."""
        hub = group.hub
        if hub.suspect or not group.runs(record.kind) or not self.is_in_time(record, hub):
            return False
        if closed and any(group.runs(kind) for kind in closed):
            return False
        return ahead_s is None or group.has_room(ahead_s, self.prefetch_s)

    def is_in_time(self, record: Submission, hub: Hub) -> bool:
        """Return whether a call started now ends before the hub's batch job, by its owner's word or as measured."""
        if hub.ends_at == NEVER:
            return True
        left_s = hub.ends_at - self.now
        return left_s > 0.0 and (record.spec.time_s or (self.estimates.item_s(record) or 0.0) * SPARE) <= left_s

    def takers(self, record: Submission) -> Iterable[GroupOfWorkers]:
        """Return all groups that can ever run the submission."""
        for band, groups in self.by_band.items():
            if band.takes(record.spec.priority) and band.admits(record.user):
                for group in groups:
                    if group.runs(record.kind):
                        yield group

    def workers(self, band: Band) -> int:
        return self.rooms[band].workers


def holds_inputs(hub: Hub, record: Submission) -> bool:
    """Return whether the hub has all inputs of the submission."""
    spec = record.spec
    if spec.function and spec.function not in hub.holds:
        return False
    if record.alone:
        return True
    return all(name in hub.holds for name in (*spec.constants, *spec.depends))
