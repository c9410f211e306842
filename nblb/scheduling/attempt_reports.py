"""Handles the reports of hubs about their attempts, and decides what happens to the slices.

A report names its attempt. A report about an attempt that the hub no longer has is late (another attempt has taken
over, or the end is already known): it is counted and acknowledged, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from nblb.errors import TaskTimeout
from nblb.protocol.commands import Record
from nblb.protocol.exception_names import is_among
from nblb.protocol.journal_entries import AttemptFailed
from nblb.protocol.messages import (
    ENDED,
    EndCommitted,
    Failure,
    ItemsFinished,
    Running,
    SubmitTask,
    TaskCheckpointed,
    TaskEnded,
    TaskFinished,
    TaskProgressed,
    TaskStarted,
    TaskState,
    TaskStopped,
    WaitBegan,
    WaitEnded,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling.administration import need_more_memory
from nblb.scheduling.hubs import Assignment, Hub, Orphan, Worker
from nblb.scheduling.long_tasks import checkpoints
from nblb.scheduling.long_tasks.back_off import wait_s
from nblb.scheduling.nesting import following, parents, waits
from nblb.scheduling.reporting.tallies import ran_s
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

DONE, CANCELLING = TaskState.DONE, TaskState.CANCELLING
LONGEST_NOTE = 2000  # characters
LONGEST_S = 1e9  # a longer duration is not credible


class AttemptReports:
    """Handles what hubs report about workers and attempts."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._memory_mb = 0  # that the submission of the lost attempt needs from now on; 0: as before

    # ── workers ──

    def worker_started(self, hub: Hub, message: WorkerStarted, now: float) -> None:
        if not 0 <= message.group < len(hub.groups):
            return
        group, known = hub.groups[message.group], hub.workers.get(message.worker)
        if known is None:
            hub.workers[message.worker] = Worker(message.worker, group, message.pid, now, message.stand_in)
        elif known.stand_in is not message.stand_in:
            known.stand_in = message.stand_in
            known.group.workers_changed(-1 if message.stand_in else 1)
            self.state.dispatch_due = True
            return
        else:
            known.pid = message.pid or known.pid
            return
        if message.stand_in:
            return
        group.workers_changed(1)
        self.state.log("good", f"LB - ADDING WORKER ({message.worker})")
        self.state.dispatch_due = True

    def worker_died(self, hub: Hub, message: WorkerDied, now: float) -> None:
        worker = hub.workers.pop(message.worker, None)
        if worker is not None and not worker.stand_in:
            worker.group.workers_changed(-1)
            self.state.log("warning", f"LB - Worker {message.worker} is DOWN. Removing it ({message.reason})")
        if not message.task:
            return
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            held.worker = held.worker or message.worker
            if message.shared:
                self.hub_ended([held], [], message.reason, now)
            else:
                self._memory_mb = need_more_memory(self.state, held) if message.memory else 0
                self.attempt_lost(held, "WorkerDied", message.reason, now)
                self._memory_mb = 0
        self._committed(hub, message.task, message.attempt, message.first)

    # ── on the way ──

    def task_started(self, hub: Hub, message: TaskStarted, now: float) -> None:
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is None:
            return
        self.begun(held, message.worker, now)
        for task in held.tasks:
            task.move("TaskStarted", now)
            self.state.notice(task, now)

    def begun(self, held: Assignment, worker_id: str, now: float) -> None:
        """Record that this worker has begun the attempt."""
        hub = held.group.hub
        if hub.unclaimed:  # the order was on its way when the hub sent its hello
            hub.unclaimed = tuple(fence for fence in hub.unclaimed if fence != held.fence)
        workers = hub.workers
        before, worker = workers.get(held.worker), workers.get(worker_id)
        if before is not None and before.held is held:
            before.held = None
        if worker is not None:
            worker.held, worker.since = held, now
        if not held.started_at:
            held.started_at = now
            if held.items > 1 and held.record.spec.split:
                self.state.divisible[held] = None
        held.worker = worker_id

    def wait_began(self, hub: Hub, message: WaitBegan, now: float) -> None:
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            waits.enter_wait(self.state, held, message.wait, now, message.lent)

    def wait_ended(self, hub: Hub, message: WaitEnded, now: float) -> None:
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            waits.ask_for_slot(self.state, held, message.wait, now)

    def task_progressed(self, hub: Hub, message: TaskProgressed, now: float) -> None:
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is None:
            return
        for task in held.tasks:
            task.progress = min(max(message.progress, 0.0), 100.0)
            task.note = message.note[:LONGEST_NOTE]
            self.state.notice(task, now)

    def task_checkpointed(self, hub: Hub, message: TaskCheckpointed, now: float) -> None:
        """Keep the state that an item has saved for its next attempt."""
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            checkpoints.keep(self.state, held, message)

    # ── ends ──

    def task_finished(self, hub: Hub, message: TaskFinished, now: float) -> None:
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            self._send_last_progress(held)
            self._finished(held, message, now)
        self._committed(hub, message.task, message.attempt, message.first)

    def _send_last_progress(self, held: Assignment) -> None:
        """Send watchers the progress that its slices reported too shortly before their end for a regular notice."""
        for task in held.tasks:
            if task.note and task.progress and task in self.state.changed:
                self.state.notify(task.record.watchers, task.news())

    def _finished(self, held: Assignment, message: TaskFinished, now: float) -> None:
        state = self.state
        duration_s = _believed(message.duration_s)
        left_s = max(1e-9, duration_s - held.reported_s)  # the items reported before are already charged
        held.worker = message.worker or held.worker
        charged_s = state.let_go(held, now, left_s)
        left = _left(message, held.items)
        state.placement.estimates.learn(held.record, duration_s, held.items - left)
        if message.told:
            self._untold(held, message.told, now)
        if left:
            self._handed_back(held, left, now)
        failed = self._failures(message, held.items, message.told, left)
        self._items_over(held, message, failed, 0, held.items, left_s, charged_s, now)

    def _untold(self, held: Assignment, told: int, now: float) -> None:
        """Run again those of the first `told` items whose ends the hub has reported but the core has not received."""
        for task in self._part(held, 0, told):
            if task.state is TaskState.CANCELLING:
                continue
            if task.record.spec.at_most_once:
                self._may_not_again(task, "the report of its end was lost", now)
            else:
                self._requeue(task, "TaskReturned", "the report of its end was lost", now)
        held.tasks = [task for task in held.record.covering(held.first, held.items) if task.held is held]

    def _handed_back(self, held: Assignment, left: int, now: float) -> None:
        """Queue the last `left` items again: the slice was to end after its current call, and they were not begun."""
        for task in self._part(held, held.items - left, left):
            if task.state is TaskState.CANCELLING:
                self.state.fail(task, "TaskStopped", None, now)
            else:
                self._requeue(task, "TaskReturned", "", now)
        held.tasks = [task for task in held.record.covering(held.first, held.items) if task.held is held]

    def items_finished(self, hub: Hub, message: ItemsFinished, now: float) -> None:
        """Take the ends of some calls of a slice that still runs: they need not wait for the end of the slice."""
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            self._items_finished(held, message, now)
        end = EndCommitted(
            task=message.task, attempt=message.attempt, first=message.first, offset=max(0, message.offset)
        )
        self.state.send(hub.address, end)

    def _items_finished(self, held: Assignment, message: ItemsFinished, now: float) -> None:
        first, items = message.offset, message.items
        stopping = any(task.state is TaskState.CANCELLING for task in held.tasks)  # then no result is wanted
        if first < 0 or items < 1 or first + items >= held.items or stopping:
            return
        duration_s = _believed(message.duration_s)
        held.worker = message.worker or held.worker
        failed = {first + offset: failure for offset, failure in self._failures(message, items).items()}
        charged_s = held.without_waits(duration_s)
        self.state.share.charge(held.user, charged_s, now, held.group.band.worker_class)
        self._items_over(held, message, failed, first, items, duration_s, charged_s, now)
        held.told, held.reported_s = max(held.told, first + items), held.reported_s + duration_s
        held.tasks = [task for task in held.record.covering(held.first, held.items) if task.held is held]
        for task in held.tasks:
            task.progress = 0.0  # the reported value was for the whole slice
            self.state.notice(task, now)
        if not held.tasks:  # the other items have been cancelled
            self.state.stop(held, "cancel")

    def _part(self, held: Assignment, offset: int, items: int) -> list[Slice]:
        """Cut out of the slice, and return, those of these items that the attempt still has."""
        record, first, last = held.record, held.first + offset, held.first + offset + items
        part = []
        for task in list(record.covering(first, items)):
            if task.held is held:
                low, high = max(first, task.first), min(last, task.first + task.items)
                part.append(record.carve(task, low, high - low))
        return part

    def _items_over(
        self,
        held: Assignment,
        message: TaskFinished | ItemsFinished,
        failed: dict[int, Failure],
        offset: int,
        items: int,
        duration_s: float,
        charged_s: float,
        now: float,
    ) -> None:
        """End items of the slice that have run; `failed` maps offsets in the slice to failures.

        `charged_s` is the part of their time in which the worker used a slot; their ends carry all of it.
        """
        told = held.told if offset == 0 else 0
        one_s = duration_s / max(1, items - told - _left(message, items))
        reported_of_s = self._failed_items(held, failed, one_s, message.peak_bytes, now) if failed else 0.0
        if isinstance(message, TaskFinished) and message.follows:
            self._follow(held, message.follows, now)
        kept = [held.first + offset + number for number in message.kept]
        done, done_items = [], 0
        for task in held.tasks if items == held.items else self._part(held, offset, items):
            if task.state is CANCELLING:
                self.state.fail(task, "TaskFinished", None, now)
                continue
            early = kept and any(task.first <= item < task.first + task.items for item in kept)
            task.move("StoppedAndKept" if early else "TaskFinished", now)
            done.append(task)
            done_items += task.items
        if done:
            its_s = one_s * done_items
            reported_of_s += its_s
            self._done(held, done, message, offset, items, its_s, now)
        rest_s = charged_s - reported_of_s  # in no TaskEnded; below zero where the ends include the time of waits
        if not -1e-9 <= rest_s <= 1e-9:
            self.state.tallies.spend(held.user.name, rest_s, self.state.wall(now))

    def _failures(
        self, message: TaskFinished | ItemsFinished, items: int, told: int = 0, left: int = 0
    ) -> dict[int, Failure]:
        """Return the failures by item; where the report is inconsistent, every item without a result has failed."""
        begun = items - left
        if not message.failures and message.items == items and message.payload is not None:  # nearly always
            return {}
        failed = {failure.offset: failure for failure in message.failures if 0 <= failure.offset < begun}
        if message.items != items or (message.payload is None and len(failed) < begun - told):
            lacking = Failure(kind="ProtocolError", message="the hub reported an end without a result")
            failed.update({n: lacking for n in range(told, begun) if n not in failed})
        return failed

    def _done(
        self,
        held: Assignment,
        done: list[Slice],
        message: TaskFinished | ItemsFinished,
        offset: int,
        items: int,
        duration_s: float,
        now: float,
    ) -> None:
        """End all items that have a result with one TaskEnded; its payload covers them, and `holes` are the gaps."""
        holes: tuple[int, ...] = ()
        first = held.first + offset
        if done[0].items != items and sum(task.items for task in done) != items:
            good = {n for task in done for n in range(task.first - first, task.first - first + task.items)}
            holes = tuple(n for n in range(items) if n not in good)
        kept = message.kept
        if kept:
            kept = tuple(n for n in kept if 0 <= n < items and n not in holes)
        self.state.finish(
            done,
            TaskEnded(  # positional, since keyword arguments cost time
                held.record.id,
                DONE,
                first,
                items,
                message.payload,
                None,
                holes,
                duration_s,
                held.worker,
                held.group.hub.hello.host,
                held.attempt,
                self.state.wall(now),
                done[0].code,
                kept,
                message.peak_bytes,
            ),
            now,
        )

    def _failed_items(
        self, held: Assignment, failed: dict[int, Failure], one_s: float, peak_bytes: int, now: float
    ) -> float:
        """Cut the items that raised out of the slice, and retry or end them; `held.tasks` are the remaining slices.

        Each item ran for `one_s`. The return value is the total run time of the items that have ended.
        """
        record, spec, ended_s = held.record, held.record.spec, 0.0
        for offset, failure in sorted(failed.items()):
            task = record.at(held.first + offset)
            if task.held is not held:  # cancelled meanwhile
                continue
            single = record.carve(task, held.first + offset, 1)
            if single.state is TaskState.CANCELLING:
                self.state.fail(single, "TaskFailed", None, now)
            elif single.tries < spec.retries and not spec.at_most_once and not _is_final(failure, spec):
                self._requeue(single, "RetryTask", f"{failure.kind}: {failure.message}", now, raised=True)
            else:
                self.state.fail(single, "TaskFailed", failure, now, one_s, peak_bytes)
                ended_s += one_s
        held.tasks = [task for task in record.covering(held.first, held.items) if task.held is held]
        return ended_s

    def _follow(self, held: Assignment, follows: Iterable[tuple[int, str]], now: float) -> None:
        """Cut the items that have returned a task out of the slice; `held.tasks` are the remaining slices."""
        record = held.record
        for offset, name in follows:
            if not 0 <= offset < held.items:
                continue
            task = record.at(held.first + offset)
            if task.held is not held or task.state in ENDED:  # cancelled meanwhile, or failed
                continue
            single = record.carve(task, held.first + offset, 1)
            if single.state is TaskState.CANCELLING:
                self.state.fail(single, "TaskFinished", None, now)
            else:
                following.follow(self.state, single, name, now)
        held.tasks = [task for task in record.covering(held.first, held.items) if task.held is held]

    def task_stopped(self, hub: Hub, message: TaskStopped, now: float) -> None:
        """Handle an attempt that was stopped on request, exceeded its timeout, or was handed back."""
        held = self._held(hub, message.task, message.first, message.attempt, now)
        if held is not None:
            held.worker = message.worker or held.worker
            self.let_go_lost(held, now)
            for task in list(held.tasks):
                if task.state is TaskState.CANCELLING:
                    self.state.fail(task, "TaskStopped", None, now)
                elif message.why == "timeout":
                    self._timed_out(task, now)
                elif message.ran and task.record.spec.at_most_once:
                    self._may_not_again(task, "it was interrupted", now)
                else:
                    self._requeue(task, "TaskReturned", "", now)
        self._committed(hub, message.task, message.attempt, message.first)

    def _timed_out(self, task: Slice, now: float) -> None:
        spec = task.record.spec
        named = not spec.retry_on or is_among(TaskTimeout, spec.retry_on)
        if task.tries < spec.retries and not spec.at_most_once and named:
            self._requeue(task, "RetryTask", "timeout", now, raised=True)
            return
        each = f" ({spec.timeout_s:g} s for each of {task.items} items)" if task.items > 1 else ""
        text = f"{spec.name} ran longer than its timeout of {spec.timeout_s * task.items:g} s{each} and was stopped"
        self.state.fail(task, "TimeoutPassed", Failure(kind="TaskTimeout", message=text), now)

    # ── lost attempts ──

    def attempt_lost(self, held: Assignment, cause: str, reason: str, now: float) -> None:
        """Retry or end an attempt whose worker died ("WorkerDied") or whose hub is gone ("HubSilent")."""
        state, spec = self.state, held.record.spec
        self.let_go_lost(held, now)
        for task in list(held.tasks):
            if task.state is TaskState.CANCELLING:
                state.fail(task, cause, None, now)
            elif spec.at_most_once:
                self._may_not_again(task, reason, now)
            elif cause == "WorkerDied":
                self._crashed(task, reason, now)
            else:
                self._requeue(task, cause, reason, now)

    def hub_ended(self, held: list[Assignment], orphans: list[Orphan], reason: str, now: float) -> None:
        """Handle the sudden end of a hub's process: one of the attempts it had may have caused it.

        The guilty attempt cannot be identified, so each counts one crash, up to one below the limit. A slice that has
        reached that count runs beside no other such slice (dispatch.py), and is LOST if its hub ends once more.
        """
        most, tasks = self.state.policy.most_ends, list[Slice]()
        for one in held:
            self.let_go_lost(one, now)
            tasks += one.tasks
        for orphan in orphans:
            del self.state.orphans[orphan.fence]
            tasks += orphan.tasks()
        suspects = [task for task in tasks if task.crashes + 1 >= most and task.state is not TaskState.CANCELLING]
        guilty = suspects[0] if len(suspects) == 1 and not _is_to_split(suspects[0]) else None
        for task in tasks:
            task.orphan = None
            if task.state is TaskState.CANCELLING:
                self.state.fail(task, "HubSilent", None, now)
            elif task.record.spec.at_most_once:
                self._may_not_again(task, reason, now)
            elif task is guilty:
                task.crashes += 1
                text = f"{task.record.spec.name} ran {task.crashes} times when its worker or hub ended: {reason}"
                self.state.fail(task, "TooManyCrashes", Failure(kind="TaskLost", message=text), now)
            elif guilty is None and task.crashes and _is_to_split(task):
                record = task.record
                for item in range(task.first, task.first + task.items):
                    single = record.carve(record.at(item), item, 1)
                    self._requeue(single, "HubSilent", reason, now, crashed=single.crashes + 1 < most)
            else:
                counts = guilty is None and task.crashes + 1 < most
                self._requeue(task, "HubSilent", reason, now, crashed=counts)

    def let_go_lost(self, held: Assignment, now: float) -> None:
        """Release a lost attempt; its time is still charged to its user."""
        spent_s = max(0.0, now - held.started_at - held.reported_s) if held.started_at else 0.0
        charged_s = self.state.let_go(held, now, spent_s)
        self.state.tallies.spend(held.user.name, charged_s, self.state.wall(now))

    def orphan_lost(self, orphan: Orphan, reason: str, now: float) -> None:
        """Retry or end an attempt that an earlier core assigned and that no hub has."""
        del self.state.orphans[orphan.fence]
        for task in orphan.tasks():
            task.orphan = None
            if task.record.spec.at_most_once:
                self._may_not_again(task, reason, now)
            else:
                self._requeue(task, "HubSilent", reason, now)

    def _may_not_again(self, task: Slice, reason: str, now: float) -> None:
        text = f"{task.record.spec.name} may have run once and may not run again (at_most_once): {reason}"
        self.state.fail(task, "AtMostOnce", Failure(kind="TaskLost", message=text), now)

    def _crashed(self, task: Slice, reason: str, now: float) -> None:
        record = task.record
        if task.items > 1 and record.spec.split:
            # One of the items killed the worker. Each now runs alone, so that only the guilty one is blamed.
            for item in range(task.first, task.first + task.items):
                self._requeue(record.carve(record.at(item), item, 1), "WorkerDied", reason, now)
            return
        if task.crashes + 1 >= self.state.policy.max_crashes:
            task.crashes += 1
            text = f"{record.spec.name} killed {task.crashes} workers and is not tried again; the last one: {reason}"
            self.state.fail(task, "TooManyCrashes", Failure(kind="TaskLost", message=text), now)
            return
        self._requeue(task, "WorkerDied", reason, now, crashed=True)

    def _requeue(
        self, task: Slice, cause: str, reason: str, now: float, crashed: bool = False, raised: bool = False
    ) -> None:
        task.move(cause, now)
        if task.record.children:
            parents.leave_children(self.state, task)
        task.held = None
        task.crashes += crashed
        task.tries += raised
        task.progress = 0.0
        task.note = reason = reason[:LONGEST_NOTE]
        first_s = task.record.spec.retry_wait_s if raised else 0.0
        waits_s = wait_s(first_s, task.tries, task.record.id, task.first) if first_s else 0.0
        self.state.out.append(
            Record(
                AttemptFailed(
                    task.record.id,
                    task.first,
                    task.items,
                    task.attempt,
                    crashed,
                    reason,
                    raised,
                    at=self.state.wall(now),
                    cause=cause,
                    memory_mb=self._memory_mb,
                    wait_s=waits_s,
                )
            )
        )
        if waits_s:
            self.state.delay(task, now + waits_s)
        else:
            self.state.enqueue(task)
        self.state.notice(task, now)

    # ── helpers ──

    def _held(self, hub: Hub, task: str, first: int, attempt: int, now: float) -> Assignment | None:
        """Return the attempt that a report names, if it is the current one."""
        fence = task, first, attempt
        held = hub.in_flight.get(fence)
        if held is None:
            orphan = self.state.orphans.get(fence)
            if orphan is not None and orphan.hub == hub.id:
                held = self.adopt(hub, orphan, None, now)
        if held is None:
            self.state.late_facts += 1
        return held

    def adopt(self, hub: Hub, orphan: Orphan, running: Running | None, now: float) -> Assignment | None:
        """Take over an attempt that an earlier core assigned and the hub still has; None if it is no longer wanted.

        `running` is its entry in the hub's hello, if the core learns of the attempt from a hello.
        """
        state, record = self.state, orphan.record
        worker = hub.workers.get(running.worker) if running is not None else None
        taking = (g for g in hub.groups if g.band.takes(record.spec.priority) and g.band.admits(record.user))
        fitting = [g for g in taking if g.has_needs(record.kind)]
        group = worker.group if worker is not None else next(iter(fitting or hub.groups), None)
        tasks = orphan.tasks()
        if group is None or not tasks:
            return None
        del state.orphans[orphan.fence]
        user = state.share.user(record.user)
        held = Assignment(
            orphan.fence, record, orphan.first, orphan.items, orphan.attempt, tasks, group, user, given_at=now
        )
        for task in tasks:
            task.orphan = None
            state.notice(task, now)
        parts = record.covering(orphan.first, orphan.items)  # including items whose ends it reported earlier
        held.reported_s = sum(ran_s(task) for task in parts if task.ended and task.ended.attempt == orphan.attempt)
        state.give(held)
        if running is not None and running.worker and not running.ahead:
            began_at = now - running.ran_s
            self.begun(held, running.worker, began_at)
            for task in tasks:
                task.move("TaskStarted", began_at)
        return held

    def _committed(self, hub: Hub, task: str, attempt: int, first: int) -> None:
        self.state.send(hub.address, EndCommitted(task, attempt, first))


def _is_to_split(task: Slice) -> bool:
    """Return whether its calls can run separately, so that the guilty one is found."""
    return task.items > 1 and task.record.spec.split


def _is_final(failure: Failure, spec: SubmitTask) -> bool:
    """Return whether a failure is not retried: of another class than `retry_on` names, or no error at all.

    The latter is that the call was stopped early on request without an emitted result (it has no traceback).
    """
    if spec.retry_on and not failure.retriable:
        return True
    return failure.kind == "NothingEmitted" and not failure.traceback


def _left(message: TaskFinished | ItemsFinished, items: int) -> int:
    """Return how many of the last items of a slice were not begun."""
    left = message.left if isinstance(message, TaskFinished) else 0
    return left if 0 < left < items else 0


def _believed(duration_s: float) -> float:
    """Return a duration that a hub reported, bounded to credible values."""
    return duration_s if 0.0 < duration_s < LONGEST_S else 1e-9
