"""Two users share the workers fairly, whatever the lengths of their tasks."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

FLOOD = 30_000  # tasks of 2 ms: half a minute for two workers


@lb.task
def short(seconds: float) -> None:
    time.sleep(seconds)


@lb.task
def long(seconds: float) -> tuple[float, float]:
    started = time.time()
    time.sleep(seconds)
    return started, time.time()


def done(job: Any) -> int:
    return int(job.snapshot().counts.get("DONE", 0))


@pytest.mark.parametrize("measured", [True, False])
def test_long_tasks_begin_while_a_map_of_short_ones_is_far_from_through(cluster: Cluster, measured: bool) -> None:
    bobs = long.options(user="bob")
    if measured:
        bobs.submit(0.2).result(60)
    flood = short.options(user="anna").map([0.002] * FLOOD)
    wait_until(lambda: done(flood) > 200, 30, "the flood to flow")
    asked = time.time()
    spans = lb.gather(*(bobs.submit(0.2) for _ in range(6)))
    assert done(flood) < FLOOD / 2
    started = sorted(start for start, _ in spans)
    assert started[0] - asked < 2.0  # a slice of 10 ms, and what a busy machine takes beside
    flood.cancel()


def test_each_of_two_users_has_a_worker_while_both_have_work(cluster: Cluster) -> None:
    """While bob's tasks wait one of two workers is always his: two of them run at once only where anna has none."""
    bobs = long.options(user="bob")
    bobs.submit(0.1).result(60)
    flood = short.options(user="anna").map([0.002] * FLOOD)
    wait_until(lambda: done(flood) > 200, 30, "the flood to flow")
    futures = [bobs.submit(0.1) for _ in range(10)]
    futures[0].result(60)
    before = done(flood)
    spans = sorted(lb.gather(*futures))
    assert before < done(flood) < FLOOD / 2  # anna's go on meanwhile
    overlaps = sum(start < end for (_, end), (start, _) in pairwise(spans))
    assert overlaps <= 2
    flood.cancel()


def test_single_tasks_of_three_lengths_take_turns(cluster: Cluster) -> None:
    """Singles beside a job, of functions whose lengths are not known yet."""

    @lb.task
    def middle(seconds: float) -> float:
        time.sleep(seconds)
        return time.time()

    flood = short.options(user="anna").map([0.002] * FLOOD)
    wait_until(lambda: done(flood) > 200, 30, "the flood to flow")
    slow = [long.options(user="bob").submit(0.5) for _ in range(4)]
    quick = [middle.options(user="carla").submit(0.02) for _ in range(20)]
    lb.gather(*quick)
    assert done(flood) < FLOOD / 2
    lb.gather(*slow)
    assert done(flood) < FLOOD / 2
    flood.cancel()


def test_a_slice_that_was_cut_too_long_makes_way_after_its_current_call(cluster: Cluster) -> None:
    """Anna's calls were short until now: both workers run slices of dozens of calls, which suddenly take long."""
    annas = short.options(user="anna")
    annas.map([0.0] * 20_000).results(60)
    flood = annas.map([0.3] * 400)
    wait_until(lambda: sum(row.running for row in cluster.users()) >= 2, 30, "both workers to run")
    asked = time.time()
    started, _ = long.options(user="bob").submit(0.01).result(60)
    assert started - asked < 5.0  # a call of 0.3 s, and what a busy machine takes beside; a slice takes minutes
    assert done(flood) < 100
    flood.cancel()


def test_calls_behind_a_slice_that_was_cut_too_long_go_to_free_workers(cluster: Cluster) -> None:
    short.map([0.0] * 20_000).results(60)
    began = time.time()
    short.map([0.2] * 40).results(60)
    assert time.time() - began < 40 * 0.2 * 0.9  # at the pace of two workers, not of one
