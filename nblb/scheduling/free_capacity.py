"""The groups of workers that can take work now: the least loaded of them is found without a look at the others."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, TypeAlias

from nblb.scheduling.fair_share import Band

if TYPE_CHECKING:
    from nblb.scheduling.hubs import GroupOfWorkers

Place: TypeAlias = "tuple[float, int, GroupOfWorkers]"  # load, number of arrival (no two have the same), group


class ByLoad:
    """Groups, the least loaded first; of equals, the one that has been here longest.

    As in fair_share.Band, an entry that tells of less load than the group has is put right when it comes to the top,
    and a group that may deserve a better place is only marked: it gets its new entry before the next choice.
    """

    __slots__ = ("_heap", "_number", "_risen", "groups")

    def __init__(self) -> None:
        self.groups: dict[GroupOfWorkers, None] = {}  # those that are here; what is valid of the heap is their `entry`
        self._heap: list[Place] = []
        self._number = 0
        self._risen: dict[GroupOfWorkers, None] = {}  # those that may have less load than their entry says

    def __contains__(self, group: object) -> bool:
        return group in self.groups

    def __iter__(self) -> Iterator[GroupOfWorkers]:
        """Longest here, first."""
        return iter(self.groups)

    def put(self, group: GroupOfWorkers) -> None:
        """It is here; its load may have changed."""
        if group not in self.groups:
            self.groups[group] = None
            self._number += 1
            self._push(group, self._number)
        elif group.entry is not None and group.load < group.entry[0]:
            self._risen[group] = None

    def _push(self, group: GroupOfWorkers, number: int) -> None:
        group.entry = entry = group.load, number, group
        heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self.groups):
            self._heap = [one.entry for one in self.groups if one.entry is not None]
            heapify(self._heap)

    def leave(self, group: GroupOfWorkers) -> None:
        del self.groups[group]
        group.entry = None
        self._risen.pop(group, None)

    def _lift(self) -> None:
        """Give those that were marked their places."""
        for group in self._risen:
            entry = group.entry
            if entry is not None and group.load < entry[0]:
                self._push(group, entry[1])
        self._risen.clear()

    def first(self) -> GroupOfWorkers | None:
        """The least loaded."""
        if self._risen:
            self._lift()
        heap = self._heap
        while heap:
            entry = heap[0]
            load, number, group = entry
            if group.entry is not entry:
                heappop(heap)
            elif load == group.load:
                return group
            else:
                group.entry = entry = group.load, number, group
                heapreplace(heap, entry)
        return None


class FreeCapacity:
    """The groups of one band that can take work."""

    __slots__ = ("ahead", "free", "full", "prefetch_s", "width", "workers")

    def __init__(self, band: Band, prefetch_s: float) -> None:
        self.width = band.high - band.low
        self.prefetch_s = prefetch_s
        self.free = ByLoad()  # with a worker that has nothing to do
        self.ahead = ByLoad()  # busy, but short slices may be sent ahead
        self.full: dict[GroupOfWorkers, None] = {}  # busy, with as much work ahead as they may have
        self.workers = 0

    def place(self, group: GroupOfWorkers) -> None:
        """Its workers or its work have changed."""
        line: ByLoad | None = None
        if group.given < group.alive:
            line = self.free
        elif group.ahead_s(0.0) < group.alive * self.prefetch_s:
            line = self.ahead
        if group.line is not line:
            self._stand_in(group, line)
        if line is not None:
            line.put(group)
        elif group.alive:
            self.full[group] = None
        else:
            self.full.pop(group, None)

    def _stand_in(self, group: GroupOfWorkers, line: ByLoad | None) -> None:
        if group.line is not None:
            group.line.leave(group)
        self.full.pop(group, None)
        group.line = line

    def leave(self, group: GroupOfWorkers) -> None:
        """Its hub is gone."""
        self.workers -= group.alive
        self._stand_in(group, None)
