"""The object that stands for a wait for one future."""

from __future__ import annotations

from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.current import executor
from nblb.client.futures.group import FutureGroup
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def half(x: int) -> float:
    return x / 2


def test_one_task_stands_for_itself_and_several_for_a_group(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    first = half.submit(1)
    assert first._shown_for() is first
    second = half.submit(2)
    group = second._shown_for()
    assert isinstance(group, FutureGroup)
    assert group.name == "2 × half"
    third = half.submit(3)
    assert third._shown_for() is first._shown_for() is group
    assert group.snapshot().total == 3
    wait_until(lambda: len(core.specs) == 3)
    core.run()
    assert third.result(60) == 1.5
    later = half.submit(4)
    assert later._shown_for() is later


def test_an_item_stands_for_its_job_and_a_call_for_its_executor(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = half.map([1, 2, 3])
    assert job[1]._shown_for() is job
    with executor() as pool:
        calls = [pool.submit(half, n) for n in range(2)]
        group = calls[0]._shown_for()
        assert calls[1]._shown_for() is group
        assert group.name == pool.name
        wait_until(lambda: len(core.specs) == 3)
        core.run()
    assert group.snapshot().counts == {"DONE": 2}
