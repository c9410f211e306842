"""Tasks that ran when their hub ended: the one that caused it is found, and no other is LOST."""

from __future__ import annotations

import msgspec
import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import CancelTask, HubLeaves, PutBlob, TaskState
from nblb.scheduling import invariants
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, EVERYTHING, ModelHub, World, submit

LAB = 8  # workers


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_crashes=3, epoch=1))
    world.client(ANNA, "anna")
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    return world


def new_hub(world: World, number: int) -> ModelHub:

    hub = world.hub(f"lab{number}", (msgspec.structs.replace(EVERYTHING, workers=LAB),))
    world.tick()
    return hub


def states(world: World) -> dict[str, TaskState]:
    return {name: record.slices[0].state for name, record in world.scheduler.state.records.items()}


def crashes(world: World) -> dict[str, int]:
    return {name: record.slices[0].crashes for name, record in world.scheduler.state.records.items()}


def ends(world: World, hub: ModelHub) -> None:
    """The hub's process ends without a word."""
    hub.connected = False
    world.perform(world.scheduler.hub_dead(hub.hello().hub, world.now))
    world.tick()
    invariants.check(world.scheduler)


def in_flight(hub: ModelHub) -> set[str]:
    return {task for task, _, _ in hub.hands}


def test_the_guilty_one_is_lost_after_max_crashes_and_its_neighbours_end_well(world: World) -> None:
    submit(world, "bad", "one", "two")
    for number in (1, 2):
        hub = new_hub(world, number)
        assert in_flight(hub) == {"bad", "one", "two"}
        ends(world, hub)
    assert crashes(world) == {"bad": 2, "one": 2, "two": 2}
    hub = new_hub(world, 3)
    assert len(in_flight(hub)) == 1  # suspects run one at a time
    submit(world, "fresh")
    assert len(in_flight(hub)) == 2  # others beside them
    for _ in range(10):
        (suspect,) = in_flight(hub) - {"fresh"}
        if suspect == "bad":
            break
        world.fact(hub, hub.finish((suspect, 0, 3)))
        world.tick()
        invariants.check(world.scheduler)
    ends(world, hub)
    assert states(world)["bad"] is TaskState.LOST
    assert crashes(world)["fresh"] == 0  # whose fault it was is known
    hub = new_hub(world, 4)
    for fence in list(hub.hands):
        world.fact(hub, hub.finish(fence))
    world.tick()
    for fence in list(hub.hands):
        world.fact(hub, hub.finish(fence))
    world.tick()
    assert {name for name, state in states(world).items() if state is not TaskState.DONE} == {"bad"}


def test_what_waits_for_another_suspect_says_so_and_can_be_cancelled(world: World) -> None:
    submit(world, "bad", "one")
    for number in (1, 2):
        ends(world, new_hub(world, number))
    hub = new_hub(world, 3)
    (waiting,) = {"bad", "one"} - in_flight(hub)
    task = world.scheduler.state.records[waiting].slices[0]
    assert "its worker or hub ended" in world.scheduler.dispatch.why(task, 0, world.now)
    world.say(ANNA, CancelTask(request=1, task=waiting))
    world.tick()
    assert states(world)[waiting] is TaskState.CANCELLED
    invariants.check(world.scheduler)


def test_a_hub_that_is_stopped_in_good_order_blames_nobody(world: World) -> None:
    submit(world, "one")
    hub = new_hub(world, 1)
    world.say(hub.address, HubLeaves())
    ends(world, hub)
    assert crashes(world) == {"one": 0}


def test_a_core_that_reads_its_journal_knows_what_was_counted(world: World) -> None:
    submit(world, "bad", "one")
    ends(world, new_hub(world, 1))
    assert crashes(world) == {"bad": 1, "one": 1}
    twin = world.twin(grouped=False)
    assert {name: record.slices[0].crashes for name, record in twin.state.records.items()} == {"bad": 1, "one": 1}
