"""The decisions about hubs in a batch system, without one and with a clock of the test."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from nblb.launch.batch.launcher import (
    FIRST_ASK_S,
    GONE_S,
    MOST_ASK_S,
    MOST_FAILURES,
    PAUSE_S,
    STOP_S,
    WAITS_S,
    AskBatchSystem,
    AskCore,
    BatchCommand,
    BatchLauncher,
    BatchNote,
    CancelJobs,
    FinishBatch,
    JobReport,
    Submit,
    Summary,
)

RUNS = JobReport(True)


def waits(reason: str = "Priority", expected: str = "") -> JobReport:
    return JobReport(False, reason, expected)


class Rig:
    """A BatchLauncher, its clock, and a batch system that takes each job unless `refuses` is set."""

    def __init__(self, hubs: int = 1, backlog: int = 4, orphan_s: float = 900.0, known: tuple[str, ...] = ()) -> None:
        self.launcher = BatchLauncher("Slurm", hubs, backlog, orphan_s)
        self.now, self.number, self.refuses = 100.0, 0, ""
        self.done: list[BatchCommand] = []
        self.summary = ""
        self.take(self.launcher.start(known, self.now))

    def take(self, commands: list[BatchCommand]) -> None:
        for command in commands:
            self.done.append(command)
            if isinstance(command, Summary):
                self.summary = command.text
            if isinstance(command, Submit) and self.refuses:
                self.take(self.launcher.refused(self.refuses, self.now))
            elif isinstance(command, Submit):
                self.number += 1
                self.take(self.launcher.submitted(str(self.number), self.now))

    def after(self, seconds: float, core: bool = True, connected: tuple[str, ...] = (), queued: bool = False) -> None:
        """Let time pass, in which the core answers each question."""
        until = self.now + seconds
        while (at := self.launcher.next_deadline()) <= until:
            self.now = max(at, self.now)
            self.done_now: list[BatchCommand] = self.launcher.tick(self.now)
            self.take(self.done_now)
            if core and any(isinstance(command, AskCore) for command in self.done_now):
                self.take(self.launcher.core_reported(connected, queued, self.now))
        self.now = until

    def reported(self, why: dict[str, str] | None = None, **reports: JobReport) -> None:
        named = {number.removeprefix("j"): report for number, report in reports.items()}
        self.take(self.launcher.reported(named, self.now, why or {}))

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(command, kind) for command in self.done)

    def forget(self) -> None:
        self.done = []


def test_all_hubs_are_submitted_and_no_more_than_the_backlog_waits() -> None:
    rig = Rig(hubs=5, backlog=2)
    rig.after(10.0)
    assert rig.count(Submit) == 2
    rig.reported(j1=RUNS, j2=waits())
    rig.after(2.0)
    assert rig.count(Submit) == 3
    rig.after(30.0, connected=("1", "2", "3"))
    assert rig.count(Submit) == 5


def test_the_summary_says_what_the_hubs_wait_for() -> None:
    rig = Rig(hubs=2)
    assert rig.summary == "1 hub waits in Slurm"
    rig.after(1.0)
    rig.reported(j1=waits("Priority", "14:10"), j2=waits("Priority", "15:00"))
    assert rig.summary == "2 hubs wait in Slurm: Priority; first expected 14:10"
    rig.reported(j1=RUNS, j2=waits("Resources"))
    assert rig.summary == "1 hub waits in Slurm: Resources"
    rig.after(1.0, connected=("1", "2"))
    assert rig.summary == ""


def test_the_batch_system_is_asked_rarely_and_the_core_often() -> None:
    rig = Rig()
    for _ in range(600):
        rig.after(1.0)
        if any(isinstance(command, AskBatchSystem) for command in rig.done_now):
            rig.reported(j1=waits())
    assert rig.count(AskCore) >= 590
    assert rig.count(AskBatchSystem) <= 9 + 600 / MOST_ASK_S
    rig.forget()
    for _ in range(1200):
        rig.after(1.0, connected=("1",))
        if any(isinstance(command, AskBatchSystem) for command in rig.done_now):
            rig.reported(j1=RUNS)
    assert rig.count(AskBatchSystem) <= 2 + 1200 / (2 * MOST_ASK_S)


def test_refusals_are_waited_for_longer_and_longer_and_then_pause_with_the_reason() -> None:
    rig = Rig()
    rig.reported()  # the first job is gone
    rig.forget()
    rig.launcher._failures = 0
    rig.refuses = "Invalid account"
    times: list[float] = []
    for _ in range(3000):
        before = rig.count(Submit)
        rig.after(1.0, queued=True)
        if rig.count(Submit) > before:
            times.append(rig.now)
    gaps = [round(later - earlier) for earlier, later in pairwise(times)]
    assert gaps[: MOST_FAILURES - 1] == [int(wait) for wait in WAITS_S[: MOST_FAILURES - 1]]
    assert set(gaps[MOST_FAILURES - 1 :]) == {int(PAUSE_S)}
    assert rig.summary == "Slurm refuses the job: Invalid account, so submitting pauses for 15 min"
    rig.refuses = ""
    rig.after(PAUSE_S, queued=True)
    rig.after(1.0, connected=(str(rig.number),))
    assert rig.summary == ""


def test_a_job_that_ends_before_its_hub_connects_is_a_failure_with_its_last_line() -> None:
    rig = Rig()
    rig.after(FIRST_ASK_S)
    rig.reported(why={"1": "nblb: no such file"})
    assert rig.summary == "job 1 ended before its hub was connected: nblb: no such file"
    rig.after(WAITS_S[0] - 1.0, queued=True)
    assert rig.count(Submit) == 1
    rig.after(2.0, queued=True)
    assert rig.count(Submit) == 2


def test_an_ended_job_is_replaced_only_while_tasks_wait() -> None:
    rig = Rig()
    rig.after(10.0, connected=("1",))
    rig.after(GONE_S + 1.0)  # its hub has left
    assert rig.count(AskBatchSystem) >= 1
    rig.reported()
    rig.after(60.0)
    assert rig.count(Submit) == 1
    rig.after(2.5, queued=True)
    assert rig.count(Submit) == 2


def test_a_stop_cancels_all_jobs_and_ends_when_they_are_gone() -> None:
    rig = Rig(hubs=2)
    rig.after(2.0)
    rig.take(rig.launcher.stop(rig.now))
    assert rig.done[-1] == CancelJobs(("1", "2"))
    assert rig.summary == ""
    rig.after(1.0)
    assert rig.count(FinishBatch) == 0
    rig.reported()
    rig.after(0.1)
    assert rig.done[-1] == FinishBatch()
    assert rig.count(Submit) == 2


def test_what_cannot_be_cancelled_is_named() -> None:
    rig = Rig()
    rig.take(rig.launcher.stop(rig.now))
    for _ in range(int(STOP_S) + 1):
        rig.after(1.0)
        rig.take(rig.launcher.not_reported("no answer", rig.now))
    (finish,) = [command for command in rig.done if isinstance(command, FinishBatch)]
    assert "may still have the jobs 1" in finish.left
    assert "scancel 1" in finish.left


def test_without_a_core_all_jobs_are_cancelled() -> None:
    rig = Rig(orphan_s=30.0)
    rig.after(29.0, core=False)
    assert rig.count(CancelJobs) == 0
    rig.after(2.0, core=False)
    assert rig.count(CancelJobs) == 1
    assert any("LB_ORPHAN_S" in command.text for command in rig.done if isinstance(command, BatchNote))


def test_the_next_process_goes_on_with_known_jobs() -> None:
    rig = Rig(hubs=2, known=("7", "8"))
    assert rig.count(Submit) == 0
    assert rig.done[-1] == AskBatchSystem(("7", "8"))
    rig.reported(j7=RUNS, j8=waits())
    rig.after(5.0, connected=("7",))
    assert rig.count(Submit) == 0
    assert rig.summary == "1 hub waits in Slurm: Priority"


def test_a_job_that_is_taken_during_the_stop_is_cancelled() -> None:
    launcher = BatchLauncher("Slurm", 1, 1, 0.0)
    assert Submit() in launcher.start((), 0.0)
    launcher.stop(0.1)
    assert CancelJobs(("9",)) in launcher.submitted("9", 0.2)


def test_a_core_that_adapts_says_how_many_hubs_there_should_be() -> None:
    rig = Rig(hubs=5, backlog=5)
    rig.forget()
    rig.take(rig.launcher.core_reported((), False, rig.now, 0))
    assert rig.count(CancelJobs) == 1
    rig.take(rig.launcher.tick(rig.now))
    assert rig.count(Submit) == 0
    rig.reported()  # the cancelled job has gone, which is no failure
    assert rig.summary == ""
    rig.take(rig.launcher.core_reported((), False, rig.now, 2))
    rig.after(0.0, core=False)
    for _ in range(6):
        rig.take(rig.launcher.tick(rig.now))
    assert rig.count(Submit) == 2  # although no task waits, and all hubs have been submitted before


def test_jobs_that_run_are_not_cancelled_and_the_latest_that_wait_are_first() -> None:
    rig = Rig(hubs=4, backlog=4)
    for _ in range(4):
        rig.take(rig.launcher.tick(rig.now))
    rig.reported(j1=waits(), j2=waits(), j3=RUNS, j4=waits())
    rig.take(rig.launcher.core_reported((), True, rig.now, 2))
    assert [command.jobs for command in rig.done if isinstance(command, CancelJobs)] == [("2", "4")]
    rig.take(rig.launcher.core_reported((), True, rig.now, 2))
    assert rig.count(CancelJobs) == 1
    rig.reported(j1=waits(), j3=RUNS)
    rig.take(rig.launcher.core_reported(("3",), True, rig.now, None))
    rig.take(rig.launcher.tick(rig.now))
    assert rig.count(Submit) == 5  # the cluster adapts no more: its own rule again
