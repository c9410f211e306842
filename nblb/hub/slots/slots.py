"""The decisions of a hub: which worker runs which slice, what is stopped or restarted, what is sent again.

Pure: events are messages (from the core, and from workers through the pool), time is an argument, effects are
commands. Slots is the state machine that a shell or the simulator drives; its parts are in_flight.py (slices),
workers.py (workers), blob_cache.py and lease.py. The rules:

- Each RunTask is answered by one end: TaskFinished, TaskStopped, or WorkerDied with the task's id. The end is kept,
  and sent again after each new Welcome, until the core sends EndCommitted. Only the end of an attempt that a later one
  has replaced is not reported.
- A worker runs one slice at a time, the first of `given`; those behind it are in its socket, are known to be short,
  and are taken back if the first turns out to be long.
- A worker serves one user. A group whose idle workers have all served other users than the next slice's replaces one
  by a fresh process, which takes the slice: nothing that a task leaves in its process reaches another user's tasks.
- Without a core, only HubHello is sent. When the core has acknowledged nothing for nearly `lease_s`, what runs is
  stopped, because another hub may get it then (lease.py). A hub that has nothing to run ends after `orphan_s`.
- A hub whose batch job ends hands back all that runs at `ends_at`, and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from nblb.hub.slots.attempts import Attempt, AttemptState, WorkerSlot, WorkerSpent
from nblb.hub.slots.blob_cache import BlobCache
from nblb.hub.slots.in_flight import INFINITY, InFlight
from nblb.hub.slots.lease import CoreLease
from nblb.hub.slots.steering import AttemptSteering
from nblb.hub.slots.waits import Waits
from nblb.hub.slots.workers import WorkerTable
from nblb.protocol.commands import Command, ForgetBlob, Halt, Log, Send
from nblb.protocol.messages import (
    BlobMissing,
    BlobWanted,
    CardUse,
    DrainHub,
    EndCommitted,
    Group,
    Heartbeat,
    HoldBlob,
    HubGone,
    HubHello,
    HubLeaves,
    ItemsFinished,
    Message,
    OutputKept,
    Refused,
    RunTask,
    ScaleHub,
    StopHub,
    StopTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStarted,
    TaskStopped,
    Welcome,
    WorkerDied,
    WorkerStarted,
    WorkerUse,
    split_workers,
)

CORE = "core"
LEAST_LEFT_S = 0.001  # 0 would mean that no end is known
NEWS_AFTER_S = 0.02  # the start of a slice that has ended by then is not reported


class SlotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a hub's slots; times in seconds."""

    heartbeat_s: float = 1.0
    suspect_s: float = 5.0
    lease_s: float = 15.0
    grace_s: float = 0.4
    prefetch_s: float = 0.010
    blob_bytes: int = 1 << 30
    most_waits: int = 200  # workers at a time that have lent their slots to stand-ins
    orphan_s: float = 0.0  # an idle hub ends that long after it has lost its core; 0 for never
    results_s: float = 0.0  # … and one with results that no core has yet after this time, if it is longer
    ends_at: float = INFINITY  # by the clock of `now`: its batch job ends soon after, so all that runs is handed back


def not_of_the_owner(group: Group, user: str) -> str:
    """Return why the owner of a hub does not let this user's tasks run there; "" if they may."""
    if not group.only or user in group.only:
        return ""
    return f"this hub runs only tasks of {', '.join(sorted(group.only))}, and not those of {user}"


