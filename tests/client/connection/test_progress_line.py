"""The line that a terminal shows while it waits."""

from __future__ import annotations

import io
from dataclasses import replace

from nblb.client.connection.progress_line import ProgressLine
from nblb.client.snapshots import JobSnapshot, TaskSnapshot

JOB = JobSnapshot(
    job="j", name="sweep {a}", task_name="f", total=200, counts={"DONE": 80, "FAILED": 6, "RUNNING": 3, "QUEUED": 111},
    done_percent=43.7, rate_per_s=1.0, eta_s=(20.0, 30.0), elapsed_s=9.0,
)  # fmt: skip


def lines(stream: io.StringIO) -> list[str]:
    return [line.strip() for line in stream.getvalue().split("\r") if line.strip()]


def test_a_job_is_one_line_that_is_removed_at_the_end() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.draw(JOB)
    line.draw(JOB)
    *_, last = lines(stream)
    assert last.startswith("sweep {a}:  44%|")
    assert last.endswith("| 86 of 200, 3 running, 111 queued, 6 failed, 00:25 left")
    assert "\n" not in stream.getvalue()
    line.close()
    assert stream.getvalue().endswith("\r")


def test_a_task_shows_its_note() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.draw(TaskSnapshot(task="t", name="fit", state="RUNNING", progress=12.0, note="epoch {3}"))
    assert lines(stream)[-1].endswith("| running, epoch {3}")
    line.close()


def test_an_absent_core_is_named() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.draw(replace(JOB, connected=False))
    assert lines(stream)[-1].endswith("the core is away")
    line.close()
