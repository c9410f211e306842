"""Notices to watchers about changes other than ends, and the removal of expired results and idle blobs."""

from __future__ import annotations

from heapq import heapify, heappop
from itertools import islice

from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import BlobForgotten, JobForgotten, TaskForgotten
from nblb.protocol.messages import JobChanged
from nblb.scheduling.nesting import parents
from nblb.scheduling.reporting.calls import NONE, at_work_by_job, counting_pace_s
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission

SWEEP_S = 1.0
BLOB_SWEEP_S = 60.0
IDLE_BYTES = 64 * 1024 * 1024  # of blobs that no submission names; beyond that the oldest are dropped at once
LARGE_BLOB = 1024 * 1024  # an idle one of this size is swept soon
SPARE_EXPIRIES = 1000  # void entries beyond one per submission, before they are removed
ASSIGNED_AFTER_S = 0.5  # a slice that its hub has not begun by then is reported as ASSIGNED
MOST_CHANGES = 500  # slices per notice; the others follow in the next one


class Notices:
    """Sends coalesced changes to watchers: at most one message per slice and job in each notice_s."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._look_at = 0.0
        self._count_at = 0.0  # when running calls may be counted again

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
            state.notify(task.record.watchers, task.news())
        if state.changed:
            state.notice_at = now + state.policy.notice_s
        if not state.changed_jobs:
            return
        if now < self._count_at:
            state.notice_at = min(state.notice_at or self._count_at, self._count_at)
            return
        self._count_at = now + counting_pace_s(state)
        at_work = at_work_by_job(state)
        for job in state.changed_jobs:
            state.notify(job.watchers, JobChanged(job=job.id, counts=job.shown(at_work.get(job, NONE).running)))
        state.changed_jobs.clear()

    def _notice_assigned(self, now: float) -> None:
        """Report slices that wait at their hub as ASSIGNED; nearly all others begin too soon to be worth a notice."""
        for hub in self.state.hubs.values():
            for held in hub.in_flight.values():
                if not held.noticed and held.given_at <= now - ASSIGNED_AFTER_S:
                    held.noticed = True
                    if not held.started_at:
                        for task in held.tasks:
                            self.state.notice(task, now)


class Retention:
    """Drops expired results, and blobs that no submission names."""

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
            if record.pins > 0 or parents.may_be_returned(state, record) or self._still_runs(record):
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

    def _still_runs(self, record: Submission) -> bool:
        """Return whether a hub has still to stop an attempt whose deadline has passed: it will report its end."""
        return any(held.record is record for held in self.state.overdue)

    def _drop_void_expiries(self) -> None:
        """Remove entries of dropped submissions and of changed expiries, which would stay in memory for days."""
        records, expiring = self.state.records, self.state.expiring
        expiring[:] = [each for each in expiring if each[0] == each[2].expires and records.get(each[2].id) is each[2]]
        heapify(expiring)

    def forget(self, record: Submission, keep_job: bool = False) -> None:
        state, spec = self.state, record.spec
        del state.records[record.id]
        record.owner.stored -= record.stored
        if keep_job:  # it is refused, and may be submitted again
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
        record.slices = []  # they refer to the submission: without this cycle it is freed at once

    def _sweep_blobs(self, now: float) -> None:
        """Drop idle blobs: the core asks a client for a dropped blob when a new submission names it."""
        state = self.state
        published = set(state.published.values())
        idle = [(b.used_at, n) for n, b in state.blobs.items() if b.uses <= 0 and n not in published]
        spare = IDLE_BYTES - sum(state.blobs[name].payload.nbytes for _, name in idle)
        old = now - state.policy.result_ttl_s
        for used_at, name in sorted(idle):
            if used_at >= old and spare >= 0:
                break
            spare += state.drop_blob(name)
            state.out.append(Record(BlobForgotten(name)))
