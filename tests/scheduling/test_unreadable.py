"""What can no longer be read from the journal's files is LOST, with the reason, and costs nothing else."""

from __future__ import annotations

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    BlobMissing,
    CancelTask,
    HoldBlob,
    PutBlob,
    RetryFailed,
    RunTask,
    TaskEnded,
    TaskState,
)
from nblb.scheduling import invariants
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, EVERYTHING, ModelHub, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_crashes=3, epoch=1))
    world.client(ANNA, "anna")
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    hub = world.hub("lab", (EVERYTHING,))
    world.tick()
    return hub


def states(world: World, task: str) -> list[TaskState]:
    record = world.scheduler.state.records[task]
    return [record.at(item).state for item in range(record.items)]


def result(world: World, task: str) -> TaskEnded:
    ended = world.scheduler.state.records[task].slices[0].ended
    assert ended is not None
    return ended


def unreadable(world: World, address: str, message: TaskEnded | RunTask | HoldBlob) -> None:
    world.perform(world.scheduler.unreadable(address, message, "the disk is bad", world.now))
    world.tick()


def finish(world: World, hub: ModelHub, task: str) -> None:
    fence = next(fence for fence in hub.hands if fence[0] == task)
    world.fact(hub, hub.start(fence))
    world.fact(hub, hub.finish(fence))
    world.tick()


def test_a_result_that_cannot_be_read_is_lost_for_good(world: World, hub: ModelHub) -> None:
    submit(world, "a")
    finish(world, hub, "a")
    submit(world, "b")
    unreadable(world, ANNA, result(world, "a"))
    invariants.check(world.scheduler)
    assert states(world, "a") == [TaskState.LOST]
    assert world.ended["a", 0].failure is not None
    assert "the disk is bad" in world.ended["a", 0].failure.message
    finish(world, hub, "b")
    assert states(world, "b") == [TaskState.DONE]
    world.restart(grouped=True)
    assert states(world, "a") == [TaskState.LOST]
    assert states(world, "b") == [TaskState.DONE]


def test_only_the_items_of_the_bad_payload_are_lost(world: World, hub: ModelHub) -> None:
    submit(world, "a", items=4, payload=Payload((b"abcd",), (1, 1, 1, 1)), split=True)
    while hub.hands:
        finish(world, hub, "a")
    record = world.scheduler.state.records["a"]
    ends = {id(task.ended): task.ended for task in record.slices}
    bad = next(iter(ends.values()))
    assert bad is not None
    unreadable(world, ANNA, bad)
    lost = [n for n, state in enumerate(states(world, "a")) if state is TaskState.LOST]
    assert lost == list(range(bad.first, bad.first + bad.items))


def test_a_lost_result_whose_arguments_are_gone_is_not_run_again(world: World, hub: ModelHub) -> None:
    submit(world, "a")
    finish(world, hub, "a")
    unreadable(world, ANNA, result(world, "a"))
    world.say(ANNA, RetryFailed(task="a", request=1))
    world.tick()
    assert states(world, "a") == [TaskState.LOST]


def test_a_shared_result_is_not_served_when_it_is_lost(world: World, hub: ModelHub) -> None:
    submit(world, "a", cache="key")
    finish(world, hub, "a")
    unreadable(world, ANNA, result(world, "a"))
    submit(world, "b", cache="key")
    finish(world, hub, "b")
    assert states(world, "b") == [TaskState.DONE]


@pytest.mark.parametrize("once", [False, True])
def test_a_task_whose_arguments_cannot_be_read_is_lost_and_the_next_runs(
    world: World, hub: ModelHub, once: bool
) -> None:
    submit(world, "a", at_most_once=once)
    (order,) = hub.hands.values()
    hub.hands.clear()  # it never arrived
    submit(world, "b")
    unreadable(world, hub.address, order)
    invariants.check(world.scheduler)
    assert states(world, "a") == [TaskState.LOST]
    finish(world, hub, "b")
    assert states(world, "b") == [TaskState.DONE]
    assert len(world.scheduler.state.hubs[hub.address].in_flight) == 0


def test_a_cancelled_task_whose_arguments_cannot_be_read_is_cancelled(world: World, hub: ModelHub) -> None:
    submit(world, "a")
    (order,) = hub.hands.values()
    hub.hands.clear()
    hub.connected = False
    world.say(ANNA, CancelTask(task="a", request=1))
    unreadable(world, hub.address, order)
    assert states(world, "a") == [TaskState.CANCELLED]


def test_a_function_that_cannot_be_read_is_dropped_and_asked_for_again(world: World, hub: ModelHub) -> None:
    submit(world, "a")
    blob = HoldBlob(hash="f", payload=world.scheduler.state.blobs["f"].payload)
    said: list[object] = []
    hub.heard = lambda message: said.append(message) or []  # type: ignore[method-assign,func-returns-value]
    unreadable(world, hub.address, blob)
    assert BlobMissing(hash="f") in said
    assert "f" not in world.scheduler.state.blobs
    submit(world, "b")  # its client is asked for the function
    assert "f" in world.scheduler.state.blobs


def test_a_needed_result_that_cannot_be_read_is_lost(world: World, hub: ModelHub) -> None:
    submit(world, "a")
    finish(world, hub, "a")
    submit(world, "b", depends=("a",))
    payload = result(world, "a").payload
    assert payload is not None
    unreadable(world, hub.address, HoldBlob(hash="a", payload=payload, items=1, total=1))
    assert states(world, "a") == [TaskState.LOST]


def test_at_most_once_tasks_of_a_journal_with_lost_entries_do_not_run(world: World) -> None:
    submit(world, "once", at_most_once=True)
    submit(world, "often")
    world.restart(grouped=True)
    world.client(ANNA, "anna")
    world.perform(world.scheduler.lost_entries("the journal has lost entries", world.now))
    world.tick()
    invariants.check(world.scheduler)
    assert states(world, "once") == [TaskState.LOST]
    assert states(world, "often") == [TaskState.QUEUED]
