"""A cluster whose workers have different cards and features: tasks run where they can, and see only their own cards."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


@lb.task
def cards() -> tuple[str | None, str | None]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """One plain worker, one with a licence, and two that share a card; no GPU is needed for that."""
    groups = [
        {"nWorkers": 1},
        {"nWorkers": 1, "features": ["matlab"], "reserved": True},
        {"nWorkers": 2, "gpus": ["GPU-8932f937"], "features": ["avx512"]},
    ]
    return settings | {"WKHUB_WORKERS": groups}


def test_tasks_run_where_they_can_and_see_their_cards(cluster: Cluster) -> None:
    wait_until(lambda: len(cluster.workers()) == 4, 20, "four workers")
    half = cards.options(gpus=0.5, needs=["avx512"])
    assert half.submit().result(30) == ("GPU-8932f937", "PCI_BUS_ID")
    assert set(half.map(range(0)).results(30)) == set()
    plain, licensed = cards.submit(), cards.options(needs="matlab").submit()
    assert (plain.result(30), licensed.result(30)) == (("", "PCI_BUS_ID"), ("", "PCI_BUS_ID"))
    group = {worker.worker: worker.group for worker in cluster.workers()}
    assert [group[future.worker] for future in (plain, licensed)] == [0, 1]
    (hub,) = cluster.hubs()
    assert [(each["gpus"], each["features"]) for each in hub.groups] == [(0, []), (0, ["matlab"]), (0.5, ["avx512"])]
    assert hub.groups[0]["memory_mb"] > 0


def test_why_names_what_no_worker_has(cluster: Cluster) -> None:
    wait_until(lambda: len(cluster.workers()) == 4, 20, "four workers")
    waiting = cards.options(gpus=1).submit()
    wait_until(lambda: "no connected worker has 1 GPU" in waiting.why(), 20, "the reason")
    assert "0.5 GPU, " in waiting.why()
    waiting.cancel()


@lb.task(memory_retry=2.5)
def fills(megabytes: int) -> int:
    held = bytearray(megabytes << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    time.sleep(3.0)  # longer than between two measurements
    return len(held) >> 20


class TestMemory:
    """A small worker, and a large one that only tasks get which need it."""

    @pytest.fixture
    def settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        groups = [{"nWorkers": 1, "memory_mb": 200}, {"nWorkers": 1, "memory_mb": 600, "reserved": True}]
        return settings | {"WKHUB_WORKERS": groups}

    def test_what_is_killed_for_memory_runs_again_on_a_larger_worker(self, cluster: Cluster) -> None:
        wait_until(lambda: len(cluster.workers()) == 2, 20, "two workers")
        future = fills.submit(260)
        assert future.result(60) == 260
        assert future.attempt == 2
