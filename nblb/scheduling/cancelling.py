"""Taking back: what users cancel or forget, and what the core must refuse after all.

A cancel that has been answered is kept at once, also where a hub has still to confirm it: whatever dies meanwhile,
the task does not become DONE any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import Collected, JobForgotten
from nblb.protocol.messages import Answer, CancelAnswer, CancelTask, ForgetJob, TaskEnded, TaskRejected, TaskState
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
        self._called_off: dict[str, list[tuple[int, int, bool]]] = {}  # before they were accepted

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
        """Records that wait for a blob are not accepted yet: they are cancelled as soon as they are; how many items."""
        first, items = (0, 0) if message.job else (message.first, message.items)
        count = 0
        for spec in [spec for waiting in self.state.parked.values() for _, spec in waiting]:
            if spec.task == message.task or (message.job and spec.job == message.job):
                self._called_off.setdefault(spec.task, []).append((first, items, message.kill))
                count += items or spec.items
        return count

    def tick(self, now: float) -> None:
        """Cancel what was called off and has been accepted since, and nested tasks whose parent is over; before
        anything is given to a hub."""
        for task in [task for task in self._called_off if task not in self.state.parked_on]:
            record = self.state.records.get(task)
            for first, items, kill in self._called_off.pop(task):
                if record is not None:
                    self.cancel(record, first, items, kill, now)
        while self.state.left:  # a child's end leaves children of its own
            for child in parents.left_children(self.state):
                self.cancel(child, 0, 0, False, now)

    def cancel(self, record: Submission, first: int, items: int, kill: bool, now: float) -> tuple[int, str]:
        """Cancel these items of a record (0 items: all); how many will not run any more, and where they were."""
        if items == 0:
            first, items = 0, record.items
        if not 0 <= first < record.items or items < 0:
            return 0, ""
        last = min(first + items, record.items)
        cancelled, source = 0, ""
        for task in list(record.covering(first, last - first)):
            low, high = max(first, task.first), min(last, task.first + task.items)
            count, where = self._cancel_slice(task, low, high - low, kill, now)
            cancelled += count
            source = source or where
        return cancelled, source

    def _cancel_slice(self, task: Slice, first: int, items: int, kill: bool, now: float) -> tuple[int, str]:
        """Cancel the items first..first+items of this slice."""
        record, whole = task.record, items == task.items
        if task.state in OVER:
            return 0, ""
        if task.state is TaskState.DONE:
            # The seed's rule for single tasks: the result is dropped. One that others need, or of a job, is not.
            if record.spec.job or record.pins or not whole:
                return 0, ""
            self.state.tallies.uncount(task, self.state.wall_offset)
            self._end(task, now)
            return items, "done"
        if task.state in WAITING:
            self._end(self._cut_waiting(task, first, items), now)
            return items, "queue"
        if task.state is TaskState.CANCELLING:
            if kill and task.held is not None:
                self.state.stop(task.held, "cancel", kill)
            return 0, "pending"
        return self._cancel_given(task, first, items, kill, now), "pending"

    def _cancel_given(self, task: Slice, first: int, items: int, kill: bool, now: float) -> int:
        """A hub has it. While other items of the same attempt are wanted it can't be stopped: let it run on unheard."""
        state, held = self.state, task.held
        if held is not None and items == task.items and held.tasks == [task]:
            task.move("StopTask", now)
            if task.record.children:
                parents.leave_children(state, task)
            state.keep_end(self._ended(task, now))
            state.notice(task, now)
            state.stop(held, "cancel", kill)
            return items
        orphan = task.orphan  # nobody to tell: should a hub come back with it, it is sent away
        piece = task if items == task.items else task.record.carve(task, first, items)
        self._end(piece, now)
        if held is not None:
            held.tasks = [task for task in held.record.covering(held.first, held.items) if task.held is held]
        elif orphan is not None and not orphan.tasks():
            state.orphans.pop(orphan.fence, None)
        return items

    def _cut_waiting(self, task: Slice, first: int, items: int) -> Slice:
        """A slice of just these items of a waiting task; what is cut off keeps its place in the line."""
        if items == task.items:
            return task
        before = task.items
        start = task.first
        piece = task.record.carve(task, first, items)
        if task.state is TaskState.QUEUED:
            user = self.state.share.user(task.record.user)
            for other in task.record.covering(start, before):
                if other is not task:
                    user.stand(other)
        return piece

    def _ended(self, task: Slice, now: float) -> TaskEnded:
        return TaskEnded(
            task=task.record.id,
            first=task.first,
            items=task.items,
            state=TaskState.CANCELLED,
            attempt=task.attempt,
            ended_at=self.state.wall(now),
        )

    def _end(self, task: Slice, now: float) -> None:
        if task.move("CancelTask", now) is TaskState.QUEUED:
            self.state.unqueue(task)
        self.state.finish([task], self._ended(task, now), now)

    # ── jobs, and second thoughts ──

    def forget_job(self, client: ConnectedClient, message: ForgetJob, now: float) -> None:
        """Drop the job at once, so that nobody finds it by its name or id, and say so."""
        job = self.state.jobs.get(message.job)
        if job is not None:
            self._forget(job, now)
        if message.request:
            self.state.send(client.address, Answer(request=message.request, value=job is not None))

    def _forget(self, job: SubmittedJob, now: float) -> None:
        """Cancel what is open; the records go with the next sweep, or when their hubs have let go of them."""
        state = self.state
        for record in list(job.records.values()):
            self.cancel(record, 0, 0, False, now)
            record.expires = now
            if record.closed:
                state.expire_at(record, now)
            state.out.append(Record(Collected(record.id, state.wall(now))))
        for record in list(job.records.values()):  # all are cancelled: no follower becomes a source any more
            if record.spec.cache and state.cache.get(record.spec.cache) is record:
                del state.cache[record.spec.cache]
        state.dropped.job(job.id, job.user, job.spec.name, expired=False)
        state.drop_job(job)
        state.out.append(Record(JobForgotten(job.id)))

    def refuse(self, tasks: Iterable[str], kind: str, reason: str, now: float) -> None:
        """Undo records whose acceptance could not be kept: nobody has heard of them, no hub has got them."""
        state = self.state
        chosen = {name: state.records[name] for name in tasks if name in state.records}
        for record in sorted(chosen.values(), key=lambda record: -record.number):  # those that need others first
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
            state.tell(watchers, TaskRejected(task=record.id, kind=kind, reason=reason))
