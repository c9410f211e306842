"""Work ahead that stands behind something long is called back, once, and only where that helps."""

from __future__ import annotations

import pytest

from nblb.protocol.messages import Group, Heartbeat, StopTask, TaskState
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", prefetch_s=0.010))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    """A hub with one worker that is at t1, with t2 and t3 sent ahead, since the function was short until now."""
    hub = world.hub("lab", (Group(1),))
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.001))
    submit(world, "t1", "t2", "t3")
    assert len(hub.hands) == 3
    world.fact(hub, hub.start(("t1", 0, 1)))
    return hub


def recalled(world: World, after_s: float) -> list[str]:
    world.now += after_s
    commands = world.scheduler.tick(world.now)
    world.perform(commands)
    messages = [c.message for c in commands if hasattr(c, "message")]
    return [m.task for m in messages if isinstance(m, StopTask) and m.why == "recall"]


def test_its_deadline_is_set_by_the_tick_that_sent_work_ahead(world: World, hub: ModelHub) -> None:
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert deadline == pytest.approx(world.now + 0.05)


def test_nothing_is_called_back_in_the_ordinary_case(world: World, hub: ModelHub) -> None:
    world.now += 0.002
    for n in (1, 2, 3):
        world.fact(hub, hub.finish((f"t{n}", 0, 1), duration_s=0.001))
    assert recalled(world, 0.1) == []
    assert world.scheduler.recall.next_deadline() is None


def test_behind_a_long_task_it_is_called_back_once(world: World, hub: ModelHub) -> None:
    assert recalled(world, 0.06) == ["t2", "t3"]
    assert recalled(world, 0.06) == []
    assert world.scheduler.state.records["t2"].slices[0].state is TaskState.QUEUED
    world.check(ticked=True)


def test_and_no_more_is_sent_behind_it(world: World, hub: ModelHub) -> None:
    recalled(world, 0.06)
    submit(world, "t4")
    assert list(hub.hands) == [("t1", 0, 1)]


def test_a_free_worker_elsewhere_gets_it(world: World, hub: ModelHub) -> None:
    other = world.hub("other", (Group(2),))
    world.say(hub.address, Heartbeat())
    recalled(world, 0.06)
    world.tick()
    assert {run.task for run in other.hands.values()} == {"t2", "t3"}


def test_what_has_begun_meanwhile_stays(world: World, hub: ModelHub) -> None:
    hub.workers["second"] = 0
    assert hub.start(("t2", 0, 1)) is not None  # the core has not heard of it yet
    assert recalled(world, 0.06) == ["t2", "t3"]
    assert ("t2", 0, 1) in hub.hands
    world.fact(hub, hub.finish(("t2", 0, 1)))
    assert world.scheduler.state.records["t2"].done
    world.check()


def test_without_work_ahead_nothing_is_watched() -> None:
    world = World(Policy(core="c", prefetch_s=0.0))
    world.client(ANNA, "anna")
    world.hub("lab", (Group(1),))
    submit(world, "t1", "t2")
    assert world.scheduler.recall.next_deadline() is None
