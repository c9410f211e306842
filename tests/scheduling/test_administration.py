"""Scaling, draining, removing and restarting hubs, and changed priorities, by events to the scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.protocol.journal_entries import PriorityKept
from nblb.protocol.messages import (
    Answer,
    DrainHub,
    Group,
    Heartbeat,
    Message,
    RemoveHub,
    SetPriority,
    StopHub,
    TaskState,
    WorkerUse,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    return world


def answered(world: World, message: Message) -> Answer:
    world.say(ANNA, message)
    found = [m for m in world.heard[ANNA] if isinstance(m, Answer)]
    return found[-1]


def running(world: World, name: str) -> list[str]:
    return [fence[0] for fence in world.hubs[f"hub:{name}"].hands]


def test_a_drained_hub_gets_nothing_and_works_again_when_told(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "one")
    world.tick()
    world.fact(hub, hub.start(("one", 0, 1)))
    assert answered(world, DrainHub(hub="lab", request=1)).value == 1
    submit(world, "two")
    world.fact(hub, hub.finish(("one", 0, 1)))
    world.tick()
    assert running(world, "lab") == []
    assert "is drained, and no other takes it" in world.scheduler.why("two", 0, world.now)
    world.say(ANNA, DrainHub(hub="lab", drain=False, request=2))
    world.tick()
    assert running(world, "lab") == ["two"]
    world.check()


def test_what_a_drained_hub_has_not_begun_goes_to_another(world: World) -> None:
    lab = world.hub("lab", (Group(1),))
    submit(world, "one")
    world.tick()
    world.hub("other", (Group(1),))
    world.say(ANNA, DrainHub(hub="lab", request=1))
    world.tick()
    assert running(world, "lab") == []
    assert running(world, "other") == ["one"]
    assert lab.connected
    world.check()


@pytest.mark.parametrize("restart", [False, True])
def test_a_removed_hub_is_stopped_when_nothing_runs_there(world: World, restart: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "one")
    world.tick()
    world.fact(hub, hub.start(("one", 0, 1)))
    sent: list[Message] = []
    hear = hub.heard
    hub.heard = lambda message: (sent.append(message), hear(message))[1]  # type: ignore[method-assign]
    world.say(ANNA, RemoveHub(hub="lab", restart=restart, request=1))
    world.tick()
    assert not [m for m in sent if isinstance(m, StopHub)]
    world.fact(hub, hub.finish(("one", 0, 1)))
    world.tick()
    (order,) = [m for m in sent if isinstance(m, StopHub)]
    assert order.restart is restart
    assert "by anna" in order.reason


def test_a_hub_that_is_not_here_is_named(world: World) -> None:
    world.hub("lab")
    for message in (DrainHub(hub="lob", request=1), RemoveHub(hub="lob", request=2)):
        assert "no hub 'lob' here (there are: lab)" in answered(world, message).error


@pytest.mark.parametrize("grouped", [False, True])
def test_a_changed_priority_moves_what_waits_and_survives_a_restart(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1, 0, 100),))
    submit(world, "now")
    world.tick()
    for task in ("a", "b", "c"):
        submit(world, task, priority=5.0)
    assert answered(world, SetPriority(task="b", priority=50.0, request=1)).value == 1
    world.check()
    assert PriorityKept("b", 50.0) in world.journal
    world.fact(hub, hub.finish(("now", 0, 1)))
    world.tick()
    assert running(world, "lab") == ["b"]
    world.fact(hub, hub.finish(("b", 0, 1)))
    world.say(ANNA, SetPriority(task="c", priority=7.0, request=2))
    world.restart(grouped)
    assert world.scheduler.state.records["c"].spec.priority == 7.0
    assert world.scheduler.state.records["a"].spec.priority == 5.0
    world.check()


def test_the_priority_of_a_job_in_parts(world: World) -> None:
    """Some of its items run, some wait in slices, and one was cancelled: counts stay true."""
    from nblb.protocol.messages import CancelTask, OpenJob

    hub = world.hub("lab", (Group(2, 0, 100),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=9, task_name="work"))
    submit(world, "s", items=9, job="j")
    world.tick()
    world.say(ANNA, CancelTask(request=1, task="s", first=8, items=1))
    state = world.scheduler.state
    before = dict(state.jobs["j"].counts)
    waiting = state.share.user("anna").waiting
    assert answered(world, SetPriority(job="j", priority=80.0, request=2)).value == state.jobs["j"].unended
    assert dict(state.jobs["j"].counts) == before
    assert state.share.user("anna").waiting == waiting
    assert state.share.user("anna").by_priority.get(0.0, 0) == 0
    world.check()
    world.say(ANNA, CancelTask(request=3, job="j"))
    world.tick()
    assert state.share.user("anna").waiting == 0
    assert all(task.state in (TaskState.CANCELLED, TaskState.CANCELLING) for task in state.records["s"].slices)
    assert hub.connected
    world.check()


@pytest.mark.parametrize(("fields", "words"), [({"task": "x"}, "no task 'x'"), ({"job": "y"}, "no job 'y'")])
def test_a_priority_of_nothing_is_refused(world: World, fields: dict[str, Any], words: str) -> None:
    assert words in answered(world, SetPriority(priority=1.0, request=1, **fields)).error


def test_a_priority_must_be_finite(world: World) -> None:
    submit(world, "t")
    assert "finite" in answered(world, SetPriority(task="t", priority=float("nan"), request=1)).error


def test_the_use_of_each_worker_is_reported(world: World) -> None:
    from nblb.broker.queries import answer

    world.hub("lab", (Group(1),))
    use = WorkerUse(worker="lab.0.0", cpu=93.0, memory_mb=512)
    world.say("hub:lab", Heartbeat(load=0.5, memory=0.25, disk=0.75, workers=(use,), at=1.0))
    (worker,) = answer(world.scheduler, "workers", {}, world.now)
    (hub,) = answer(world.scheduler, "hubs", {}, world.now)
    assert (worker["own_cpu"], worker["memory_mb"]) == (93.0, 512)
    assert (hub["load"], hub["disk"]) == (0.5, 0.75)
