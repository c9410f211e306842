"""lb.executor() is a concurrent.futures.Executor."""

from __future__ import annotations

import concurrent.futures
import gc
import operator
import pickle
import threading

import pytest

import nblb as lb
from nblb.client.cluster import Cluster
from nblb.errors import NotSerializable, TaskFailed
from nblb.protocol.messages import CancelTask, ForgetJob, OpenJob, SubmitTask
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


def fail(x: int) -> int:
    raise LookupError(x)


def test_submit_and_map(cluster: Cluster, core: FakeCore) -> None:
    with cluster.executor(priority=5) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor.submit(pow, 2, 5).result(60) == 32
        assert list(executor.map(operator.add, range(5), range(5))) == [0, 2, 4, 6, 8]
        assert list(executor.map(pow, range(10), [2] * 10, chunksize=3)) == [n * n for n in range(10)]
    (job,) = core.said(OpenJob)
    assert job.items == 0
    assert {(spec.job, spec.priority) for spec in core.said(SubmitTask)} == {(job.job, 5.0)}
    wait_until(lambda: [message.job for message in core.said(ForgetJob)] == [job.job])


def test_exceptions_are_the_original_ones(cluster: Cluster) -> None:
    with cluster.executor() as executor:
        future = executor.submit(fail, 7)
        with pytest.raises(LookupError, match="7") as caught:
            future.result(60)
        assert isinstance(caught.value.__cause__, TaskFailed)
        assert "raise LookupError(x)" in str(caught.value.__cause__)
        assert isinstance(future.exception(), LookupError)
        with pytest.raises(LookupError):
            list(executor.map(fail, [1]))


def test_shutdown(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    executor = cluster.executor()
    futures = [executor.submit(pow, 2, n) for n in range(3)]
    wait_until(lambda: len(core.specs) == 3)
    core.running(futures[0].task_id)
    wait_until(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, True, True]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 1, 1)
    core.run()
    assert futures[0].result(60) == 1
    executor.shutdown()


def test_map_times_out_and_cancels_the_rest(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    executor = cluster.executor()
    for chunksize in (1, 2):
        with pytest.raises(concurrent.futures.TimeoutError):
            list(executor.map(abs, range(4), timeout=0.02, chunksize=chunksize))
    wait_until(lambda: len(core.said(CancelTask)) == 4 + 2)
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(abs, range(4), chunksize=0)
    executor.shutdown()


def test_an_unused_executor_says_nothing(cluster: Cluster, core: FakeCore) -> None:
    with cluster.executor():
        pass
    assert core.said(OpenJob) == []


def forgotten(core: FakeCore) -> list[str]:
    return [message.job for message in core.said(ForgetJob)]


def test_an_executor_for_each_call_is_one_job_while_calls_are_open(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    futures = [lb.executor().submit(abs, -n) for n in range(50)]
    futures += [lb.executor(priority=3).submit(abs, -n) for n in range(50, 60)]
    gc.collect()
    wait_until(lambda: len(core.specs) == 60)
    (job,) = core.said(OpenJob)
    assert {spec.job for spec in core.specs.values()} == {job.job}
    assert forgotten(core) == []
    core.run()
    assert [future.result(60) for future in futures] == [*range(60)]
    wait_until(lambda: forgotten(core) == [job.job])
    core.hold = False
    for n in range(3):  # one after the other: none is left behind
        assert lb.executor().submit(abs, -n).result(60) == n
    wait_until(lambda: len(forgotten(core)) == len(core.said(OpenJob)))


def test_another_users_calls_are_another_job(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    lb.executor(user="bob").submit(abs, 1)
    lb.executor().submit(abs, 1)
    wait_until(lambda: len(core.specs) == 2)
    assert [job.user for job in core.said(OpenJob)] == ["bob", ""]


def test_two_executors_at_a_time_are_two_jobs(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    one, other = lb.executor(), lb.executor()
    one.submit(abs, 1)
    other.submit(abs, 1)
    one.submit(abs, 1)
    wait_until(lambda: len(core.specs) == 3)
    assert len(core.said(OpenJob)) == 2
    assert one.name != other.name


def test_a_job_is_forgotten_when_the_last_call_ends_after_a_shutdown_that_does_not_wait(
    cluster: Cluster, core: FakeCore
) -> None:
    core.hold = True
    executor = cluster.executor()
    future = executor.submit(abs, -3)
    executor.shutdown(wait=False)
    wait_until(lambda: len(core.specs) == 1)
    assert forgotten(core) == []
    core.run()
    assert future.result(60) == 3
    wait_until(lambda: len(forgotten(core)) == 1)


def test_what_cannot_be_pickled_is_the_error_of_the_future(cluster: Cluster) -> None:
    with cluster.executor() as executor:
        future = executor.submit(abs, threading.Lock())
        error = future.exception(10)
        assert isinstance(error, NotSerializable)
        assert isinstance(error, pickle.PicklingError)
        assert isinstance(error, TypeError)
        assert "lock" in str(error)
        assert (future.done(), future.state) == (True, "FAILED")
        with pytest.raises(pickle.PicklingError, match="lock"):
            list(executor.map(abs, [threading.Lock()]))
        assert executor.submit(abs, -1).result(60) == 1


def test_unknown_keywords_are_refused_with_a_sentence(cluster: Cluster) -> None:
    with pytest.raises(TypeError, match=r"lb.executor\(\) has no keyword 'max_workers'; it takes priority, user"):
        lb.executor(max_workers=4)
    with pytest.raises(TypeError, match="has no keyword 'initializer', 'retries'"):
        cluster.executor(initializer=print, retries=2)
    with pytest.raises(TypeError, match="it takes timeout, chunksize, buffersize"):
        cluster.executor().map(abs, [1], chunk=2)


def test_a_map_with_a_buffer_submits_as_results_are_taken(cluster: Cluster, core: FakeCore) -> None:
    with cluster.executor() as executor:
        taken = executor.map(abs, iter(range(0, -100, -1)), buffersize=4)
        assert [next(taken) for _ in range(3)] == [0, 1, 2]
        assert len(core.said(SubmitTask)) <= 4 + 3
        assert list(taken) == [*range(3, 100)]
        assert list(executor.map(abs, range(-10, 0), chunksize=3, buffersize=2)) == [*range(10, 0, -1)]
        for wrong, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
            with pytest.raises(error, match="buffersize"):
                executor.map(abs, [1], buffersize=wrong)


def test_the_number_of_workers_is_that_of_the_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    bands = [(0, 10), (0, 10), (5, 1000)]
    monkeypatch.setattr(Cluster, "workers", lambda _: [{"minP": low, "maxP": high} for low, high in bands])
    assert [cluster.executor(priority)._max_workers for priority in (0, 7, 20, 5000)] == [2, 3, 1, 1]


def test_a_task_keeps_its_options_and_takes_the_executors(cluster: Cluster, core: FakeCore) -> None:
    task = lb.task(pow, retries=2, timeout=3, name="power")
    with cluster.executor(priority=5, user="anna") as executor:
        assert executor.submit(task, 2, 5).result(60) == 32
        assert executor.submit(task.options(priority=9), 2, 5).result(60) == 32
        assert list(executor.map(task, range(4), [2] * 4, chunksize=2)) == [0, 1, 4, 9]
    told = [(spec.name, spec.priority, spec.user, spec.retries, spec.timeout_s) for spec in core.said(SubmitTask)]
    assert told == [("power", 5, "anna", 2, 3), ("power", 9, "anna", 2, 3), *[("power", 5, "anna", 2, 6)] * 2]
