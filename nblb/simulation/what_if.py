"""A forecast of what a cluster would do with a load: the real Scheduler with simplified hubs.

There are no faults, and no heartbeats but the first (their cost does not depend on the decisions). A message and its
answer take `Load.way_s`; all that arrive within TURN_S are one turn of the core, as in its loop. `stopwatch` measures
the core's computing time, so that this module reads no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

import msgspec

from nblb.protocol.commands import Send
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Group,
    Heartbeat,
    Hello,
    HubHello,
    Message,
    OpenJob,
    PutBlob,
    RunTask,
    StopTask,
    SubmitTask,
    TaskFinished,
    TaskStarted,
    TaskStopped,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy

WAY_S = 0.0006  # of a message and its answer
TURN_S = 0.001
RECORD_ITEMS = 1000
NEVER_S = 1e18
RESULT = Payload((b"r",))


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The load: cluster size, number of users, number and mean length of tasks."""

    users: int = 3
    hubs: int = 4
    workers: int = 8  # of each hub
    tasks: int = 10_000  # of all users together; each submits a part as one job
    seconds: float = 1.0  # mean length of a task
    lengths: tuple[float, ...] = ()  # if given, mean lengths for the first user, the second, and so on
    spread: float = 0.5  # sigma of its logarithm: 0 makes all equal
    stagger_s: float = 0.0  # each user starts this much after the one before
    seed: int = 0
    prefetch_s: float = 0.020
    way_s: float = WAY_S  # of a message from the core to a hub, and its answer

    def of_user(self, number: int) -> float:
        """The mean length of this user's tasks in seconds."""
        return self.lengths[number % len(self.lengths)] if self.lengths else self.seconds


class UserAnswer(msgspec.Struct):
    """The result for one user."""

    user: str
    tasks: int
    seconds: float  # mean length of a task
    came_at: float
    first_start_s: float = 0.0  # from the user's start to the first task's start
    mean_wait_s: float = 0.0
    max_wait_s: float = 0.0
    done_after_s: float = 0.0  # from the user's start to the last task's end


class WhatIf(msgspec.Struct):
    """The result of a forecast."""

    makespan_s: float
    ideal_s: float  # all work divided evenly among all workers
    utilisation: float
    users: list[UserAnswer]
    decisions: int  # number of slices given to hubs
    messages: int  # to and from the core
    core_s: float  # computing time of the scheduler
    decisions_per_s: float
    tasks_per_s: float


class _Hub:
    """A simplified hub: a queue of slices, and the times at which its workers are free."""

    __slots__ = ("address", "free", "line")

    def __init__(self, address: str, workers: int) -> None:
        self.address = address
        self.free = [f"{address}.{n}" for n in range(workers)]
        self.line: deque[RunTask] = deque()


