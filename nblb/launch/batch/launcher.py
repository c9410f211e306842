"""The decisions about hubs that a batch system runs: when to submit, ask and cancel, and what to report.

Pure: events and the time are arguments, effects are commands. The life of one job:

    Submit ──submitted──► WAITING ──the system or the core reports it──► RUNNING ──the system no longer has it──► gone

The batch system is asked rarely: its people see each question. The core says which hubs are connected, and is asked
often. A job that ends is replaced as long as tasks wait. Refused submissions, and jobs that end before their hub has
connected, are failures: the next attempt waits longer after each, and after MOST_FAILURES for PAUSE_S.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

WAITS_S = (5.0, 15.0, 30.0, 60.0, 120.0)  # after a failure, before the next submission
MOST_FAILURES = 5
PAUSE_S = 900.0
CORE_S = 1.0  # between two questions to the core
FIRST_ASK_S = 2.0  # after a submission, before the first question to the batch system …
MOST_ASK_S = 60.0  # … and the longest time between two, while jobs wait; twice as long once all hubs are connected
GONE_S = 3.0  # after a hub has left the core, before the batch system is asked about its job
STOP_S = 10.0  # in which cancelled jobs must be gone
STOP_ASK_S = 0.5


@dataclass(frozen=True)
class JobReport:
    """The state of a job as its batch system reports it."""

    is_running: bool
    reason: str = ""  # why it waits, in the system's word: "Priority"
    expected: str = ""  # when it is expected to start: "14:10"; "" if that is not known


@dataclass
class BatchJob:
    """A job of this launcher that has not ended, as far as is known."""

    number: str
    report: JobReport = JobReport(False)
    is_connected: bool = False
    was_connected: bool = False
    gone_at: float = 0.0  # when its hub left the core
    is_cancelled: bool = False  # it is needed no more


@dataclass(frozen=True)
class Submit:
    """Submit one job."""


@dataclass(frozen=True)
class CancelJobs:
    """Cancel these jobs."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class AskBatchSystem:
    """Ask the batch system for the states of these jobs."""

    jobs: tuple[str, ...]


@dataclass(frozen=True)
class AskCore:
    """Ask the core which hubs are connected, and whether tasks wait."""


@dataclass(frozen=True)
class BatchNote:
    """Write a line to the log."""

    text: str


@dataclass(frozen=True)
class Summary:
    """Show this sentence with the cluster; "" if nothing is worth one."""

    text: str


@dataclass(frozen=True)
class FinishBatch:
    """End the launcher; `left` is a sentence on jobs that may still be there."""

    left: str = ""


BatchCommand: TypeAlias = "Submit | CancelJobs | AskBatchSystem | AskCore | BatchNote | Summary | FinishBatch"


