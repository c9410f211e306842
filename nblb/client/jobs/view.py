"""Snapshots of a job, and the pace at which its items end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from nblb.client.futures.output import JobOutput
from nblb.client.jobs.ledger import Ledger
from nblb.client.jobs.reuse import CODE, EarlierJob
from nblb.client.snapshots import MOST_LINES, JobSnapshot


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
        eta_s=view.pace.eta_s(paced, ledger.total - ledger.ended, now),
        elapsed_s=(view.ended_at or now) - view.pace.began_at,
        running=running,
        failures=ledger.failure_groups(),
        state=state,
        waiting=ledger.waiting if state == "waiting" else "",
        connected=view.connected,
        output=view.output.latest(MOST_LINES),
        hosts=tuple(sorted(ledger.hosts, key=lambda host: -ledger.hosts[host])),
        code=view.fingerprint[:CODE] if named else "",
        function="" if named else view.fingerprint,
        earlier=view.earlier.row() if view.earlier is not None else None,
        kept=len(ledger.kept),
        codes=tuple(Counter(list(ledger.codes.values())).items()) if ledger.codes else (),
        before=view.base,
    )


def _state(ledger: Ledger, counts: Mapping[str, int]) -> str:
    if ledger.ended >= ledger.total:
        bad = counts.get("FAILED", 0) + counts.get("LOST", 0)
        return "failed" if bad else "cancelled" if counts.get("CANCELLED") else "done"
    working = counts.get("RUNNING", 0) + counts.get("ASSIGNED", 0) + counts.get("CANCELLING", 0)
    return "running" if working or (ledger.ended and not ledger.waiting) else "waiting"


WINDOW_S = 10.0
SAMPLE_S = 0.25  # least time between two points of the curve
LEAST_ENDED = 3
LATELY_S = 3.0


class Pace:
    """The recent curve of a job's ended items, for its rate and the time left."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.first_at: float | None = None  # when the first item ended
        self._points: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, ended: int, now: float) -> None:
        """Record that `ended` items have ended by now."""
        points = self._points
        if self.first_at is None:
            self.first_at = now
        if len(points) > 1 and now - points[-2][0] < SAMPLE_S:
            points[-1] = now, ended
        else:
            points.append((now, ended))
        while len(points) > 2 and now - points[1][0] > WINDOW_S:
            points.popleft()

    def rate_per_s(self, now: float, within_s: float = WINDOW_S) -> float:
        """Items a second over the last seconds, including the time since the last end."""
        points = self._points
        from_at, from_ended = next((point for point in points if now - point[0] <= within_s), points[-1])
        before = [point for point in points if now - point[0] > within_s]
        if before:
            from_at, from_ended = before[-1]
        span = now - from_at
        return (points[-1][1] - from_ended) / span if span > 0 else 0.0

    def eta_s(self, ended: int, left: int, now: float) -> tuple[float, float] | None:
        """(low, high) seconds left, by the pace of the last seconds, of the window and of the whole job."""
        if ended < LEAST_ENDED or left <= 0:
            return None
        whole = ended / max(now - self.began_at, 1e-6)
        rates = [rate for rate in (whole, self.rate_per_s(now), self.rate_per_s(now, LATELY_S)) if rate > 0]
        return 0.9 * left / max(rates), 1.1 * left / min(rates)
