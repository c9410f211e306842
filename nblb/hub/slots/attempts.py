"""What the slots keep: slices, workers, groups, and how long a function's calls take."""

from __future__ import annotations

from collections import deque
from enum import Enum

from nblb.protocol.messages import Group, Message, RunTask, TaskProgressed, TurnKnob

MAX_AHEAD = 64  # slices that wait in a worker's socket
MAX_KNOWN = 4096
LEARN = 0.3


class AttemptState(Enum):
    """Where a slice is between its RunTask and its end."""

    WAITING = "waits for a blob"
    QUEUED = "in its group's line"
    AHEAD = "in the socket of a worker that is at another"
    RUNNING = "a worker is at it"
    OVER = "its end has been told, or is not wanted"


class Attempt:
    """One attempt at a slice of a record."""

    __slots__ = (
        "ask_at",
        "estimate_s",
        "lent",
        "missing",
        "number",
        "progress",
        "run",
        "started_at",
        "state",
        "stop",
        "stop_at",
        "told",
        "told_items",
        "turned",
        "wait",
        "wait_ended",
        "waits",
        "worker",
        "worker_wait",
    )

    def __init__(self, run: RunTask, number: int, estimate_s: float | None) -> None:
        self.run = run
        self.number = number  # in the order of arrival
        self.state = AttemptState.QUEUED
        self.estimate_s = estimate_s
        self.missing: set[str] | None = None
        self.started_at = 0.0
        self.worker = ""
        self.stop = ""  # why it shall end: cancel, timeout, recall, lease or superseded
        self.stop_at = 0.0  # when its worker is killed, or the timeout passes
        self.ask_at = 0.0  # when its worker is asked which of its items are over
        self.told_items = 0  # the first so many of them have been told by ItemsFinished
        self.progress: TaskProgressed | None = None
        self.told: dict[str, Message] | None = None  # the latest of what it emitted, and of each knob
        self.turned: list[TurnKnob] | None = None  # knobs that were turned before it began
        self.wait = 0  # number of the wait in which its worker has given up its slot; 0: it uses one
        self.wait_ended = False  # it asks for one again
        self.lent = False  # it was asked to give up its slot, and may go on at any time
        self.waits = 0  # so far
        self.worker_wait = 0  # the worker's own number of the wait

    @property
    def fence(self) -> tuple[str, int, int]:
        return self.run.task, self.run.first, self.run.attempt

    def __repr__(self) -> str:
        return f"<Slice {self.run.task}[{self.run.first}:+{self.run.items}] try {self.run.attempt} {self.state.name}>"


class WorkerSlot:
    """A worker as the slots know it."""

    __slots__ = (
        "calls",
        "done",
        "given",
        "group",
        "holds_slot",
        "id",
        "is_doomed",
        "is_listed",
        "is_ready",
        "is_spent",
        "is_stand_in",
        "leaves",
        "parked_at",
        "pid",
        "planned_s",
        "started_at",
        "user",
        "waits",
    )

    def __init__(self, worker: str, group: GroupOfSlots, now: float) -> None:
        self.id = worker
        self.user: str | None = None  # whose tasks it runs; None until its first
        self.group = group
        self.pid = 0
        self.is_ready = False
        self.leaves = False  # it is to end as soon as it is idle
        self.is_doomed = False  # it is being killed
        self.is_spent = False  # it has run or grown so much that a new one shall take its place
        self.is_stand_in = False  # it adds no slot to its group: it has that of a worker which waits
        self.waits = False  # for tasks of its own, without a slot
        self.holds_slot = False  # it waits for tasks of its own and has kept its slot
        self.parked_at = 0.0  # since when it is kept without a slot and without work; 0: it is not
        self.is_listed = False  # among its group's `open` ones
        self.given: deque[Attempt] = deque()  # the one it is at, and those ahead of it
        self.planned_s = 0.0  # of all given
        self.started_at = now
        self.done = 0  # slices
        self.calls = 0  # in them

    def serves(self, user: str) -> bool:
        """It has run no other user's tasks: what those left in its process must not reach this one's."""
        return self.user is None or self.user == user

    def takes(self, estimate_s: float, most_s: float) -> bool:
        """May this slice wait in the worker's socket?"""
        return len(self.given) <= MAX_AHEAD and self.planned_s + estimate_s <= most_s


class WorkerSpent(Message, frozen=True):
    """From the pool: this worker has grown so much that a new one shall take its place."""

    worker: str


class GroupOfSlots:
    """Alike workers and the line of slices that they take from."""

    __slots__ = ("deaths", "idle", "number", "open", "parked", "queue", "spec", "stand_ins", "wanted", "workers")

    def __init__(self, number: int, spec: Group) -> None:
        self.number = number
        self.spec = spec
        self.wanted = spec.workers
        self.workers: dict[str, WorkerSlot] = {}
        self.queue: deque[Attempt] = deque()
        self.idle: deque[WorkerSlot] = deque()
        self.open: deque[WorkerSlot] = deque()  # busy, and perhaps with room for a short slice
        self.stand_ins = 0  # of its workers
        self.parked: deque[WorkerSlot] = deque()  # workers beyond its slots, to be used by the next that stand in
        self.deaths = 0  # workers that died soon after their start, in a row

    def line_up(self, slice_: Attempt) -> None:
        """In the order of arrival, also one that had been given away and returns."""
        queue = self.queue
        if not queue or queue[-1].number < slice_.number:
            queue.append(slice_)
            return
        at = next(at for at, other in enumerate(queue) if other.number > slice_.number)
        queue.insert(at, slice_)


class Durations:
    """How long one call of each function took lately."""

    def __init__(self) -> None:
        self._per_call: dict[str, float] = {}

    def of(self, run: RunTask) -> float | None:
        """The likely time of this slice; None for a function that has not been seen."""
        one = self._per_call.get(run.function or run.name)
        return None if one is None else one * run.items

    def learn(self, run: RunTask, duration_s: float) -> None:
        name = run.function or run.name
        one = duration_s / max(1, run.items)
        known = self._per_call.get(name)
        if known is None:
            if len(self._per_call) >= MAX_KNOWN:
                del self._per_call[next(iter(self._per_call))]
            self._per_call[name] = one
        else:
            self._per_call[name] = known + LEARN * (one - known)
