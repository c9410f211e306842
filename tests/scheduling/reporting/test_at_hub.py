"""The answers of why() about tasks at a hub, silent hubs, and tasks that no worker takes."""

from __future__ import annotations

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Group,
    Heartbeat,
    HubLeaves,
    TaskChanged,
    TaskProgressed,
    TaskState,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", suspect_s=5.0, lease_s=15.0))
    world.client(ANNA, "anna")
    return world


def why(world: World, task: str, item: int = 0) -> str:
    return world.scheduler.why(task, item, world.now)


def sent_ahead(world: World) -> ModelHub:
    """A hub of one worker that is at "long", and has "ahead" behind it."""
    hub = world.hub("lab", (Group(1),))
    submit(world, "first")
    world.fact(hub, hub.start(("first", 0, 1)))
    world.fact(hub, hub.finish(("first", 0, 1), duration_s=0.001))
    submit(world, "long", "ahead")
    world.fact(hub, hub.start(("long", 0, 1)))
    assert world.scheduler.state.records["ahead"].slices[0].state is TaskState.ASSIGNED
    return hub


def test_a_task_that_runs(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "one")
    assert why(world, "one") == "waiting: hub lab has just been given it"
    world.fact(hub, hub.start(("one", 0, 1)))
    world.now += 3.0
    assert why(world, "one") == "does not wait: it is RUNNING on hub lab for 3 s"
    world.fact(hub, hub.finish(("one", 0, 1)))
    assert why(world, "one") == "does not wait: it is DONE"
    assert why(world, "nonsense") == why(world, "one", 1) == "the core does not know this task"


def test_work_ahead_stands_behind_a_long_task(world: World) -> None:
    sent_ahead(world)
    world.now += 3.0
    expected = "waiting: hub lab has been given it, and its worker is busy; work has run there for 3 s"
    assert why(world, "ahead") == expected


def test_it_is_told_as_assigned_then(world: World) -> None:
    sent_ahead(world)
    for _ in range(3):
        world.now += 1.0
        world.say("hub:lab", Heartbeat())
        world.tick()
    told = [m.state for m in world.heard[ANNA] if isinstance(m, TaskChanged) and m.task == "ahead"]
    assert told[0] is TaskState.ASSIGNED  # then it is called back, and waits again


def test_a_task_that_needs_another_is_told_as_blocked(world: World) -> None:
    submit(world, "first")
    submit(world, "second", depends=("first",))
    world.now += 1.0
    world.tick()
    told = {m.task: m.state for m in world.heard[ANNA] if isinstance(m, TaskChanged)}
    assert told["second"] is TaskState.BLOCKED
    assert why(world, "second") == "waits for the results of 1 other task"


def test_a_call_in_a_slice_of_many(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "whole", items=4, payload=Payload((b"abcd",), [1] * 4))
    world.fact(hub, hub.start(("whole", 0, 1)))
    world.fact(hub, TaskProgressed(task="whole", attempt=1, progress=30.0))
    assert why(world, "whole", 1) == "does not wait: it is RUNNING on hub lab for 1 s"
    assert why(world, "whole", 3) == (
        "waiting: its worker on hub lab makes 4 calls one after the other and is at number 2; this is number 4"
    )


def test_a_silent_hub(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "runs", "waits")
    world.fact(hub, hub.start(("runs", 0, 1)))
    world.now += 7.0
    world.tick()
    assert why(world, "waits") == "waiting: hub lab, the only one that takes it, has been silent for 7 s"
    assert why(world, "runs") == (
        "waiting: hub lab, which runs it, has been silent for 7 s; in 8 s it waits for another hub"
    )
    world.hub("other", (Group(1),))
    world.tick()
    submit(world, "more")
    assert why(world, "more") == "1st of anna's tasks in line for 1 worker"  # not for those of the silent hub


def test_all_hubs_are_silent(world: World) -> None:
    for name in ("one", "two"):
        world.hub(name, (Group(1),))
    world.now += 6.0
    world.tick()
    submit(world, "waits")
    assert why(world, "waits") == "waiting: all 2 hubs that take it have been silent, for 6 s at least"


def test_no_hub_can_take_it(world: World) -> None:
    hub = world.hub("lab", (Group(1, 0, 10),), functions=("simulate",))
    submit(world, "typo", function="", name="simulat", call="json")
    submit(world, "high", function="", name="simulate", call="json", priority=500.0)
    assert why(world, "typo") == "waiting: no hub knows a task named 'simulat' (did you mean 'simulate'?)"
    assert why(world, "high") == "waiting: no worker takes priority 500 (those here take 0 to 10)"
    for worker in list(hub.workers):
        world.say("hub:lab", WorkerDied(worker=worker, reason="killed"))
    submit(world, "soon")
    assert why(world, "soon") == "waiting: the workers of hub lab that take it are starting"
    world.say("hub:lab", Heartbeat(wanted=(0,)))  # somebody has scaled it to nothing
    assert why(world, "soon") == "waiting: no hub has a worker; start one with %lb_hub or `nblb hub`"


def test_the_only_hub_is_being_stopped(world: World) -> None:
    world.hub("lab", (Group(1),))
    world.say("hub:lab", HubLeaves())
    submit(world, "late")
    assert why(world, "late") == "waiting: hub lab is being stopped, and no other takes it"


def test_a_hub_that_starts_its_workers(world: World) -> None:
    hub = world.hub("lab", (Group(0),))
    submit(world, "one")
    assert why(world, "one") == "waiting: no hub has a worker; start one with %lb_hub or `nblb hub`"
    world.say(hub.address, WorkerStarted(worker="new"))
    world.tick()
    assert why(world, "one") == "waiting: hub lab has just been given it"
