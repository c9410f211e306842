"""Any order of events from core, workers and connection: the slots keep their promises."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nblb.hub.slots.attempts import AttemptState
from nblb.hub.slots.slots import CORE, Slots, SlotSettings
from nblb.protocol.commands import Command, GiveTask, Interrupt, KillWorker, RetireWorker, Send, StartWorker, TakeBack
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    BlobMissing,
    EndCommitted,
    Group,
    Heartbeat,
    HoldBlob,
    HubHello,
    Message,
    RunTask,
    ScaleHub,
    StopTask,
    TaskFinished,
    TaskStopped,
    Welcome,
    WorkerDied,
    WorkerStarted,
)

Fence = tuple[str, int, int]


def fence_of(message: Any) -> Fence:
    return message.task, message.first, message.attempt


class PaperWorker:
    """A worker as its process is: a socket, what it runs, and whether it lives."""

    def __init__(self, name: str, group: int) -> None:
        self.name, self.group = name, group
        self.is_ready = False
        self.user: str | None = None
        self.socket: deque[RunTask] = deque()
        self.at: RunTask | None = None
        self.stop: Fence | None = None
        self.is_closed = False


class SlotsMachine(RuleBasedStateMachine):
    """Slots between a core and workers that do everything they may, in any order."""

    def __init__(self) -> None:
        super().__init__()
        hello = HubHello(
            hub="h",
            name="h",
            host="h",
            pid=1,
            python=(3, 11),
            cloudpickle="3",
            groups=(Group(workers=2), Group(workers=1)),
        )
        names = itertools.count(1)
        self.now = 0.0
        self.slots = Slots(hello, SlotSettings(blob_bytes=100), lambda: f"w{next(names)}")
        self.workers: dict[str, PaperWorker] = {}
        self.events: deque[tuple[str, Message]] = deque()
        self.sent: dict[Fence, RunTask] = {}
        self.replaced: set[Fence] = set()
        self.committed: set[Fence] = set()
        self.ends: dict[Fence, Message] = {}
        self.core_epoch = 1
        self.is_greeted = False
        self.perform(self.slots.start(self.now))
        self.line_up()
        self.perform(self.slots.handle(CORE, HoldBlob(hash="f", payload=Payload((b"x",))), self.now))

    # ── what the shell and the workers do ──

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send):
                self.hear(command.message)
            elif isinstance(command, StartWorker):
                self.workers[command.worker] = PaperWorker(command.worker, command.group)
            elif isinstance(command, GiveTask):
                self.give(command)
            elif isinstance(command, (Interrupt, KillWorker, TakeBack, RetireWorker)):
                worker = self.workers.get(command.worker)
                if worker is not None:
                    self.order(worker, command)

    def give(self, command: GiveTask) -> None:
        worker = self.workers.get(command.worker)
        if worker is None:
            return
        assert worker.is_ready, "a slice was given to a worker that has not started"
        assert worker.group == command.run.group
        assert worker.user in (None, command.run.user), "a worker serves two users"
        worker.user = command.run.user
        worker.socket.append(command.run)
        self.begin(worker)

    def begin(self, worker: PaperWorker) -> None:
        if worker.at is None and worker.socket:
            worker.at = worker.socket.popleft()

    def order(self, worker: PaperWorker, command: Command) -> None:
        if isinstance(command, Interrupt):
            worker.stop = (command.task, command.first, command.attempt)
        elif isinstance(command, TakeBack):
            self.read_back(worker)
        elif isinstance(command, RetireWorker):
            assert worker.at is None
            worker.is_closed = True
        else:
            self.die(worker)

    def read_back(self, worker: PaperWorker) -> None:
        for run in worker.socket:
            stopped = TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall")
            self.events.append((worker.name, stopped))
        worker.socket.clear()

    def die(self, worker: PaperWorker) -> None:
        self.read_back(worker)
        died = WorkerDied(worker=worker.name, group=worker.group, reason="killed")
        if worker.at is not None:
            task, first, attempt = fence_of(worker.at)
            died = WorkerDied(
                worker=worker.name, group=worker.group, reason="killed", task=task, first=first, attempt=attempt
            )
        self.events.append((worker.name, died))
        del self.workers[worker.name]

    def hear(self, message: Message) -> None:
        """What the core hears of ends: for each attempt always the same."""
        if isinstance(message, HubHello):
            self.is_greeted = True
        if isinstance(message, (TaskFinished, TaskStopped)) or (isinstance(message, WorkerDied) and message.task):
            fence = fence_of(message)
            if fence not in self.sent:
                assert isinstance(message, TaskStopped), "an end of something that was never sent"
                return
            assert fence not in self.committed, f"{fence} ended after its end was committed"
            known = self.ends.setdefault(fence, message)
            assert known == message, f"two ends of {fence}: {known} and {message}"

    def event(self, sender: str, message: Message) -> None:
        self.perform(self.slots.handle(sender, message, self.now))

    def line_up(self) -> None:
        self.slots.line_up(self.now)
        self.perform(self.slots.tick(self.now))
        self.event(CORE, Welcome(core="c", epoch=self.core_epoch, name="lab"))

    # ── rules ──

    @rule(
        task=st.sampled_from("abcdefgh"),
        first=st.sampled_from([0, 3]),
        group=st.sampled_from([0, 0, 1]),
        timeout_s=st.sampled_from([0.0, 0.0, 0.01]),
        needs=st.sampled_from([(), (), (), ("k",), ("t", "k")]),
        user=st.sampled_from(["ann", "ann", "bob"]),
    )
    def run(self, task: str, first: int, group: int, timeout_s: float, needs: tuple[str, ...], user: str) -> None:
        attempt = 1 + max((a for t, f, a in self.sent if (t, f) == (task, first)), default=0)
        for fence in self.sent:
            if fence[:2] == (task, first) and fence not in self.ends:
                self.replaced.add(fence)
        run = RunTask(
            task=task,
            attempt=attempt,
            first=first,
            name="f",
            function="f",
            payload=Payload((b"",)),
            group=group,
            timeout_s=timeout_s,
            constants=needs,
            user=user,
        )
        self.sent[fence_of(run)] = run
        self.event(CORE, run)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def run_again(self, data: st.DataObject) -> None:
        """The same order once more, as long as its end is not committed."""
        fence = data.draw(st.sampled_from(sorted(self.sent)))
        if fence not in self.committed and fence not in self.replaced:
            self.event(CORE, self.sent[fence])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), why=st.sampled_from(["cancel", "cancel", "recall"]), kill=st.booleans())
    def stop(self, data: st.DataObject, why: str, kill: bool) -> None:
        task, first, attempt = data.draw(st.sampled_from(sorted(self.sent)))
        if (task, first, attempt) not in self.committed and (task, first, attempt) not in self.replaced:
            self.event(CORE, StopTask(task=task, first=first, attempt=attempt, why=why, kill=kill and why == "cancel"))

    @rule(blob=st.sampled_from(["k", "t", "f"]), there=st.booleans())
    def blob(self, blob: str, there: bool) -> None:
        message: Message = BlobMissing(hash=blob)
        if there:
            message = HoldBlob(hash=blob, payload=Payload((bytes(60),)))
        self.event(CORE, message)

    @precondition(lambda self: self.ends)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        task, first, attempt = fence = data.draw(st.sampled_from(sorted(self.ends)))
        self.committed.add(fence)
        self.event(CORE, EndCommitted(task=task, first=first, attempt=attempt))

    @precondition(lambda self: any(not worker.is_ready for worker in self.workers.values()))
    @rule()
    def worker_starts(self) -> None:
        worker = next(worker for worker in self.workers.values() if not worker.is_ready)
        worker.is_ready = True
        self.events.append((worker.name, WorkerStarted(worker=worker.name, group=worker.group, pid=1)))

    @precondition(lambda self: any(worker.at for worker in self.workers.values()))
    @rule(data=st.data(), duration_s=st.sampled_from([0.0001, 0.0001, 1.0]))
    def worker_finishes(self, data: st.DataObject, duration_s: float) -> None:
        name = data.draw(st.sampled_from(sorted(n for n, worker in self.workers.items() if worker.at)))
        worker = self.workers[name]
        assert worker.at is not None
        task, first, attempt = fence_of(worker.at)
        end: Message = TaskFinished(task=task, first=first, attempt=attempt, duration_s=duration_s, worker=name)
        if worker.stop == (task, first, attempt):
            end = TaskStopped(task=task, first=first, attempt=attempt, ran=True, worker=name)
        self.events.append((name, end))
        worker.at = None
        self.begin(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        self.die(self.workers[data.draw(st.sampled_from(sorted(self.workers)))])

    @precondition(lambda self: self.events)
    @rule(count=st.integers(1, 5))
    def pool_is_read(self, count: int) -> None:
        for _ in range(min(count, len(self.events))):
            self.event(*self.events.popleft())

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.006, 0.03, 0.5, 3.0, 20.0]), alive=st.booleans())
    def time_passes(self, seconds: float, alive: bool) -> None:
        self.now += seconds
        if alive:
            self.event(CORE, Heartbeat())
        self.perform(self.slots.tick(self.now))

    @rule(workers=st.integers(0, 4))
    def scale(self, workers: int) -> None:
        self.event(CORE, ScaleHub(hub="h", workers=workers))

    @rule(restarted=st.booleans())
    def line_breaks(self, restarted: bool) -> None:
        self.slots.line_down(self.now)
        self.core_epoch += restarted

    @rule()
    def line_returns(self) -> None:
        self.line_up()

    # ── promises ──

    @invariant()
    def one_slice_runs_on_a_worker(self) -> None:
        hands = self.slots._in_flight
        for worker in self.slots._workers_table.workers.values():
            states = [slice_.state for slice_ in worker.given]
            assert states[:1] in ([], [AttemptState.RUNNING])
            assert all(state is AttemptState.AHEAD for state in states[1:])
            assert (worker in worker.group.idle) <= (not worker.given)
        for slice_ in hands.slices.values():
            holders = [w for w in self.slots._workers_table.workers.values() if slice_ in w.given]
            lines = [g for g in self.slots._workers_table.groups if slice_ in g.queue]
            expected = {AttemptState.QUEUED: (0, 1), AttemptState.RUNNING: (1, 0), AttemptState.AHEAD: (1, 0)}
            assert (len(holders), len(lines)) == expected.get(slice_.state, (0, 0)), slice_
        assert len(hands.ends) <= len(self.sent)

    @invariant()
    def time_goes_on(self) -> None:
        assert (self.slots.next_deadline() or 0.0) >= 0.0

    def teardown(self) -> None:
        """When all has calmed down each attempt that was not replaced has told exactly one end."""
        self.event(CORE, ScaleHub(hub="h", workers=2))
        for _ in range(400):
            self.now += 0.1
            self.line_up()
            self.event(CORE, HoldBlob(hash="f", payload=Payload((b"x",))))
            self.event(CORE, BlobMissing(hash="k"))
            self.event(CORE, BlobMissing(hash="t"))
            for worker in list(self.workers.values()):
                if not worker.is_ready:
                    worker.is_ready = True
                    self.events.append((worker.name, WorkerStarted(worker=worker.name, group=worker.group, pid=1)))
                elif worker.is_closed:
                    self.die(worker)
                elif worker.at is not None:
                    task, first, attempt = fence_of(worker.at)
                    finished = TaskFinished(task=task, first=first, attempt=attempt, worker=worker.name)
                    self.events.append((worker.name, finished))
                    worker.at = None
                    self.begin(worker)
            while self.events:
                self.event(*self.events.popleft())
            self.perform(self.slots.tick(self.now))
            if not self.slots._in_flight.slices and not any(w.at or w.socket for w in self.workers.values()):
                break
        assert not self.slots._in_flight.slices
        open_ones = self.sent.keys() - self.replaced - self.ends.keys()
        assert not open_ones, f"no end of {open_ones}"


SlotsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestSlotsMachine = SlotsMachine.TestCase
