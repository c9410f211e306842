"""Rebuilds the live state from the entries of a journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nblb.protocol.equipment import class_of
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
from nblb.protocol.messages import TaskEnded, TaskState
from nblb.scheduling import dependencies
from nblb.scheduling.hubs import Orphan
from nblb.scheduling.long_tasks import checkpoints
from nblb.scheduling.nesting import following, parents
from nblb.scheduling.reporting.tallies import ran_s
from nblb.scheduling.slice import Slice, narrowed
from nblb.scheduling.state import Blob, State
from nblb.scheduling.submission import Interning, Submission, SubmittedJob

LEAST_LEFT_S = 3600.0  # to collect a result after a start of the core


class Restore:
    """Replays entries into an empty state.

    They may come in the order in which they were written, or in that of the journal's tables: tasks, failed attempts,
    open attempts, ends.
    """

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self._words = Interning()
        self._checkpoints: dict[str, Payload] = {}  # name of the blob -> saved state
        self._void: dict[str, list[tuple[int, int, int]]] = {}  # submission -> retried (first, items, attempt)

    def play(self, entries: Iterable[AnyEntry]) -> None:
        for entry in entries:
            match entry:
                case TaskKept():
                    self._task(entry)
                case EndKept():
                    self._end(entry)
                case AttemptKept():
                    self._attempt(entry)
                case AttemptFailed():
                    self._attempt_failed(entry)
                case BlobKept(hash=name, payload=payload) if checkpoints.is_checkpoint(name):
                    self._checkpoints[name] = payload
                case BlobKept(hash=name, payload=payload):
                    self.state.drop_blob(name)
                    self.state.blobs[name] = Blob(payload, entry.name, self.now)
                case PriorityKept(task=name, priority=priority):
                    if name in self.state.records:
                        self.state.records[name].change_priority(priority)
                case Published(name=name, hash=blob):
                    self._published(name, blob)
                case JobKept():
                    self._job(entry)
                case Collected(task=name, expires=expires):
                    if name in self.state.records:
                        self.state.records[name].expires = expires - self.state.wall_offset
                case StatisticsKept():
                    self.state.tallies.recall_name(entry)
                case UserKept():
                    self.state.tallies.recall_user(entry)
                case TaskForgotten(task=name):
                    self._task_forgotten(name)
                case JobForgotten(job=name):
                    self._job_forgotten(name)
                case BlobForgotten(hash=name):
                    self._checkpoints.pop(name, None)
                    self.state.drop_blob(name)
        self._resume()

    def _task_forgotten(self, name: str) -> None:
        record = self.state.records.pop(name, None)
        self._void.pop(name, None)
        if record is not None and record.spec.parent:
            parents.untie(self.state, record, self.now)
        if record is not None and record.job is not None:
            record.job.leave(record)

    def _job_forgotten(self, name: str) -> None:
        job = self.state.jobs.get(name)
        if job is not None:
            self.state.drop_job(job)

    def _published(self, name: str, blob: str) -> None:
        if blob:
            self.state.published[name] = blob
        else:
            self.state.published.pop(name, None)

    def _job(self, entry: JobKept) -> None:
        job = SubmittedJob(entry.spec, entry.user, entry.at - self.state.wall_offset)
        self.state.jobs[job.id] = job
        self.state.job_names[job.user, job.spec.name] = job.id

    def _task(self, entry: TaskKept) -> None:
        state, spec = self.state, entry.spec
        state.accepted += 1
        self._words.share(spec)
        job = state.jobs.get(spec.job) if spec.job else None
        record = Submission(spec, spec.user, state.accepted, entry.at - state.wall_offset, job)
        record.owner = state.share.user(spec.user)
        state.records[record.id] = record
        if job is not None:
            job.join(record)
        if spec.parent:
            parents.tie(state, record)
        record.begin(TaskState.QUEUED, record.accepted_at)

    def _time(self, wall: float) -> float:
        """Convert a wall-clock time to this core's monotonic clock; return now for an unknown time."""
        return wall - self.state.wall_offset if wall else self.now

    def _slice(self, task: str, first: int, items: int) -> Slice | None:
        record = self.state.records.get(task)
        if record is None:
            return None
        found = record.at(first)
        if found.first <= first and first + items <= found.first + found.items:
            return record.carve(found, first, items)
        return found

    def _attempt(self, entry: AttemptKept) -> None:
        """Restore an attempt that a hub may still have, unless a later entry ends it."""
        record = self.state.records.get(entry.task)
        if record is None:
            return
        until = self.now + self.state.policy.adopt_s
        orphan = Orphan(record, entry.first, entry.items, entry.attempt, entry.hub, until)
        last = entry.first + entry.items
        for found in list(record.covering(entry.first, entry.items)):
            if found.state.ended or entry.attempt <= found.attempt:  # it has ended since
                continue
            low, high = max(entry.first, found.first), min(last, found.first + found.items)
            task = record.carve(found, low, high - low)
            task.attempt, task.orphan = entry.attempt, orphan
            if task.state is TaskState.QUEUED:
                task.move("RunTask", self._time(entry.at))

    def _attempt_failed(self, entry: AttemptFailed) -> None:
        task = self._slice(entry.task, entry.first, entry.items)
        if task is None:
            return
        if entry.memory_mb:
            task.record.need_memory(entry.memory_mb)
        if entry.again:
            self._again(task, entry)
            return
        if task.state.ended:
            return
        task.attempt = max(task.attempt, entry.attempt)
        task.crashes += entry.crashed
        task.tries += entry.raised
        task.note = entry.reason
        cause, at = entry.cause or "TaskReturned", self._time(entry.at)
        # The wall clock may have been set since: no wait becomes longer by that.
        task.not_before = min(at, self.now) + entry.wait_s if entry.wait_s else 0.0
        if task.state is TaskState.ASSIGNED:
            task.move(cause, at)
        else:  # the journal's tables do not contain when it was assigned
            task.add_earlier(at, cause, TaskState.ASSIGNED, TaskState.QUEUED)
        task.orphan, task.follows = None, entry.follows

    def _again(self, task: Slice, entry: AttemptFailed) -> None:
        self._void.setdefault(entry.task, []).append((entry.first, entry.items, entry.attempt))
        at = self._time(entry.at)
        if task.state.ended:
            task.move("RetryFailed", at)
        if task.ended is not None and task.ended.items > task.items and task.ended.state is not TaskState.DONE:
            task.record.narrow(task.ended, [task])
        if entry.at:
            task.queued_at = at
        task.attempt = max(task.attempt, entry.attempt + 1)
        task.tries, task.crashes, task.not_before = 0, 0, 0.0
        task.ended, task.note = None, ""
        task.code = entry.function
        if entry.function and entry.function not in task.record.codes:
            task.record.codes += (entry.function,)

    def _end(self, entry: EndKept) -> None:
        record = self.state.records.get(entry.task)
        if record is None:
            return
        ended = TaskEnded(
            task=entry.task,
            state=entry.state,
            first=entry.first,
            items=entry.items,
            payload=entry.payload,
            failure=entry.failure,
            holes=entry.holes,
            duration_s=entry.duration_s,
            worker=entry.worker,
            host=entry.host,
            attempt=entry.attempt,
            ended_at=entry.at,
            function=entry.function,
            kept=entry.kept,
            peak_bytes=entry.peak_bytes,
        )
        for first, items in self._ranges(entry):
            for task in list(record.covering(first, items)):
                low, high = max(first, task.first), min(first + items, task.first + task.items)
                whole = (first, items) == (entry.first, entry.items) or entry.state is TaskState.DONE
                part = ended if whole else narrowed(ended, low, high - low)  # items beside it run again
                self._settle(record.carve(task, low, high - low), part)

    def _ranges(self, entry: EndKept) -> Iterator[tuple[int, int]]:
        """Yield the items that the end covers, without holes and items retried since, as ranges (first, items)."""
        void = [(a, n) for a, n, attempt in self._void.get(entry.task, ()) if attempt >= entry.attempt]
        if not entry.holes and not void:
            yield entry.first, entry.items
            return
        gone = {entry.first + offset for offset in entry.holes}
        gone.update(item for first, items in void for item in range(first, first + items))
        begun: int | None = None
        for item in range(entry.first, entry.first + entry.items + 1):
            if item == entry.first + entry.items or item in gone:
                if begun is not None:
                    yield begun, item - begun
                begun = None
            elif begun is None:
                begun = item

    def _settle(self, task: Slice, ended: TaskEnded) -> None:
        """Set the end directly: entries of the journal are not checked against the table of transitions."""
        if task.state is not ended.state:
            old, task.state = task.state, ended.state
            task.record.count(old, ended.state, task.items)
        task.attempt = max(task.attempt, ended.attempt)
        task.ended, task.orphan = ended, None

    def _resume(self) -> None:
        """Queue what is open, in the order of acceptance, and set the expiry of what has ended."""
        state = self.state
        self._order_ages()
        checkpoints.restore(state, self._checkpoints)
        for record in list(state.records.values()):
            for name in record.blobs:
                if name in state.blobs:
                    state.blobs[name].uses += 1
                    if not state.blobs[name].user:
                        state.count_blob(state.blobs[name], record.user)
            state.weigh(record)
            self._count_ends(record)
            if record.unended == 0:
                self._resume_ended(record)
            elif record.shares and record.slices[0].orphan is not None:
                state.cache.setdefault(record.spec.cache, record)
        for record in list(state.records.values()):
            if record.spec.parent:
                parents.restored(state, record, self.now)
            if record.unended:
                self._resume_open(record)
        state.tallies.recalled(state.wall_offset, self.now)
        self._void.clear()

    def _order_ages(self) -> None:
        """Let no submission age from later than one accepted after it: the wall clock may have been set meanwhile."""
        records, latest = self.state.records, self.now
        for record in reversed(list(records.values())):
            if not record.spec.parent:
                record.since = latest = min(record.since, latest)
        for record in records.values():
            parent = records.get(record.spec.parent)
            if parent is not None:
                record.since = parent.since

    def _count_ends(self, record: Submission) -> None:
        state = self.state
        user = record.owner
        for task in record.slices:
            if task.ended is not None:
                state.tallies.count(task, state.wall_offset)
                seconds = ran_s(task)
                if seconds > 0.0:
                    # Not later than now: the wall clock may have been set back.
                    at = min(self.now, task.ended.ended_at - state.wall_offset)
                    state.share.charge(user, seconds, at, class_of(record.spec.needs))

    def _expiry(self, record: Submission) -> float:
        """Return when an ended submission is dropped; the wall clock may have been set since it ended.

        Set forward, or in a computer that was off for days, it would drop results that nobody could collect: some time
        always remains. Set back, it would keep them for too long.
        """
        ttl = self.state.policy.job_ttl_s
        if record.expires:
            return min(record.expires, self.now + ttl)
        return max(record.ended_at + ttl, self.now + min(ttl, LEAST_LEFT_S))

    def _resume_ended(self, record: Submission) -> None:
        state = self.state
        record.closed = True
        last = max((t.ended.ended_at for t in record.slices if t.ended is not None), default=0.0)
        record.ended_at = min(self.now, last - state.wall_offset)
        state.expire_at(record, self._expiry(record))
        if record.done:
            state.release_arguments(record)
            if record.serves:
                if record.spec.fresh:
                    state.cache[record.spec.cache] = record
                state.cache.setdefault(record.spec.cache, record)

    def _resume_open(self, record: Submission) -> None:
        state = self.state
        if record.spec.deadline_s or record.spec.deadline_at:
            state.with_deadline[record] = None
        dependencies.pin(state, record)
        for task in record.slices:
            if task.state is TaskState.ASSIGNED:
                assert task.orphan is not None
                state.orphans[task.orphan.fence] = task.orphan
        for task in record.slices:
            if task.follows and task.state is TaskState.QUEUED:
                record.count(TaskState.QUEUED, TaskState.BLOCKED, task.items)
                task.state = TaskState.BLOCKED
                following.resume_follower(state, task, self.now)
        queued = [task for task in record.slices if task.state is TaskState.QUEUED]
        because = dependencies.obstacle(state, record)
        if not queued:
            return
        for task in queued:
            if because is None and task.not_before > self.now:
                state.delay(task, task.not_before)
            elif because is None:
                state.enqueue(task)
            else:
                record.count(TaskState.QUEUED, TaskState.BLOCKED, task.items)
                task.state = TaskState.BLOCKED
        if because is not None:
            dependencies.block(state, record, because, self.now)
