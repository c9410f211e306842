"""Work ahead that waits behind a long slice is recalled, once, and only if this helps."""

from __future__ import annotations

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import DrainHub, Group, Heartbeat, StopTask, SubmitTask, TaskState, WorkerDied
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


# ── for those who wait ──


@pytest.fixture
def full(world: World) -> ModelHub:
    """A hub with two workers and a line of anna's short tasks; bob has none yet."""
    hub = world.hub("lab", (Group(2),))
    world.client("client:bob", "bob")
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.002))
    submit(world, *(f"t{n}" for n in range(40)))
    assert len(hub.hands) > 8
    return hub


def bobs(world: World, *tasks: str) -> None:
    for task in tasks:
        world.say("client:bob", SubmitTask(task=task, name="long", function="g", payload=Payload((b"x",))))


def test_for_a_user_who_waits_the_whole_line_is_called_back_at_once(world: World, full: ModelHub) -> None:
    before = list(full.hands)
    bobs(world, "b1", "b2")
    assert recalled(world, 0.0) == [fence[0] for fence in reversed(before[2:])]
    assert list(full.hands) == before[:2]
    world.tick()
    world.check(ticked=True)
    assert recalled(world, 0.0) == []  # there is nothing left, and it is asked for once only
    world.fact(full, full.finish(before[0], duration_s=0.002))
    world.tick()
    assert list(full.hands) == [before[1], ("b1", 0, 1)]


def test_what_is_ahead_only_since_a_worker_ended_is_called_back_for_who_waits_already(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    world.client("client:bob", "bob")
    submit(world, "t1", "t2")
    world.fact(hub, hub.start(("t1", 0, 1)))
    bobs(world, "b1")
    assert recalled(world, 0.0) == []
    worker = next(name for name in hub.workers if name != hub.on[("t1", 0, 1)])
    world.say(hub.address, WorkerDied(worker=worker, reason="it is not needed any more"))  # t2 has not begun there
    assert recalled(world, 0.0) == []
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert deadline <= world.now + 0.02
    assert recalled(world, 0.021) == ["t2"]


def test_to_a_hub_far_away_nothing_goes_ahead_behind_a_long_slice(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(hub.address, Heartbeat(way_s=0.004))
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.002))
    submit(world, "long", function="unknown")
    world.fact(hub, hub.start(("long", 0, 1)))
    submit(world, "t1")
    assert list(hub.hands) == [("long", 0, 1), ("t1", 0, 1)], "it may end at any moment"
    assert recalled(world, 0.2) == ["t1"]
    for _ in range(20):
        assert recalled(world, 0.1) == [], "it is not sent there again and again"
    assert list(hub.hands) == [("long", 0, 1)]


def test_of_users_with_as_few_workers_nothing_is_called_back(world: World, full: ModelHub) -> None:
    world.client("client:carla", "carla")
    bobs(world, "b1")
    world.tick()
    held = world.scheduler.state.hubs[full.address].in_flight
    user = world.scheduler.state.share.user("bob")
    user.occupied = 1  # as if he had a worker elsewhere, and anna two here
    world.scheduler.recall.make_way(
        [(user, world.scheduler.state.records["b1"].slices[0], next(iter(held.values())).group.band)], world.now
    )
    assert world.scheduler.state.out == []
    user.occupied = 0


def test_a_long_line_of_tiny_slices_is_through_before_it_could_come_back(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    world.client("client:bob", "bob")
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.000_01))
    submit(world, *(f"t{n}" for n in range(400)))
    line = len(hub.hands)
    assert line > 2 + 64
    bobs(world, "b1")
    assert recalled(world, 0.0) == []
    for _ in range(line - 1):
        world.fact(hub, hub.finish(next(iter(hub.hands)), duration_s=0.000_01))
        world.tick()
    assert list(hub.hands)[1] == ("b1", 0, 1)  # the first behind those that stood in line


def test_what_a_hub_did_not_hand_back_then_is_asked_for_once_it_has_waited_for_long(
    world: World, hub: ModelHub
) -> None:
    """Its worker is at a long task, of which nobody knew: t2 and t3 must not begin before bob's when that ends."""
    world.client("client:bob", "bob")
    world.scheduler.recall.make_way = lambda *_: None  # type: ignore[method-assign]
    bobs(world, "b1")
    assert set(recalled(world, 0.06)) == {"t2", "t3"}


