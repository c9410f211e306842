"""What happens to tasks whose results, arguments or functions can no longer be read from the journal's files."""

from __future__ import annotations

from nblb.protocol.messages import BlobMissing, Failure, HoldBlob, RunTask, TaskEnded, TaskState
from nblb.scheduling.attempt_reports import AttemptReports
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

UNFINISHED = (TaskState.BLOCKED, TaskState.QUEUED)


class Unreadable:
    """Ends the items that damaged files and lost entries concern, and only those."""

    def __init__(self, state: State, outcome: AttemptReports) -> None:
        self.state, self.outcome = state, outcome

    def unreadable(self, address: str, message: object, reason: str, now: float) -> None:
        """Handle a message to this party whose payload cannot be read."""
        if isinstance(message, TaskEnded):
            self._result(message, reason, now)
        elif isinstance(message, RunTask):
            self._arguments(address, message, reason, now)
        elif isinstance(message, HoldBlob):
            self._blob(address, message, reason, now)

    def _result(self, message: TaskEnded, reason: str, now: float) -> None:
        """Make the DONE items LOST whose result this end contains."""
        state, record = self.state, self.state.records.get(message.task)
        if record is None:
            return
        lost = [
            task
            for task in record.covering(message.first, message.items)
            if task.state is TaskState.DONE and task.ended is not None and task.ended.payload is message.payload
        ]
        for task in lost:
            state.tallies.uncount(task, state.wall_offset)
            task.move("ResultDamaged", now)
            ended = TaskEnded(
                task=record.id,
                first=task.first,
                items=task.items,
                state=TaskState.LOST,
                failure=Failure(kind="TaskLost", message=f"its result is lost: {reason}"),
                attempt=task.attempt,
                ended_at=state.wall(now),
                function=task.code,
            )
            state.finish([task], ended, now)
        if lost and record.spec.cache and state.cache.get(record.spec.cache) is record:
            del state.cache[record.spec.cache]

    def _arguments(self, address: str, message: RunTask, reason: str, now: float) -> None:
        """End an attempt whose order cannot be sent: another one would need the same file."""
        hub = self.state.hubs.get(address)
        held = hub.in_flight.get((message.task, message.first, message.attempt)) if hub is not None else None
        if held is None:
            return
        self.outcome.let_go_lost(held, now)
        for task in list(held.tasks):
            if task.state is TaskState.CANCELLING:
                self.state.fail(task, "HubSilent", None, now)
            else:
                self._lose(task, f"its arguments are lost: {reason}", now)

    def _blob(self, address: str, message: HoldBlob, reason: str, now: float) -> None:
        """Drop a function or constant that cannot be read, or the result that a task needs."""
        state, hub = self.state, self.state.hubs.get(address)
        if hub is not None:
            hub.holds.discard(message.hash)
            state.send(address, BlobMissing(hash=message.hash))
        blob = state.blobs.get(message.hash)
        if blob is not None:
            state.drop_blob(message.hash)
            state.log("error", f"LB - {blob.name or message.hash} IS LOST : {reason}; submit tasks with it again")
            return
        record, _ = state.needed(message.hash)
        for task in list(record.slices) if record is not None else ():
            if task.ended is not None and task.ended.payload is message.payload:
                self._result(task.ended, reason, now)

    def may_have_begun(self, reason: str, now: float) -> None:
        """End the open at_most_once tasks of a journal that has lost entries: one may be that it has begun."""
        for record in list(self.state.records.values()):
            if record.spec.at_most_once and record.unended:
                for task in [task for task in record.slices if task.state in UNFINISHED]:
                    self._lose(task, f"it may have run once and may not run again (at_most_once): {reason}", now)

    def _lose(self, task: Slice, text: str, now: float) -> None:
        if task.state is TaskState.QUEUED:
            self.state.unqueue(task)
        self.state.fail(task, "JournalDamaged", Failure(kind="TaskLost", message=text), now)
