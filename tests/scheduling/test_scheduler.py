"""The scheduler's interface: views for the JSON protocol, deadlines, and the small requests."""

from __future__ import annotations

import pytest

from nblb.protocol.commands import Halt
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    BlobMissing,
    BlobWanted,
    Group,
    HoldBlob,
    Message,
    ScaleHub,
    StopCore,
    StopHub,
    SubmitTask,
    TaskProgressed,
    TaskState,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    return world


def said(world: World, sender: str, message: Message) -> list[tuple[str, Message]]:
    commands = world.scheduler.handle(sender, message, world.now)
    return [(c.to, c.message) for c in commands if hasattr(c, "message")]


def test_an_idle_core_has_nothing_to_wake_for() -> None:
    scheduler = Scheduler(Policy())
    assert scheduler.next_deadline() is None
    assert scheduler.tick(1.0) == []


def test_work_to_give_wants_a_tick_at_once(world: World) -> None:
    world.say(ANNA, SubmitTask(task="t", name="work"))
    assert world.scheduler.next_deadline() == 0.0
    world.tick()
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert deadline > world.now


def test_views_of_tasks_and_items(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "t")
    submit(world, "many", items=3)
    view = world.scheduler.task_view
    world.fact(hub, TaskProgressed(task="t", attempt=1, progress=40.0))
    seen = view("t")
    assert seen is not None
    assert (seen.state, seen.progress, seen.payload) == (TaskState.ASSIGNED, 40.0, None)
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.fact(hub, hub.finish(("many", 0, 1), failures=(1,)))
    seen = view("t")
    assert seen is not None
    assert (seen.progress, seen.payload) == (100.0, Payload((b"t[0:1]#1",)))
    bad = view("many.1")
    assert bad is not None
    assert bad.failure is not None
    assert bad.failure.message == "item 1"
    for unknown in ("nobody", "many.3", "many.-1", "many.x", "many.", ".", ""):
        assert view(unknown) is None, unknown


def test_scaling_a_hub(world: World) -> None:
    world.hub("lab")
    ask = ScaleHub(hub="lab", workers=4, request=5)
    assert said(world, ANNA, ask) == [("hub:lab", ask), (ANNA, Answer(request=5, value=4))]
    ((_, answer),) = said(world, ANNA, ScaleHub(hub="nothing", workers=4, request=6))
    assert isinstance(answer, Answer)
    assert answer.error == "no hub 'nothing' here (there are: lab)"
    ((_, answer),) = said(world, ANNA, ScaleHub(hub="lab", workers=-1, request=7))
    assert isinstance(answer, Answer)
    assert answer.error == "workers must be 0 or more"


@pytest.mark.parametrize("hubs", [True, False])
def test_stopping(world: World, hubs: bool) -> None:
    world.hub("lab")
    commands = world.scheduler.handle(ANNA, StopCore(request=1, hubs=hubs), world.now)
    assert commands[-1] == Halt("anna asked for it")
    told = [c.message for c in commands if hasattr(c, "message")]
    assert [type(message) for message in told] == [StopHub] * hubs + [Answer]


def test_a_hub_that_lost_a_blob_gets_it_again(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1)))
    assert said(world, "hub:lab", BlobWanted(hash="f")) == [("hub:lab", HoldBlob(hash="f", payload=Payload((b"f",))))]
    ((_, results),) = said(world, "hub:lab", BlobWanted(hash="t"))
    assert isinstance(results, HoldBlob)
    assert results.total == 1
    assert said(world, "hub:lab", BlobWanted(hash="x")) == [("hub:lab", BlobMissing(hash="x"))]
