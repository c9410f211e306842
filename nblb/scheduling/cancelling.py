"""Cancelling submissions, dropping jobs, and undoing acceptances that could not be committed.

A cancellation is written to the journal before it is answered, even if a hub still has to confirm it: whatever
process dies in between, the items cannot become DONE.
"""

from __future__ import annotations

from collections.abc import Iterable

from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import Collected, JobForgotten
from nblb.protocol.messages import (
    Answer,
    CancelAnswer,
    CancelTask,
    Failure,
    ForgetJob,
    TaskEnded,
    TaskRejected,
    TaskState,
)
from nblb.scheduling import dependencies
from nblb.scheduling.nesting import parents
from nblb.scheduling.retention import Retention
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import ConnectedClient, State
from nblb.scheduling.submission import Submission, SubmittedJob

OVER = (TaskState.CANCELLED, TaskState.FAILED, TaskState.LOST)
WAITING = (TaskState.BLOCKED, TaskState.QUEUED)


class Cancelling:
    """Handles CancelTask and ForgetJob."""

    def __init__(self, state: State, retention: Retention) -> None:
        self.state = state
        self.retention = retention
        self._called_off: dict[str, list[tuple[int, int, bool]]] = {}  # cancelled before they were accepted

    def cancel_task(self, client: ConnectedClient, message: CancelTask, now: float) -> None:
        state = self.state
        cancelled, source = 0, ""
        if message.job:
            job = state.jobs.get(message.job)
            records = list(job.records.values()) if job is not None else []
            first, items = 0, 0
        else:
            known = state.records.get(message.task)
            records = [known] if known is not None else []
            first, items = message.first, message.items
        for record in records:
            count, where = self.cancel(record, first, items, message.kill, now)
            cancelled += count
            source = source or where
        waiting = self._call_off(message) if state.parked_on else 0
        cancelled, source = cancelled + waiting, source or ("queue" if waiting else "")
        state.send(client.address, CancelAnswer(request=message.request, cancelled=cancelled, source=source))

    def _call_off(self, message: CancelTask) -> int:
        """Mark parked submissions, which wait for a blob, to be cancelled once accepted; return the number of items."""
        first, items = (0, 0) if message.job else (message.first, message.items)
        count = 0
        for spec in [spec for waiting in self.state.parked.values() for _, spec in waiting]:
            if spec.task == message.task or (message.job and spec.job == message.job):
                self._called_off.setdefault(spec.task, []).append((first, items, message.kill))
                count += items or spec.items
        return count

    def tick(self, now: float) -> None:
        """Cancel submissions that were called off and accepted since, and nested ones whose parent is over.

        This runs before anything is assigned to a hub.
        """
        for task in [task for task in self._called_off if task not in self.state.parked_on]:
            record = self.state.records.get(task)
            for first, items, kill in self._called_off.pop(task):
                if record is not None:
                    self.cancel(record, first, items, kill, now)
        while self.state.left:  # cancelling a child may leave children of its own
            for child in parents.left_children(self.state):
                self.cancel(child, 0, 0, False, now)

    def cancel(
        self, record: Submission, first: int, items: int, kill: bool, now: float, reason: Failure | None = None
    ) -> tuple[int, str]:
        """Cancel items of a submission (0 items: all); return how many will not run, and where they were.

        `reason` is in their ends, if a rule and not a user cancels them.
        """
        if items == 0:
            first, items = 0, record.items
        if not 0 <= first < record.items or items < 0:
            return 0, ""
        last = min(first + items, record.items)
        cancelled, source = 0, ""
        for task in list(record.covering(first, last - first)):
            low, high = max(first, task.first), min(last, task.first + task.items)
            count, where = self._cancel_slice(task, low, high - low, kill, now, reason)
            cancelled += count
            source = source or where
        return cancelled, source

    def _cancel_slice(
        self, task: Slice, first: int, items: int, kill: bool, now: float, reason: Failure | None
    ) -> tuple[int, str]:
        """Cancel the items first..first+items of this slice."""
        record, whole = task.record, items == task.items
        if task.state in OVER:
            return 0, ""
        if task.state is TaskState.DONE:
            # The seed's rule for single tasks: the result is dropped, unless another needs it or it belongs to a job.
            if record.spec.job or record.pins or not whole:
                return 0, ""
            self.state.tallies.retire_slice(task, self.state.wall_offset)
            self._end(task, now)
            return items, "done"
        if task.state in WAITING:
            self._end(self._cut_waiting(task, first, items), now, reason)
            return items, "queue"
        if task.state is TaskState.CANCELLING:
            if kill and task.held is not None:
                self.state.stop(task.held, "cancel", kill)
            return 0, "pending"
        return self._cancel_given(task, first, items, kill, now, reason), "pending"

    def _cancel_given(self, task: Slice, first: int, items: int, kill: bool, now: float, reason: Failure | None) -> int:
        """Cancel items that a hub has. The attempt runs on unobserved if other items of it are still wanted."""
        state, held = self.state, task.held
        if held is not None and items == task.items and held.tasks == [task]:
            task.move("StopTask", now)
            task.reason = reason
            if task.record.children:
                parents.leave_children(state, task)
            state.keep_end(self._ended(task, now, reason))
            state.notice(task, now)
            state.stop(held, "cancel", kill)
            return items
        orphan = task.orphan  # no hub to stop yet: a hub that returns with it receives the order to stop it
        piece = task if items == task.items else task.record.carve(task, first, items)
        self._end(piece, now, reason)
        if held is not None:
            held.tasks = [task for task in held.record.covering(held.first, held.items) if task.held is held]
        elif orphan is not None and not orphan.tasks():
            state.orphans.pop(orphan.fence, None)
        return items

    def _cut_waiting(self, task: Slice, first: int, items: int) -> Slice:
        """Return a slice of exactly these items of a waiting slice; the rest keeps its place in the line."""
        if items == task.items:
            return task
        before = task.items
        start = task.first
        piece = task.record.carve(task, first, items)
        if task in self.state.delayed:
            for other in task.record.covering(start, before):
                self.state.delay(other, task.not_before)
        elif task.state is TaskState.QUEUED:
            user = self.state.share.user(task.record.user)
            for other in task.record.covering(start, before):
                if other is not task:
                    user.stand(other)
        return piece

    def _ended(self, task: Slice, now: float, reason: Failure | None) -> TaskEnded:
        return TaskEnded(
            task=task.record.id,
            first=task.first,
            items=task.items,
            state=TaskState.CANCELLED,
            failure=reason,
            attempt=task.attempt,
            ended_at=self.state.wall(now),
        )

    def _end(self, task: Slice, now: float, reason: Failure | None = None) -> None:
        if task.move("CancelTask", now) is TaskState.QUEUED:
            self.state.unqueue(task)
        self.state.finish([task], self._ended(task, now, reason), now)

    # ── jobs, and undone acceptances ──

    def forget_job(self, client: ConnectedClient, message: ForgetJob, now: float) -> None:
        """Drop the job at once, so that it is no longer found by name or id, and confirm that."""
        job = self.state.jobs.get(message.job)
        if job is not None:
            self._forget(job, now)
        if message.request:
            self.state.send(client.address, Answer(request=message.request, value=job is not None, committed=True))

    def _forget(self, job: SubmittedJob, now: float) -> None:
        """Cancel the open items; a sweep removes the submissions as soon as their hubs have released them."""
        state = self.state
        for record in list(job.records.values()):
            self.cancel(record, 0, 0, False, now)
            record.expires = now
            if record.closed:
                state.expire_at(record, now)
            state.out.append(Record(Collected(record.id, state.wall(now))))
        for record in list(job.records.values()):  # all are cancelled: no follower can become a source now
            if record.spec.cache and state.cache.get(record.spec.cache) is record:
                del state.cache[record.spec.cache]
        state.dropped.job(job.id, job.user, job.spec.name, expired=False)
        state.drop_job(job)
        state.out.append(Record(JobForgotten(job.id)))

    def refuse(self, tasks: Iterable[str], kind: str, reason: str, now: float) -> None:
        """Undo submissions whose acceptance could not be committed: no client and no hub has received anything yet."""
        state = self.state
        chosen = {name: state.records[name] for name in tasks if name in state.records}
        for record in sorted(chosen.values(), key=lambda record: -record.number):  # dependents before what they need
            watchers, record.watchers = record.watchers, ()
            for task in record.slices:
                held = task.held
                if held is not None:
                    state.let_go(held, now, 0.0)
                    task.held = None
                if task.state is TaskState.QUEUED:
                    task.state = TaskState.CANCELLED
                    record.count(TaskState.QUEUED, TaskState.CANCELLED, task.items)
                    state.unqueue(task)
                state.changed.pop(task, None)
            if not record.closed:
                dependencies.unpin(state, record)
            dependencies.untie(state, record)
            self.retention.forget(record, keep_job=True)
            state.notify(watchers, TaskRejected(task=record.id, kind=kind, reason=reason))
