"""The rows of the Monitor's tables, from answers of the core's shapes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nblb.monitoring import rows
from tests.monitoring.fake_source import FakeSource

SOURCE = FakeSource(workers=4)


def named(columns: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(columns, row, strict=True))


def test_workers_show_their_own_use() -> None:
    made = rows.workers(SOURCE.answer_workers())
    first = next(w for w in (named(rows.WORKERS, row) for row in made) if w["Worker"] == "worker_c0b28c00")
    assert (first["State"], first["CPU %"], first["Memory"], first["Takes"]) == ("▶ busy", 97, "100 MB", "0 to 99")
    assert first["Task"] == ("simulate", "?page=task&task=t0000")
    idle = next(w for w in (named(rows.WORKERS, row) for row in made) if w["State"] == "○ idle")
    assert (idle["Task"], idle["Progress %"], idle["CPU %"]) == (("", ""), 0, 0)


def test_a_priority_that_no_worker_takes_is_said() -> None:
    made = rows.priorities(SOURCE.answer_queue(), SOURCE.answer_workers())
    assert made == [
        ("2000", "2", "0 of 0 workers", "waiting: no worker takes priority 2000"),
        ("100", "10", "1 of 2 workers", ""),
        ("0", "3,400", "1 of 4 workers", ""),
    ]


def test_users_who_run_most_come_first() -> None:
    users = [{"user": "a", "running": 2, "occupied": 1}, {"user": "b", "running": 10, "occupied": 3, "done": 20051}]
    made = [named(rows.USERS, row) for row in rows.users(users)]
    assert [row["User"] for row in made] == ["b", "a"]
    assert [row["Share %"] for row in made] == [75, 25]
    assert made[0]["Done"] == "20,051"


def test_statistics_share_of_time_and_percentiles() -> None:
    made = rows.statistics(SOURCE.answer_stats(), SOURCE.answer_percentiles())
    first = named(rows.STATISTICS, made[0])
    assert [row[3] for row in made] == [78, 22]
    assert (first["Median"], first["95 %"], first["95 % wait"]) == ("≈ 1.1 s", "≈ 3 s", "≈ 1 min")
    assert first["Task"] == ("simulate", "?page=tasks&name=simulate")
    assert sorted(named(rows.STATISTICS, row)["Peak memory"] for row in made) == ["", "512 MB"]


def test_statistics_of_tasks_that_took_no_time() -> None:
    assert rows.statistics({"noop": {"totaltasks": 3, "totalcalctimes": 0.0}}, {})[0][3] == 0


def test_jobs() -> None:
    job = named(rows.JOBS, rows.jobs(SOURCE.answer_jobs(), time.time())[0])
    assert (job["Progress %"], job["State"], job["Waiting"]) == (62, "▶ running", "3,792")
    assert job["Job"] == ("sweep", "?page=job&job=j1")
    assert job["Time left"].startswith("about ")


def test_a_job_of_open_end_and_one_of_nothing() -> None:
    made = rows.jobs([{"job": "a", "items": 0, "counts": {"DONE": 3}}, {"job": "b", "items": 0, "counts": {}}], 0.0)
    assert [row[2] for row in made] == [100, 0]


@pytest.mark.parametrize(
    ("job", "left"),
    [
        ({"items": 10, "counts": {"DONE": 5}, "created_at": 100.0, "state": "running"}, "about 50 s"),
        ({"items": 10, "counts": {}, "created_at": 100.0, "state": "running"}, ""),
        ({"items": 10, "counts": {"DONE": 10}, "created_at": 100.0, "state": "done"}, ""),
    ],
)
def test_time_left(job: dict[str, Any], left: str) -> None:
    assert rows.time_left(job, 150.0) == left


def test_tasks() -> None:
    made = [named(rows.TASKS, row) for row in rows.tasks([SOURCE.call(n) for n in range(5)])]
    assert [row["State"] for row in made[:2]] == ["▶ running", "✓ done"]
    assert made[4]["Note"].startswith("ValueError: bad")
    assert made[0]["Job"] == ("sweep[0]", "?page=job&job=j1")
    assert rows.state({"state": "DONE", "kept": True}) == "◐ stopped early"


@pytest.mark.parametrize(
    ("state", "shown"), [("up", "✓ up"), ("draining", "⊘ drained"), ("suspect", "? silent for 0.2 s")]
)
def test_hubs(state: str, shown: str) -> None:
    SOURCE.hub_state = state
    hub = named(rows.HUBS, rows.hubs(SOURCE.answer_hubs())[0])
    assert (hub["State"], hub["Workers"], hub["CPU %"], hub["Memory"], hub["Disk"]) == (
        shown, "3 of 4 busy", 80, "40 %", "30 %",
    )  # fmt: skip
    assert hub["Versions"] == "Python 3.11, nblb 0.1.0"


def test_gpus_of_a_hub() -> None:
    cards = [{"name": "T4", "percent": 50.0}, {"name": "A100", "outside": ["bob"], "outside_mb": 2048}]
    (row,) = rows.hubs([{**SOURCE.answer_hubs()[0], "gpus": cards}])
    said = "A100: 2.0 GB of this card are used outside the queue, by account bob"
    assert named(rows.HUBS, row)["GPUs"] == f"T4: 50 %;\n{said}"


def test_turns_and_failures() -> None:
    (turn,) = rows.turns(SOURCE.answer_turns())
    assert turn[0] == "1. for 0 to 1000"
    assert turn[-1] == "occupies 2 workers, fewer than anna"
    (failure,) = rows.failures(SOURCE.answer_failures())
    assert failure[0] == ("ValueError: x must not be …", "?page=task&task=t000004")


def test_long_text_is_bounded() -> None:
    (row,) = rows.queues({"by_name": {"x" * 5000: {"number": 1, "waitingtime": 0}}})
    assert len(row[0]) == rows.LONGEST_TEXT


def test_what_running_calls_have_done_counts_as_progress() -> None:
    job = {"name": "j", "items": 4, "counts": {"DONE": 1, "RUNNING": 2, "QUEUED": 1}, "state": "running",
           "created_at": 100.0}  # fmt: skip
    assert rows.done_share(job) == 0.25
    assert rows.done_share(job | {"progressed": 1.0}) == 0.5
    assert rows.time_left(job | {"progressed": 1.0}, 160.0) == "about 1 min"
    fresh = job | {"counts": {"RUNNING": 4}, "progressed": 0.4}
    assert rows.time_left(fresh, 110.0) == "about 1 min 30 s", "from the first reported percentage on"
    assert rows.done_share({"items": 0}) == 0.0


def test_a_task_name_that_no_worker_takes_has_a_note() -> None:
    (row,) = rows.queues({"by_name": {"m": {"number": 1}}, "notes": {"m": "no connected worker has feature 'matlab'"}})
    assert row == ("m", "1", "", "no connected worker has feature 'matlab'")


def test_a_cell_without_a_value_is_empty() -> None:
    assert (rows.duration_cell(None), rows.duration_cell(245)) == ("", "4 min 5 s")
    assert (rows.memory_cell(None), rows.memory_cell(8192.0)) == ("", "8.0 GB")
