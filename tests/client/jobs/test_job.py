"""Jobs on a fake core."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import numpy as np
import pytest

import nblb as lb
from nblb import payload
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.snapshots import INDEX
from nblb.protocol.messages import CancelTask, JobChanged, OpenJob, SubmitTask, TaskChanged, TaskEnded, TaskState
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def square(x: int) -> int:
    return x * x


@task_decorator.task
def picky(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"{x} is divisible")
    return x


def test_results_in_order(cluster: Cluster, core: FakeCore) -> None:
    job = square.map(range(5000))
    assert job.results(60) == [n * n for n in range(5000)]
    assert job.done()
    assert job.wait(0)
    assert len(job) == 5000
    specs = core.said(SubmitTask)
    assert [spec.items for spec in specs] == [4096, 904]
    assert all(spec.split for spec in specs)
    assert [spec.index for spec in specs] == [0, 4096]
    assert core.said(OpenJob)[0].items == 5000
    snapshot = job.snapshot()
    assert (snapshot.state, snapshot.counts, snapshot.done_percent) == ("done", {"DONE": 5000}, 100.0)


def test_iteration_gives_results_as_they_come(cluster: Cluster, core: FakeCore) -> None:
    core.slices = 7
    assert list(square.map(range(100))) == [n * n for n in range(100)]

    async def all_of_them() -> list[int]:
        return [result async for result in square.map(range(100))]

    async def at_once() -> list[int]:
        results: list[int] = await square.map(range(100))
        return results

    assert asyncio.run(all_of_them()) == asyncio.run(at_once()) == [n * n for n in range(100)]


def test_explicit_chunks_stay_together(cluster: Cluster, core: FakeCore) -> None:
    assert square.map(range(10), chunksize=4).results(60) == [n * n for n in range(10)]
    assert [(spec.items, spec.split) for spec in core.said(SubmitTask)] == [(4, False), (4, False), (2, False)]


@pytest.mark.parametrize("chunksize", [0, -1, 1.5, "many", True])
def test_wrong_chunksize(cluster: Cluster, chunksize: object) -> None:
    with pytest.raises((TypeError, ValueError), match="chunksize is"):
        square.map(range(3), chunksize=chunksize)  # type: ignore[arg-type]


def test_several_iterables_and_fixed_arguments(cluster: Cluster) -> None:
    @task_decorator.task
    def add(a: int, b: int, c: int = 0) -> int:
        return a + b + c

    assert add.map([1, 2, 3], [10, 20, 30], c=100).results(60) == [111, 122, 133]
    with pytest.raises(TypeError, match=r"add\(a.*cannot be called like this"):
        add.map([1, 2])


def test_an_empty_map_is_done(cluster: Cluster, core: FakeCore) -> None:
    job = square.map([])
    assert job.results(0) == []
    assert job.snapshot().state == "done"
    assert core.said(OpenJob) == []


def test_failures(cluster: Cluster) -> None:
    job = picky.map(range(10))
    assert job.wait(60)
    with pytest.raises(lb.TaskFailed, match="0 is divisible"):
        job.results()
    kept = job.results(errors="return")
    assert [kept[1], kept[2], kept[4]] == [1, 2, 4]
    assert all(isinstance(kept[n], lb.TaskFailed) for n in (0, 3, 6, 9))
    assert job.results(errors="skip") == [1, 2, 4, 5, 7, 8]
    with pytest.raises(ValueError, match="errors is"):
        job.results(errors="ignore")  # type: ignore[arg-type]
    assert [future.task_id.rpartition(".")[2] for future in job.failed] == ["0", "3", "6", "9"]
    snapshot = job.snapshot()
    assert snapshot.counts == {"DONE": 6, "FAILED": 4}
    assert snapshot.state == "failed"
    (group,) = snapshot.failures
    assert (group.kind, group.count, group.items) == ("ValueError", 4, (0, 3, 6, 9))
    assert group.where.startswith("test_job.py line")
    assert bytes(job._port.states(job)) == bytes(INDEX["FAILED" if n % 3 == 0 else "DONE"] for n in range(10))
    with pytest.raises(lb.TaskFailed):
        list(job)
    assert "4 failed" in repr(job)


def test_futures_of_items(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(4))
    early = job[2]
    assert early is job[2] is job[-2]
    wait_until(lambda: core.specs)
    core.run()
    assert early.result(60) == 4
    late = job[3]
    assert late.result(0) == 9
    assert late.state is TaskState.DONE
    assert early.task_id == f"{next(iter(core.specs))}.2"
    with pytest.raises(IndexError, match="4 items"):
        job[4]


def test_as_completed_in_the_order_of_ends(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(6), chunksize=2)
    wait_until(lambda: len(core.specs) == 3)
    names = list(core.specs)
    core.run(names[1])
    wait_until(lambda: job.counts().get("DONE") == 2)
    order = job.as_completed(10)
    assert [next(order).result(), next(order).result()] == [4, 9]
    core.run(names[2])
    assert [next(order).result(), next(order).result()] == [16, 25]
    core.run(names[0])
    assert [future.result() for future in order] == [0, 1]
    assert [future.result() for future in lb.as_completed(job)] == [4, 9, 16, 25, 0, 1]


def test_cancel(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(10), chunksize=5)
    wait_until(lambda: len(core.specs) == 2)
    core.run(next(iter(core.specs)))
    job.cancel()
    assert job.wait(60)
    assert job.counts() == {"DONE": 5, "CANCELLED": 5}
    assert job.snapshot().state == "cancelled"
    with pytest.raises(lb.TaskCancelled):
        job.results()
    assert core.said(CancelTask)[0].job == job.job_id


def test_cancel_of_one_item(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(3))
    wait_until(lambda: core.specs)
    assert job[1].cancel()
    wait_until(lambda: job.counts().get("CANCELLED") == 1)
    message = core.said(CancelTask)[0]
    assert (message.first, message.items) == (1, 1)


def test_big_items_and_futures_are_records_of_their_own(cluster: Cluster, core: FakeCore) -> None:
    numpy = pytest.importorskip("numpy")

    @task_decorator.task
    def size(x: object) -> int:
        return len(x) if hasattr(x, "__len__") else int(x)  # type: ignore[call-overload, no-any-return]

    future = square.submit(3)
    assert future.result(60) == 9
    core.hold = True
    pending = square.submit(4)
    job = size.map([1, 2, numpy.zeros(20_000), 3, pending, future, 4])
    wait_until(lambda: len(core.said(SubmitTask)) >= 7)
    core.run()
    assert job.results(60) == [1, 2, 20_000, 3, 16, 9, 4]
    specs = [spec for spec in core.said(SubmitTask) if spec.job]
    assert [spec.items for spec in specs] == [2, 1, 1, 1, 2]
    assert [len(spec.depends) for spec in specs] == [0, 0, 0, 1, 0]


def test_a_job_as_an_argument_is_the_list_of_its_results(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(5), chunksize=2)

    @task_decorator.task
    def total(numbers: list[int]) -> int:
        assert isinstance(numbers, list)
        return sum(numbers)

    future = total.submit(job)
    wait_until(lambda: future.task_id in core.specs)
    core.run()
    assert future.result(60) == 30


def test_snapshot_of_what_runs(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(100))
    assert job.snapshot().state == "waiting"
    wait_until(lambda: core.specs)
    (task,) = core.specs
    core.running(task, 50.0, first=10, items=10)
    wait_until(lambda: job.counts() == {"RUNNING": 1, "ASSIGNED": 9, "QUEUED": 90})
    snapshot = job.snapshot()
    assert snapshot.state == "running"
    (row,) = snapshot.running
    assert (row.item, row.items, row.progress, row.host) == (10, 10, 50.0, "lab1")
    assert snapshot.done_percent == pytest.approx(5.0)
    core.tell(JobChanged(job=job.job_id, counts={"RUNNING": 30, "QUEUED": 70}))
    wait_until(lambda: job.counts() == {"RUNNING": 30, "QUEUED": 70})
    called: list[int] = []
    job._port.add_listener(job, lambda: called.append(1))
    core.run()
    assert job.wait(60)
    wait_until(lambda: called)
    assert job.counts() == {"DONE": 100}
    assert job.snapshot().running == ()


def test_timeout(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(3))
    assert not job.wait(0.01)
    with pytest.raises(concurrent.futures.TimeoutError, match="3 tasks"):
        job.results(0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(job.as_completed(0.01))


def test_dataframe(cluster: Cluster) -> None:
    pytest.importorskip("pandas")

    @task_decorator.task
    def row(x: int) -> dict[str, int]:
        if x == 1:
            raise ValueError("one")
        return {"x": x, "y": x * x}

    job = row.map(range(3))
    assert job.wait(60)
    frame = job.dataframe()
    assert list(frame["state"]) == ["DONE", "FAILED", "DONE"]
    assert list(frame["y"].fillna(-1)) == [0, -1, 4]
    assert frame["error"][1] == "ValueError: one"


def test_an_item_that_is_looked_at_late_knows_where_it_is(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(4), chunksize=4)
    wait_until(lambda: len(core.said(SubmitTask)) == 1)
    early, task = job[1], core.said(SubmitTask)[0].task
    news = TaskChanged(
        task=task, state=TaskState.RUNNING, items=4, progress=40.0, note="n", worker="w", host="h", attempt=1
    )
    core.tell(news)
    wait_until(lambda: early.state is TaskState.RUNNING)
    late = job[1]
    for future in (early, late):
        assert (future.state, future.note, future.host, future.attempt) == (TaskState.RUNNING, "n", "h", 1)
        assert future.progress == pytest.approx(60.0)
    assert job[3].state is TaskState.ASSIGNED
    assert job[3].host == "h"


def test_an_item_has_host_attempt_and_times_whenever_it_is_asked_for(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(4), chunksize=4)
    wait_until(lambda: len(core.said(SubmitTask)) == 1)
    early, task = job[1], core.said(SubmitTask)[0].task
    how: dict[str, Any] = {"worker": "w", "host": "h", "attempt": 2, "ended_at": 9.0}
    values = payload.pack_results([0, 1, 4, 9])
    core.tell(
        TaskEnded(task=task, state=TaskState.DONE, items=4, payload=values, duration_s=3.0, holes=(3,), **how),
        TaskEnded(task=task, state=TaskState.CANCELLED, first=3, **how),
    )
    wait_until(job.done)
    for future in (early, job[0], job[2]):
        assert (future.host, future.worker, future.attempt) == ("h", "w", 2)
        assert (future.duration_s, future.ended_at, future.snapshot().duration_s) == (1.0, 9.0, 1.0)
    assert (job[3].state, job[3].host, job[3].ended_at) == (TaskState.CANCELLED, "h", 9.0)


def test_a_slice_is_the_futures_of_its_items(cluster: Cluster) -> None:
    job = lb.task(abs).map([-1, -2, -3, -4])
    assert [future.result(60) for future in job[1:3]] == [2, 3]
    assert job[::-2] == [job[3], job[1]]
    assert job[7:] == []
    assert job[np.int64(1)] is job[1]
    with pytest.raises(TypeError):
        job["1"]  # type: ignore[call-overload]


class Broken:
    """Cannot be loaded."""

    def __reduce__(self) -> Any:
        return float, ("no number",)


@task_decorator.task
def sometimes_broken(x: int) -> Any:
    return Broken() if x == 2 else x


def test_a_result_that_cannot_be_loaded_spoils_no_other(cluster: Cluster, core: FakeCore) -> None:
    job = sometimes_broken.map(range(5))
    with pytest.raises(lb.TaskFailed, match=r"the result of item 2 of .* cannot be loaded here: ValueError"):
        job.results(60)
    assert job.results(10, errors="skip") == [0, 1, 3, 4]
    kept = job.results(10, errors="return")
    assert isinstance(kept.pop(2), lb.TaskFailed)
    assert kept == [0, 1, 3, 4]
    assert [job[n].result(60) for n in (0, 1, 3, 4)] == [0, 1, 3, 4]
    with pytest.raises(lb.TaskFailed, match="cannot be loaded here: ValueError"):
        job[2].result(60)
    told = iter(job)
    assert [next(told), next(told)] == [0, 1]
    with pytest.raises(lb.TaskFailed, match="cannot be loaded here"):
        next(told)
    frame = job.dataframe()
    assert frame["result"].tolist()[3:] == [3, 4]
    assert "cannot be loaded here" in frame["error"][2]


def test_one_of_a_loop_of_submits_that_cannot_be_loaded_spoils_no_other(cluster: Cluster, core: FakeCore) -> None:
    futures = [sometimes_broken.submit(x) for x in range(5)]
    assert [future.result(60) for n, future in enumerate(futures) if n != 2] == [0, 1, 3, 4]
    with pytest.raises(lb.TaskFailed, match="cannot be loaded here: ValueError"):
        futures[2].result(60)