class BatchLauncher:
    """The state machine of the hubs of one set of options.

    Parameters
    ----------
    system
        The batch system's name for people: "Slurm".
    hubs
        How many hubs to have.
    backlog
        How many of their jobs may wait at a time.
    orphan_s
        After how long without a core all jobs are cancelled; 0 for never.
    """

    def __init__(self, system: str, hubs: int, backlog: int, orphan_s: float) -> None:
        self.system = system
        self._hubs, self._backlog, self._orphan_s = hubs, backlog, orphan_s
        self.jobs: dict[str, BatchJob] = {}
        self.stopping = False
        self._has_ended = False
        self._submitting = False
        self._submitted = 0
        self._failures = 0
        self._trouble = ""
        self._is_paused = False
        self._submit_at = 0.0
        self._core_at = 0.0
        self._ask_at = float("inf")
        self._ask_s = FIRST_ASK_S
        self._core_seen_at = 0.0
        self._tasks_wait = False
        self._wanted: int | None = None  # how many hubs a core that adapts wants
        self._stop_at = float("inf")
        self._summary = ""

    # ── events ──

    def start(self, known: Sequence[str], now: float) -> list[BatchCommand]:
        """Begin; `known` are jobs of an earlier process of this launcher, which may have ended."""
        self._core_seen_at = self._submit_at = self._core_at = now
        self.jobs = {number: BatchJob(number) for number in known}
        self._submitted = len(known)
        if known:
            self._ask_at = now
        return self.tick(now)

    def submitted(self, number: str, now: float) -> list[BatchCommand]:
        """Note that the batch system has taken a job."""
        self._submitting = False
        self.jobs[number] = BatchJob(number)
        self._submitted += 1
        self._ask_soon(now)
        out: list[BatchCommand] = [BatchNote(f"{self.system} has taken job {number}")]
        if self.stopping:
            out.append(CancelJobs((number,)))
        return [*out, *self._summarised()]

    def refused(self, reason: str, now: float) -> list[BatchCommand]:
        """Note that the batch system has refused a submission."""
        self._submitting = False
        return [*self._failed(f"{self.system} refuses the job: {reason}", now), *self._summarised()]

    def reported(self, reports: Mapping[str, JobReport], now: float, why: Mapping[str, str]) -> list[BatchCommand]:
        """Take the batch system's report; it no longer has the jobs that are missing. `why` has the ends of logs."""
        out: list[BatchCommand] = []
        for number, job in list(self.jobs.items()):
            if number in reports:
                job.report, job.gone_at = reports[number], 0.0
                continue
            del self.jobs[number]
            if job.was_connected or self.stopping or job.is_cancelled:
                out.append(BatchNote(f"job {number} has ended"))
            else:
                end = f": {why[number]}" if why.get(number) else ""
                out += self._failed(f"job {number} ended before its hub was connected{end}", now)
        self._ask_s = min(1.5 * self._ask_s, self._most_ask_s())
        if not self.jobs:
            self._ask_at = now if self.stopping else float("inf")
        else:
            self._ask_at = now + (STOP_ASK_S if self.stopping else self._ask_s)
        return [*out, *self._summarised()]

    def not_reported(self, reason: str, now: float) -> list[BatchCommand]:
        """Note that the batch system did not answer a question."""
        self._ask_at = now + (STOP_ASK_S if self.stopping else MOST_ASK_S)
        return [BatchNote(f"{self.system} does not answer: {reason}")]

    def core_reported(
        self, connected: Collection[str], tasks_wait: bool, now: float, wanted: int | None = None
    ) -> list[BatchCommand]:
        """Take the core's report: the jobs whose hubs are connected, and whether tasks wait for a worker.

        `wanted` is the number of hubs that a core which adapts wants; None if it does not adapt.
        """
        self._core_seen_at, self._tasks_wait, self._wanted = now, tasks_wait, wanted
        out: list[BatchCommand] = []
        for job in self.jobs.values():
            is_connected = job.number in connected
            if is_connected and not job.was_connected:
                self._failures, self._trouble, self._is_paused = 0, "", False
                out.append(BatchNote(f"the hub of job {job.number} is connected"))
            if is_connected:
                job.report, job.was_connected, job.gone_at = JobReport(True), True, 0.0
            elif job.is_connected:
                job.gone_at = now
                self._ask_at = min(self._ask_at, now + GONE_S)
            job.is_connected = is_connected
        return [*out, *self._cancel_surplus(), *self._summarised()]

    def stop(self, now: float) -> list[BatchCommand]:
        """Cancel all jobs; FinishBatch follows when the batch system no longer has them."""
        if self.stopping:
            return []
        self.stopping, self._stop_at, self._ask_at = True, now + STOP_S, now + STOP_ASK_S
        out: list[BatchCommand] = [Summary("")] if self._summary else []
        return [*out, CancelJobs(tuple(self.jobs))] if self.jobs else [*out, *self.tick(now)]

    def tick(self, now: float) -> list[BatchCommand]:
        """Return the commands that follow from the time."""
        if self._has_ended:
            return []
        if self.stopping:
            return self._tick_to_end(now)
        if self._orphan_s and now >= self._core_seen_at + self._orphan_s:
            text = f"no core has answered for {self._orphan_s:g} s (LB_ORPHAN_S): its jobs are cancelled"
            return [BatchNote(text), *self.stop(now)]
        out: list[BatchCommand] = []
        if now >= self._core_at:
            self._core_at = now + CORE_S
            out.append(AskCore())
        if now >= self._ask_at:
            self._ask_at = float("inf")
            out.append(AskBatchSystem(tuple(self.jobs)))
        if self._may_submit(now):
            self._submitting = True
            out.append(Submit())
        return out

    def next_deadline(self) -> float:
        """Return when `tick` has something to do."""
        if self._has_ended:
            return float("inf")
        return min(self._core_at if not self.stopping else self._stop_at, self._ask_at, self._stop_at)

    # ── the rest ──

    def _cancel_surplus(self) -> list[BatchCommand]:
        """Cancel the latest jobs that wait if the core wants fewer hubs; a hub that is connected ends by itself."""
        if self._wanted is None or self.stopping:
            return []
        kept = [job for job in self.jobs.values() if not job.is_cancelled]
        waiting = [job for job in kept if not job.report.is_running and not job.was_connected]
        surplus = waiting[len(waiting) - min(len(waiting), max(0, len(kept) - self._wanted)) :]
        if not surplus:
            return []
        for job in surplus:
            job.is_cancelled = True
        numbers = tuple(job.number for job in surplus)
        return [BatchNote(f"the cluster needs fewer workers: cancels job {', '.join(numbers)}"), CancelJobs(numbers)]

    def _may_submit(self, now: float) -> bool:
        hubs = self._hubs if self._wanted is None else min(self._hubs, self._wanted)
        if self._submitting or now < self._submit_at or sum(not job.is_cancelled for job in self.jobs.values()) >= hubs:
            return False
        if sum(not job.report.is_running for job in self.jobs.values()) >= self._backlog:
            return False
        self._is_paused = False
        return self._wanted is not None or self._submitted < self._hubs or self._tasks_wait

    def _failed(self, text: str, now: float) -> list[BatchCommand]:
        self._failures += 1
        self._trouble, self._is_paused = text, self._failures >= MOST_FAILURES
        wait_s = PAUSE_S if self._is_paused else WAITS_S[min(self._failures, len(WAITS_S)) - 1]
        if self._is_paused:
            self._failures = MOST_FAILURES - 1  # one attempt after the pause
        self._submit_at = now + wait_s
        return (
            [BatchNote(f"{text}; the next job is submitted in {wait_s:g} s")]
            if not self.stopping
            else [BatchNote(text)]
        )

    def _ask_soon(self, now: float) -> None:
        self._ask_s = FIRST_ASK_S
        self._ask_at = min(self._ask_at, now + FIRST_ASK_S)

    def _most_ask_s(self) -> float:
        return MOST_ASK_S if any(not job.is_connected for job in self.jobs.values()) else 2.0 * MOST_ASK_S

    def _tick_to_end(self, now: float) -> list[BatchCommand]:
        if not self.jobs and not self._submitting:
            self._has_ended = True
            return [FinishBatch()]
        if now >= self._stop_at:
            self._has_ended = True
            return [FinishBatch(self.left())]
        if now >= self._ask_at:
            self._ask_at = now + STOP_ASK_S
            return [AskBatchSystem(tuple(self.jobs))]
        return []

    def left(self) -> str:
        """Return the sentence on jobs that may still be there; "" if there is none."""
        if not self.jobs:
            return ""
        numbers = ", ".join(self.jobs)
        return (
            f"{self.system} may still have the jobs {numbers}; their hubs end by themselves after LB_ORPHAN_S without "
            f"a core, and 'scancel {' '.join(self.jobs)}' ends them now"
        )

    def _summarised(self) -> list[BatchCommand]:
        summary = "" if self.stopping else self._sentence()
        if summary == self._summary:
            return []
        self._summary = summary
        return [Summary(summary)]

    def _sentence(self) -> str:
        waiting = [job.report for job in self.jobs.values() if not (job.report.is_running or job.is_cancelled)]
        sentences = []
        if waiting:
            hubs = "1 hub waits" if len(waiting) == 1 else f"{len(waiting)} hubs wait"
            reasons = ", ".join(word for word, _ in Counter(r.reason for r in waiting if r.reason).most_common())
            expected = min((report.expected for report in waiting if report.expected), default="")
            sentences.append(f"{hubs} in {self.system}" + (f": {reasons}" if reasons else "")
                             + (f"; first expected {expected}" if expected else ""))  # fmt: skip
        if self._trouble:
            after = f", so submitting pauses for {PAUSE_S / 60:g} min" if self._is_paused else ""
            sentences.append(self._trouble + after)
        return "; ".join(sentences)
