"""The data of the slots: attempts, workers, groups, and the run times of functions."""

from __future__ import annotations

from collections import deque
from enum import Enum

from nblb.protocol.messages import Group, Message, RunTask, TaskProgressed, TurnKnob

MAX_AHEAD = 64  # most slices that wait in a worker's socket
MAX_KNOWN = 4096
LEARN = 0.3


class AttemptState(Enum):
    """State of an attempt between its RunTask and its end."""

    WAITING = "waits for a blob"
    QUEUED = "in its group's queue"
    AHEAD = "in the socket of a worker that runs another"
    RUNNING = "a worker runs it"
    OVER = "its end has been reported, or is not wanted"


class Attempt:
    """One attempt at a slice of a submission."""

    __slots__ = (
        "ask_at",
        "estimate_s",
        "lent",
        "missing",
        "number",
        "progress",
        "reported_items",
        "run",
        "started_at",
        "state",
        "stop",
        "stop_at",
        "told",
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
        self.stop = ""  # why it must end: cancel, timeout, recall, lease or superseded
        self.stop_at = 0.0  # when its worker is killed, or the timeout passes
        self.ask_at = 0.0  # when its early results are requested
        self.reported_items = 0  # number of first items already reported by ItemsFinished
        self.progress: TaskProgressed | None = None
        self.told: dict[str, Message] | None = None  # the latest emitted value, saved states, and knobs
        self.turned: list[TurnKnob] | None = None  # knob values set before it began
        self.wait = 0  # number of the wait in which its worker has given up its slot; 0: it uses one
        self.wait_ended = False  # its worker asks for a slot again
        self.lent = False  # the core took its slot; it may go on at any time
        self.waits = 0  # number of waits so far
        self.worker_wait = 0  # the worker's own number for the wait

    @property
    def fence(self) -> tuple[str, int, int]:
        return self.run.task, self.run.first, self.run.attempt

    def __repr__(self) -> str:
        return f"<Slice {self.run.task}[{self.run.first}:+{self.run.items}] try {self.run.attempt} {self.state.name}>"


class WorkerSlot:
    """The slots' data about a worker."""

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
        self.user: str | None = None  # the only user whose tasks it runs; None until its first
        self.group = group
        self.pid = 0
        self.is_ready = False
        self.leaves = False  # it ends as soon as it is idle
        self.is_doomed = False  # it is being killed
        self.is_spent = False  # it has run so many calls or grown so much that it must be replaced
        self.is_stand_in = False  # it adds no slot: it uses the slot of a worker that waits
        self.waits = False  # it waits for nested tasks, without a slot
        self.holds_slot = False  # it waits for nested tasks, and keeps its slot
        self.parked_at = 0.0  # when it was parked, without a slot or work; 0: it is not
        self.is_listed = False  # it is in its group's `open`
        self.given: deque[Attempt] = deque()  # its current slice, and those sent ahead
        self.planned_s = 0.0  # estimated time of all given
        self.started_at = now
        self.done = 0  # slices
        self.calls = 0  # in these slices

    def serves(self, user: str) -> bool:
        """Return whether it has run no other user's tasks, whose leftovers in the process must not reach this user."""
        return self.user is None or self.user == user

    def takes(self, estimate_s: float, most_s: float) -> bool:
        """Return whether a slice of this length may wait in the worker's socket."""
        return len(self.given) <= MAX_AHEAD and self.planned_s + estimate_s <= most_s


class WorkerSpent(Message, frozen=True):
    """From the pool: this worker uses so much memory that it must be replaced."""

    worker: str


class GroupOfSlots:
    """Identical workers, and the queue of slices that they take from."""

    __slots__ = ("deaths", "idle", "number", "open", "parked", "queue", "spec", "stand_ins", "wanted", "workers")

    def __init__(self, number: int, spec: Group) -> None:
        self.number = number
        self.spec = spec
        self.wanted = spec.workers
        self.workers: dict[str, WorkerSlot] = {}
        self.queue: deque[Attempt] = deque()
        self.idle: deque[WorkerSlot] = deque()
        self.open: deque[WorkerSlot] = deque()  # busy, perhaps with capacity for a short slice
        self.stand_ins = 0  # number of stand-ins among its workers
        self.parked: deque[WorkerSlot] = deque()  # workers beyond its slots, kept as the next stand-ins
        self.deaths = 0  # workers that died soon after their start, in a row

    def line_up(self, slice_: Attempt) -> None:
        """Insert a slice in the order of arrival, also one that returns from a worker."""
        queue = self.queue
        if not queue or queue[-1].number < slice_.number:
            queue.append(slice_)
            return
        at = next(at for at, other in enumerate(queue) if other.number > slice_.number)
        queue.insert(at, slice_)


class Durations:
    """Recent run time of one call, by function."""

    def __init__(self) -> None:
        self._per_call: dict[str, float] = {}

    def of(self, run: RunTask) -> float | None:
        """Return the estimated time of this slice; None for an unknown function."""
        one = self._per_call.get(run.function or run.name)
        return None if one is None else one * run.items

    def learn(self, run: RunTask, duration_s: float, left: int = 0) -> None:
        """Note how long a slice took, whose last `left` calls were not begun."""
        name = run.function or run.name
        one = duration_s / max(1, run.items - left)
        known = self._per_call.get(name)
        if known is None:
            if len(self._per_call) >= MAX_KNOWN:
                del self._per_call[next(iter(self._per_call))]
            self._per_call[name] = one
        else:
            self._per_call[name] = known + LEARN * (one - known)
