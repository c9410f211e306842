"""f.wait(state) and cancel(wait=…) with real workers: single tasks, several sent together, and items of a job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import nblb as lb

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def _stubborn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            time.sleep(0.5)  # cleans up
            raise


def test_waits_for_states(cluster: Cluster) -> None:
    nap = lb.task(_stubborn)
    future = nap.submit(60)
    assert future.wait("running", timeout=30)
    assert future.running()
    began = time.monotonic()
    assert future.cancel(wait=30)
    assert time.monotonic() - began >= 0.4, "the worker cleans up first"
    assert future.snapshot().state == "CANCELLED"
    assert future.wait("cancelled", timeout=0)
    assert cluster.status().busy == 0

    several = [nap.submit(seconds) for seconds in (0.3, 60)]
    assert several[0].wait(timeout=30)
    assert several[0].wait("running"), "it has been"
    assert several[1].wait("running", timeout=30)
    assert several[1].cancel(wait=True)

    job = nap.map([0.2, 60, 60])
    assert job[0].wait("done", timeout=30)
    assert job[1].wait("running", timeout=30)
    assert job[1].cancel(wait=True)
    assert job[1].snapshot().state == "CANCELLED"
    job.cancel(wait=30)
    assert job.done()
    assert job.counts()["CANCELLED"] == 2
