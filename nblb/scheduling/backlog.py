"""The waiting slices, indexed by user, priority and age, so that a user's next slice is found in constant time.

Age is the order of acceptance, so a slice that returns from a hub, or has waited for dependencies, takes the place it
had. A line contains slices of one *kind* (what a hub needs to run them), so a slice that no hub can run does not block
slices of other kinds behind it.

A user's priorities age: a slice of priority p that was accepted t seconds ago counts as p + t / LB_AGEING_S against
slices of other priorities of the same user. The order of two slices never changes with time, since both age equally, so
each has a *rank* that is computed once: p minus the time of its acceptance in steps of LB_AGEING_S.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace, merge
from typing import TYPE_CHECKING, TypeAlias

from nblb.access.limits import Limits
from nblb.protocol.equipment import Equipment
from nblb.protocol.messages import TaskState
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission, needs_of

if TYPE_CHECKING:
    from nblb.scheduling.fair_share import Band, UserGroup

QUEUED = TaskState.QUEUED
FEW_LEVELS = 32
Look: TypeAlias = "tuple[Slice, Slice]"  # the next slice for a worker of a band, and the oldest
#: A turn in a band: level, usage, number of the oldest slice (unique among users), user, next slice.
Entry: TypeAlias = "tuple[int, float, int, UserQueue, Slice]"
Ranked: TypeAlias = "tuple[float, float]"  # minus the rank of the head of a priority, minus that priority
Range: TypeAlias = "tuple[float, float, Equipment | None]"  # priorities, and what workers have; None: all kinds


class SliceQueue:
    """Waiting slices of one user, priority and kind, oldest first.

    Nearly all arrive in order and are appended to `tasks`; the others go to the heap `late`. A cancelled slice is
    removed when it reaches the head, or when half of the line is cancelled.
    """

    __slots__ = ("dead", "items", "late", "tasks")

    def __init__(self) -> None:
        self.tasks: deque[Slice] = deque()
        self.late: list[Slice] = []
        self.dead = 0
        self.items: dict[str, int] = {}  # waiting items by task name, for display

    def add(self, task: Slice) -> None:
        if self.tasks and task < self.tasks[-1]:
            heappush(self.late, task)
        else:
            self.tasks.append(task)

    def head(self) -> Slice | None:
        tasks, late = self.tasks, self.late
        if tasks and not late and tasks[0].state is QUEUED:  # nearly always
            return tasks[0]
        while tasks and tasks[0].state is not QUEUED:
            tasks.popleft()
            self.dead -= 1
        while late and late[0].state is not QUEUED:
            heappop(late)
            self.dead -= 1
        if late and (not tasks or late[0] < tasks[0]):
            return late[0]
        return tasks[0] if tasks else None

    def died(self) -> None:
        """Note that one of the slices in this line was cancelled."""
        self.dead += 1
        if self.dead > 32 and 2 * self.dead > len(self.tasks) + len(self.late):
            self.tasks = deque(task for task in self.tasks if task.state is QUEUED)
            self.late = [task for task in self.late if task.state is QUEUED]
            heapify(self.late)
            self.dead = 0

    def waiting(self) -> Iterator[Slice]:
        """Yield all waiting slices in order."""
        alive = (task for task in self.tasks if task.state is QUEUED)
        late = sorted(task for task in self.late if task.state is QUEUED)
        return merge(alive, late) if late else alive


class ClassUse:
    """The workers of one class that a user, or a group of users, occupies, and the recent use of that class."""

    __slots__ = ("level", "occupied", "usage")

    def __init__(self) -> None:
        self.occupied = 0
        self.level = 0
        self.usage = 0.0

    def add(self, slices: int, weight: float) -> None:
        """Add to the number of slices on workers of this class."""
        self.occupied += slices
        self.level = int(self.occupied / weight)


class UserQueue:
    """One user's waiting slices, and the figures that fair share needs about the user."""

    __slots__ = (
        "_lines",
        "_looks",
        "_occupied",
        "_ranks",
        "ages",
        "apart",
        "classes",
        "done",
        "failed",
        "group",
        "is_special",
        "level",
        "levels",
        "limits",
        "most",
        "name",
        "priorities",
        "share",
        "single",
        "stored",
        "usage",
        "used_s",
        "waiting",
        "weight",
    )

    def __init__(self, name: str, ages: float = 0.0) -> None:
        self.name = name
        self.limits = Limits(name)
        # It has another share than the smallest, a group, a limit, or a turn for workers of a class: then a slice that
        # goes to a hub may leave its level in some band as it was (FairShare.assigned).
        self.is_special = False
        self.most = 0  # slots that may be occupied; 0: no limit
        self.group: UserGroup | None = None
        self.share = 1.0
        self.weight = 1.0  # slots of one level: the share by the smallest of all shares
        self._occupied = 0
        self.apart = 0  # of these, slots in `classes`
        self.classes: dict[str, ClassUse] = {}  # slots counted apart, such as those with GPUs
        self.level = 0  # full rounds of `weight` slots among them: whoever has the lowest level gets the next slot
        self.usage = 0.0  # decayed worker time by the share, on fair_share's growing scale
        self.stored = 0  # bytes of arguments and results
        self.ages = ages  # priorities that a waiting slice gains in a second against the user's others
        self.used_s = 0.0  # plain worker time, for display
        self.done = self.failed = 0  # items
        self.waiting = 0  # waiting items
        self.single = 0  # of these, items outside jobs: the JSON door refuses more than LB_QUEING_MAXPERUSER
        self.levels: dict[float, dict[Kind, SliceQueue]] = {}
        self.priorities: list[float] = []  # the keys of levels, ascending
        self._looks: dict[Band, Look] = {}
        self._lines: dict[Band, SliceQueue] = {}  # the line, for bands whose slices all wait in one
        self._ranks: dict[Range, list[Ranked]] = {}  # a heap of the heads of the priorities in a range

    @property
    def occupied(self) -> int:
        """Number of slices assigned to hubs."""
        return self._occupied

    @occupied.setter
    def occupied(self, slices: int) -> None:
        self.occupy(slices - self._occupied)

    def occupy(self, slices: int, worker_class: str = "") -> None:
        """Add to the number of slices at hubs, on workers of a class; it may be negative."""
        self._occupied += slices
        if worker_class:
            self.apart += slices
            self._class(worker_class).add(slices, self.weight)
        else:
            self.level = self._occupied - self.apart
            if self.is_special:
                self.level = int(self.level / self.weight)
        if self.is_special and self.group is not None:
            self.group.occupy(slices, worker_class)

    def occupied_of(self, worker_class: str) -> int:
        """Return the number of slices on workers of a class; "" stands for all workers that have none."""
        use = self.classes.get(worker_class)
        return self._occupied - self.apart if not worker_class else use.occupied if use is not None else 0

    def of_class(self, worker_class: str) -> UserQueue | ClassUse:
        """Return what decides the user's turn on workers of a class: its level and its recent use there."""
        return self._class(worker_class) if worker_class else self

    def _class(self, worker_class: str) -> ClassUse:
        use = self.classes.get(worker_class)
        if use is None:
            use = self.classes[worker_class] = ClassUse()
            self.is_special = True
        return use

    @property
    def is_held(self) -> bool:
        """True if the user, or the user's group, occupies as many workers as its limit allows."""
        return 0 < self.most <= self._occupied or (self.group is not None and self.group.is_held)

    def add(self, task: Slice) -> bool:
        """Add a slice behind all that were accepted earlier; return whether it is now the head of its line."""
        line = self._line(task.record)
        self._count(line, task.record, task.items)
        return self._join(line, task)

    def stand(self, task: Slice) -> bool:
        """Add a piece that was cut off a waiting slice, without counting it again."""
        return self._join(self._line(task.record), task)

    def _line(self, record: Submission) -> SliceQueue:
        """Return the line for slices of this submission; create it if necessary."""
        priority, kind = record.spec.priority, record.kind
        level = self.levels.get(priority)
        if level is None:
            level = self.levels[priority] = {}
            insort(self.priorities, priority)
        line = level.get(kind)
        if line is None:
            line = level[kind] = SliceQueue()
            self._lines.clear()
        return line

    def _join(self, line: SliceQueue, task: Slice) -> bool:
        line.add(task)
        if line.head() is not task:
            return False
        self._looks.clear()
        priority = task.record.spec.priority
        for (low, high, _), ranks in self._ranks.items():
            if low <= priority <= high:
                heappush(ranks, self._ranked(priority, task))
        return True

    def cancelled(self, task: Slice) -> None:
        """Note that this slice has left the state QUEUED because it was cancelled."""
        line = self._line(task.record)
        self._count(line, task.record, -task.items)
        line.died()
        if self._ranks:
            self._rerank(task)

    def turn(self, band: Band) -> Entry | None:
        """Return the user's entry for the band, with its next slice; None if no slice waits, or may start."""
        if self.most and self.most <= self._occupied:
            return None
        use = self.of_class(band.worker_class) if band.worker_class else self
        line = self._lines.get(band)
        if line is not None and line.tasks and not line.late:  # nearly always
            task = line.tasks[0]
            if task.state is QUEUED:
                return use.level, use.usage, task.record.number, self, task
        look = self.next_and_oldest(band)
        if look is None:
            return None
        return use.level, use.usage, look[1].record.number, self, look[0]

    def drop(self, task: Slice, band: Band) -> None:
        """Remove a slice that goes to a hub; it is the next one, or one of the `others`, for this band."""
        line = self._lines.get(band) or self._line(task.record)
        tasks, late = line.tasks, line.late
        if late and (not tasks or late[0] < tasks[0]):
            heappop(late)
        else:
            tasks.popleft()
        self._count(line, task.record, -task.items)
        if self._ranks:
            self._rerank(task)

    def withhold(self, task: Slice, band: Band) -> None:
        """Remove the next slice for this band from its line although it stays QUEUED."""
        self.drop(task, band)
        self._looks.clear()

    def look_again(self) -> None:
        """Drop the cached pairs, which may name a slice that is QUEUED again but waits outside the line."""
        self._looks.clear()

    def taken(self, task: Slice, items: int) -> None:
        """Subtract `items` that were cut off the front of `task`, which stays QUEUED."""
        self._count(self._line(task.record), task.record, -items)

    def _count(self, line: SliceQueue, record: Submission, items: int) -> None:
        """Add `items` (which may be negative) to the numbers of waiting items."""
        self.waiting += items
        if record.job is None:
            self.single += items
        waiting, name = line.items, record.spec.name
        left = waiting.get(name, 0) + items
        if left:
            waiting[name] = left
        else:
            del waiting[name]

    @property
    def by_name(self) -> Counter[str]:
        """Waiting items by task name, for display."""
        waiting: Counter[str] = Counter()
        for level in self.levels.values():
            for line in level.values():
                waiting.update(line.items)
        return waiting

    @property
    def by_priority(self) -> Counter[float]:
        waiting: Counter[float] = Counter()
        for priority, level in self.levels.items():
            items = sum(sum(line.items.values()) for line in level.values())
            if items:
                waiting[priority] = items
        return waiting

    def heads(self, priority: float) -> list[Slice]:
        """Return the oldest slice of each kind at this priority; remove empty lines and levels."""
        level = self.levels[priority]
        heads = []
        for kind, line in list(level.items()):
            task = line.head()
            if task is not None:
                heads.append(task)
            else:
                del level[kind]
                self._lines.clear()
        if not level:
            del self.levels[priority]
            del self.priorities[bisect_left(self.priorities, priority)]
        return heads

    def head(self, priority: float, has: Equipment | None = None) -> Slice | None:
        """Return the oldest slice at this priority; `has`: for workers with this equipment."""
        level = self.levels[priority]
        if len(level) == 1:  # nearly always
            for kind, line in level.items():
                task = line.head()
                if task is not None:
                    if has is None or (not has.reserved if (needs := needs_of(kind)) is None else has.takes(needs)):
                        return task
                    return None
        return min(self._heads_for(priority, has), default=None)

    def _heads_for(self, priority: float, has: Equipment | None) -> list[Slice]:
        """Return the oldest slice of each kind that workers with this equipment take."""
        heads = self.heads(priority)
        return heads if has is None else [task for task in heads if has.takes(task.record.spec.needs)]

    def next_and_oldest(self, band: Band) -> Look | None:
        """Return the next and the oldest slice that wait for a worker of this band; None if there is none.

        The pair is cached until one of the two leaves the queue, or another slice becomes the head of a line.
        """
        line = self._lines.get(band)
        if line is not None:
            task = line.head()
            if task is not None:
                return task, task
        look = self._looks.get(band)
        if look is not None:
            if look[0].state is QUEUED and look[1].state is QUEUED:
                return look
            del self._looks[band]
        priorities = self.priorities
        first, last = bisect_left(priorities, band.low), bisect_right(priorities, band.high)
        if last - first == 1:
            level = self.levels[priorities[first]]
            if len(level) == 1 and band.fits(next(iter(level))):
                (self._lines[band],) = level.values()
            task = oldest = self.head(priorities[first], band.has)
        else:
            task = self.best(band.low, band.high, band.has)
            oldest = self._oldest(task, band.low, band.has) if task is not None else None
        if task is None or oldest is None:
            return None
        self._looks[band] = look = task, oldest
        return look

    def best(self, low: float, high: float, has: Equipment | None = None) -> Slice | None:
        """Return the next slice for a worker of priorities low..high: highest rank, then first in, first out.

        With `has` it is the next one that a worker with this equipment takes.
        """
        if self.ages > 0.0 and bisect_right(self.priorities, high) - bisect_left(self.priorities, low) > 1:
            return self._best_ranked(low, high, has)
        priorities = self.priorities
        at = bisect_right(priorities, high) - 1
        while at >= 0 and priorities[at] >= low:
            task = self.head(priorities[at], has)  # it may remove this priority
            if task is not None:
                return task
            at -= 1
        return None

    def rank(self, task: Slice) -> float:
        """Return the priority of a slice minus the time of its acceptance in steps of ageing: the highest is next."""
        return task.record.spec.priority - task.record.since * self.ages

    def _ranked(self, priority: float, task: Slice) -> Ranked:
        return -self.rank(task), -priority

    def _rerank(self, gone: Slice) -> None:
        """Enter the new head of a priority if it was accepted before the old one: that was a nested one."""
        priority = gone.record.spec.priority
        for (low, high, has), ranks in self._ranks.items():
            if not low <= priority <= high:
                continue
            task = self.head(priority, has) if priority in self.levels else None
            if task is not None and self.rank(task) > self.rank(gone):
                self._looks.clear()
                heappush(ranks, self._ranked(priority, task))

    def _best_ranked(self, low: float, high: float, has: Equipment | None) -> Slice | None:
        """Return the head of the priority whose head has the highest rank.

        The heap is corrected at its top: the head of a priority changes to one accepted later, whose rank is lower.
        """
        ranks = self._ranks.get((low, high, has))
        first, last = bisect_left(self.priorities, low), bisect_right(self.priorities, high)
        if ranks is None or len(ranks) > 64 + 4 * (last - first):
            heads = [(priority, self.head(priority, has)) for priority in self.priorities[first:last]]
            ranks = self._ranks[low, high, has] = [self._ranked(at, task) for at, task in heads if task is not None]
            heapify(ranks)
        while ranks:
            priority = -ranks[0][1]
            task = self.head(priority, has) if priority in self.levels else None
            if task is None:
                heappop(ranks)
                continue
            true = self._ranked(priority, task)
            if true == ranks[0]:
                return task
            heapreplace(ranks, true)
        return None

    def _oldest(self, best: Slice, low: float, has: Equipment) -> Slice:
        """Return the oldest of the heads at the priorities from `low` up to that of `best`."""
        priorities, high = self.priorities, best.record.spec.priority
        first, last = bisect_left(priorities, low), bisect_left(priorities, high)
        if last - first >= FEW_LEVELS:  # then `best` stands for all, so that a choice stays cheap
            return best
        for priority in priorities[first:last]:  # a copy: `head` removes empty levels
            task = self.head(priority, has)
            if task is not None and task < best:
                best = task
        return best

    def others(self, low: float, high: float, has: Equipment | None = None) -> Iterator[Slice]:
        """Yield the next slice of each kind, highest rank first: for a worker that cannot run the best one.

        With `has` these are the slices that a worker with this equipment takes.
        """
        seen: set[Kind] = set()
        priorities = self.priorities[bisect_left(self.priorities, low) : bisect_right(self.priorities, high)][::-1]
        heads = [task for priority in priorities for task in sorted(self._heads_for(priority, has))]
        if self.ages > 0.0 and len(priorities) > 1:
            heads.sort(key=self.rank, reverse=True)  # stable: equal ranks stay in the order of their priorities
        for task in heads:
            if task.record.kind not in seen:
                seen.add(task.record.kind)
                yield task

    def tasks(self) -> Iterator[Slice]:
        """Yield all waiting slices in the order in which a single worker of all priorities would run them."""
        levels = [(priority, self._at(priority)) for priority in reversed(self.priorities)]
        if self.ages <= 0.0 or len(levels) == 1:
            for _, waiting in levels:
                yield from waiting
            return
        heap: list[tuple[float, float, Slice, Iterator[Slice]]] = []
        for priority, waiting in levels:
            if (task := next(waiting, None)) is not None:
                heap.append((-self.rank(task), -priority, task, waiting))
        heapify(heap)
        while heap:
            _, minus, task, waiting = heap[0]
            yield task
            following = next(waiting, None)
            if following is None:
                heappop(heap)
            else:
                heapreplace(heap, (-self.rank(following), minus, following, waiting))

    def _at(self, priority: float) -> Iterator[Slice]:
        """Yield the waiting slices of this priority in order."""
        lines = [line.waiting() for line in self.levels[priority].values()]
        return lines[0] if len(lines) == 1 else merge(*lines)
