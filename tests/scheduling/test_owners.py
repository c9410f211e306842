"""Hubs whose owners admit only some users: who gets their workers, and what others are told."""

from __future__ import annotations

import pytest

from nblb.access.limits import Limits
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, SubmitTask
from nblb.scheduling.state import Policy
from tests.scheduling.world import ModelHub, World

ANNAS = Group(workers=1, only=("anna",))


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    for name in ("anna", "bob"):
        world.client(f"client:{name}", name)
    return world


def submit(world: World, who: str, *tasks: str) -> None:
    for task in tasks:
        world.say(f"client:{who}", SubmitTask(task=task, name="work", function="f", payload=Payload((b"x",))))


def names(hub: ModelHub) -> list[str]:
    return [run.task for run in hub.hands.values()]


def test_only_those_whom_the_owner_admits_run_there(world: World) -> None:
    hub = world.hub("own", (ANNAS,))
    submit(world, "bob", "b1")
    submit(world, "anna", "a1")
    world.tick()
    assert names(hub) == ["a1"]
    said = world.scheduler.why("b1", 0, world.now)
    assert said == (
        "waiting: no hub here runs tasks of bob (own runs only those of anna); ask a hub's owner to add the name to "
        "its --only"
    )
    world.check(ticked=True)


def test_the_admitted_use_their_own_hub_first_and_leave_the_other_to_the_rest(world: World) -> None:
    open_to_all, own = world.hub("open", (Group(workers=1),)), world.hub("own", (ANNAS,))
    submit(world, "anna", "a1")
    submit(world, "bob", "b1")
    world.tick()
    assert (names(own), names(open_to_all)) == (["a1"], ["b1"])


def test_work_is_sent_ahead_only_to_the_admitted(world: World) -> None:
    hub = world.hub("own", (ANNAS,))
    submit(world, "anna", "warm")
    world.tick()
    world.fact(hub, hub.finish(next(iter(hub.hands)), duration_s=0.001))
    submit(world, "bob", *(f"b{n}" for n in range(5)))
    submit(world, "anna", *(f"a{n}" for n in range(5)))
    world.tick()
    assert len(names(hub)) > 1
    assert all(name.startswith("a") for name in names(hub))
    world.check(ticked=True)


def test_a_hub_for_the_rest_that_comes_later_takes_what_waits(world: World) -> None:
    world.hub("own", (ANNAS,))
    submit(world, "bob", "b1")
    world.tick()
    other = world.hub("bobs", (Group(workers=1, only=("bob", "carol")),))
    world.tick()
    assert names(other) == ["b1"]
    assert "the workers" not in world.scheduler.why("b1", 0, world.now)


def test_a_group_that_has_room_again_is_in_the_line_of_a_hub_that_admits_another_of_its_users(world: World) -> None:
    """Bob's task counted against the limit of the group; its end lets anna's begin on her own hub."""
    world.scheduler.limit(
        [Limits("anna", group="lab"), Limits("bob", group="lab"), Limits("lab", "group", max_running=1)]
    )
    bobs, own = world.hub("bobs", (Group(workers=1, only=("bob",)),)), world.hub("own", (ANNAS,))
    submit(world, "bob", "b1")
    world.tick()
    submit(world, "anna", "a1")
    world.tick()
    assert (names(bobs), names(own)) == (["b1"], [])
    world.fact(bobs, bobs.finish(next(iter(bobs.hands)), duration_s=0.001))
    world.tick()
    assert names(own) == ["a1"]
    world.check(ticked=True)
