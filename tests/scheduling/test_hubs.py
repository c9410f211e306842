"""The capacity of a hub: the submissions that it can run, and the short work that may wait behind its workers."""

from __future__ import annotations

import pytest

from nblb.protocol.messages import Group, HubHello
from nblb.scheduling.fair_share import FairShare
from nblb.scheduling.hubs import FAR, LONG_WAY_S, MOST_FAR_S, NO_WORKERS, SHORT_WAY_S, GroupOfWorkers, Hub, Worker
from nblb.scheduling.placement import Placement

PREFETCH_S = 0.010


def hub(workers: int = 2, **more: object) -> Hub:
    hello = HubHello(
        hub="h", name="hub", host="", pid=1, python=(3, 11), cloudpickle="", groups=(Group(workers),), **more
    )  # type: ignore[arg-type]
    made = Hub("hub:h", hello, 1.0)
    spec = hello.groups[0]
    made.groups = [GroupOfWorkers(made, 0, spec, FairShare(100.0).band(spec.minP, spec.maxP))]
    Placement(prefetch_s=PREFETCH_S).add(made)
    return made


def test_a_group_without_workers_is_loaded_beyond_all_others() -> None:
    (group,) = hub().groups
    assert group.load == NO_WORKERS
    group.workers_changed(2)
    group.work_changed(1, 3.0)
    assert (group.load, group.pending_s) == (0.5, 3.0)
    group.work_changed(-1, -2.9)
    assert group.pending_s == 0.0  # no remainder of estimates stays behind
    group.workers_changed(-2)
    assert group.load == NO_WORKERS


def test_short_work_may_wait_behind_busy_workers_and_long_work_may_not() -> None:
    (group,) = hub().groups
    group.workers_changed(2)
    assert group.has_room(None, PREFETCH_S)
    group.work_changed(2, 0.004)
    assert not group.has_room(None, PREFETCH_S)  # never measured
    assert not group.has_room(1.0, PREFETCH_S)
    assert group.has_room(0.002, PREFETCH_S)
    assert group.ahead_s(0.002) == pytest.approx(0.002)
    group.work_changed(20, 0.040)
    assert not group.has_room(0.002, PREFETCH_S)


def test_a_hub_runs_what_it_has_with_the_python_that_pickled_it() -> None:
    there = hub(functions=("named",))
    assert there.runs(((0, 0), "named"))
    assert there.runs(((3, 11), ""))
    assert not there.runs(((3, 12), ""))
    assert not there.runs(((3, 11), "other"))
    assert not hub(leaves=True).runs(((3, 11), ""))


def test_a_worker_that_waits_for_its_own_tasks_uses_no_slot() -> None:
    there = hub()
    worker = there.workers["w"] = Worker("w", there.groups[0], 1, 0.0)
    assert not worker.is_busy
    worker.held = held = type("Held", (), {"wait": 0})()  # type: ignore[assignment]
    assert there.busy == 1
    held.wait = 1
    assert there.busy == 0


def test_a_lease_counts_from_what_the_hub_counts_from() -> None:
    there = hub()
    there.received_at, there.leased_at = 7.0, 5.0
    assert there.lease_from == 7.0  # it says nothing of its clock
    there.stamp = 3.0
    assert there.lease_from == 5.0


def test_to_a_hub_that_is_far_away_one_slice_a_worker_is_sent_ahead() -> None:
    far = hub()
    (group,) = far.groups
    group.workers_changed(2)
    assert not far.way_measured(SHORT_WAY_S / 2)
    group.work_changed(2, 0.1)
    assert not group.has_room(0.05, PREFETCH_S)
    assert far.way_measured(0.02)
    assert not far.way_measured(0.021), "what changes little changes nothing"
    assert group.has_room(0.05, PREFETCH_S)
    assert not group.has_room(0.021 * FAR, PREFETCH_S), "of a long task the way is a small part"
    group.work_changed(2, 0.1)
    assert not group.has_room(0.05, PREFETCH_S)
    assert group.has_room(0.001, 0.05)


def test_no_user_waits_long_for_work_ahead_however_far_a_hub_is() -> None:
    far = hub()
    (group,) = far.groups
    group.workers_changed(1)
    far.way_measured(100.0)
    assert group.way_s == LONG_WAY_S
    assert not group.is_short(MOST_FAR_S + LONG_WAY_S + PREFETCH_S + 0.001, PREFETCH_S)