# ── running slices of several calls ──


MANY = Payload((bytes(range(24)),), [1] * 24)


@pytest.fixture
def cut(world: World) -> ModelHub:
    """A hub with one worker, which runs a slice of several of anna's calls, because they were short until now."""
    hub = world.hub("lab", (Group(1),))
    world.client("client:bob", "bob")
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.001))
    submit(world, "many", items=24, split=True, payload=MANY)
    assert hub.hands["many", 0, 1].items > 2
    world.fact(hub, hub.start(("many", 0, 1)))
    return hub


def back(world: World, hub: ModelHub, begun: int) -> None:
    """The hub hands back what its worker has not begun of the slice."""
    items = hub.hands["many", 0, 1].items
    world.fact(hub, hub.finish(("many", 0, 1), duration_s=0.5, left=items - begun))


def test_a_slice_that_takes_long_is_handed_back_to_a_user_with_fewer_workers(world: World, cut: ModelHub) -> None:
    bobs(world, "b1")
    world.tick()
    assert "many" in recalled(world, 0.06)
    assert "many" not in recalled(world, 0.06)
    back(world, cut, 1)
    record = world.scheduler.state.records["many"]
    assert [(task.first, task.state) for task in record.slices][:2] == [(0, TaskState.DONE), (1, TaskState.QUEUED)]
    world.check()
    world.tick()
    assert [run.task for run in cut.hands.values()][:1] == ["b1"]


def test_a_slice_that_takes_long_is_handed_back_to_a_free_worker(world: World, cut: ModelHub) -> None:
    other = world.hub("other", (Group(1),))
    world.tick()
    for fence in list(other.hands):
        world.fact(other, other.finish(fence, duration_s=0.001))
    while other.hands:
        for fence in list(other.hands):
            world.fact(other, other.finish(fence, duration_s=0.001))
        world.tick()
    world.say(cut.address, Heartbeat())
    recalled(world, 0.06)
    back(world, cut, 2)
    world.tick()
    assert {run.task for run in other.hands.values()} == {"many"}
    world.check(ticked=True)


def test_a_slice_that_takes_long_is_handed_back_to_a_task_that_goes_from_queue_to_queue(world: World) -> None:
    """Bob's short task has waited behind one long task of his, and waits behind another."""
    world.client("client:bob", "bob")
    for n, name in enumerate(("first", "second")):
        hub = world.hub(name, (Group(1),))
        if n == 0:
            submit(world, "warm")
            world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.001))
        bobs(world, f"long{n}")
        world.tick()
        world.fact(hub, hub.start((f"long{n}", 0, 1)))
        if n == 0:
            world.say("client:bob", SubmitTask(task="b1", name="work", function="f", payload=Payload((b"x",))))
            world.tick()
            assert ("b1", 0, 1) in hub.hands
    world.say(ANNA, DrainHub(hub="first", request=1))
    world.tick()
    assert ("b1", 0, 2) in hub.hands
    lab = world.hub("lab", (Group(1),))
    submit(world, "many", items=24, split=True, payload=MANY)
    assert lab.hands["many", 0, 1].items > 2
    world.fact(lab, lab.start(("many", 0, 1)))
    assert recalled(world, 0.025) == ["many"]


def test_a_slice_that_takes_long_goes_on_where_nobody_waits(world: World, cut: ModelHub) -> None:
    world.now += 0.06
    stopped = [c.message for c in world.scheduler.tick(world.now) if hasattr(c, "message")]
    assert [m.first for m in stopped if isinstance(m, StopTask)] == [
        cut_.first for cut_ in list(cut.hands.values())[1:]
    ]
    world.check()


def test_what_is_handed_back_survives_a_restart(world: World, cut: ModelHub) -> None:
    bobs(world, "b1")
    world.tick()
    recalled(world, 0.06)
    back(world, cut, 3)
    record = world.scheduler.state.records["many"]
    assert record.slices[0].items == 3
    assert all(task.crashes == task.tries == 0 for task in record.slices)
    world.check()


def test_an_end_that_hands_back_nothing_or_everything_is_believed_only_as_far_as_possible(
    world: World, cut: ModelHub
) -> None:
    world.fact(cut, cut.finish(("many", 0, 1), duration_s=0.5, left=-3))
    assert world.scheduler.state.records["many"].slices[0].state is TaskState.DONE
    world.check()
