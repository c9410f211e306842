"""A forecast of what a cluster would do with a load: the real Scheduler with simplified hubs.

There are no faults, and no heartbeats but the first (their cost does not depend on the decisions). A message and its
answer take `Load.way_s`; all that arrive within TURN_S are one turn of the core, as in its loop. `stopwatch` measures
the core's computing time, so that this module reads no clock.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

import msgspec

from nblb.access.limits import Limits
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
from nblb.simulation.planning.arrivals import Arrival, Pattern, spread_out
from nblb.simulation.planning.measures import BUCKETS, Fairness, percentile

WAY_S = 0.0006  # of a message and its answer
TURN_S = 0.001
RECORD_ITEMS = 1000
NEVER_S = 1e18
TURNS = 4
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
    jobs: int = 1  # of each user, over which its tasks are divided
    pattern: Pattern = "at-once"  # when the jobs come
    load: float = 0.8  # unless all come at once: the part of the workers' time that the tasks need while jobs come
    shares: tuple[float, ...] = ()  # if given, of the first user, the second, and so on
    trace: tuple[Arrival, ...] = ()  # if given, the jobs, in place of all that describes users and tasks

    def share_of(self, number: int) -> float:
        """The share of this user."""
        return self.shares[number % len(self.shares)] if self.shares else 1.0

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
    median_wait_s: float = 0.0
    wait_90_s: float = 0.0  # of ten tasks, nine waited no longer
    max_wait_s: float = 0.0
    done_after_s: float = 0.0  # from the user's start to the last task's end
    share: float = 1.0
    jobs: int = 1


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
    waits_s: dict[str, float] = {}  # of all tasks, by percentile: "50", "90", "99", "100"
    jain: float | None = None  # fairness of worker time by share among users who wait; None if no two did for long
    decision_us: float = 0.0  # computing time of the core for each decision
    core_busy: float = 0.0  # the part of one core of this machine that the load would need
    messages_per_s: float = 0.0  # while the load runs


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
        self.waits: dict[str, array[float]] = {}
        self.users: dict[str, UserAnswer] = {}
        self.submitted: dict[str, tuple[Arrival, int]] = {}  # submission -> its job, and the number of its first call
        self.arrivals = _arrivals(load)
        self.tasks = sum(arrival.items for arrival in self.arrivals)
        self.shares = shares = {f"user{n}": load.share_of(n) for n in range(load.users)} if load.shares else {}
        work_s = sum(sum(a.lengths) or a.items * a.seconds for a in self.arrivals)
        workers = load.hubs * load.workers
        span_s = max(work_s / workers, self.arrivals[-1].at)
        users = len({arrival.user for arrival in self.arrivals})
        round_s = TURNS * work_s / self.tasks * max(1.0, users / workers)  # in which each user has had several turns
        self.fairness = Fairness(max(span_s / BUCKETS, round_s), shares)
        self.scheduler = Scheduler(
            Policy(
                max_queued=0,
                heartbeat_s=NEVER_S,
                suspect_s=NEVER_S,
                lease_s=NEVER_S,
                client_silence_s=NEVER_S,
                prefetch_s=load.prefetch_s,
                job_ttl_s=NEVER_S,
                limits=tuple(Limits(name, share=share) for name, share in shares.items()),
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
        for number, arrival in enumerate(self.arrivals):
            self.at(arrival.at, self._submit, number, arrival)
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

    def _submit(self, number: int, arrival: Arrival) -> None:
        user, sender = arrival.user, f"client:{arrival.user}"
        known = self.users.get(user)
        if known is None:
            known = self.users[user] = UserAnswer(user, 0, arrival.seconds, self.now, jobs=0)
            known.share = self.shares.get(user, 1.0)
            self.waits[user] = array("d")
            self.to_core(sender, Hello(client=user, user=user))
            self.to_core(sender, PutBlob(hash=f"f-{user}", payload=RESULT))
        known.tasks += arrival.items
        known.jobs += 1
        self.fairness.came(user, arrival.items, self.now)
        job = f"j{number}"
        self.to_core(sender, OpenJob(job=job, name=job, items=arrival.items))
        for first in range(0, arrival.items, RECORD_ITEMS):
            items = min(RECORD_ITEMS, arrival.items - first)
            task = f"{job}-{first}"
            self.submitted[task] = arrival, first
            payload = Payload((b"a" * items,), [1] * items)
            spec = SubmitTask(task=task, name="f", function=f"f-{user}", payload=payload, items=items,
                              split=True, job=job, index=first)  # fmt: skip
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
            arrival, first = self.submitted[run.task]
            if arrival.lengths:
                duration = sum(arrival.lengths[first + run.first : first + run.first + run.items])
            else:
                mean = load.spread * load.spread / 2  # correction of the logarithm, so that the mean is `seconds`
                duration = sum(arrival.seconds * draw(-mean, load.spread) for _ in range(run.items))
            self.waits[run.user].extend([self.now - arrival.at] * run.items)
            self.fairness.ran(run.user, run.items, self.now, duration)
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
        whole: array[float] = array("d")
        for name, user in self.users.items():
            waits = sorted(self.waits[name])
            if waits:
                user.first_start_s, user.max_wait_s = waits[0], waits[-1]
                user.mean_wait_s = sum(waits) / len(waits)
                user.median_wait_s, user.wait_90_s = percentile(waits, 50), percentile(waits, 90)
            whole.extend(waits)
        if self.ended != self.tasks:
            raise RuntimeError(f"{self.tasks - self.ended} of {self.tasks} tasks never ended")
        ordered = sorted(whole)
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
            waits_s={f"{percent}": percentile(ordered, percent) for percent in (50, 90, 99, 100)},
            jain=self.fairness.index(),
            decision_us=1e6 * self.core_s / self.decisions if self.decisions else 0.0,
            core_busy=self.core_s / self.last_end if self.last_end else 0.0,
            messages_per_s=self.messages / self.last_end if self.last_end else 0.0,
        )


def _arrivals(load: Load) -> list[Arrival]:
    """The jobs of a load, in the order of their times."""
    if load.trace:
        return sorted(load.trace, key=lambda arrival: arrival.at)
    each = [(f"user{n}", calls, load.of_user(n)) for n, calls in enumerate(_shares(load))]
    work_s = sum(calls * seconds for _, calls, seconds in each)
    span_s = work_s / (load.hubs * load.workers * load.load)
    jobs = spread_out(each, load.jobs, load.pattern, span_s, load.seed)
    if not load.stagger_s:
        return jobs
    late = {f"user{n}": n * load.stagger_s for n in range(load.users)}
    moved = [Arrival(job.at + late[job.user], job.user, job.items, job.seconds) for job in jobs]
    return sorted(moved, key=lambda job: job.at)


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
