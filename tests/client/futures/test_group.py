"""Futures that are counted and shown as one."""

from __future__ import annotations

import concurrent.futures
import gc
import weakref
from typing import Any

from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.futures.group import FutureGroup
from nblb.client.snapshots import INDEX
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def half(x: int) -> float:
    if x < 0:
        raise ValueError(x)
    return x / 2


def future(result: Any = None, error: BaseException | None = None) -> concurrent.futures.Future[Any]:
    made: concurrent.futures.Future[Any] = concurrent.futures.Future()
    if error is not None:
        made.set_exception(error)
    elif result is not None:
        made.set_result(result)
    return made


def test_members_are_counted_by_their_state() -> None:
    group = FutureGroup("mixed", [future(), future(1), future(error=ValueError()), future(2)])
    snapshot = group.snapshot()
    assert (snapshot.name, snapshot.total, snapshot.state) == ("mixed", 4, "running")
    assert snapshot.counts == {"QUEUED": 1, "DONE": 2, "FAILED": 1}
    assert snapshot.done_percent == 75.0
    assert list(group.marked_states()) == [INDEX[state] for state in ("QUEUED", "DONE", "FAILED", "DONE")]
    assert not group.done()


def test_an_ended_member_is_not_kept_alive_and_one_that_joins_later_wakes_the_card() -> None:
    woken: list[bool] = []
    group = FutureGroup()
    member = future(1)
    group.add(member)
    group.changed = lambda: woken.append(True)
    group.snapshot()
    gone = weakref.ref(member)
    del member
    gc.collect()
    assert gone() is None
    assert group.snapshot().state == "done"
    group.add(future())
    assert woken == [True]
    assert group.snapshot().total == 2


def test_tasks_are_named_grouped_and_cancelled(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    tasks = [half.submit(n) for n in (1, -1, -2, 4)]
    group = FutureGroup(futures=tasks)
    assert group.name == "4 × half"
    wait_until(lambda: len(core.specs) == 4)
    for one in tasks[:3]:
        core.run(one.task_id)
    concurrent.futures.wait(tasks[:3], 10)
    snapshot = group.snapshot()
    assert snapshot.counts == {"DONE": 1, "FAILED": 2, "QUEUED": 1}
    (failures,) = snapshot.failures
    assert (failures.kind, failures.count, failures.items) == ("ValueError", 2, (1, 2))
    group.cancel()
    wait_until(tasks[3].cancelled)
    assert group.done()
    assert group.snapshot().state == "failed"