class Slots:
    """The state machine of one hub: its workers and their slices."""

    def __init__(
        self,
        hello: HubHello,
        settings: SlotSettings,
        new_worker_id: Callable[[], str],
        refusal: Callable[[Group, str], str] = not_of_the_owner,
    ) -> None:
        self._hello = hello
        self._refusal = refusal  # why a group does not run the tasks of a user, in a sentence; "" if it does
        self._grace_s = settings.grace_s
        self._lease = CoreLease(settings.heartbeat_s, settings.suspect_s, self._time_to_run(settings.lease_s))
        self._orphan_s, self._results_s = settings.orphan_s, settings.results_s
        self._ends_at = settings.ends_at
        self._blobs = BlobCache(settings.blob_bytes)
        self._workers_table = WorkerTable(hello.groups, new_worker_id)
        self._in_flight = InFlight(self._workers_table, self._send, settings.grace_s, settings.prefetch_s)
        self._functions: dict[str, tuple[str, str]] = {}  # name -> hashes of the function and its arguments
        self._arrivals = 0
        self._listed: dict[str, int] = {}  # workers in our last hello, and their groups
        self._listed_stand_ins: tuple[str, ...] = ()
        self._leaving: str | None = None
        self._has_left = False
        self.restarts = False  # the process shall start again when it has ended
        self.load = self.memory = self.disk = 0.0  # of this machine, for the next heartbeat
        self.usage: tuple[WorkerUse, ...] = ()
        self.cards: tuple[CardUse, ...] = ()
        self.most_workers: dict[int, int] = {}  # of the groups with GPUs: more would have none
        self._from_core: dict[type, Callable[[Any, float], None]] = {
            RunTask: self._run_task,
            StopTask: self._stop_task,
            EndCommitted: self._end_committed,
            HoldBlob: self._hold_blob,
            BlobMissing: self._blob_missing,
            ScaleHub: self._scale,
            DrainHub: self._drain,
            StopHub: self._stop_hub,
            Welcome: self._welcome,
            Refused: self._refused,
            Heartbeat: lambda message, now: self._lease.acknowledge(message.echo, now),
        }
        self._from_worker: dict[type, Callable[[WorkerSlot, Any, float], None]] = {
            WorkerStarted: self._worker_started,
            WorkerDied: self._worker_died,
            TaskStarted: lambda *_: None,  # implied by the order of ends
            TaskProgressed: self._task_progressed,
            TaskFinished: self._in_flight.task_ended,
            ItemsFinished: self._in_flight.items_ended,
            TaskStopped: self._in_flight.task_ended,
            TaskPrinted: lambda _worker, message, _now: self._send(message),
            OutputKept: self._in_flight.output_kept,
            WorkerSpent: lambda worker, *_: setattr(worker, "is_spent", True),
        }
        steering = AttemptSteering(self._in_flight, self._send)
        self._from_core.update(steering.from_core)
        self._from_worker.update(steering.from_worker)
        self._workers_table.report = self._send
        memory, most = lambda: self.memory, settings.most_waits
        self._waits = Waits(self._in_flight, self._workers_table, self._send, self._announce, memory, most)
        self._from_core.update(self._waits.from_core)
        self._from_worker.update(self._waits.from_worker)

    # ── the machine ──

    def start(self, now: float) -> list[Command]:
        """Return the first commands, which start the workers; a hello follows when a line to the core exists."""
        out = self._begin()
        out += [command for group in self._workers_table.groups for command in self._workers_table.fill(group, now)]
        self._lease.break_(now)
        self._lease.apart_since = now
        return out

    def handle(self, sender: str, message: Message, now: float) -> list[Command]:
        """Return the commands that follow from a message of the core (sender "core") or of a worker (its id)."""
        out = self._begin()
        if self._lease.has_lapsed(now):  # this hub was stopped for long: it begins nothing from delayed messages
            self._keep_lease(now)
        if sender == CORE:
            self._lease.received(now)
            self._from_core[type(message)](message, now)
        elif (worker := self._workers_table.workers.get(sender)) is not None:
            self._from_worker[type(message)](worker, message, now)
        return out

    def tick(self, now: float) -> list[Command]:
        """Return the commands that follow from the time."""
        out, in_flight = self._begin(), self._in_flight
        in_flight.tick(now)
        while in_flight.unannounced:
            slice_ = next(iter(in_flight.unannounced))
            if slice_.started_at + NEWS_AFTER_S > now:
                break
            del in_flight.unannounced[slice_]
            self._announce(slice_)
            in_flight.watch(slice_, slice_.started_at)
        out += self._workers_table.retire_parked(now)
        self._waits.tick(now)
        self._keep_lease(now)
        if now >= self._orphaned_at():
            self._leave(f"no core has answered for {self._orphan_s:g} s (LB_ORPHAN_S)", now)
            out.append(Log("warning", f"this hub ends: {self._leaving}"))
        if now >= self._ends_at and self._leaving is None:
            self._leave("the time of its batch job ends", now)
            out.append(Log("warning", f"this hub ends: {self._leaving}; what runs is handed back"))
        if self._leaving is not None and not self._has_left and not self._workers_table.is_busy:
            self._has_left = True
            self._send(HubGone(reason=self._leaving))
            out.append(Halt(self._leaving))
        return out

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do; None if that depends on another event."""
        at = min(
            self._lease.deadline(),
            self._in_flight.deadline(),
            self._workers_table.next_to_retire(),
            self._orphaned_at(),
            self._ends_at if self._leaving is None else INFINITY,
        )
        for slice_ in self._in_flight.unannounced:
            return min(at, slice_.started_at + NEWS_AFTER_S)
        return at if at < INFINITY else None

    def _orphaned_at(self) -> float:
        """Return when this hub ends because it has no core; never while a task runs."""
        if not self._orphan_s or self._lease.is_up or self._leaving is not None or self._in_flight.slices:
            return INFINITY
        has_results = any(type(end) is TaskFinished for end in self._in_flight.ends.values())
        wait_s = max(self._orphan_s, self._results_s) if has_results else self._orphan_s
        return self._lease.apart_since + wait_s

    def stop(self, reason: str, now: float) -> list[Command]:
        """Begin to end the hub; Halt follows when its workers have finished."""
        out = self._begin()
        self._leave(reason, now)
        return out

    def set_functions(self, functions: Mapping[str, tuple[str, str]], now: float) -> None:
        """Set the functions that this hub runs by name; the pool must have their blobs already."""
        self._functions = dict(functions)
        for hashes in functions.values():
            for blob in hashes:
                self._blobs.pin(blob)
        self._hello = msgspec.structs.replace(self._hello, functions=tuple(functions))
        self._lease.break_(now)

    def wants(self, message: HoldBlob) -> bool:
        """Return whether the bytes of this blob must be kept."""
        return self._blobs.wants(message)

    def _begin(self) -> list[Command]:
        out = self._in_flight.out = []
        return out

    def _send(self, message: Message) -> None:
        if self._lease.is_up:
            self._in_flight.out.append(Send(CORE, message))

    # ── slices ──

    def _run_task(self, run: RunTask, now: float) -> None:
        in_flight, fence = self._in_flight, (run.task, run.first, run.attempt)
        old = in_flight.latest.get((run.task, run.first))
        if fence in in_flight.slices or (old is not None and old.run.attempt >= run.attempt):
            return
        if old is not None:
            if run.items > old.reported_items:  # else an item reported as failed is retried: the rest continues
                in_flight.replace(old, now)
        elif fence in in_flight.ends:
            self._send(in_flight.ends[fence])
            return
        elif in_flight.past.knows(run):
            return
        if not 0 <= run.group < len(self._workers_table.groups) or self._leaving is not None:
            self._send(TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall"))
            return
        by_name = "" if run.function else run.name
        if by_name in self._functions:
            run = self._called_by_name(run)
        slice_ = in_flight.take(run)
        if self._lease.is_over or not self._lease.is_up:  # delayed, or not in our hello: another hub may have it
            in_flight.stop(slice_, "lease", False, now)
            return
        if refusal := self._refusal(self._workers_table.groups[run.group].spec, run.user):
            in_flight.fail(slice_, refusal, "NotAllowed")
            return
        if not run.function:
            known = ", ".join(sorted(self._functions)) or "none"
            in_flight.fail(slice_, f"this hub has no task named {run.name!r}; it has: {known}")
            return
        slice_.missing = self._blobs.missing(run, slice_.number)
        if slice_.missing:
            slice_.state = AttemptState.WAITING
            for blob in self._blobs.wait(slice_):
                self._send(BlobWanted(hash=blob))
        else:
            in_flight.queue(slice_, now)

    def _called_by_name(self, run: RunTask) -> RunTask:
        """Return the order for a function that was added here, which is called in the seed's way."""
        function, arguments = self._functions[run.name]
        return msgspec.structs.replace(run, function=function, constants=(arguments,), call="seed")

    def _stop_task(self, message: StopTask, now: float) -> None:
        in_flight = self._in_flight
        fence = message.task, message.first, message.attempt
        slice_ = in_flight.slices.get(fence)
        if slice_ is None:
            if fence not in in_flight.ends:  # the order never arrived
                in_flight.past.add(*fence)
                end = TaskStopped(task=message.task, attempt=message.attempt, first=message.first, why=message.why)
                self._send(end)
        elif slice_.state is AttemptState.RUNNING and message.why == "recall":
            in_flight.hand_back(slice_)
        else:
            in_flight.stop(slice_, message.why, message.kill, now)

    def _end_committed(self, message: EndCommitted, _now: float) -> None:
        self._in_flight.committed((message.task, message.first, message.attempt), message.offset)

    def _announce(self, slice_: Attempt) -> None:
        run = slice_.run
        self._send(TaskStarted(task=run.task, attempt=run.attempt, first=run.first, worker=slice_.worker))
        for word in (slice_.progress, *(slice_.told or {}).values()):
            if word is not None:
                self._send(word)
        self._waits.report(slice_)

    def _task_progressed(self, _worker: WorkerSlot, message: TaskProgressed, _now: float) -> None:
        slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
        if slice_ is None or slice_.state is not AttemptState.RUNNING:
            return
        slice_.progress = message
        if slice_ not in self._in_flight.unannounced:
            self._send(message)

    # ── blobs ──

    def _hold_blob(self, message: HoldBlob, now: float) -> None:
        if not self._blobs.wants(message):
            return
        for slice_ in self._blobs.put(message):
            if slice_.state is AttemptState.WAITING:
                self._in_flight.queue(slice_, now)
        for blob in self._blobs.evict(self._in_flight.slices.values()):
            self._in_flight.out.append(ForgetBlob(blob))

    def _blob_missing(self, message: BlobMissing, _now: float) -> None:
        for slice_ in self._blobs.abandon(message.hash):
            if slice_.state is AttemptState.WAITING:
                words = f"the core no longer has blob {message.hash}, which the task {slice_.run.name} needs"
                self._in_flight.fail(slice_, words)

    # ── workers ──

    def _worker_started(self, worker: WorkerSlot, message: WorkerStarted, now: float) -> None:
        if worker.is_ready:  # of its user's account: it is forked with its first slice, and tells its pid then
            worker.pid = message.pid
            return
        worker.is_ready, worker.pid, worker.started_at = True, message.pid, now
        self._send(msgspec.structs.replace(message, stand_in=True) if worker.is_stand_in else message)
        self._in_flight.out += self._workers_table.free(worker, now)
        self._in_flight.deal(worker.group, now)

    def _worker_died(self, worker: WorkerSlot, message: WorkerDied, now: float) -> None:
        self._workers_table.bury(worker)
        blamed = self._in_flight.bereaved(worker, message)
        killed = blamed is not None and blamed.stop != ""
        if blamed is not None and not killed:
            self._in_flight.end(blamed, message)
        else:
            if blamed is not None:
                self._in_flight.end(blamed, self._in_flight.stopped(blamed, True))
            if worker.is_ready:
                self._send(msgspec.structs.replace(message, task="", attempt=0, first=0))
        delay_s = self._workers_table.delay_s(worker, blamed is not None, killed or worker.leaves, now)
        if not worker.leaves and not killed:
            again = f"; a new one starts in {delay_s:g} s" if delay_s >= 1.0 else ""
            self._in_flight.out.append(Log("warning", f"{worker.id} (pid {worker.pid}) ended: {message.reason}{again}"))
        if self._leaving is None:
            self._in_flight.out += self._workers_table.fill(worker.group, now, delay_s)
        self._in_flight.deal(worker.group, now)

    def _scale(self, message: ScaleHub, now: float) -> None:
        if self._leaving is not None or message.workers < 0:
            return
        split = split_workers(message.workers, [group.spec.workers for group in self._workers_table.groups])
        groups = tuple(
            msgspec.structs.replace(group, workers=number)
            for group, number in zip(self._hello.groups, split, strict=True)
        )
        self._hello = msgspec.structs.replace(self._hello, groups=groups)
        for group, number in zip(self._workers_table.groups, split, strict=True):
            number = min(number, self.most_workers.get(group.number, number))
            self._in_flight.out += self._workers_table.scale(group, number, now)
            self._in_flight.deal(group, now)

    def lose_workers(self, group: int, left: int) -> None:
        """Replace the workers of a group that end only up to this number, since a card of theirs is lost."""
        self.most_workers[group] = left
        slots = self._workers_table.groups[group]
        slots.wanted = min(slots.wanted, left)
        groups = list(self._hello.groups)
        groups[group] = msgspec.structs.replace(groups[group], workers=slots.wanted)
        self._hello = msgspec.structs.replace(self._hello, groups=tuple(groups))

    def rest_workers(self, group: int, most: int, workers: Collection[str], now: float) -> list[Command]:
        """Have at most so many workers in a group until this is called again; the first to end are these workers."""
        out = self._begin()
        self.most_workers[group] = most
        slots, number = self._workers_table.groups[group], min(self._hello.groups[group].workers, most)
        out += self._workers_table.scale(slots, number, now, first=workers)
        self._in_flight.deal(slots, now)
        return out

    # ── the core ──

    def line_up(self, now: float) -> None:
        """Note that a (new) line to a core exists: the next tick sends a hello."""
        self._lease.is_wired = True
        self._lease.break_(now)

    def line_down(self, now: float) -> None:
        """Note that the line is cut: nothing can be sent."""
        self._lease.is_wired = False
        self._lease.drop(now)

    def is_heartbeat_due(self, now: float) -> bool:
        """Return whether the next tick sends a heartbeat, for which `load` and `memory` should be current."""
        return self._lease.is_up and now >= self._lease.heartbeat_at

    def states(self) -> dict[str, int]:
        """Return each worker's state in the seed's format: 100 free, 0 busy, -1 not ready or gone."""
        workers = self._workers_table.workers.values()
        return {worker.id: -1 if not worker.is_ready else 0 if worker.given else 100 for worker in workers}

    def core_ended(self) -> None:
        """Note that the core's process on this machine has ended: what runs may continue until a new core connects."""
        self._lease.forgive()

    @property
    def misses_core(self) -> bool:
        """True if a core that does not answer still leases its work to this hub."""
        return not self._lease.is_up and self._lease.leased_at > 0.0

    def core_lives(self, now: float) -> None:
        """Note that the core's process lives on this machine and is connected, though it may stand still."""
        self._lease.extend(now)

    def slept(self, seconds: float, now: float) -> None:
        """Note that this computer has slept, and the core's, which is another, has not."""
        self._lease.sleep(seconds, now)

    def _keep_lease(self, now: float) -> None:
        hello, heartbeat, lease_is_over = self._lease.check(now)
        if hello:
            self._in_flight.out.append(Send(CORE, self._hub_hello(now)))
        if heartbeat:
            way_s = round(self._lease.way_s, 6)
            self._send(
                Heartbeat(
                    load=self.load,
                    memory=self.memory,
                    disk=self.disk,
                    workers=self.usage,
                    cards=self.cards,
                    at=now,
                    way_s=way_s,
                    wanted=tuple(group.wanted for group in self._workers_table.groups),
                )
            )
        if lease_is_over:
            self._in_flight.out.append(
                Log("warning", "the core has acknowledged nothing for long: what runs is stopped")
            )
            self._in_flight.stop_all("lease", now)

    def _hub_hello(self, now: float) -> HubHello:
        ready = [worker for worker in self._workers_table.workers.values() if worker.is_ready]
        self._listed = {worker.id: worker.group.number for worker in ready}
        self._listed_stand_ins = tuple(worker.id for worker in ready if worker.is_stand_in)
        self._lease.greet(now)
        return msgspec.structs.replace(
            self._hello,
            workers=tuple(self._listed.items()),
            pids=tuple(worker.pid for worker in ready),
            running=tuple(self._in_flight.in_flight(now)),
            core=self._lease.core,
            said_at=now,
            leased_at=self._lease.leased_at,
            leaves=self._leaving is not None,
            stand_ins=self._listed_stand_ins,
            left_s=max(self._ends_at - now, LEAST_LEFT_S) if self._ends_at < INFINITY else 0.0,
        )

    def _catch_up(self) -> None:
        """Report workers that started or ended between our hello and the core's answer."""
        for worker in self._workers_table.workers.values():
            changed = (worker.id in self._listed_stand_ins) != worker.is_stand_in
            if worker.is_ready and (worker.id not in self._listed or changed):
                started = WorkerStarted(
                    worker=worker.id, group=worker.group.number, pid=worker.pid, stand_in=worker.is_stand_in
                )
                self._send(started)
        for name, group in self._listed.items():
            if name not in self._workers_table.workers:
                self._send(WorkerDied(worker=name, group=group, reason="it ended while the core was not connected"))

    def _time_to_run(self, lease_s: float) -> float:
        """Return the part of a lease after which all must be stopped, so that it has stopped at its end."""
        return lease_s - min(self._grace_s + lease_s / 20, lease_s / 2)

    def _welcome(self, message: Welcome, now: float) -> None:
        if message.lease_s > 0.0:
            self._lease.agree(self._time_to_run(message.lease_s), message.suspect_s)
        before, epoch = self._lease.core, self._lease.epoch
        if not self._lease.welcome(message, now):
            return
        in_flight = self._in_flight
        if before and before != message.core:
            in_flight.forget_all(now)
        if (before, epoch) != (message.core, message.epoch):
            in_flight.past.forget()
        in_flight.out.append(Log("good", f"connected to the Load Balancer {message.name} (pid {message.pid})"))
        self._catch_up()
        in_flight.resend()
        for blob in self._blobs.wanted:
            self._send(BlobWanted(hash=blob))
        for slice_ in in_flight.slices.values():
            if slice_.state is AttemptState.RUNNING and slice_ not in in_flight.unannounced:
                self._announce(slice_)

    def _refused(self, message: Refused, now: float) -> None:
        if message.kind == "UnknownParty":  # a new core has received a message before our hello
            if self._lease.is_up:
                self._lease.break_(now)
            return
        if message.is_for_now:
            return  # the line dials again
        self._in_flight.out.append(Log("error", f"the core refuses this hub: {message.reason}"))
        self._leave(message.reason, now)

    def _drain(self, message: DrainHub, _now: float) -> None:
        """Repeat the core's order in the next hello; the core gives a drained hub no work."""
        self._hello = msgspec.structs.replace(self._hello, draining=message.drain)

    def _stop_hub(self, message: StopHub, now: float) -> None:
        self.restarts = message.restart
        self._leave(message.reason, now)

    def _leave(self, reason: str, now: float) -> None:
        """Hand back slices that have not begun and interrupt the others; the hub ends after that."""
        if self._leaving is None:
            self._leaving = reason or "stopped"
            self._workers_table.is_closing = True
            self._send(HubLeaves())
            self._in_flight.stop_all("recall", now)
