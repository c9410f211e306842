"""The tasks that wait, by user, priority and age, so that the next one of a user is found at once.

Older means accepted earlier, so a task that comes back from a hub, or has waited for others, stands where it would
have stood. A line holds tasks of one *kind* (what a hub needs to run them), so that one that no hub can run keeps
nobody waiting who comes behind it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, merge
from typing import TYPE_CHECKING, TypeAlias

from nblb.protocol.messages import TaskState
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission

if TYPE_CHECKING:
    from nblb.scheduling.fair_share import Band

QUEUED = TaskState.QUEUED
FEW_LEVELS = 32
Look: TypeAlias = "tuple[Slice, Slice]"  # the next task for a worker of a band, and the oldest
#: A user's turn in a band: occupied, usage, number of the oldest task (no two users have the same), user, next task.
Entry: TypeAlias = "tuple[int, float, int, UserQueue, Slice]"


class SliceQueue:
    """Waiting tasks of one user, priority and kind, oldest first.

    Nearly all come in order and stand in `tasks`; the others in the heap `late`. One that was cancelled is dropped
    when it comes to the head, or when half of the line is such.
    """

    __slots__ = ("dead", "items", "late", "tasks")

    def __init__(self) -> None:
        self.tasks: deque[Slice] = deque()
        self.late: list[Slice] = []
        self.dead = 0
        self.items: dict[str, int] = {}  # that wait here, by the task's name, for display

    def add(self, task: Slice) -> None:
        if self.tasks and task < self.tasks[-1]:
            heappush(self.late, task)
        else:
            self.tasks.append(task)

    def count(self, name: str, items: int) -> None:
        """So many items more (or fewer) wait here."""
        left = self.items.get(name, 0) + items
        if left:
            self.items[name] = left
        else:
            del self.items[name]

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

    def drop_head(self) -> None:
        """The task that `head` gave leaves."""
        late = self.late
        if late and (not self.tasks or late[0] < self.tasks[0]):
            heappop(late)
        else:
            self.tasks.popleft()

    def died(self) -> None:
        """One of the tasks in here waits no more."""
        self.dead += 1
        if self.dead > 32 and 2 * self.dead > len(self.tasks) + len(self.late):
            self.tasks = deque(task for task in self.tasks if task.state is QUEUED)
            self.late = [task for task in self.late if task.state is QUEUED]
            heapify(self.late)
            self.dead = 0

    def waiting(self) -> Iterator[Slice]:
        """All of them, in order."""
        alive = (task for task in self.tasks if task.state is QUEUED)
        late = sorted(task for task in self.late if task.state is QUEUED)
        return merge(alive, late) if late else alive


class UserQueue:
    """One user's waiting tasks, and what fair share needs to know about the user."""

    __slots__ = (
        "_lines",
        "_looks",
        "done",
        "failed",
        "levels",
        "name",
        "occupied",
        "priorities",
        "single",
        "usage",
        "used_s",
        "waiting",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.occupied = 0  # slices that hubs have in hand
        self.usage = 0.0  # decayed worker time, on fair_share's growing scale
        self.used_s = 0.0  # plain worker time, for display
        self.done = self.failed = 0  # items
        self.waiting = 0  # items that wait here
        self.single = 0  # of these, those that belong to no job: the JSON door refuses more than LB_QUEING_MAXPERUSER
        self.levels: dict[float, dict[Kind, SliceQueue]] = {}
        self.priorities: list[float] = []  # the keys of levels, ascending
        self._looks: dict[Band, Look] = {}
        self._lines: dict[Band, SliceQueue] = {}  # where all that wait for a worker of the band stand in one line: it

    def add(self, task: Slice) -> bool:
        """Wait, behind all that were accepted before; is it the first of its line now?"""
        line = self._line(task.record)
        self._count(line, task.record, task.items)
        return self._join(line, task)

    def stand(self, task: Slice) -> bool:
        """Take a place in the line without being counted: a piece that was cut off a waiting task."""
        return self._join(self._line(task.record), task)

    def _line(self, record: Submission) -> SliceQueue:
        """Where the record's tasks wait."""
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
        return True

    def cancelled(self, task: Slice) -> None:
        """The task, which has left the state QUEUED, waits no more."""
        line = self._line(task.record)
        self._count(line, task.record, -task.items)
        line.died()

    def turn(self, band: Band) -> Entry | None:
        """Where the user stands in the band, and with which task; None when none waits for it."""
        line = self._lines.get(band)
        if line is not None and line.tasks and not line.late:  # nearly always
            task = line.tasks[0]
            if task.state is QUEUED:
                return self.occupied, self.usage, task.record.number, self, task
        look = self.look(band)
        return None if look is None else (self.occupied, self.usage, look[1].record.number, self, look[0])

    def drop(self, task: Slice, band: Band) -> None:
        """The task, which is the next one or one of the `others` for this band, leaves its line for a hub."""
        record, items = task.record, task.items
        line = self._lines.get(band) or self._line(record)
        if line.late:
            line.drop_head()
        else:
            line.tasks.popleft()
        self.waiting -= items
        if record.job is None:
            self.single -= items
        waiting, name = line.items, record.spec.name  # `line.count`, made quick
        left = waiting[name] - items
        if left:
            waiting[name] = left
        else:
            del waiting[name]

    def withhold(self, task: Slice, band: Band) -> None:
        """The task, which is the next one for this band, leaves its line although it goes on waiting."""
        self.drop(task, band)
        self._looks.clear()

    def taken(self, task: Slice, items: int) -> None:
        """`items` were cut off the front of `task`, which goes on waiting."""
        self._count(self._line(task.record), task.record, -items)

    def _count(self, line: SliceQueue, record: Submission, items: int) -> None:
        self.waiting += items
        if record.job is None:
            self.single += items
        line.count(record.spec.name, items)

    @property
    def by_name(self) -> Counter[str]:
        """Items that wait, for display."""
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
        """The oldest task of each kind at this priority; lines and levels that are empty are dropped."""
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

    def head(self, priority: float) -> Slice | None:
        """The oldest task at this priority."""
        level = self.levels[priority]
        if len(level) == 1:  # nearly always
            for line in level.values():
                task = line.head()
                if task is not None:
                    return task
        return min(self.heads(priority), default=None)

    def look(self, band: Band) -> Look | None:
        """The next and the oldest of the tasks that wait for a worker of this band; None when none does.

        It is remembered until one of the two waits no more, or another one comes to the head of a line.
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
            if len(level) == 1:
                (self._lines[band],) = level.values()
            task = oldest = self.head(priorities[first])
        else:
            task = self.best(band.low, band.high)
            oldest = self._oldest(task, band.low) if task is not None else None
        if task is None or oldest is None:
            return None
        self._looks[band] = look = task, oldest
        return look

    def best(self, low: float, high: float) -> Slice | None:
        """The next task for a worker that takes priorities low..high: highest priority, then first in."""
        priorities = self.priorities
        while True:
            at = bisect_right(priorities, high) - 1
            if at < 0 or priorities[at] < low:
                return None
            task = self.head(priorities[at])
            if task is not None:
                return task

    def _oldest(self, best: Slice, low: float) -> Slice:
        """Among the heads at the priorities from `low` up to the best one's."""
        priorities, high = self.priorities, best.record.spec.priority
        first, last = bisect_left(priorities, low), bisect_left(priorities, high)
        if last - first >= FEW_LEVELS:  # then the next one stands for all, so that a choice stays cheap
            return best
        for priority in priorities[first:last]:  # a copy: `head` drops levels that are empty
            task = self.head(priority)
            if task is not None and task < best:
                best = task
        return best

    def others(self, low: float, high: float) -> Iterator[Slice]:
        """For each kind the next task, in the order of rule 4.3: for a worker that can't run the best one."""
        seen: set[Kind] = set()
        for priority in self.priorities[bisect_left(self.priorities, low) : bisect_right(self.priorities, high)][::-1]:
            for task in sorted(self.heads(priority)):
                if task.record.kind not in seen:
                    seen.add(task.record.kind)
                    yield task

    def tasks(self) -> Iterator[Slice]:
        """All that wait, in the order in which an unlimited worker would take them."""
        for priority in reversed(self.priorities):
            lines = [line.waiting() for line in self.levels[priority].values()]
            yield from lines[0] if len(lines) == 1 else merge(*lines)
