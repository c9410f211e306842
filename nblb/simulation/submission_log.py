"""The journal read from outside: each committed entry is checked against all earlier ones.

This module knows nothing of the scheduler. Rules (docs/simulation.md): I1 no task is dropped before its results were
collected; I2 one task per id; I3 an end is accepted once, from the current attempt; I8 a cancelled task is neither done
nor run afterwards; `wait`: no retry begins before its time; `retry`: only failures that `retry_on` names are retried;
`limit`: no call of a job begins after `max_failures` of them have failed, and none is ended for that before; `state`:
an attempt begins with the state that the last one has saved; `deadline`: none begins later, and none fails before.
"""

from __future__ import annotations

from collections.abc import Sequence

from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    EndKept,
    JobForgotten,
    JobKept,
    TaskForgotten,
    TaskKept,
)
from nblb.protocol.messages import TOO_MANY_FAILURES, RunTask, SubmitTask, TaskState
from nblb.scheduling.long_tasks.checkpoints import PREFIX, is_checkpoint
from nblb.simulation.simulator import Violation
from nblb.simulation.workload import OTHER_ERROR, result_text

DONE, CANCELLED = TaskState.DONE, TaskState.CANCELLED


class Kept:
    """A submission as the journal has it, item by item."""

    __slots__ = (
        "attempts",
        "batch",
        "cancelled",
        "ends",
        "failed",
        "follows",
        "forgotten",
        "limited",
        "raised",
        "reopened",
        "since",
        "spec",
        "states",
    )

    def __init__(self, spec: SubmitTask, batch: int) -> None:
        self.spec = spec
        self.batch = batch  # the number of its commit
        self.attempts = [0] * spec.items
        self.states: list[TaskState | None] = [None] * spec.items
        self.ends: list[EndKept] = []
        self.failed: set[tuple[int, int]] = set()  # (item, attempt) that failed
        self.raised: dict[int, tuple[int, float]] = {}  # item -> attempts that raised, and when the last one did
        self.follows: dict[int, str] = {}  # item -> the task that it returned, whose end becomes its own
        self.cancelled: set[int] = set()  # items that a CancelAnswer has confirmed
        self.limited: set[int] = set()  # items that max_failures of the job has ended
        self.since: list[float] = []  # by item: when it was accepted, or retried
        self.reopened: set[int] = set()  # items that were retried since
        self.forgotten = False

    @property
    def open_items(self) -> list[int]:
        return [item for item, state in enumerate(self.states) if state is None]


