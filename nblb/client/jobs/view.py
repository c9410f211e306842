"""Snapshots of a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from nblb.client.futures.output import JobOutput
from nblb.client.jobs.ledger import Ledger
from nblb.client.jobs.reuse import CODE, EarlierJob
from nblb.client.snapshots import MOST_LINES, JobSnapshot
from nblb.client.throughput import Pace


@dataclass(frozen=True)
class View:
    """The parts of a Job that a snapshot is made from; the job's lock is held meanwhile."""

    job: str
    name: str
    task_name: str
    ledger: Ledger
    pace: Pace
    base: int  # items that had ended before this process attached
    ended_at: float | None
    output: JobOutput
    connected: bool
    fingerprint: str = ""  # of function and arguments, or the hash of the function as it was sent
    earlier: EarlierJob | None = None
    created_at: float = 0.0  # wall clock


def job_snapshot(view: View, counts: Mapping[str, int], now: float) -> JobSnapshot:
    """A snapshot of the job as it is now."""
    ledger = view.ledger
    state = _state(ledger, counts)
    running = ledger.running_rows(now)
    part = sum(row.progress * row.items for row in running)
    paced = max(0, ledger.ended - view.base)
    named = len(view.fingerprint) > CODE
    return JobSnapshot(
        job=view.job,
        name=view.name,
        task_name=view.task_name,
        total=ledger.total,
        counts=dict(counts),
        done_percent=(100.0 * ledger.ended + part) / ledger.total if ledger.total else 100.0,
        rate_per_s=view.pace.rate_per_s(now) if state == "running" else 0.0,
        eta_s=view.pace.eta_s(paced, ledger.total - ledger.ended, now, part / 100),
        elapsed_s=(view.ended_at or now) - view.pace.began_at,
        running=running,
        failures=ledger.failure_groups(),
        state=state,
        waiting=ledger.waiting if state == "waiting" else "",
        connected=view.connected,
        output=view.output.latest(MOST_LINES),
        output_lines=view.output.written,
        hosts=tuple(sorted(ledger.hosts, key=lambda host: -ledger.hosts[host])),
        code=view.fingerprint[:CODE] if named else "",
        function="" if named else view.fingerprint,
        earlier=view.earlier.row() if view.earlier is not None else None,
        kept=len(ledger.kept),
        codes=tuple(Counter(list(ledger.codes.values())).items()) if ledger.codes else (),
        before=view.base,
        created_at=view.created_at,
        limit=ledger.limit,
        ended_at=ledger.last_end if ledger.ended >= ledger.total else 0.0,
    )


def _state(ledger: Ledger, counts: Mapping[str, int]) -> str:
    if ledger.ended >= ledger.total:
        bad = counts.get("FAILED", 0) + counts.get("LOST", 0)
        return "failed" if bad else "cancelled" if counts.get("CANCELLED") else "done"
    working = counts.get("RUNNING", 0) + counts.get("ASSIGNED", 0) + counts.get("CANCELLING", 0)
    return "running" if working or (ledger.ended and not ledger.waiting) else "waiting"
