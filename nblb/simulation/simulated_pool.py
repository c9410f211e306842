"""The simulated worker processes of a hub: they take slices, run, raise, print, hang and die.

They exchange the same messages with the slots as hub/pool/process_pool.py. The Conduct of a submission decides what its
calls do.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import structs

from nblb.protocol.commands import Steer
from nblb.protocol.exception_names import is_among
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Failure,
    ItemsFinished,
    KnobOffered,
    Message,
    RunTask,
    SubmitTask,
    TaskCheckpointed,
    TaskEmitted,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WorkerDied,
    WorkerStarted,
)
from nblb.simulation.nested_calls import NestedCalls
from nblb.simulation.simulated_client import Observer, SimulatedClient
from nblb.simulation.simulator import Simulator
from nblb.simulation.workload import Conduct, result_text

STARTS_S = 0.05
FOREVER_S = 1e6


class Bystander(Observer, Protocol):
    """Observes from outside which calls really run."""

    def nests(self, spec: SubmitTask, conduct: Conduct) -> None: ...

    def goes_on(self, worker: SimulatedWorker) -> None: ...

    def refused(self, run: RunTask) -> None: ...

    def conduct(self, task: str) -> Conduct: ...

    def began(self, run: RunTask, item: int, worker: SimulatedWorker) -> int: ...

    def produced(self, end: TaskFinished | ItemsFinished) -> None: ...

    def killed(self, run: RunTask, item: int) -> None: ...

    def steered(self, run: RunTask, item: int, command: Steer) -> None: ...


class SimulatedWorker:
    """One worker process: it runs the first slice in its socket."""

    def __init__(self, pool: SimulatedPool, name: str, group: int) -> None:
        self.pool, self.name, self.group = pool, name, group
        self.socket: deque[RunTask] = deque()
        self.run: RunTask | None = None
        self.item = 0  # the item of the submission that it runs
        self.began_at = 0.0
        self.turn = 0  # events planned for an earlier slice are ignored
        self.alive = True
        self.ready = False
        self.user: str | None = None  # a worker serves one user
        self.stopped = False  # SIGSTOP: nothing happens until it is killed
        self._failures: list[Failure] = []
        self._follows: list[tuple[int, str]] = []  # (offset of a call, the task that it returned)
        self._kept: list[int] = []  # offsets of items that were stopped early
        self._emitted = -1  # the offset of the item that has emitted something
        self._printed = 0
        self._told = 0  # items reported before the end
        self._told_at = 0.0
        self._hands_back = False  # the slice ends after its current call
        self.nested = NestedCalls(self)

    def give(self, run: RunTask) -> None:
        if self.user not in (None, run.user):
            raise AssertionError(f"{self.name} has run tasks of {self.user} and is given one of {run.user}")
        self.user = run.user
        self.socket.append(run)
        if self.run is None and self.ready:
            self._next()

    def begin(self) -> None:
        self.ready = True
        self.pool.says(self, WorkerStarted(worker=self.name, group=self.group, pid=1))
        if self.run is None and self.socket:
            self._next()

    def _next(self) -> None:
        self.turn += 1
        if self.run is not None:
            self.pool.count(self.run.user, self.pool.simulator.now - self.began_at)
        self.run = self.socket.popleft() if self.socket else None
        if self.run is None:
            return
        self.began_at = self.pool.simulator.now
        self._failures, self._kept, self._emitted, self._printed = [], [], -1, 0
        self._follows = []
        self._told, self._told_at, self._hands_back = 0, self.began_at, False
        self._item(self.turn, 0)

    def _item(self, turn: int, offset: int) -> None:
        """Begins this item, or ends the slice after its last one."""
        run = self.run
        if turn != self.turn or run is None or not self.alive:
            return
        if offset == run.items or (self._hands_back and offset):
            self._finish(run, run.items - offset)
            return
        simulator, item = self.pool.simulator, run.first + offset
        conduct = self.pool.bystander.conduct(run.task)
        self.item = item
        times = self.pool.bystander.began(run, item, self)
        if conduct.nests and self.pool.connect is not None:
            self.nested.begin(turn, run, offset, conduct, conduct.seconds)
            return
        seconds = FOREVER_S if conduct.endless else conduct.seconds * (0.5 + simulator.random.random())
        if item in conduct.poison or (item in conduct.fragile and times == 1):
            simulator.after(seconds, self._poisoned, turn, run, item)
        else:
            raises = item in conduct.raises or (item in conduct.flaky and times == 1)
            simulator.after(seconds, self.item_over, turn, offset, raises)
        if offset == 0 and simulator.chance(0.3):
            progressed = TaskProgressed(task=run.task, attempt=run.attempt, first=run.first, progress=40.0)
            simulator.after(seconds / 2, self._tell, turn, progressed)
        if offset and simulator.chance(0.1):
            self.say_items()
        if simulator.chance(0.5 if conduct.endless else 0.15):
            simulator.after(min(seconds, 0.3) / 2, self._speaks, turn, run, offset)

    def _speaks(self, turn: int, run: RunTask, offset: int) -> None:
        """Prints, offers a knob and emits a value, as the call does."""
        if turn != self.turn or self.item != run.first + offset:
            return
        text = f"{run.task}[{self.item}]#{run.attempt}"
        self._printed += len(text)
        about: dict[str, Any] = {"task": run.task, "attempt": run.attempt, "first": run.first, "offset": offset}
        self._emitted = offset
        self._tell(turn, TaskPrinted(text=text, heard=self._printed, **about))
        self._tell(turn, KnobOffered(name="k", value=1, default=1, **about))
        self._tell(turn, TaskEmitted(payload=Payload((b"e",)), **about))
        self._tell(turn, TaskCheckpointed(payload=Payload((text.encode(),)), **about))

    def steer(self, command: Steer) -> None:
        """Turns a knob, or ends the item early with its emitted value."""
        run = self.run
        if run is None or self.stopped or (run.task, run.attempt, run.first) != (
            command.task, command.attempt, command.first,
        ):  # fmt: skip
            return
        offset = self.item - run.first
        self.pool.bystander.steered(run, self.item if command.item < 0 else run.first + command.item, command)
        if command.keep and command.item in (-1, offset) and self._emitted == offset:
            self._kept.append(offset)
            self.turn += 1
            self._item(self.turn, offset + 1)

    def _tell(self, turn: int, message: Message) -> None:
        if turn == self.turn and self.alive and not self.stopped:
            self.pool.says(self, message)

    def item_over(self, turn: int, offset: int, raises: bool) -> None:
        if turn != self.turn or not self.alive or self.stopped or self.run is None:
            return
        if raises:
            self.raises(turn, offset)
        else:
            self._item(turn, offset + 1)

    def returns(self, turn: int, offset: int, task: str) -> None:
        """Ends the call with a returned task: it ends as that task does."""
        self._follows.append((offset, task))
        self._item(turn, offset + 1)

    def raises(self, turn: int, offset: int) -> None:
        """Ends the call with an error."""
        run = self.run
        item = offset + (run.first if run is not None else 0)
        retriable = run is not None and is_among(ValueError, run.retry_on)
        self._failures.append(Failure(offset=offset, kind="ValueError", message=f"item {item}", retriable=retriable))
        self._item(turn, offset + 1)

    def say_items(self) -> None:
        """Reports the calls of the slice that are over and not yet reported."""
        run, now = self.run, self.pool.simulator.now
        if run is None or not self.alive or self.stopped or self.item - run.first <= self._told:
            return
        if self._follows:  # then everything is reported at the end
            return
        first, items = self._told, self.item - run.first - self._told
        failures = [structs.replace(failure, offset=failure.offset - first) for failure in self._failures]
        text = result_text(run.task, run.first + first, items, run.attempt)
        part = ItemsFinished(
            task=run.task,
            attempt=run.attempt,
            first=run.first,
            offset=first,
            items=items,
            payload=None if len(failures) == items else Payload((text,)),
            failures=tuple(failures),
            duration_s=now - self._told_at,
            worker=self.name,
            kept=tuple(offset - first for offset in self._kept),
        )
        self._told, self._told_at, self._failures, self._kept = first + items, now, [], []
        self.pool.bystander.produced(part)
        self.pool.says(self, part)

    def hand_back(self, task: str, attempt: int, first: int) -> None:
        """Ends the slice after its current call."""
        run = self.run
        if run is not None and (run.task, run.attempt, run.first) == (task, attempt, first):
            self._hands_back = True

    def _finish(self, run: RunTask, left: int) -> None:
        """Ends the slice, of which the last `left` items were not begun."""
        whole = len(self._failures) == run.items - left
        text = result_text(run.task, run.first, run.items, run.attempt, self._told, left)
        end = TaskFinished(
            task=run.task,
            attempt=run.attempt,
            first=run.first,
            items=run.items,
            payload=None if whole else Payload((text,)),
            failures=tuple(self._failures),
            duration_s=self.pool.simulator.now - self.began_at,
            worker=self.name,
            kept=tuple(self._kept),
            told=self._told,
            follows=tuple(self._follows),
            left=left,
        )
        self.pool.bystander.produced(end)
        self.pool.says(self, end)
        self._next()

    def _poisoned(self, turn: int, run: RunTask, item: int) -> None:
        if turn == self.turn and self.alive and not self.stopped:
            self.pool.bystander.killed(run, item)
            self.die("killed by signal 11 (SIGSEGV)")

    @property
    def is_excused(self) -> bool:
        """True if it may run a slice that the core gave to others: its hub cannot know or cannot stop it yet."""
        return self.pool.simulator.now <= self.pool.excused_until

    def is_at(self, run: RunTask, item: int) -> bool:
        """True if it runs this item by this order now."""
        return self.alive and self.run is run and self.item == item

    def interrupt(self, task: str, attempt: int, first: int) -> None:
        run = self.run
        if run is None or self.stopped or (run.task, run.attempt, run.first) != (task, attempt, first):
            return
        conduct = self.pool.bystander.conduct(task)
        if conduct.stubborn:
            return
        stopped = TaskStopped(task=task, attempt=attempt, first=first, ran=True, worker=self.name)
        self.pool.says(self, stopped)
        self._next()

    def take_back(self) -> None:
        while self.socket:
            run = self.socket.popleft()
            self.pool.says(
                self, TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall", worker=self.name)
            )

    def die(self, reason: str) -> None:
        """Ends the process: returns the unread slices of its socket, then reports its death."""
        if not self.alive:
            return
        self.alive = False
        self.nested.crash()
        self.take_back()
        run = self.run
        self.pool.says(
            self,
            WorkerDied(
                worker=self.name,
                reason=reason,
                group=self.group,
                task=run.task if run is not None else "",
                attempt=run.attempt if run is not None else 0,
                first=run.first if run is not None else 0,
                memory=True,  # it matters only for tasks with memory_retry
            ),
        )
        self.pool.workers.pop(self.name, None)


class SimulatedPool:
    """The workers of one hub; `hear` passes their messages to the slots."""

    def __init__(self, simulator: Simulator, bystander: Bystander, hub: str, hear: Callable[[str, Message], None]):
        self.simulator, self.bystander, self.hub, self.hear = simulator, bystander, hub, hear
        self.workers: dict[str, SimulatedWorker] = {}
        self.closed = False
        self.worked: defaultdict[str, float] = defaultdict(float)  # user -> seconds of ended slices
        self.longest_s = 0.0  # of one slice
        self.ended_at: dict[str, float] = {}  # user -> when the latest slice of the user ended
        self.limits: list[int] = []  # workers of each group as the hub was last told; empty: as it began …
        self.scaled_at = 0.0  # … and when: slices that had begun before may end
        self.silent_share = 0.0  # share of the waits that send no WaitBegan, as a polling loop
        self.connect: Callable[[str, Observer], SimulatedClient] | None = None  # connects as a client of this user
        self.excused_until = 0.0  # its hub is paused, or saw the core end: it stops nothing in time
        self._said_until = 0.0

    def count(self, user: str, seconds: float) -> None:
        """Counts the time that a worker has spent on a slice of this user."""
        self.worked[user] += seconds
        self.longest_s = max(self.longest_s, seconds)
        self.ended_at[user] = self.simulator.now

    def says(self, worker: SimulatedWorker, message: Message) -> None:
        """Delivers a worker's message to the slots a moment later, in order."""
        at = max(self._said_until, self.simulator.now + self.simulator.random.random() * 0.001)
        self._said_until = at
        self.simulator.at(at, self._heard, worker.name, message)

    def _heard(self, worker: str, message: Message) -> None:
        if not self.closed:
            self.hear(worker, message)

    def start_worker(self, name: str, group: int, wait_s: float) -> None:
        worker = SimulatedWorker(self, name, group)
        self.workers[name] = worker
        self.simulator.after(max(0.0, wait_s) + STARTS_S * (0.5 + self.simulator.random.random()), self._born, worker)

    def _born(self, worker: SimulatedWorker) -> None:
        if worker.alive and not self.closed:
            worker.begin()

    def note_lent(self, task: str, attempt: int, first: int) -> None:
        """Records that the core treats the worker of this attempt as waiting, although it may not be."""
        for worker in self.workers.values():
            run = worker.run
            if run is not None and (run.task, run.attempt, run.first) == (task, attempt, first):
                worker.nested.silent_run = run

    def close(self) -> None:
        """Ends all workers: the hub has ended."""
        self.closed = True
        for worker in self.workers.values():
            worker.alive = False
            worker.nested.crash()

    @property
    def busy(self) -> bool:
        return any(worker.run is not None or worker.socket for worker in self.workers.values())