class SubmissionLog:
    """All submissions that were ever committed."""

    def __init__(self) -> None:
        self.orderly = True  # False: the network may repeat a request after its task was forgotten
        self.tasks: dict[str, Kept] = {}
        self.is_steady = True  # False: a wall clock was set, so that times of entries cannot be compared
        self.batches = 0
        self.jobs: dict[str, int] = {}  # job -> its max_failures
        self.saved: dict[str, bytes] = {}  # name of a saved state -> the state
        self.limited: set[str] = set()  # jobs that had so many failures
        self.fences: set[tuple[str, int, int]] = set()
        self.produced: dict[tuple[str, int, int], set[int]] = {}  # (task, first, attempt) -> reported items
        self.collected: set[str] = set()  # tasks whose results a client has received
        self.given_up: set[str] = set()  # jobs that a user asked to drop

    def void(self) -> None:
        """Clears the log: with LB_DURABILITY "none" nothing survives, and nothing was promised."""
        self.tasks.clear()
        self.jobs.clear()
        self.fences.clear()
        self.saved.clear()

    def committed(self, batch: Sequence[AnyEntry]) -> None:
        self.batches += 1
        for entry in batch:
            kind = type(entry)
            if kind is AttemptKept:
                self._attempt(entry)  # type: ignore[arg-type]
            elif kind is EndKept:
                self._end(entry)  # type: ignore[arg-type]
            elif kind is TaskKept:
                self._task(entry)  # type: ignore[arg-type]
            elif kind is AttemptFailed:
                self._failed(entry)  # type: ignore[arg-type]
            elif kind is TaskForgotten:
                self._forgotten(entry)  # type: ignore[arg-type]
            elif kind is BlobKept and is_checkpoint(entry.hash):  # type: ignore[union-attr]
                self.saved[entry.hash] = b"".join(map(bytes, entry.payload.buffers))  # type: ignore[union-attr]
            elif kind is BlobForgotten:
                self.saved.pop(entry.hash, None)  # type: ignore[union-attr]
            elif kind is JobKept:
                self.jobs[entry.spec.job] = entry.spec.max_failures  # type: ignore[union-attr]
            elif kind is JobForgotten:
                self.jobs.pop(entry.job, None)  # type: ignore[union-attr]

    def check_states(self, run: RunTask) -> None:
        """Checks that an order has the states that are on the disk, and that earlier attempts have saved them."""
        states = {f"{PREFIX}{run.task}.{run.first + one.offset}": one.payload for one in run.checkpoints}
        items = range(run.first, run.first + run.items)
        for item in items:
            name = f"{PREFIX}{run.task}.{item}"
            given = b"".join(map(bytes, states[name].buffers)) if name in states else None
            if given != self.saved.get(name):
                raise Violation("state", f"{run.task}[{item}] begins with {given!r}, saved is {self.saved.get(name)!r}")
            if given is not None and not given.startswith(f"{run.task}[{item}]#".encode()):
                raise Violation("state", f"{run.task}[{item}] begins with the state {given!r} of another call")

    def _task(self, entry: TaskKept) -> None:
        task = entry.spec.task
        known = self.tasks.get(task)
        if known is not None and (self.orderly or not known.forgotten):
            raise Violation("I2", f"task {task} was accepted twice")
        kept = self.tasks[task] = Kept(entry.spec, self.batches)
        kept.since = [entry.at] * entry.spec.items

    def _kept(self, task: str, what: AnyEntry) -> Kept:
        kept = self.tasks.get(task)
        if kept is None or kept.forgotten:
            raise Violation("I3", f"the journal keeps {what} of a task that it does not hold")
        return kept

    def _attempt(self, entry: AttemptKept) -> None:
        kept = self._kept(entry.task, entry)
        for item in range(entry.first, entry.first + entry.items):
            if kept.states[item] is not None:
                raise Violation("I3", f"{entry.task}[{item}] runs again after it was {kept.states[item]}")
            if item in kept.cancelled:
                raise Violation("I8", f"{entry.task}[{item}] runs again after its cancel was acknowledged")
            self._waited(kept, item, entry)
            if kept.spec.deadline_s and self.is_steady and entry.at > kept.since[item] + kept.spec.deadline_s + 1e-3:
                raise Violation("deadline", f"{entry.task}[{item}] begins after its deadline")
            if item not in kept.reopened and self._has_too_many_failures(kept.spec.job):
                raise Violation("limit", f"{entry.task}[{item}] runs, and its job has too many failures for that")
            kept.attempts[item] = entry.attempt
            kept.follows.pop(item, None)
        fence = entry.task, entry.first, entry.attempt
        if fence in self.fences:
            raise Violation("I3", f"the fence {fence} is used a second time")
        self.fences.add(fence)

    def _waited(self, kept: Kept, item: int, entry: AttemptKept) -> None:
        """Checks that a call that raised waits before its next attempt, each time twice as long."""
        times, at = kept.raised.get(item, (0, 0.0))
        if not times or not self.is_steady:
            return
        least_s = kept.spec.retry_wait_s * 2.0 ** (times - 1)
        if entry.at < at + least_s - 1e-3:
            raise Violation("wait", f"{entry.task}[{item}] is retried after {entry.at - at:.3f} s, not {least_s:g} s")

    def _failed(self, entry: AttemptFailed) -> None:
        kept = self._kept(entry.task, entry)
        for item in range(entry.first, entry.first + entry.items):
            if entry.again:
                if kept.states[item] not in (TaskState.FAILED, TaskState.LOST) and item not in kept.limited:
                    raise Violation("I3", f"{entry.task}[{item}] was {kept.states[item]} and is given a new life")
                kept.states[item] = None
                kept.raised.pop(item, None)
                kept.limited.discard(item)
                kept.reopened.add(item)
                kept.since[item] = entry.at
                continue
            if kept.states[item] is not None or kept.attempts[item] != entry.attempt:
                raise Violation("I3", f"{entry} is not about the current attempt {kept.attempts[item]}")
            if entry.raised and OTHER_ERROR in kept.spec.retry_on:
                raise Violation("retry", f"{entry.task}[{item}] is retried, and its retry_on names another class")
            if entry.raised:
                kept.raised[item] = kept.raised.get(item, (0, 0.0))[0] + 1, entry.at
            if entry.follows:
                kept.follows[item] = entry.follows
            else:
                kept.failed.add((item, entry.attempt))

    def _end(self, entry: EndKept) -> None:
        kept = self._kept(entry.task, entry)
        items = [n for n in range(entry.first, entry.first + entry.items) if n - entry.first not in entry.holes]
        if not items:
            raise Violation("I3", f"{entry} is the end of nothing")
        for item in items:
            self._end_of_item(kept, item, entry)
        if entry.state is DONE and entry.worker != "cache":
            self._genuine(entry)
        kept.ends.append(entry)

    def _end_of_item(self, kept: Kept, item: int, entry: EndKept) -> None:
        name, before = f"{entry.task}[{item}]", kept.states[item]
        if before is not None and not (before is DONE and entry.state is CANCELLED and not kept.spec.job):
            raise Violation("I3", f"{name} was {before} and ends again as {entry.state}")
        if entry.state is DONE and item in kept.cancelled:
            raise Violation("I8", f"{name} is done after its cancel was acknowledged")
        if entry.state is DONE and entry.worker != "cache":
            if entry.attempt != kept.attempts[item]:
                raise Violation("I3", f"{name} takes the result of attempt {entry.attempt} of {kept.attempts[item]}")
            if (item, entry.attempt) in kept.failed:
                raise Violation("I3", f"{name} takes the result of attempt {entry.attempt}, which had failed")
        kept.states[item] = entry.state
        if entry.failure is not None and entry.failure.kind == "DeadlineExceeded" and self.is_steady:
            left_s = kept.since[item] + kept.spec.deadline_s - entry.at
            if left_s > 1e-3 or not kept.spec.deadline_s:
                raise Violation("deadline", f"{name} fails {left_s:.3f} s before its deadline")
        if entry.state is CANCELLED and entry.failure is not None and entry.failure.kind == TOO_MANY_FAILURES:
            kept.limited.add(item)
            if not self._has_too_many_failures(kept.spec.job):
                raise Violation("limit", f"{name} is cancelled for {entry.failure.message}, and that is not so")
        elif entry.state in (TaskState.FAILED, TaskState.LOST) and self._has_too_many_failures(kept.spec.job):
            self.limited.add(kept.spec.job)
            for other in self._of_job(kept.spec.job):
                other.reopened.clear()

    def _of_job(self, job: str) -> list[Kept]:
        return [kept for kept in self.tasks.values() if kept.spec.job == job and not kept.forgotten]

    def _has_too_many_failures(self, job: str) -> bool:
        """True if as many items of the job have failed as its max_failures allows."""
        most = self.jobs.get(job, 0) if job else 0
        if not most:
            return False
        bad = (TaskState.FAILED, TaskState.LOST)
        return sum(state in bad for kept in self._of_job(job) for state in kept.states) >= most

    def _genuine(self, entry: EndKept) -> None:
        """Checks that a worker has really produced this result, for these items."""
        known = self.produced.get((entry.task, entry.first, entry.attempt), ())
        text = bytes(entry.payload.buffers[0]) if entry.payload is not None else b""
        followed = self.tasks.get(self.tasks[entry.task].follows.get(entry.first, ""))
        if followed is not None and entry.items == 1:
            ends = [end for end in followed.ends if end.state is DONE and end.payload is not None]
            if text not in [bytes(end.payload.buffers[0]) for end in ends if end.payload is not None]:
                raise Violation("nested", f"the result {text!r} was accepted as {entry}, which follows another task")
            return
        rest, _, left_ = text.partition(b"<")
        told, left = int(rest.partition(b"-")[2] or 0), int(left_ or 0)
        genuine = result_text(entry.task, entry.first, entry.items, entry.attempt, told, left)
        if entry.items not in known or text != genuine:
            raise Violation("I3", f"the result {text!r} was accepted as {entry}")
        if not {*range(told), *range(entry.items - left, entry.items)} <= set(entry.holes):
            raise Violation("I3", f"{entry} ends items that its result holds nothing for")

    def _forgotten(self, entry: TaskForgotten) -> None:
        kept = self._kept(entry.task, entry)
        if kept.open_items:
            raise Violation("I1", f"task {entry.task} was forgotten before its items {kept.open_items} had ended")
        if entry.task not in self.collected and kept.spec.job not in self.given_up:
            raise Violation("I1", f"task {entry.task} was dropped, but no client had collected it")
        kept.forgotten = True
