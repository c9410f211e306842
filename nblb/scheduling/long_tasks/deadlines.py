"""Deadlines: a call that has not ended by then is FAILED, wherever it is; pure.

`deadline_s` counts from the acceptance of the submission, or from a retry of failed calls; `deadline_at` is a time of
the wall clock, which no retry after it obeys any more.
"""

from __future__ import annotations

from heapq import heappop, heappush

from nblb.protocol.messages import ENDED, Failure, TaskState
from nblb.quantities import duration
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission

INFINITE = float("inf")
OVER = (*ENDED, TaskState.CANCELLING)


def deadline(state: State, task: Slice) -> float:
    """Return when the calls of a slice must have ended, by the core's monotonic clock; infinite if never."""
    spec, began_at = task.record.spec, task.queued_at
    until = began_at + spec.deadline_s if spec.deadline_s > 0.0 else INFINITE
    if spec.deadline_at:
        at = spec.deadline_at - state.wall_offset
        if at > began_at or began_at <= task.record.accepted_at:
            until = min(until, at)
    return until


class Deadlines:
    """The submissions with deadlines, by time; ends the calls whose deadline has passed."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._heap: list[tuple[float, int, Submission]] = []

    def watch(self, record: Submission) -> None:
        """Look at the submission when the first deadline of its open calls has come."""
        until = min((deadline(self.state, task) for task in record.slices if task.state not in OVER), default=INFINITE)
        if until < INFINITE:
            heappush(self._heap, (until, record.number, record))

    def next_deadline(self) -> float | None:
        """Return when the next deadline may have passed; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def tick(self, now: float) -> None:
        """End the calls whose deadline has passed, before anything is assigned to a hub."""
        state = self.state
        watched, state.with_deadline = state.with_deadline, {}
        for record in watched:
            self.watch(record)
        while self._heap and self._heap[0][0] <= now:
            _, _, record = heappop(self._heap)
            if not record.unended or state.records.get(record.id) is not record:
                continue
            for task in list(record.slices):
                if task.state not in OVER and deadline(state, task) <= now:
                    self._end(task, now)
            self.watch(record)

    def _end(self, task: Slice, now: float) -> None:
        """End a slice; if a hub has it, and nothing else of the attempt is wanted, the hub gets the order to stop."""
        state, held, orphan = self.state, task.held, task.orphan
        if task.state is TaskState.QUEUED:
            was = "was still waiting"
        elif task.state is TaskState.BLOCKED:
            was = "still waited for other tasks"
        else:
            was = "was stopped" if held is not None and held.started_at else "had not begun"
        spec = task.record.spec
        past = f"{duration(max(0.0, now - task.queued_at))} after it was submitted"
        text = f"{spec.name} had not ended by its deadline: {past} it {was}"
        old = task.state
        state.fail(task, "DeadlinePassed", Failure(kind="DeadlineExceeded", message=text), now)
        if old is TaskState.QUEUED:
            state.unqueue(task)
        if held is not None:
            held.tasks = [other for other in held.record.covering(held.first, held.items) if other.held is held]
            if not held.tasks:
                held.is_over = True
                state.overdue[held] = None
                state.stop(held, "cancel")
        elif orphan is not None and not orphan.tasks():
            state.orphans.pop(orphan.fence, None)
