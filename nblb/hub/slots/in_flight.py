"""The attempts of a hub from RunTask to their end: assigns them to workers and stops them; a part of slots.py."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

from nblb.hub.slots.attempts import Attempt, AttemptState, Durations, GroupOfSlots, WorkerSlot
from nblb.hub.slots.ended_attempts import EndedAttempts
from nblb.hub.slots.workers import WorkerTable
from nblb.protocol.commands import AskForItems, Command, GiveTask, HandBack, Interrupt, KillWorker, Steer
from nblb.protocol.messages import (
    Failure,
    ItemsFinished,
    Message,
    OutputKept,
    Running,
    RunTask,
    TaskFinished,
    TaskStopped,
    TurnKnob,
    WorkerDied,
)

AHEAD_S = 0.002  # most work in a worker's socket
OVERDUE_S = 0.005  # when a worker's first slice has taken so long, those behind it are taken back

ASK_AFTER_S = 0.2  # when a slice of many has taken so long, its early results are requested repeatedly

INFINITY = float("inf")

Fence: TypeAlias = "tuple[str, int, int]"
End: TypeAlias = "TaskFinished | TaskStopped | WorkerDied"


class InFlight:
    """Assigns slices to workers in order of arrival, and keeps their ends until the core commits them."""

    def __init__(
        self, worker_table: WorkerTable, say: Callable[[Message], None], grace_s: float, prefetch_s: float
    ) -> None:
        self.out: list[Command] = []  # of the current event
        self.slices: dict[Fence, Attempt] = {}  # until their end, without replaced attempts
        self.latest: dict[tuple[str, int], Attempt] = {}  # of these, by submission and first item
        self.ends: dict[Fence, End] = {}  # until the core has committed them
        self.parts: dict[tuple[Fence, int], ItemsFinished] = {}  # early results, by fence and offset
        self.outputs: dict[Fence, list[OutputKept]] = {}  # until the end of their attempt is committed
        self.past = EndedAttempts()
        self.unannounced: dict[Attempt, None] = {}  # running ones, in order of their start
        self._workers_table = worker_table
        self._say = say
        self._grace_s = grace_s
        self._ahead_s = min(AHEAD_S, prefetch_s)
        self._durations = Durations()
        self._timers: list[tuple[float, int, Attempt]] = []
        self._arrivals = 0

    # ── slices in ──

    def take(self, run: RunTask) -> Attempt:
        """Register a new attempt; `queue` queues it once all its blobs are here."""
        self._arrivals += 1
        task, first = run.task, run.first
        slice_ = Attempt(run, self._arrivals, self._durations.of(run))
        self.slices[task, first, run.attempt] = self.latest[task, first] = slice_
        return slice_

    def queue(self, slice_: Attempt, now: float) -> None:
        slice_.state = AttemptState.QUEUED
        group = self._workers_table.groups[slice_.run.group]
        group.line_up(slice_)
        self.deal(group, now)

    def deal(self, group: GroupOfSlots, now: float) -> None:
        """Assign the queued slices that the group's workers can take."""
        queue, most_s = group.queue, self._ahead_s
        while queue:
            slice_ = queue[0]
            if slice_.state is not AttemptState.QUEUED:
                queue.popleft()  # stopped while it was queued
                continue
            if slice_.estimate_s is None:
                slice_.estimate_s = self._durations.of(slice_.run)
            worker = self._workers_table.taker(group, slice_.run.user, slice_.estimate_s, most_s)
            if worker is None:
                if group.idle:  # all have served other users
                    waiting = (other.run.user for other in queue if other.state is AttemptState.QUEUED)
                    self.out += self._workers_table.replace_for(group, waiting, now)
                return
            queue.popleft()
            slice_.worker, worker.user = worker.id, slice_.run.user
            worker.given.append(slice_)
            worker.planned_s += slice_.estimate_s or most_s
            self.out.append(GiveTask(worker.id, slice_.run))
            if len(worker.given) == 1:
                self._begun(slice_, now)
                self._workers_table.list_open(worker)
            else:
                slice_.state = AttemptState.AHEAD
                self._workers_table.ahead[worker] = None

    def _begun(self, slice_: Attempt, now: float) -> None:
        """Note that the worker now runs this attempt."""
        slice_.state = AttemptState.RUNNING
        slice_.started_at = now
        self.unannounced[slice_] = None
        if slice_.run.timeout_s > 0.0:
            self._wake_at(slice_, now + slice_.run.timeout_s)
        if slice_.turned is not None:
            for message in slice_.turned:
                self.turn(slice_, message)
        if slice_.stop == "recall" and not self._workers_table.is_closing:
            slice_.stop = ""  # its worker began it before it could be taken back: the current call continues
            self.hand_back(slice_)
        elif slice_.stop:
            self._interrupt(slice_, slice_.stop, False, now)

    def turn(self, slice_: Attempt, message: TurnKnob) -> None:
        """Pass a knob's new value to the worker, now or when the attempt begins."""
        if slice_.state is AttemptState.RUNNING:
            self.out.append(self._steer(slice_, message.item, knob=message.name, value=message.value))
        elif slice_.turned is None:
            slice_.turned = [message]
        else:
            slice_.turned = [*(m for m in slice_.turned if (m.item, m.name) != (message.item, message.name)), message]

    def keep(self, slice_: Attempt, item: int) -> None:
        """Make a running item end with the value that it emitted last."""
        if slice_.state is AttemptState.RUNNING:
            self.out.append(self._steer(slice_, item, keep=True))

    @staticmethod
    def _steer(slice_: Attempt, item: int, knob: str = "", value: Any = None, keep: bool = False) -> Steer:
        run = slice_.run
        return Steer(slice_.worker, run.task, run.attempt, run.first, item, knob, value, keep)

    def _wake_at(self, slice_: Attempt, at: float) -> None:
        slice_.stop_at = at
        heappush(self._timers, (at, slice_.number, slice_))

    def replace(self, old: Attempt, now: float) -> None:
        """Stop an attempt that the core has replaced by a new one; its end is not reported."""
        if old.state in (AttemptState.AHEAD, AttemptState.RUNNING):
            self.stop(old, "superseded", False, now)
        else:
            old.state = AttemptState.OVER
        del self.slices[old.fence]
        self.outputs.pop(old.fence, None)
        if self.latest.get((old.run.task, old.run.first)) is old:
            del self.latest[old.run.task, old.run.first]

    def forget_all(self, now: float) -> None:
        """Stop and drop everything, since the hub now belongs to a different cluster."""
        self.ends.clear()
        self.parts.clear()
        self.outputs.clear()
        for slice_ in list(self.slices.values()):
            self.replace(slice_, now)

    # ── ends ──

    def task_ended(self, worker: WorkerSlot, message: TaskFinished | TaskStopped, now: float) -> None:
        """Handle the end of a slice reported by a worker, or a slice that the pool read back from a socket."""
        given = worker.given
        slice_ = _find(worker, message)
        if slice_ is None:
            return
        was_first = slice_ is given[0]
        if was_first:
            given.popleft()
        else:
            given.remove(slice_)
        worker.planned_s -= slice_.estimate_s or self._ahead_s
        if type(message) is TaskStopped and not message.ran:
            self.returned(slice_)
            if not was_first:
                self.deal(worker.group, now)
                return
        else:
            left = message.left if type(message) is TaskFinished else 0
            if self._workers_table.has_run(worker, slice_.run.items - left) and given:
                self.out.append(self._workers_table.nothing_ahead(worker))
            if type(message) is TaskFinished:
                self._durations.learn(slice_.run, message.duration_s, left)
            self.end(slice_, self._as_told(slice_, message))
        if given:
            worker.waits = worker.waits and not was_first
            if len(given) == 1:
                self._workers_table.ahead.pop(worker, None)
            if was_first:
                self._begun(given[0], now)
            self._workers_table.list_open(worker)
        else:
            self.out += self._workers_table.free(worker, now)
        self.deal(worker.group, now)

    def _as_told(self, slice_: Attempt, message: TaskFinished | TaskStopped) -> End:
        """Return the end to report: a result that came before the interrupt counts, except after a timeout."""
        if type(message) is TaskFinished and slice_.stop != "timeout":
            return message
        return self.stopped(slice_, True)

    def stopped(self, slice_: Attempt, ran: bool) -> TaskStopped:
        run, why = slice_.run, slice_.stop
        return TaskStopped(
            task=run.task,
            attempt=run.attempt,
            first=run.first,
            why="recall" if why in ("", "lease") else why,
            ran=ran,
            worker=slice_.worker,
        )

    def returned(self, slice_: Attempt) -> None:
        """Queue again an attempt that its worker never began, or end it if it was stopped."""
        self.unannounced.pop(slice_, None)
        if slice_.stop:
            self.end(slice_, self.stopped(slice_, False))
        else:
            slice_.state, slice_.worker, slice_.stop_at = AttemptState.QUEUED, "", 0.0
            self._workers_table.groups[slice_.run.group].line_up(slice_)

    def bereaved(self, worker: WorkerSlot, message: WorkerDied) -> Attempt | None:
        """Return the slice that a dead worker was running, if any, and queue those behind it again."""
        blamed = _find(worker, message)
        for slice_ in worker.given:
            if slice_ is not blamed:
                self.returned(slice_)
        worker.given.clear()
        return blamed

    def end(self, slice_: Attempt, end: End) -> None:
        """Report the end of the slice, and keep it until the core commits it."""
        slice_.state = AttemptState.OVER
        self.unannounced.pop(slice_, None)
        run = slice_.run
        fence = run.task, run.first, run.attempt
        if self.slices.get(fence) is not slice_:  # replaced by a later attempt: its end is not reported
            return
        del self.slices[fence]
        if self.latest.get(fence[:2]) is slice_:
            del self.latest[fence[:2]]
        self.ends[fence] = end
        self._say(end)

    def items_ended(self, worker: WorkerSlot, message: ItemsFinished, _now: float) -> None:
        """Report ended calls of a running slice, and keep the report until the core commits it."""
        slice_ = _find(worker, message)
        if slice_ is not None and self.slices.get(slice_.fence) is slice_:
            slice_.reported_items = message.offset + message.items
            self.parts[slice_.fence, message.offset] = message
            self._say(message)

    def output_kept(self, _worker: WorkerSlot, message: OutputKept, _now: float) -> None:
        """Report all that a slice has printed; it is sent again with the end of its attempt."""
        fence = message.task, message.first, message.attempt
        if fence in self.slices:
            self.outputs.setdefault(fence, []).append(message)
            self._say(message)

    def fail(self, slice_: Attempt, reason: str, kind: str = "TaskLost") -> None:
        """End a slice that cannot run at this hub."""
        run = slice_.run
        failures = tuple(Failure(offset=n, kind=kind, message=reason) for n in range(run.items))
        self.end(
            slice_,
            TaskFinished(task=run.task, attempt=run.attempt, first=run.first, items=run.items, failures=failures),
        )

    def committed(self, fence: Fence, offset: int) -> None:
        """Drop an end, or early results, that the core has committed."""
        if offset >= 0:
            self.parts.pop((fence, offset), None)
        elif self.ends.pop(fence, None) is not None:
            self.outputs.pop(fence, None)
            self.past.add(*fence)

    def resend(self) -> None:
        """Send again everything that the core has not committed, early results first."""
        outputs = (message for kept in self.outputs.values() for message in kept)
        for told in (*outputs, *self.parts.values(), *self.ends.values()):
            self._say(told)

    def in_flight(self, now: float) -> list[Running]:
        """Return the attempts for a hello: running, waiting, or ended but not committed."""
        return [
            *(running(slice_, now) for slice_ in self.slices.values()),
            *(
                Running(end.task, end.attempt, end.first, end.items if type(end) is TaskFinished else 1, end.worker)
                for end in self.ends.values()
            ),
        ]

    def stop(self, slice_: Attempt, why: str, kill: bool, now: float) -> None:
        if slice_.state is AttemptState.RUNNING:
            if kill or not slice_.stop:
                self._interrupt(slice_, why, kill, now)
        elif slice_.state is AttemptState.AHEAD:
            slice_.stop = why
            self.out.append(self._workers_table.nothing_ahead(self._workers_table.workers[slice_.worker]))
        else:
            slice_.stop = why
            self.end(slice_, self.stopped(slice_, False))

    def hand_back(self, slice_: Attempt) -> None:
        """Return the calls of a running slice that are not begun when the current one ends."""
        run = slice_.run
        if run.split and run.items > 1 and not slice_.stop:
            self.out.append(HandBack(slice_.worker, run.task, run.attempt, run.first))

    def _interrupt(self, slice_: Attempt, why: str, kill: bool, now: float) -> None:
        slice_.stop = slice_.stop or why
        run, worker = slice_.run, self._workers_table.workers[slice_.worker]
        # No other slice may follow in this worker's socket: a late kill would be blamed on it.
        self.out.append(self._workers_table.nothing_ahead(worker))
        if kill:
            slice_.stop_at = 0.0
            self._kill(worker, f"task {run.name} had to end at once ({why})")
        else:
            self.out.append(Interrupt(worker.id, run.task, run.attempt, run.first))
            self._wake_at(slice_, now + self._grace_s)

    def _kill(self, worker: WorkerSlot, why: str) -> None:
        worker.is_doomed = True
        self.out.append(KillWorker(worker.id, why))

    def _time_is_up(self, slice_: Attempt, now: float) -> None:
        """Handle the end of the timeout, or of the grace period after an interrupt."""
        if not slice_.stop:
            self._interrupt(slice_, "timeout", False, now)
            return
        grace_s = self._grace_s
        why = f"task {slice_.run.name} did not stop within {grace_s:g} s of its interrupt ({slice_.stop})"
        self._kill(self._workers_table.workers[slice_.worker], why)

    def stop_all(self, why: str, now: float) -> None:
        for slice_ in list(self.slices.values()):
            if slice_.state is not AttemptState.OVER and not slice_.stop:
                self.stop(slice_, why, False, now)

    def take_back_overdue(self, now: float) -> None:
        """Take back slices behind one that runs longer than estimated; the next free worker takes them."""
        for worker in list(self._workers_table.ahead):
            if worker.given[0].started_at + OVERDUE_S <= now:
                self._durations.learn(worker.given[0].run, now - worker.given[0].started_at)
                self.out.append(self._workers_table.nothing_ahead(worker))

    # ── time ──

    def watch(self, slice_: Attempt, since: float) -> None:
        """Schedule requests for the early results of a long slice."""
        if slice_.reported_items + 1 < slice_.run.items:
            slice_.ask_at = since + ASK_AFTER_S
            heappush(self._timers, (slice_.ask_at, slice_.number, slice_))

    def tick(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, _, slice_ = heappop(timers)
            if slice_.state is not AttemptState.RUNNING:
                continue
            if slice_.stop_at == at:
                self._time_is_up(slice_, now)
            if slice_.ask_at == at:
                self.out.append(AskForItems(slice_.worker))
                self.watch(slice_, now)
        if self._workers_table.ahead:
            self.take_back_overdue(now)

    def deadline(self) -> float:
        at = self._timers[0][0] if self._timers else INFINITY
        for worker in self._workers_table.ahead:
            at = min(at, worker.given[0].started_at + OVERDUE_S)
        return at


def running(slice_: Attempt, now: float) -> Running:
    """Return the attempt's entry for a hello."""
    run, state = slice_.run, slice_.state
    return Running(
        run.task,
        run.attempt,
        run.first,
        run.items,
        slice_.worker,
        ran_s=max(0.0, now - slice_.started_at) if state is AttemptState.RUNNING else 0.0,
        ahead=state is AttemptState.AHEAD,
        wait=slice_.wait,
        wait_ended=slice_.wait_ended,
        lent=slice_.lent,
    )


def _find(worker: WorkerSlot, message: End | ItemsFinished) -> Attempt | None:
    """Return the worker's slice that the message names: nearly always its first."""
    for slice_ in worker.given:
        run = slice_.run
        if run.task == message.task and run.first == message.first and run.attempt == message.attempt:
            return slice_
    return None
