"""The states that calls save for their next attempt."""

from __future__ import annotations

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import BlobForgotten, BlobKept
from nblb.protocol.messages import (
    MOST_CHECKPOINT_BYTES,
    CancelTask,
    Group,
    PutBlob,
    TaskCheckpointed,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

both = pytest.mark.parametrize("grouped", [False, True])


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(1),))


def saves(world: World, hub: ModelHub, text: bytes, attempt: int = 1, offset: int = 0, first: int = 0) -> None:
    message = TaskCheckpointed(task="t", attempt=attempt, first=first, offset=offset, payload=Payload((text,)))
    world.fact(hub, message)
    world.tick()
    world.check(ticked=True)


def given(hub: ModelHub, attempt: int, first: int = 0) -> dict[int, bytes]:
    """The states that came with this order."""
    return {one.offset: bytes(one.payload.buffers[0]) for one in hub.hands["t", first, attempt].checkpoints}


def in_journal(world: World) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    for entry in world.journal:
        if isinstance(entry, BlobKept) and entry.hash.startswith("checkpoint:"):
            kept[entry.hash] = bytes(entry.payload.buffers[0])
        elif isinstance(entry, BlobForgotten):
            kept.pop(entry.hash, None)
    return kept


def dies(world: World, hub: ModelHub) -> None:
    [worker] = hub.workers
    for message in hub.die(worker, "killed"):
        world.fact(hub, message)
    world.tick()
    world.check(ticked=True)


def test_the_latest_state_goes_with_the_next_attempt(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    assert given(hub, 1) == {}
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"one")
    saves(world, hub, b"two")
    dies(world, hub)
    assert given(hub, 2) == {0: b"two"}
    world.fact(hub, hub.finish(("t", 0, 2)))
    assert in_journal(world) == {}
    assert not world.scheduler.state.records["t"].checkpoints


def test_each_item_has_its_own(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4, retries=1)
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"of 1", offset=1)
    saves(world, hub, b"of 3", offset=3)
    world.fact(hub, hub.finish(("t", 0, 1), failures=(3,)))
    world.tick()
    assert given(hub, 2, first=3) == {0: b"of 3"}
    assert in_journal(world) == {"checkpoint:t.3": b"of 3"}


def test_states_of_other_attempts_and_of_ended_calls_are_ignored(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"x", offset=1)
    saves(world, hub, b"x", offset=-1)
    saves(world, hub, b"x" * (MOST_CHECKPOINT_BYTES + 1))
    dies(world, hub)
    saves(world, hub, b"late", attempt=1)
    assert in_journal(world) == {}
    world.fact(hub, hub.start(("t", 0, 2)))
    world.say(ANNA, CancelTask(request=1, task="t"))
    saves(world, hub, b"cancelled", attempt=2)
    assert in_journal(world) == {}


def test_a_cancel_drops_it(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"one")
    world.say(ANNA, CancelTask(request=1, task="t"))
    world.fact(hub, hub.stopped(("t", 0, 1), "cancel"))
    world.tick()
    assert in_journal(world) == {}


@both
def test_it_survives_a_restart_and_the_loss_of_the_hub(world: World, hub: ModelHub, grouped: bool) -> None:
    submit(world, "t")
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"one")
    world.restart(grouped)
    world.connect(hub)
    world.tick()
    saves(world, hub, b"two")
    world.restart(grouped)
    world.perform(world.scheduler.hub_dead(hub.hello().hub, world.now))
    other = world.hub("other", (Group(1),))
    world.tick()
    assert given(other, 2) == {0: b"two"}


@both
def test_a_restart_drops_the_state_of_a_cancelled_call(world: World, hub: ModelHub, grouped: bool) -> None:
    submit(world, "t")
    world.fact(hub, hub.start(("t", 0, 1)))
    saves(world, hub, b"one")
    world.say(ANNA, CancelTask(request=1, task="t"))  # kept; its hub has still to confirm it
    assert in_journal(world) == {"checkpoint:t.0": b"one"}
    world.restart(grouped)
    assert in_journal(world) == {}


def test_no_client_can_write_one(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.say(ANNA, PutBlob(hash="checkpoint:t.0", payload=Payload((b"evil",))))
    assert in_journal(world) == {}
    assert "checkpoint:t.0" not in world.scheduler.state.blobs