class _Run:
    def __init__(self, load: Load, stopwatch: Callable[[], float]) -> None:
        self.load, self.stopwatch = load, stopwatch
        self.random = Random(load.seed)
        self.latency_s = load.way_s / 2
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.number = self.decisions = self.messages = self.ended = 0
        self.core_s = self.worked_s = self.last_end = 0.0
        self.inbox: list[tuple[str, Message]] = []
        self.waits: dict[str, list[float]] = {}
        self.users: dict[str, UserAnswer] = {}
        self.scheduler = Scheduler(
            Policy(
                max_queued=0,
                heartbeat_s=NEVER_S,
                suspect_s=NEVER_S,
                lease_s=NEVER_S,
                client_silence_s=NEVER_S,
                prefetch_s=load.prefetch_s,
                job_ttl_s=NEVER_S,
            )
        )
        self.hubs = {f"hub:{n}": _Hub(f"hub:{n}", load.workers) for n in range(load.hubs)}

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        self.number += 1
        heappush(self.heap, (time, self.number, action, arguments))

    def to_core(self, sender: str, message: Message) -> None:
        self.inbox.append((sender, message))

    def run(self) -> WhatIf:
        load = self.load
        for address, hub in self.hubs.items():
            hello = HubHello(
                hub=address, name=address, host=address, pid=1, python=(3, 11), cloudpickle="3",
                groups=(Group(workers=load.workers),), workers=tuple((name, 0) for name in hub.free),
            )  # fmt: skip
            self.at(0.0, self.to_core, address, hello)
            self.at(0.0, self.to_core, address, Heartbeat(way_s=load.way_s))
        for n, items in enumerate(_shares(load)):
            self.at(n * load.stagger_s, self._submit, f"user{n}", items, load.of_user(n))
        while self.heap:
            self._turn()
        return self._answer()

    def _turn(self) -> None:
        """Handles the events within TURN_S, then runs one turn of the core."""
        heap = self.heap
        end = heap[0][0] + TURN_S
        while heap and heap[0][0] <= end:
            self.now, _, action, arguments = heappop(heap)
            action(*arguments)
        self._decide()

    def _decide(self) -> None:
        """Runs the core's turn, and further ones while there are more slices to assign than one turn allows."""
        scheduler = self.scheduler
        began = self.stopwatch()
        commands = []
        inbox, self.inbox = self.inbox, []
        for sender, message in inbox:
            commands += scheduler.handle(sender, message, self.now)
        commands += scheduler.tick(self.now)
        while scheduler.state.dispatch_due:
            commands += scheduler.tick(self.now)
        scheduler.next_deadline()  # as in the core's loop, which waits for it; some parts keep what they computed
        self.core_s += self.stopwatch() - began
        self.messages += len(inbox)
        for command in commands:
            if type(command) is not Send:
                continue
            self.messages += 1
            if type(command.message) is RunTask:
                self.decisions += 1
                self.at(self.now + self.latency_s, self._arrives, self.hubs[command.to], command.message)
            elif type(command.message) is StopTask and command.to in self.hubs:
                self.at(self.now + self.latency_s, self._stop, self.hubs[command.to], command.message)

    def _submit(self, user: str, items: int, seconds: float) -> None:
        self.users[user] = UserAnswer(user, items, seconds, self.now)
        self.waits[user] = []
        sender = f"client:{user}"
        self.to_core(sender, Hello(client=user, user=user))
        self.to_core(sender, PutBlob(hash=f"f-{user}", payload=RESULT))
        self.to_core(sender, OpenJob(job=f"j-{user}", name=user, items=items))
        for first in range(0, items, RECORD_ITEMS):
            number = min(RECORD_ITEMS, items - first)
            payload = Payload((b"a" * number,), [1] * number)
            spec = SubmitTask(task=f"{user}-{first}", name="f", function=f"f-{user}", payload=payload, items=number,
                              split=True, job=f"j-{user}", index=first)  # fmt: skip
            self.to_core(sender, spec)

    def _arrives(self, hub: _Hub, run: RunTask) -> None:
        hub.line.append(run)
        self._begin(hub)

    def _stop(self, hub: _Hub, message: StopTask) -> None:
        """Handles a recall; here only slices that have not begun are recalled."""
        for run in hub.line:
            if (run.task, run.first, run.attempt) == (message.task, message.first, message.attempt):
                hub.line.remove(run)
                back = TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall")
                self.at(self.now + self.latency_s, self.to_core, hub.address, back)
                return

    def _begin(self, hub: _Hub) -> None:
        draw, load = self.random.lognormvariate, self.load
        while hub.line and hub.free:
            run, worker = hub.line.popleft(), hub.free.pop()
            mean = load.spread * load.spread / 2  # correction of the logarithm, so that the mean is `seconds`
            seconds = self.users[run.user].seconds
            duration = sum(seconds * draw(-mean, load.spread) for _ in range(run.items))
            self.waits[run.user] += [self.now - self.users[run.user].came_at] * run.items
            if duration > 0.02:  # as a hub does: an earlier end reports the start as well
                started = TaskStarted(task=run.task, attempt=run.attempt, first=run.first, worker=worker)
                self.at(self.now + 0.02, self.to_core, hub.address, started)
            self.at(self.now + duration, self._ends, hub, worker, run, duration)

    def _ends(self, hub: _Hub, worker: str, run: RunTask, duration: float) -> None:
        hub.free.append(worker)
        self.worked_s += duration
        self.ended += run.items
        self.last_end = self.now
        user = self.users[run.user]
        user.done_after_s = self.now - user.came_at
        end = TaskFinished(task=run.task, attempt=run.attempt, first=run.first, items=run.items, payload=RESULT,
                           duration_s=duration, worker=worker)  # fmt: skip
        self.at(self.now + self.latency_s, self.to_core, hub.address, end)
        self._begin(hub)

    def _answer(self) -> WhatIf:
        workers = self.load.hubs * self.load.workers
        for name, user in self.users.items():
            waits = self.waits[name]
            if waits:
                user.first_start_s, user.max_wait_s = min(waits), max(waits)
                user.mean_wait_s = sum(waits) / len(waits)
        if self.ended != self.load.tasks:
            raise RuntimeError(f"{self.load.tasks - self.ended} of {self.load.tasks} tasks never ended")
        return WhatIf(
            makespan_s=self.last_end,
            ideal_s=self.worked_s / workers,
            utilisation=self.worked_s / (workers * self.last_end) if self.last_end else 0.0,
            users=list(self.users.values()),
            decisions=self.decisions,
            messages=self.messages,
            core_s=self.core_s,
            decisions_per_s=self.decisions / self.core_s if self.core_s else 0.0,
            tasks_per_s=self.ended / self.core_s if self.core_s else 0.0,
        )


def _shares(load: Load) -> list[int]:
    """The number of tasks of each user: about equal work for each, and at least one task."""
    rates = [1.0 / load.of_user(n) for n in range(load.users)]
    whole = sum(rates)
    each = [(load.tasks - load.users) * rate / whole for rate in rates]
    shares = [1 + int(share) for share in each]
    rest = sorted(range(load.users), key=lambda n: (int(each[n]) - each[n], n))
    for n in rest[: load.tasks - sum(shares)]:
        shares[n] += 1
    return shares


def what_if(load: Load, stopwatch: Callable[[], float]) -> WhatIf:
    """Plays this load; `stopwatch` returns seconds and measures only the core's computing time."""
    return _Run(load, stopwatch).run()
