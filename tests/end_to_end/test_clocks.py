"""Core, hub and client while the wall clock is set, and after the computer has slept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb.broker import load_balancer
from nblb.broker.load_balancer import LoadBalancer
from nblb.hub.worker_hub import WorkerHub
from nblb.system import machine
from nblb.system.machine import slept_s
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

HOUR_S, DAY_S = 3600.0, 86400.0


class Clock:
    """The wall clock that all code of this process reads, and the time that the computer has slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = self.slept_s = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead_s)
        for shell in (load_balancer, machine):
            monkeypatch.setattr(shell, "slept_s", lambda now: slept_s(now) + self.slept_s)

    def set(self, seconds: float) -> None:
        self.ahead_s += seconds

    def sleep(self, seconds: float) -> None:
        """The monotonic clock stands still in a sleep; the wall clock and the time since boot do not."""
        self.ahead_s += seconds
        self.slept_s += seconds


class Process:
    """A core or a hub in a thread of this process, whose clock is set."""

    def __init__(self, run: Callable[[], object], stop: Callable[[], object]) -> None:
        self._stop = stop
        self._thread = threading.Thread(target=run)
        self._thread.start()

    def stop(self) -> None:
        self._stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


def start_core(parameters: Parameters) -> Process:
    balancer = LoadBalancer(parameters)
    process = Process(balancer.startLB, balancer.stop)
    assert balancer.ready.wait(60)
    return process


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def hub(clock: Clock, parameters: Parameters) -> Iterator[Any]:
    hub = WorkerHub(parameters)
    process = Process(hub.startWKHUB, hub.stop)
    yield hub
    process.stop()
    assert hub.bugs == 0


def works(cluster: Cluster) -> bool:
    return lb.task(abs).map(range(-20, 0)).results(60) == list(range(20, 0, -1))


def waits_for(file: str) -> str:
    with open(f"{file}.runs", "a") as runs:
        runs.write("x")
    while not Path(file).exists():
        time.sleep(0.01)
    return "done"


def settle(cluster: Cluster) -> None:
    """Until the core has read its clock, and each party has been heard of since."""
    for _ in range(3):
        cluster.status()
    cluster.workers()


def test_a_clock_that_is_set_costs_nothing(clock: Clock, parameters: Parameters, hub: Any, tmp_path: Path) -> None:
    core = start_core(parameters)
    try:
        with lb.connect(parameters) as cluster:
            wait_until(lambda: len(cluster.workers()) == 2, 30, "two workers")
            kept = lb.task(abs).map(range(-5, 0), job="kept")
            assert kept.results(60) == [5, 4, 3, 2, 1]
            file = tmp_path / "go"
            running = lb.task(waits_for).submit(str(file))
            wait_until(running.running, 30, "the task to run")
            steps = [
                lambda: clock.set(5 * HOUR_S),
                lambda: clock.set(-9 * HOUR_S),
                lambda: clock.set(3 * DAY_S),
                lambda: clock.sleep(4 * DAY_S),
                lambda: clock.set(-8 * DAY_S),
                lambda: clock.sleep(30.0),
            ]
            for step in steps:
                step()
                settle(cluster)
                assert works(cluster)
                now = time.time()
                assert len(cluster.hubs()) == 1
                assert len(cluster.workers()) == 2
                (row,) = (each for each in cluster.tasks() if each.name == "waits_for")
                assert now - clock.slept_s - 120.0 <= row.submitted_at <= now + 1.0
                assert not running.done()
            file.touch()
            assert running.result(60) == "done"
            assert (tmp_path / "go.runs").read_text() == "x"  # no lease was lost: it ran once
            assert lb.attach("kept").results(60) == [5, 4, 3, 2, 1]  # and nothing has expired
    finally:
        core.stop()


def test_results_outlive_starts_with_a_wrong_clock(
    clock: Clock, parameters: Parameters, hub: Any, tmp_path: Path
) -> None:
    core = start_core(parameters)
    try:
        with lb.connect(parameters) as cluster:
            wait_until(lambda: len(cluster.workers()) == 2, 30, "two workers")
            job = lb.task(abs).map(range(-5, 0), job="kept")
            job.wait(60)
        for ahead_s in (30 * DAY_S, -60 * DAY_S, 400 * DAY_S):
            core.stop()
            clock.set(ahead_s)
            core = start_core(parameters)
            with lb.connect(parameters) as cluster:
                wait_until(lambda c=cluster: len(c.workers()) == 2, 60, "two workers")
                (found,) = (each for each in cluster.jobs() if each.name == "kept")
                assert found.ended_ago_s >= 0.0
                assert works(cluster)
        with lb.connect(parameters):
            assert lb.attach("kept").results(60) == [5, 4, 3, 2, 1]
    finally:
        core.stop()
