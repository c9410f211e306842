"""A scheduler with model hubs and model clients, for scenarios and for Hypothesis.

A `World` performs the commands of the scheduler as the core's shell does: Records go to a journal, Sends to the
models. On the way it checks what no invariant of the state can see: that what a client hears was kept before, that
an end is told once, that what was cancelled is not done, that attempts only grow, and that what a hub is given it
can run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nblb.broker.queries import answer
from nblb.protocol.commands import Command, Halt, Log, Record, Send
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    Collected,
    EndKept,
    JobForgotten,
    JobKept,
    PriorityKept,
    Published,
    StatisticsKept,
    TaskForgotten,
    TaskKept,
    UserKept,
)
from nblb.protocol.messages import (
    BlobMissing,
    EndCommitted,
    Failure,
    Group,
    Hello,
    HoldBlob,
    HubHello,
    ItemsFinished,
    Message,
    PutBlob,
    Refused,
    Running,
    RunTask,
    StopTask,
    SubmitTask,
    TaskEnded,
    TaskFinished,
    TaskStarted,
    TaskState,
    TaskStopped,
    Welcome,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling import invariants
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.scheduling.submission import Submission

Fence = tuple[str, int, int]
ANNA = "client:anna"
VOID = (TaskState.CANCELLED, TaskState.LOST)  # what may follow DONE: a cancel, and damage to the result's file
EVERYTHING = Group(workers=1, minP=-1e6, maxP=1e6)


class ModelHub:
    """A hub that does nothing by itself; it keeps to the rules of nblb/hub/slots/slots.py."""

    def __init__(
        self, name: str, groups: Sequence[Group], functions: tuple[str, ...], python: tuple[int, int], numpy: str
    ) -> None:
        self.name = name
        self.address = f"hub:{name}"
        self.groups = tuple(groups)
        self.functions = functions
        self.python, self.numpy = python, numpy
        self.connected = False
        self.leaving = False
        self.left_s = 0.0  # of its batch job
        self.workers: dict[str, int] = {}  # worker -> group
        self.hands: dict[Fence, RunTask] = {}
        self.on: dict[Fence, str] = {}  # those that have begun -> worker
        self.ends: dict[Fence, Message] = {}  # until the core has committed them
        self.parts: dict[tuple[Fence, int], ItemsFinished] = {}  # likewise, by the offset of their first item
        self.told: dict[Fence, int] = {}  # how many items of a slice in hand have been told
        self.stops: dict[Fence, str] = {}
        self.holds: set[str] = set()
        self.results: dict[str, int] = {}  # task -> items whose results it holds

    def hello(self) -> HubHello:
        return HubHello(
            hub=f"id-{self.name}",
            name=self.name,
            host=f"{self.name}.lab",
            pid=1,
            python=self.python,
            numpy=self.numpy,
            cloudpickle="3",
            groups=self.groups,
            workers=tuple(self.workers.items()),
            running=tuple(
                Running(task=run.task, attempt=run.attempt, first=run.first, items=run.items, worker=self.on.get(f, ""))
                for f, run in self.hands.items()
            ),
            functions=self.functions,
            left_s=self.left_s,
        )

    def idle(self, group: int) -> str:
        """A worker of the group that is free; "" when there is none."""
        busy = set(self.on.values())
        return next((worker for worker, its in self.workers.items() if its == group and worker not in busy), "")

    def heard(self, message: Message) -> list[Message]:
        """What the hub says to that."""
        match message:
            case RunTask():
                return self._run(message)
            case StopTask(task=task, first=first, attempt=attempt, why=why):
                return self._stop((task, first, attempt), why)
            case HoldBlob(total=0):
                self.holds.add(message.hash)
            case HoldBlob():
                self.results[message.hash] = self.results.get(message.hash, 0) + message.items - len(message.holes)
            case EndCommitted(offset=-1):
                self.ends.pop((message.task, message.first, message.attempt), None)
            case EndCommitted():
                self.parts.pop(((message.task, message.first, message.attempt), message.offset), None)
            case Welcome():
                return [*self.parts.values(), *self.ends.values()]
        return []

    def _run(self, run: RunTask) -> list[Message]:
        for old in [f for f in self.hands if f[:2] == (run.task, run.first)]:
            assert old[2] < run.attempt, f"{self.name} is given {run} and has {old}"
            if run.items > self.told.get(old, 0):
                self._forget(old)  # superseded, in silence
        assert not run.function or run.function in self.holds, f"{self.name} can't run {run}: it lacks the function"
        assert run.function or run.name in self.functions, f"{self.name} has no task named {run.name}"
        for name in (*run.constants, *run.depends):
            assert name in self.holds or name in self.results, f"{self.name} can't run {run}: it lacks {name}"
        self.hands[run.task, run.first, run.attempt] = run
        return []

    def _stop(self, fence: Fence, why: str) -> list[Message]:
        if fence in self.ends:
            return []
        if fence not in self.hands:
            return [TaskStopped(task=fence[0], first=fence[1], attempt=fence[2], why=why)]
        if fence in self.on:
            if why != "recall":
                self.stops[fence] = why
            return []
        return [self.end(fence, TaskStopped(task=fence[0], first=fence[1], attempt=fence[2], why=why))]

    def _forget(self, fence: Fence) -> None:
        self.hands.pop(fence, None)
        self.on.pop(fence, None)
        self.stops.pop(fence, None)
        self.told.pop(fence, None)

    # ── facts ──

    def start(self, fence: Fence) -> Message | None:
        run = self.hands[fence]
        worker = self.idle(run.group)
        if not worker or fence in self.on:
            return None
        self.on[fence] = worker
        return TaskStarted(task=run.task, first=run.first, attempt=run.attempt, worker=worker)

    def end(self, fence: Fence, end: Message) -> Message:
        self._forget(fence)
        self.ends[fence] = end
        return end

    def tell(self, fence: Fence, items: int, failures: Iterable[int] = ()) -> Message | None:
        """The next so many items of a slice that runs are over; `failures` by their offsets in this part."""
        run, first = self.hands[fence], self.told.get(fence, 0)
        if fence not in self.on or not 0 < items < run.items - first:
            return None
        self.told[fence] = first + items
        failed = tuple(Failure(offset=n, kind="ValueError", message=f"item {run.first + first + n}") for n in failures)
        text = f"{run.task}[{run.first + first}:{run.first + first + items}]#{run.attempt}".encode()
        part = self.parts[fence, first] = ItemsFinished(
            task=run.task,
            first=run.first,
            attempt=run.attempt,
            offset=first,
            items=items,
            payload=None if len(failed) == items else Payload((text,)),
            failures=failed,
            duration_s=0.1,
            worker=self.on[fence],
        )
        return part

    def finish(
        self, fence: Fence, failures: Iterable[int] = (), duration_s: float = 0.5, left: int = 0
    ) -> Message | None:
        run = self.hands[fence]
        worker = self.on.get(fence) or self.idle(run.group)
        if not worker:
            return None
        told = self.told.get(fence, 0)
        failed = tuple(
            Failure(offset=n, kind="ValueError", message=f"item {run.first + n}") for n in failures if n >= told
        )
        return self.end(
            fence,
            TaskFinished(
                task=run.task,
                first=run.first,
                attempt=run.attempt,
                items=run.items,
                payload=None if len(failed) == run.items else Payload((result_of(run),)),
                failures=failed,
                duration_s=duration_s,
                worker=worker,
                told=told,
                left=left,
            ),
        )

    def stopped(self, fence: Fence, why: str) -> Message:
        worker, ran = self.on.get(fence, ""), fence in self.on
        return self.end(
            fence, TaskStopped(task=fence[0], first=fence[1], attempt=fence[2], why=why, ran=ran, worker=worker)
        )

    def die(self, worker: str, reason: str) -> list[Message]:
        """A worker is killed; a new one takes its place."""
        group = self.workers.pop(worker)
        fence = next((f for f, its in self.on.items() if its == worker), None)
        died = WorkerDied(worker=worker, group=group, reason=reason)
        if fence is not None:
            died = WorkerDied(
                worker=worker, group=group, reason=reason, task=fence[0], first=fence[1], attempt=fence[2]
            )
            self.end(fence, died)
        new = f"{worker}'"
        self.workers[new] = group
        return [died, WorkerStarted(worker=new, group=group)]


def result_of(run: RunTask) -> bytes:
    return f"{run.task}[{run.first}:{run.first + run.items}]#{run.attempt}".encode()


class World:
    """One core, and all who talk to it."""

    def __init__(self, policy: Policy, trace: Callable[[str, str, object], None] | None = None) -> None:
        self.policy = policy
        self.now = 100.0
        self.trace = trace
        self.journal: list[AnyEntry] = []
        self.hubs: dict[str, ModelHub] = {}
        self.users: dict[str, str] = {}  # address of a client -> user
        self.blobs: dict[str, Payload] = {}
        self.heard: dict[str, list[Message]] = {}
        self.facts: list[tuple[str, Message]] = []  # all that hubs ever said of tasks
        self.ended: dict[tuple[str, int], TaskEnded] = {}  # what clients know of each item
        self.kept: dict[tuple[str, int], EndKept] = {}
        self.attempts: dict[tuple[str, int], int] = {}
        self.cancelled: set[tuple[str, int]] = set()
        self.began: Counter[tuple[str, int]] = Counter()  # orders that a hub got for an item, but gave back unstarted
        self.halted = False
        self.core_is_up = True
        self.scheduler = self._core()

    def _core(self) -> Scheduler:
        scheduler = Scheduler(self.policy, answer)
        scheduler.wall_offset = 1000.0
        return scheduler

    # ── the shell ──

    def say(self, sender: str, message: Message) -> None:
        """A message arrives at the core."""
        if not self.core_is_up:
            return
        if self.trace is not None:
            self.trace("<", sender, message)
        self.perform(self.scheduler.handle(sender, message, self.now))

    def tick(self) -> None:
        if self.core_is_up:
            self.perform(self.scheduler.tick(self.now))

    def perform(self, commands: Iterable[Command]) -> None:
        replies: list[tuple[str, Message]] = []
        for command in commands:
            match command:
                case Record(entry=entry):
                    self._keep(entry)
                case Send(to=to, message=message):
                    replies += self._deliver(to, message)
                case Log(text=text):
                    if self.trace is not None:
                        self.trace("=", "log", text)
                case Halt():
                    self.halted = True
        for sender, reply in replies:
            self.say(sender, reply)

    def _deliver(self, to: str, message: Message) -> list[tuple[str, Message]]:
        hub = self.hubs.get(to)
        if hub is None and to not in self.users:
            return []
        if self.trace is not None:
            self.trace(">", to, message)
        if hub is not None:
            said = hub.heard(message) if hub.connected else []
            self.facts += [(to, one) for one in said]
            return [(to, one) for one in said]
        self.heard.setdefault(to, []).append(message)
        if isinstance(message, TaskEnded):
            self._hears_end(message)
        if isinstance(message, BlobMissing):
            return [(to, PutBlob(hash=message.hash, payload=self.blobs.get(message.hash, Payload((b"f",)))))]
        assert not isinstance(message, Refused) or to not in self.scheduler.state.clients, message
        return []

    # ── what is checked on the way ──

    def _keep(self, entry: AnyEntry) -> None:
        self.journal.append(entry)
        if isinstance(entry, AttemptKept):
            for item in range(entry.first, entry.first + entry.items):
                key = entry.task, item
                assert entry.attempt > self.attempts.get(key, 0), f"{entry} is not a new attempt"
                assert key not in self.cancelled, f"{entry} runs what was cancelled"
                self.attempts[key] = entry.attempt
        elif isinstance(entry, EndKept):
            for item in _items(entry):
                key = entry.task, item
                before = self.kept.get(key)
                again = before is None or (before.state is TaskState.DONE and entry.state in VOID)
                assert again, f"{key} was {before} and is {entry}"
                assert entry.state is not TaskState.DONE or key not in self.cancelled, f"{key} was cancelled: {entry}"
                self.kept[key] = entry
        elif isinstance(entry, AttemptFailed) and entry.again:
            for item in range(entry.first, entry.first + entry.items):
                del self.kept[entry.task, item]
                self.ended.pop((entry.task, item), None)
                self.cancelled.discard((entry.task, item))  # by max_failures

    def _hears_end(self, ended: TaskEnded) -> None:
        for item in _items(ended):
            key = ended.task, item
            kept = self.kept.get(key)
            if kept is None or kept.state is not ended.state or kept.attempt != ended.attempt:
                raise AssertionError(f"a client hears {ended}, kept is {kept}")
            before = self.ended.get(key)
            if before is not None and before != ended:
                assert ended.state in VOID, f"{key} has ended as {before} and again as {ended}"
            self.ended[key] = ended
            if ended.state is TaskState.CANCELLED:
                self.cancelled.add(key)

    def was_cancelled(self, task: str, first: int, items: int) -> None:
        """A cancel of these has been answered: those that were open will not be done."""
        record = self.scheduler.state.records.get(task)
        for item in range(first, first + items) if record is not None else ():
            state = record.at(item).state  # type: ignore[union-attr]
            assert state.ended or state is TaskState.CANCELLING, f"{task}[{item}] was cancelled and is {state}"
            if state in (TaskState.CANCELLING, TaskState.CANCELLED):
                self.cancelled.add((task, item))

    # ── parties ──

    def client(self, address: str, user: str) -> None:
        self.users[address] = user
        self.say(address, Hello(client=address, user=user))

    def hub(
        self,
        name: str,
        groups: Sequence[Group] = (EVERYTHING,),
        functions: tuple[str, ...] = (),
        python: tuple[int, int] = (3, 11),
        numpy: str = "",
        left_s: float = 0.0,
    ) -> ModelHub:
        hub = self.hubs[f"hub:{name}"] = ModelHub(name, groups, functions, python, numpy)
        hub.left_s = left_s
        for number, group in enumerate(groups):
            for n in range(group.workers):
                hub.workers[f"{name}.{number}.{n}"] = number
        self.connect(hub)
        return hub

    def connect(self, hub: ModelHub) -> None:
        hub.connected = True
        hub.holds.clear()
        hub.results.clear()
        self.say(hub.address, hub.hello())

    def fact(self, hub: ModelHub, message: Message | None) -> None:
        """The hub says what has happened, if it can."""
        if message is not None:
            self.facts.append((hub.address, message))
            if hub.connected:
                self.say(hub.address, message)

    # ── restarts ──

    def twin(self, grouped: bool) -> Scheduler:
        """Another core that has read the journal."""
        twin = self._core()
        twin.restore(as_journal(self.journal) if grouped else self.journal, self.now)
        return twin

    def crash(self) -> None:
        self.core_is_up = False
        for hub in self.hubs.values():
            hub.connected = False

    def restart(self, grouped: bool) -> None:
        """The core is killed, and a new one reads the journal. Hubs and clients have still to come back."""
        self.crash()
        self.core_is_up = True
        self.scheduler = self._core()
        entries = as_journal(self.journal) if grouped else list(self.journal)
        self.perform(self.scheduler.restore(entries, self.now))

    def check(self, ticked: bool = False) -> None:
        invariants.check(self.scheduler, ticked)


def _items(entry: EndKept | TaskEnded) -> list[int]:
    return [n for n in range(entry.first, entry.first + entry.items) if n - entry.first not in entry.holes]


def as_journal(entries: Sequence[AnyEntry]) -> list[AnyEntry]:
    """The order in which broker/journal/journal.py gives back what it was given: by kind, without what is over."""
    gone = {e.task for e in entries if isinstance(e, TaskForgotten)}
    blobs: dict[str, AnyEntry] = {}
    published: dict[str, AnyEntry] = {}
    jobs: dict[str, AnyEntry] = {}
    for entry in entries:
        if isinstance(entry, BlobKept):
            blobs[entry.hash] = entry
        elif isinstance(entry, BlobForgotten):
            blobs.pop(entry.hash)
        elif isinstance(entry, Published):
            published[entry.name] = entry
        elif isinstance(entry, JobKept):
            jobs[entry.spec.job] = entry
        elif isinstance(entry, JobForgotten):
            jobs.pop(entry.job)
    kept = [e for e in entries if getattr(e, "task", "") not in gone]
    failed = [e for e in kept if isinstance(e, AttemptFailed)]
    ends = [e for e in kept if isinstance(e, EndKept)]
    tasks = [e for e in kept if isinstance(e, TaskKept) and e.spec.task not in gone]
    closed: dict[tuple[str, int], int] = {}
    for one in (*failed, *ends):
        for item in _items(one) if isinstance(one, EndKept) else range(one.first, one.first + one.items):
            closed[one.task, item] = max(closed.get((one.task, item), 0), one.attempt)
    attempts = [
        e
        for e in kept
        if isinstance(e, AttemptKept)
        and any(closed.get((e.task, item), -1) < e.attempt for item in range(e.first, e.first + e.items))
    ]
    return [
        *blobs.values(),
        *published.values(),
        *(e for e in entries if isinstance(e, (StatisticsKept, UserKept))),
        *jobs.values(),
        *tasks,
        *failed,
        *(e for e in kept if isinstance(e, PriorityKept)),
        *attempts,
        *ends,
        *(e for e in kept if isinstance(e, Collected)),
    ]


# ── I9: the same state from the journal ──


def unsure(scheduler: Scheduler) -> bool:
    """What hangs on other records can't be compared now.

    Some cancel waits for its hub (in the journal it is over), or a record waits for a computation that a third one
    has already done (a core that reads the journal sees that at once).
    """
    records = scheduler.state.records.values()
    if any(task.state is TaskState.CANCELLING for record in records for task in record.slices):
        return True
    done = {record.spec.cache for record in records if record.done}
    return any(record.unended and record.spec.cache in done for record in records)


def picture(scheduler: Scheduler, unsure: bool) -> dict[str, Any]:
    """All of the state that a restart must not change."""
    state = scheduler.state
    records = {name: _record_picture(record, unsure) for name, record in state.records.items()}
    seen: dict[str, Any] = {
        "records": records,
        "jobs": {name: (job.user, job.items, list(job.records)) for name, job in state.jobs.items()},
        "job_names": dict(state.job_names),
        "blobs": {name: blob.uses for name, blob in state.blobs.items()},
        "published": dict(state.published),
    }
    if not unsure:
        seen["counts"] = {name: _given_alike(job.counts) for name, job in state.jobs.items()}
        for name, user in state.share.users.items():
            line = [(task.record.id, task.first, task.items) for task in user.tasks() if not task.record.spec.cache]
            if line:
                seen[f"line of {name}"] = line
        sums = state.tallies.by_name.items()
        seen["statistics"] = {name: (s.total, s.failed, s.ran, round(s.calc_sum, 3)) for name, s in sums if s.total}
        users = {user.name: (user.done, user.failed, round(user.used_s, 3)) for user in state.share.users.values()}
        seen["users"] = {name: sums for name, sums in users.items() if any(sums)}
        for name, record in state.records.items():
            seen[f"ties of {name}"] = record.pins, record.blocked_on if record.unended else 0
    return seen


def _record_picture(record: Submission, unsure: bool) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, ...]] = []
    for task in record.slices:
        end, state = task.ended, task.state
        if state in (TaskState.CANCELLING, TaskState.CANCELLED):
            one: tuple[Any, ...] = ("CANCELLED", task.attempt)
        elif end is not None:
            holes = end.holes if end.state is TaskState.DONE else ()
            failure = end.failure.message if end.failure is not None else ""
            one = (state.value, end.attempt, end.first, end.items, holes, failure)
        else:
            name = "given" if state in (TaskState.ASSIGNED, TaskState.RUNNING) else state.value
            if record.spec.cache and name in ("BLOCKED", "QUEUED"):
                name = "waits"  # which of those that share a computation does it, may change
            one = (name, task.attempt, task.tries, task.crashes)
        items += [("unsure",) if unsure and (record.spec.depends or record.spec.cache) else one] * task.items
    return items


def _given_alike(counts: dict[TaskState, int]) -> dict[str, int]:
    alike: Counter[str] = Counter()
    for state, n in counts.items():
        alike["given" if state in (TaskState.ASSIGNED, TaskState.RUNNING) else state.value] += n
    return {name: n for name, n in alike.items() if n}


def submit(world: World, *tasks: str, **fields: Any) -> None:
    """Anna submits these, and the core has its turn."""
    for task in tasks:
        spec = {"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields}
        world.say(ANNA, SubmitTask(**spec))
    world.tick()
