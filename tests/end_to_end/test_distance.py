"""A hub that is 20 ms away: its workers are as busy as others, and nobody waits behind work sent ahead."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.transport.dialing import local_address
from nblb.transport.local_line import SCHEME
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

LEAST = 0.8  # of the workers' time: 0.95 on a quiet machine, 0.7 where each task waits for its way
ONE_WAY_S, TASK_S, WORKERS = 0.010, 0.05, 2


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"LB_HEARTBEAT_S": 0.2}  # so that the way is soon measured


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    """A core, and a hub that reaches it through a line with a delay."""
    with launch.start(parameters, workers=0, monitor=False) as cluster:
        door = local_address(parameters.runtime_dir, "hubs").removeprefix(SCHEME)
        near = Path(door).with_name("far.local")
        line = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.forward", str(near), door, str(ONE_WAY_S)], stdout=subprocess.PIPE
        )
        assert line.stdout is not None
        line.stdout.readline()
        hub = subprocess.Popen(
            [sys.executable, "-m", "nblb", "hub", "-p", str(parameters.runtime_dir / "parameters.json"),
             "--core", f"{SCHEME}{near}", "--workers", str(WORKERS)], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: len(cluster.workers()) == WORKERS, 30, "the workers of a hub that is far away")
            yield cluster
        finally:
            hub.terminate()
            hub.wait(20)
            line.kill()
            line.wait(10)


def waits(seconds: float) -> tuple[float, float]:
    begun = time.monotonic()
    time.sleep(seconds)
    return begun, time.monotonic()


def busy(ran: list[tuple[float, float]]) -> float:
    """The share of the time between the first start and the last end in which the workers ran tasks."""
    whole = max(end for _, end in ran) - min(begun for begun, _ in ran)
    return sum(end - begun for begun, end in ran) / (WORKERS * whole)


def test_workers_are_busy_and_another_user_waits_for_no_work_ahead(cluster: Cluster) -> None:
    task = lb.task(waits)
    task.map([TASK_S] * 10).results()  # its length is known then, and the way
    wait_until(lambda: cluster.hubs()[0].way_s > ONE_WAY_S, 20, "the way is measured")
    ran = task.map([TASK_S] * 120, chunksize=1).results()
    assert busy(ran) > LEAST, f"{busy(ran):.2f}"
    job = task.map([TASK_S] * 60, chunksize=1)
    job[3].result(30)
    asked = time.monotonic()
    began, _ = task.options(user="bob").submit(TASK_S).result(30)
    assert began - asked < 0.5
    job.results()
