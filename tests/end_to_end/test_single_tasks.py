"""Single tasks without a variable: listed, found by id or name, and cancelled."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import pytest

import nblb as lb
from nblb.cli import main
from nblb.errors import UnknownTask
from tests.waiting import wait_until


@pytest.fixture
def waiting(cluster: Any) -> list[str]:
    """The ids of three tasks that wait for a worker, in no variable; another one, and a job, are not of their name."""

    @lb.task
    def blocks() -> None:
        time.sleep(60)

    @lb.task
    def waits(n: int) -> int:
        return n

    for _ in range(len(cluster.workers())):
        blocks.submit()
    wait_until(lambda: cluster.status().running == len(cluster.workers()), 20, "all workers at work")
    for n in range(3):
        waits.options(priority=n).submit(n)
    waits.map([1, 2, 3], job="sweep")
    gc.collect()
    wait_until(lambda: len(cluster.tasks(name="waits")) == 3, 20, "three that wait")
    return [row.task for row in cluster.tasks(name="waits")]


def test_they_are_listed(cluster: Any, waiting: list[str]) -> None:
    rows = lb.tasks()
    assert [row.state for row in rows if row.name == "waits"] == ["QUEUED"] * 3
    assert {row.name for row in rows} == {"waits", "blocks"}
    assert f"waits {waiting[0]}: QUEUED, priority 0" in repr(rows)
    assert lb.tasks(user="nobody") == []


def test_one_is_found_by_its_id_the_end_of_it_or_its_name_and_cancelled(cluster: Any, waiting: list[str]) -> None:
    by_id, by_end, by_name = lb.attach(waiting[0]), lb.attach(waiting[1][-8:]), lb.attach("waits")
    assert [future.task_id.partition(".")[0] for future in (by_id, by_end, by_name)] == [
        task.partition(".")[0] for task in waiting
    ]
    assert lb.attach("sweep").name == "sweep"  # a job's name comes first
    for left, future in enumerate((by_id, by_end, by_name)):
        assert future.cancel()
        wait_until(lambda left=left: len(lb.tasks(name="waits")) == 2 - left, 20, "it is gone")
    with pytest.raises(UnknownTask, match=r"no job 'waits'.*the names of waiting and running tasks are blocks"):
        lb.attach("waits")


def test_at_the_shell(
    cluster: Any, waiting: list[str], parameters_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = main([*words, "-p", parameters_file])
        return code, capsys.readouterr().out

    assert "5 single tasks that wait or run: nblb jobs --tasks" in run("jobs")[1]
    listed = json.loads(run("jobs", "--tasks", "--json")[1])
    assert [row["task"] for row in listed if row["name"] == "waits"] == waiting
    assert waiting[0] in run("jobs", "--tasks")[1]
    assert run("cancel", waiting[0][-8:])[0] == 0
    assert [row.task for row in lb.tasks(name="waits")] == waiting[1:]
    assert json.loads(run("cancel", "waits", "--json")[1]) == {"waits": 2}  # all of this name
    assert not lb.tasks(name="waits")
    assert run("cancel", "nonsense")[0] == 1
