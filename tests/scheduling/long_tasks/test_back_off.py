"""Waits between the attempts of a call that raises."""

from __future__ import annotations

import msgspec
import pytest

from nblb.protocol.messages import (
    CancelTask,
    Failure,
    Group,
    RetryFailed,
    SetPriority,
    TaskFinished,
    TaskState,
    TaskStopped,
)
from nblb.scheduling.long_tasks.back_off import JITTER, LONGEST_S, wait_s
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

both = pytest.mark.parametrize("grouped", [False, True])


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0, suspect_s=1e4, lease_s=2e4))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(1),))


def states(world: World, task: str) -> str:
    return " ".join(f"{t.first}:{t.first + t.items} {t.state}" for t in world.scheduler.state.records[task].slices)


def raises(world: World, hub: ModelHub, attempt: int, items: int = 1, retriable: bool = False) -> None:
    failures = tuple(Failure(offset=n, kind="OSError", message="no route", retriable=retriable) for n in range(items))
    hub.on.pop(("t", 0, attempt), None)
    del hub.hands["t", 0, attempt]
    world.fact(hub, TaskFinished(task="t", attempt=attempt, items=items, failures=failures, duration_s=0.1))
    world.tick()
    world.check(ticked=True)


def passes(world: World, seconds: float) -> None:
    world.now += seconds
    world.tick()
    world.check(ticked=True)


def test_waits_double_up_to_a_bound_and_nearly_equal_ones_differ() -> None:
    for item in range(50):
        for retry, least in ((1, 2.0), (2, 4.0), (3, 8.0), (20, LONGEST_S), (5000, LONGEST_S)):
            assert least <= wait_s(2.0, retry, "t", item) <= least * (1 + JITTER)
    assert wait_s(2.0, 1, "t", 0) == wait_s(2.0, 1, "t", 0)
    assert len({wait_s(2.0, 1, "t", item) for item in range(50)}) == 50
    assert 3600.0 <= wait_s(3600.0, 4, "t", 0) <= 3600.0 * (1 + JITTER)  # a first wait beyond the bound stays
    assert wait_s(0.0, 3, "t", 0) == 0.0


def test_a_retry_waits_without_a_worker_and_why_says_how_long(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=3, retry_wait_s=10.0)
    raises(world, hub, 1)
    submit(world, "other")
    world.tick()
    assert states(world, "other") == "0:1 ASSIGNED"
    world.fact(hub, hub.finish(("other", 0, 1)))
    assert states(world, "t") == "0:1 QUEUED"
    world.tick()
    deadline = world.scheduler.state.delayed.next_deadline()
    assert deadline is not None
    assert world.now < deadline <= world.now + 11.0
    passes(world, 5.0)
    why = world.scheduler.why("t", 0, world.now)
    assert why.startswith(("waits 5", "waits 6 s"))
    assert why.endswith("more before its 2nd attempt (the last one: OSError: no route)")
    passes(world, 6.0)
    assert states(world, "t") == "0:1 ASSIGNED"
    raises(world, hub, 2)
    passes(world, 19.0)
    assert "before its 3rd attempt" in world.scheduler.why("t", 0, world.now)
    passes(world, 3.1)
    world.fact(hub, hub.finish(("t", 0, 3)))
    assert states(world, "t") == "0:1 DONE"


def test_a_timeout_waits_too_and_a_lost_hub_does_not(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=1, retry_wait_s=10.0, timeout_s=1.0)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.stopped(("t", 0, 1), "timeout"))
    world.tick()
    assert states(world, "t") == "0:1 QUEUED"
    passes(world, 11.0)
    assert states(world, "t") == "0:1 ASSIGNED"
    world.perform(world.scheduler.gone(hub.address, world.now, dead=True))
    world.now += 60.0
    world.tick()
    assert states(world, "t") == "0:1 QUEUED"
    assert "no hub has a worker" in world.scheduler.why("t", 0, world.now)


