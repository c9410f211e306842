"""A job's snapshot: counts, rate and time left."""

from __future__ import annotations

import pytest

from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.protocol.messages import TaskChanged, TaskState
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def half(x: int) -> float:
    return x / 2


def test_the_progress_of_running_items_counts_and_gives_the_time_left(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = half.map([1, 2, 3], chunksize=1)
    wait_until(lambda: core.specs)
    record = next(iter(job._ledger.records))
    job._pace.began_at -= 10.0
    job._port.show(job, TaskChanged(task=record, first=1, items=1, state=TaskState.RUNNING, progress=60.0))
    snapshot = job.snapshot()
    assert snapshot.done_percent == pytest.approx(20.0)
    assert snapshot.eta_s is not None
    low, high = snapshot.eta_s
    assert low < 40.0 < high  # 0.6 of 3 items in 10 s
    core.run()
