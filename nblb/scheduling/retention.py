"""What watchers hear between the ends, and what is forgotten when."""

from __future__ import annotations

from heapq import heapify, heappop
from itertools import islice

from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import BlobForgotten, JobForgotten, TaskForgotten
from nblb.protocol.messages import JobChanged
from nblb.scheduling.nesting import parents
from nblb.scheduling.reporting.calls import running_by_job
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission

SWEEP_S = 1.0
BLOB_SWEEP_S = 60.0
IDLE_BYTES = 64 * 1024 * 1024  # of blobs that no record names; the oldest go at once when there are more
LARGE_BLOB = 1024 * 1024  # one that has become idle is looked at soon
SPARE_EXPIRIES = 1000  # that are void, beyond one for each record, before they are looked for
ASSIGNED_AFTER_S = 0.5  # a slice that its hub has not begun by then is told as ASSIGNED
MOST_CHANGES = 500  # a notice tells of so many slices; the next one of the others


class Notices:
    """Tells watchers of changes, coalesced: at most one message a slice and job each notice_s."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._look_at = 0.0

    def tick(self, now: float) -> None:
        state = self.state
        if now >= self._look_at:
            self._look_at = now + ASSIGNED_AFTER_S
            self._notice_assigned(now)
        if state.notice_at is None or now < state.notice_at:
            return
        state.notice_at = None
        told = list(islice(state.changed, MOST_CHANGES))
        for task in told:
            del state.changed[task]
            state.tell(task.record.watchers, task.news())
        if state.changed:
            state.notice_at = now + state.policy.notice_s
        running = running_by_job(state) if state.changed_jobs else {}
        for job in state.changed_jobs:
            state.tell(job.watchers, JobChanged(job=job.id, counts=job.shown(running.get(job, 0))))
        state.changed_jobs.clear()

    def _notice_assigned(self, now: float) -> None:
        """What stands behind a long task is ASSIGNED: nearly all that is given begins too soon to be told as that."""
        for hub in self.state.hubs.values():
            for held in hub.in_hand.values():
                if not held.noticed and held.given_at <= now - ASSIGNED_AFTER_S:
                    held.noticed = True
                    if not held.started_at:
                        for task in held.tasks:
                            self.state.notice(task, now)


class Retention:
    """Drops results whose time is over, and blobs that nobody names."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._blobs_at: float | None = None
        self._swept_at = 0.0
        self._large_is_idle = False

    def next_deadline(self) -> float | None:
        return self.state.expiring[0][0] + SWEEP_S if self.state.expiring else None

    def tick(self, now: float) -> None:
        state = self.state
        while state.expiring and state.expiring[0][0] <= now:
            _, _, record = heappop(state.expiring)
            if state.records.get(record.id) is not record or not record.closed or record.expires > now:
                continue
            if record.pins > 0 or parents.may_be_returned(state, record):
                state.expire_at(record, now + max(SWEEP_S, state.policy.result_ttl_s))
                continue
            self.forget(record)
        if len(state.expiring) > 2 * len(state.records) + SPARE_EXPIRIES:
            self._drop_void_expiries()
        due = self._large_is_idle and now >= self._swept_at + SWEEP_S
        if self._blobs_at is None or now >= self._blobs_at or due:
            self._blobs_at = now + min(BLOB_SWEEP_S, max(SWEEP_S, state.policy.result_ttl_s))
            self._swept_at, self._large_is_idle = now, False
            self._sweep_blobs(now)

    def _drop_void_expiries(self) -> None:
        """Those of records that were forgotten, or go at another time: they would stay in memory for days."""
        records, expiring = self.state.records, self.state.expiring
        expiring[:] = [each for each in expiring if each[0] == each[2].expires and records.get(each[2].id) is each[2]]
        heapify(expiring)

    def forget(self, record: Submission, keep_job: bool = False) -> None:
        state, spec = self.state, record.spec
        del state.records[record.id]
        if keep_job:  # it is refused, and may be said again
            state.tallies.undo(record, state.wall_offset)
        else:
            state.dropped.task(record.id, expired=not record.forgotten)
            state.tallies.retire(record, state.wall_offset)
        state.live.drop(record.id)
        state.out.append(Record(TaskForgotten(record.id)))
        for name in record.blobs:
            blob = state.blobs.get(name)
            if blob is not None:
                blob.uses -= 1
                if blob.uses <= 0 and blob.payload.nbytes >= LARGE_BLOB:
                    self._large_is_idle = True
        if spec.cache and state.cache.get(spec.cache) is record:
            del state.cache[spec.cache]
        for hub in state.hubs.values():
            hub.holds.discard(record.id)
            for item in record.needed_items or ():
                hub.holds.discard(f"{record.id}.{item}")
        if spec.parent:
            parents.untie(state, record, record.accepted_at)
        if record.job is not None:
            record.job.leave(record)
            if not record.job.records and not keep_job:
                job = record.job
                state.dropped.job(job.id, job.user, job.spec.name, expired=True)
                state.drop_job(job)
                state.out.append(Record(JobForgotten(record.job.id)))
        record.slices = []  # they name the record: without this cycle it goes at once, and needs no garbage collector

    def _sweep_blobs(self, now: float) -> None:
        """Drop idle blobs: whoever needs one of these again sends it again, as the core asks for it."""
        state = self.state
        published = set(state.published.values())
        idle = [(b.used_at, n) for n, b in state.blobs.items() if b.uses <= 0 and n not in published]
        spare = IDLE_BYTES - sum(state.blobs[name].payload.nbytes for _, name in idle)
        old = now - state.policy.result_ttl_s
        for used_at, name in sorted(idle):
            if used_at >= old and spare >= 0:
                break
            spare += state.blobs.pop(name).payload.nbytes
            state.out.append(Record(BlobForgotten(name)))
