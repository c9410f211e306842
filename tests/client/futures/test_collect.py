"""as_completed, wait, gather and put."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def half(x: int) -> float:
    if x < 0:
        raise ValueError(x)
    return x / 2


def test_as_completed_takes_futures_and_jobs(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    first, second, job = half.submit(1), half.submit(2), half.map([4, 6])
    wait_until(lambda: len(core.specs) == 3)
    core.run(second.task_id)
    order = lb.as_completed([first, second, job, second], timeout=10)
    assert next(order) is second
    core.run(first.task_id)
    assert next(order) is first
    core.run()
    assert [future.result() for future in order] == [2.0, 3.0]
    with pytest.raises(TypeError, match="neither a future nor a job"):
        lb.as_completed([3])


def test_as_completed_times_out(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    with pytest.raises(concurrent.futures.TimeoutError, match="1 of 1"):
        list(lb.as_completed([half.submit(1)], timeout=0.01))


def test_wait(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    good, bad, open_one = half.submit(1), half.submit(-1), half.submit(3)
    wait_until(lambda: len(core.specs) == 3)
    assert lb.wait([good, bad, open_one], timeout=0.01) == (set(), {good, bad, open_one})
    core.run(good.task_id)
    assert lb.wait([good, bad, open_one], return_when=lb_first()) == ({good}, {bad, open_one})
    core.run(bad.task_id)
    done, left = lb.wait([good, bad, open_one], return_when=concurrent.futures.FIRST_EXCEPTION)
    assert (done, left) == ({good, bad}, {open_one})
    core.run()
    assert lb.wait([good, bad, open_one]).not_done == set()
    with pytest.raises(ValueError, match="return_when"):
        lb.wait([good], return_when="SOME")


def lb_first() -> str:
    return concurrent.futures.FIRST_COMPLETED


def test_gather(cluster: Cluster) -> None:
    assert lb.gather(half.submit(1), half.map([2, 4]), half.submit(6)) == [0.5, [1.0, 2.0], 3.0]
    with pytest.raises(lb.TaskFailed):
        lb.gather(half.submit(-1))
    with pytest.raises(TypeError, match="neither"):
        lb.gather(1)


def test_put_names_what_cannot_be_pickled(cluster: Cluster) -> None:
    with pytest.raises(lb.NotSerializable, match=r"constant\['a'\]"):
        lb.put({"a": threading.Lock()})
    held = lb.put([1, 2])
    assert lb.put(held) is held
    assert held.value == [1, 2]
    assert "list" in repr(held)
