"""The rows of the Monitor's tables, from answers in the core's shapes."""

from __future__ import annotations

import pytest

from nblb.monitoring import pages
from tests.monitoring.fake_source import FakeSource

SOURCE = FakeSource(workers=4)


def test_workers() -> None:
    rows = pages.workers(SOURCE.answer_workers())
    assert all(len(row) == len(pages.WORKERS) for row in rows)
    first = dict(zip(pages.WORKERS, rows[0], strict=True))
    assert first["Worker"] == "worker_c0b28c00"
    assert first["State"] == "▶ busy"
    assert first["CPU"] == 83
    assert first["Band"] == "0…99"
    assert first["Address"] == "127.0.0.1:8301"
    idle = dict(zip(pages.WORKERS, rows[3], strict=True))
    assert (idle["State"], idle["Task"], idle["Progress"]) == ("○ idle", "", 0)


def test_a_priority_that_no_worker_takes_is_said() -> None:
    rows = pages.priorities(SOURCE.answer_queue(), SOURCE.answer_workers())
    assert rows == [
        ("2000", 2, "0 of 0", "waiting: no worker takes priority 2000"),
        ("100", 10, "1 of 2", ""),
        ("0", 3400, "1 of 4", ""),
    ]


def test_users_who_run_most_come_first() -> None:
    assert [row[0] for row in pages.users(SOURCE.answer_users())] == ["anna", "bert"]


def test_statistics_share_of_time() -> None:
    rows = pages.statistics(SOURCE.answer_stats())
    assert all(len(row) == len(pages.STATISTICS) for row in rows)
    assert [row[3] for row in rows] == [78, 22]


def test_statistics_of_tasks_that_took_no_time() -> None:
    assert pages.statistics({"noop": {"totaltasks": 3, "totalcalctimes": 0.0}})[0][3] == 0


def test_jobs() -> None:
    rows = pages.jobs(SOURCE.answer_jobs())
    assert all(len(row) == len(pages.JOBS) for row in rows)
    job = dict(zip(pages.JOBS, rows[0], strict=True))
    assert (job["Progress"], job["State"], job["Waiting"]) == (62, "▶ running", 3792)


def test_a_job_of_open_end_and_one_of_nothing() -> None:
    rows = pages.jobs([{"job": "a", "items": 0, "counts": {"DONE": 3}}, {"job": "b", "items": 0, "counts": {}}])
    assert [row[3] for row in rows] == [100, 0]


def test_long_text_is_bounded() -> None:
    (row,) = pages.queues({"by_name": {"x" * 5000: {"number": 1, "waitingtime": 0}}})
    assert len(row[0]) == pages.LONGEST_TEXT


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0.003, "3 ms"),
        (0.42, "0.42 s"),
        (12, "12.0 s"),
        (59.96, "60.0 s"),
        (245, "4:05 min"),
        (11100, "3:05 h"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert pages.duration(seconds) == shown
