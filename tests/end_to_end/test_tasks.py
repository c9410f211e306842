"""Everyday use: submit, map, wait, cancel, and sharing the workers with other users."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


@lb.task
def square(x: int) -> int:
    return x * x


@lb.task
def nap(seconds: float) -> float:
    started = time.time()
    time.sleep(seconds)
    return started


@lb.task
def mark_and_sleep(path: str, seconds: float) -> None:
    with open(path, "a") as file:
        file.write("started\n")
    time.sleep(seconds)


def test_submit_map_results(cluster: Cluster) -> None:
    assert square(3) == 9  # still a function
    future = square.submit(3)
    assert future.result(60) == 9
    job = square.map(range(300), job="squares")
    assert job.results() == [x * x for x in range(300)]
    assert [future.result(60) for future in lb.as_completed([square.submit(4)])] == [16]
    assert lb.gather(square.submit(1), square.submit(2)) == [1, 4]
    assert lb.gather([square.submit(1), square.submit(2)]) == lb.gather(map(square.submit, (1, 2))) == [1, 4]
    assert lb.gather([]) == lb.gather() == []
    for wrong in ("text", 3, [3], [square.submit(1), None]):
        with pytest.raises(TypeError, match="neither a future nor a job"):
            lb.gather(wrong)
    assert lb.attach("squares").results() == [x * x for x in range(300)]


def test_tasks_run_in_other_processes_on_all_workers(cluster: Cluster) -> None:
    def who(_: int) -> int:
        time.sleep(0.05)
        return os.getpid()

    pids = set(lb.task(who).map(range(20), chunksize=1).results())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_futures_are_arguments(cluster: Cluster) -> None:
    @lb.task
    def total(*parts: int) -> int:
        return sum(parts)

    assert total.submit(square.submit(3), square.submit(4)).result(60) == 25


def test_a_failure_carries_the_remote_traceback(cluster: Cluster) -> None:
    @lb.task
    def bad(x: int) -> float:
        return 1 / x  # the line that fails

    with pytest.raises(lb.TaskFailed, match=r"(?s)1 / x  # the line that fails.*ZeroDivisionError") as caught:
        bad.submit(0).result(60)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_cancelling_a_running_task_frees_its_worker_at_once(cluster: Cluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    futures = [mark_and_sleep.submit(str(marks), 60) for _ in range(2)]
    wait_until(lambda: marks.exists() and marks.read_text().count("started") == 2, 20, "two running tasks")
    before = time.monotonic()
    for future in futures:
        future.cancel()
    assert square.submit(5).result(50) == 25
    assert time.monotonic() - before < 50  # the tasks would have slept for a minute
    for future in futures:
        with pytest.raises(lb.TaskCancelled):
            future.result(60)


def test_cancelling_a_job(cluster: Cluster) -> None:
    job = nap.map([30] * 50)
    wait_until(lambda: job.snapshot().counts.get("RUNNING", 0), 20, "a running task")
    job.cancel()
    wait_until(lambda: job.snapshot().counts.get("CANCELLED", 0) == 50, 10, "all cancelled")
    assert square.submit(5).result(60) == 25


def test_an_argument_that_cannot_be_pickled_is_named_at_submit(cluster: Cluster) -> None:
    with pytest.raises(lb.NotSerializable, match="lock"):
        square.submit({"lock": threading.Lock()})  # type: ignore[arg-type]


def test_a_result_that_cannot_be_pickled_fails_its_task_only(cluster: Cluster) -> None:
    with pytest.raises(lb.NotSerializable, match="lock"):
        lb.task(threading.Lock).submit().result(60)
    assert square.submit(5).result(60) == 25


def test_a_module_that_the_hub_lacks_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages"  # installed here, so it travels by name
    package.mkdir()
    (package / "only_here_module.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(package))
    import only_here_module  # type: ignore[import-not-found]

    try:
        with pytest.raises(lb.TaskFailed, match="only_here_module"):
            lb.task(only_here_module.f).submit(1).result(60)
    finally:
        del sys.modules["only_here_module"]
    assert square.submit(5).result(60) == 25


def test_a_flood_of_one_user_does_not_hold_up_another(cluster: Cluster) -> None:
    flood = nap.options(user="anna").map([0.02] * 1000)
    wait_until(lambda: flood.snapshot().counts.get("DONE", 0) > 20, 20, "the flood to flow")
    asked = time.time()
    started = nap.options(user="bob").submit(0.02).result(60)
    before_bob = [t for t in flood.results() if asked < t < started]
    # two workers, each with at most one of anna's tasks in hand and one just taken, and those that ended while this
    # process and the core waited for a processor; behind the whole flood there were more than nine hundred
    assert len(before_bob) <= 300


def test_a_band_keeps_a_worker_free_for_urgent_tasks(banded: Cluster) -> None:
    slow = [nap.submit(60) for _ in range(4)]
    wait_until(lambda: sum(future.state == lb.TaskState.RUNNING for future in slow) == 1, 20, "one to run")
    before = time.monotonic()
    assert nap.options(priority=100).submit(0).result(50)
    assert time.monotonic() - before < 50  # the others sleep for a minute
    assert sum(future.state == lb.TaskState.RUNNING for future in slow) == 1
    nobody = nap.options(priority=2000).submit(0)
    wait_until(lambda: "2000" in nobody.why(), 10, "the reason why it waits")
    for future in [*slow, nobody]:
        future.cancel()


@pytest.fixture
def banded(settings: dict[str, Any]) -> Iterator[Cluster]:
    settings["WKHUB_WORKERS"] = [
        {"nWorkers": 1, "minP": 0, "maxP": 9, "processP": 0},
        {"nWorkers": 1, "minP": 100, "maxP": 1000, "processP": 0},
    ]
    with lb.start(settings, monitor=False) as cluster:
        yield cluster


def test_what_the_core_answers_has_a_typed_field_each(cluster: Cluster) -> None:
    job = square.map(range(3))
    assert job.wait(60)
    slow = nap.submit(20)
    (row,) = wait_until(cluster.tasks, 10)
    for answer in (*cluster.hubs(), *cluster.workers(), *cluster.users(), *cluster.jobs(), row, cluster.status().core):
        known = {type(answer)._KEYS.get(each.name, each.name) for each in dataclasses.fields(answer)}
        assert {*answer} <= known | {"first", "items"}, type(answer)
    status, of_core = cluster.status(), {"pid", "epoch", "host", "started_at", "nblb", "process", "python"}
    assert {*status} - {each.name for each in dataclasses.fields(status)} <= of_core
    assert (status.core.pid, status.core["epoch"]) == (status["pid"], status.epoch)
    slow.cancel()
