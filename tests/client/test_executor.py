"""lb.executor() is a concurrent.futures.Executor."""

from __future__ import annotations

import concurrent.futures
import operator

import pytest

from nblb.client.cluster import Cluster
from nblb.errors import TaskFailed
from nblb.protocol.messages import CancelTask, ForgetJob, OpenJob, SubmitTask
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


def fail(x: int) -> int:
    raise LookupError(x)


def test_submit_and_map(cluster: Cluster, core: FakeCore) -> None:
    with cluster.executor(priority=5) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor.submit(pow, 2, 5).result(10) == 32
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
            future.result(10)
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
    assert futures[0].result(10) == 1
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
