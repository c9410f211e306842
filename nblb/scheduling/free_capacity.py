"""The groups of workers with free capacity, ordered so that the least loaded is found without comparing all."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, TypeAlias

from nblb.scheduling.fair_share import Band

if TYPE_CHECKING:
    from nblb.scheduling.hubs import GroupOfWorkers

Place: TypeAlias = "tuple[float, int, GroupOfWorkers]"  # load, order of arrival (unique), group


class ByLoad:
    """Groups ordered by load, the least loaded first; of equals, the one connected longest.

    As in fair_share.Band, an entry with less load than the group has is corrected when it reaches the top, and a group
    that may have moved forward is only marked: it gets a new entry before the next choice.
    """

    __slots__ = ("_heap", "_number", "_risen", "groups")

    def __init__(self) -> None:
        self.groups: dict[GroupOfWorkers, None] = {}  # the heap's valid entries are the `entry` of these
        self._heap: list[Place] = []
        self._number = 0
        self._risen: dict[GroupOfWorkers, None] = {}  # groups that may have less load than their entry

    def __contains__(self, group: object) -> bool:
        return group in self.groups

    def __iter__(self) -> Iterator[GroupOfWorkers]:
        """Iterate over the groups, the one connected longest first."""
        return iter(self.groups)

    def put(self, group: GroupOfWorkers) -> None:
        """Add the group, or note that its load may have changed."""
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
        """Update the entries of the marked groups."""
        for group in self._risen:
            entry = group.entry
            if entry is not None and group.load < entry[0]:
                self._push(group, entry[1])
        self._risen.clear()

    def first(self) -> GroupOfWorkers | None:
        """Return the least loaded group."""
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
    """The groups of one band by how much work they can take."""

    __slots__ = ("ahead", "behind", "free", "full", "prefetch_s", "width", "workers")

    def __init__(self, band: Band, prefetch_s: float) -> None:
        self.width = band.breadth
        self.prefetch_s = prefetch_s
        self.free = ByLoad()  # with an idle worker
        self.ahead = ByLoad()  # busy, but open to short slices sent ahead
        self.full: dict[GroupOfWorkers, None] = {}  # busy, with as much work ahead as is allowed, or more
        self.behind: dict[GroupOfWorkers, None] = {}  # with more slices than workers: some wait there
        self.workers = 0

    def place(self, group: GroupOfWorkers) -> None:
        """Move the group after its workers or its work have changed."""
        line: ByLoad | None = None
        if group.given > group.alive:
            self.behind[group] = None
        elif group in self.behind:
            del self.behind[group]
        if group.given < group.alive:
            line = self.free
        elif group.is_open(self.prefetch_s):
            line = self.ahead
        if group.line is not line:
            self._stand_in(group, line)
        if line is not None:
            line.put(group)
        elif 0 < group.alive < group.given:
            self.full[group] = None
        else:
            self.full.pop(group, None)

    def _stand_in(self, group: GroupOfWorkers, line: ByLoad | None) -> None:
        if group.line is not None:
            group.line.leave(group)
        self.full.pop(group, None)
        group.line = line

    def leave(self, group: GroupOfWorkers) -> None:
        """Remove the group of a hub that is gone."""
        self.workers -= group.alive
        self.behind.pop(group, None)
        self._stand_in(group, None)