def test_cancel_works_while_it_waits_for_all_items_or_some(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=6, retries=1, retry_wait_s=10.0, timeout_s=1.0)
    hub.on["t", 0, 1] = "lab.0.0"
    world.fact(hub, hub.end(("t", 0, 1), TaskStopped(task="t", attempt=1, why="timeout", ran=True)))
    world.tick()
    assert states(world, "t") == "0:6 QUEUED"
    world.say(ANNA, CancelTask(request=1, task="t", first=2, items=2))
    world.tick()
    world.check(ticked=True)
    assert states(world, "t") == "0:2 QUEUED 2:4 CANCELLED 4:6 QUEUED"
    passes(world, 5.0)
    assert "before its 2nd attempt" in world.scheduler.why("t", 5, world.now)
    world.say(ANNA, CancelTask(request=2, task="t", first=0, items=2))
    passes(world, 6.1)
    assert states(world, "t") == "0:2 CANCELLED 2:4 CANCELLED 4:6 ASSIGNED"
    assert world.scheduler.state.delayed.next_deadline() is None


@both
def test_a_wait_survives_a_restart(world: World, hub: ModelHub, grouped: bool) -> None:
    submit(world, "t", retries=3, retry_wait_s=10.0)
    raises(world, hub, 1)
    world.now += 4.0
    world.restart(grouped)
    world.client(ANNA, "anna")
    world.connect(hub)
    world.tick()
    world.check(ticked=True)
    assert states(world, "t") == "0:1 QUEUED"
    assert "before its 2nd attempt" in world.scheduler.why("t", 0, world.now)
    passes(world, 5.9)
    assert states(world, "t") == "0:1 QUEUED"
    passes(world, 1.2)
    assert states(world, "t") == "0:1 ASSIGNED"


def test_a_clock_that_was_set_back_makes_no_wait_longer(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=3, retry_wait_s=10.0)
    raises(world, hub, 1)
    world.journal = [
        msgspec.structs.replace(entry, at=entry.at + 86_400.0) if hasattr(entry, "wait_s") else entry
        for entry in world.journal
    ]
    world.restart(grouped=True)
    world.connect(hub)
    passes(world, 11.1)
    assert states(world, "t") == "0:1 ASSIGNED"


def test_a_new_priority_counts_when_the_wait_is_over(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=3, retry_wait_s=10.0)
    raises(world, hub, 1)
    submit(world, "busy", "other")
    world.say(ANNA, SetPriority(request=1, task="t", priority=5.0))
    world.tick()
    world.check(ticked=True)
    assert (states(world, "t"), states(world, "busy")) == ("0:1 QUEUED", "0:1 ASSIGNED")
    passes(world, 11.1)
    world.fact(hub, hub.finish(("busy", 0, 1), duration_s=30.0))
    world.tick()
    assert (states(world, "t"), states(world, "other")) == ("0:1 ASSIGNED", "0:1 QUEUED")


def test_only_failures_of_named_classes_are_retried(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=2, retries=2, retry_on=("builtins.OSError",))
    assert hub.hands["t", 0, 1].retry_on == ("builtins.OSError",)
    failures = (Failure(kind="ConnectionError", retriable=True), Failure(offset=1, kind="ValueError"))
    world.fact(hub, hub.end(("t", 0, 1), TaskFinished(task="t", attempt=1, items=2, failures=failures)))
    assert states(world, "t") == "0:1 QUEUED 1:2 FAILED"
    world.say(ANNA, RetryFailed(request=1, task="t"))
    world.tick()
    world.check(ticked=True)
    assert world.scheduler.state.records["t"].at(1).state is not TaskState.FAILED


@pytest.mark.parametrize(
    ("retry_on", "state"),
    [((), "QUEUED"), (("builtins.TimeoutError",), "QUEUED"), (("builtins.ValueError",), "FAILED")],
)
def test_a_timeout_counts_as_its_class(world: World, hub: ModelHub, retry_on: tuple[str, ...], state: str) -> None:
    submit(world, "t", retries=1, retry_on=retry_on, timeout_s=1.0, retry_wait_s=1.0)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.stopped(("t", 0, 1), "timeout"))
    assert states(world, "t") == f"0:1 {state}"


@pytest.mark.parametrize("wait", [-1.0, float("nan"), float("inf")])
def test_a_wait_that_is_no_time_is_refused(world: World, wait: float) -> None:
    submit(world, "t", retries=1, retry_wait_s=wait)
    assert "t" not in world.scheduler.state.records
    assert "retry_wait of task" in world.heard[ANNA][-1].reason  # type: ignore[union-attr]
