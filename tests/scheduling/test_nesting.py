"""Nested tasks: their user, their order, their end with the parent, and waits for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nblb.access.limits import Limits
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelTask,
    CollectTask,
    Group,
    LendSlot,
    ResumeTask,
    RetryFailed,
    RunTask,
    SubmitTask,
    TaskRejected,
    TaskState,
    WaitBegan,
    WaitEnded,
    WorkerStarted,
)
from nblb.scheduling.nesting.stalled import STALLED_S
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

BOB = "client:bob"


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", result_ttl_s=0.5))
    world.client(ANNA, "anna")
    world.client(BOB, "bob")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    """A hub with one worker, which is at anna's task p."""
    hub = world.hub("lab", (Group(1),))
    submit(world, "p", priority=3.0)
    world.fact(hub, hub.start(("p", 0, 1)))
    return hub


def child(world: World, *tasks: str, parent: str = "p", attempt: int = 1, **fields: Any) -> None:
    submit(world, *tasks, parent=parent, parent_attempt=attempt, **fields)


def bobs(world: World, task: str) -> None:
    world.say(BOB, SubmitTask(task=task, name="work", function="f", payload=Payload((b"x",))))
    world.tick()


def waits(world: World, hub: ModelHub, task: str = "p", wait: int = 1) -> None:
    hub.workers["stand-in"] = 0
    world.fact(hub, WorkerStarted(worker="stand-in", stand_in=True))
    world.fact(hub, WaitBegan(task=task, attempt=1, wait=wait))
    world.tick()


def state(world: World, task: str) -> TaskState:
    return world.scheduler.state.records[task].slices[0].state


def occupied(world: World, user: str) -> int:
    return world.scheduler.state.share.users[user].occupied


def used_s(world: World, user: str) -> list[float]:
    """What the user has used of workers, as the core has it and as it is after a restart."""
    return [core.state.share.users[user].used_s for core in (world.scheduler, world.twin(grouped=True))]


def in_wait(world: World, task: str = "p") -> bool:
    """Does its worker use no slot, after the core's next turn?"""
    world.tick()
    held = world.scheduler.state.records[task].slices[0].held
    assert held is not None
    return held.wait > 0


def sent(world: World, kind: type[Any]) -> list[Any]:
    """What the next turn says of this kind."""
    commands = world.scheduler.tick(world.now)
    world.perform(commands)
    return [c.message for c in commands if isinstance(getattr(c, "message", None), kind)]


def test_a_nested_task_is_its_parents_users_and_as_urgent(world: World, hub: ModelHub) -> None:
    child(world, "c", user="mallory")
    record = world.scheduler.state.records["c"]
    assert (record.user, record.spec.priority, record.depth) == ("anna", 3.0, 1)


def test_who_is_nested_deeper_goes_first(world: World, hub: ModelHub) -> None:
    submit(world, "q", priority=3.0)
    child(world, "c1", "c2")
    waits(world, hub)
    assert state(world, "c1") is TaskState.ASSIGNED
    child(world, "d", parent="c1")
    line = [task.record.id for task in world.scheduler.state.share.users["anna"].tasks()]
    assert line == ["d", "c2", "q"]


@pytest.mark.parametrize(("attempt", "words"), [(2, "started again"), (1, "CANCELLED")])
def test_a_submission_of_an_attempt_that_is_over_is_refused(
    world: World, hub: ModelHub, attempt: int, words: str
) -> None:
    if words == "CANCELLED":
        world.say(ANNA, CancelTask(request=1, task="p"))
        world.fact(hub, hub.stopped(("p", 0, 1), "cancel"))
    child(world, "c", attempt=attempt)
    (rejected,) = [message for message in world.heard[ANNA] if isinstance(message, TaskRejected)]
    assert words in rejected.reason


def test_what_a_task_leaves_behind_when_it_is_done_is_accepted(world: World, hub: ModelHub) -> None:
    world.fact(hub, hub.finish(("p", 0, 1)))
    child(world, "c")
    assert state(world, "c") is TaskState.ASSIGNED


def test_children_end_with_their_parent_in_the_same_turn(world: World, hub: ModelHub) -> None:
    child(world, "c")
    child(world, "d", parent="p")
    world.say(ANNA, CancelTask(request=1, task="p"))
    world.tick()
    assert [state(world, task) for task in "cd"] == [TaskState.CANCELLED] * 2
    world.restart(grouped=True)
    assert [state(world, task) for task in "pcd"] == [TaskState.CANCELLED] * 3


def test_children_of_an_attempt_that_is_tried_again_end(world: World, hub: ModelHub) -> None:
    child(world, "c")
    for died in hub.die(hub.on["p", 0, 1], "killed"):
        world.fact(hub, died)
    world.tick()
    assert state(world, "c") is TaskState.CANCELLED
    assert state(world, "p") in (TaskState.QUEUED, TaskState.ASSIGNED)


def test_a_worker_that_waits_uses_no_slot(world: World, hub: ModelHub) -> None:
    child(world, "c")
    assert (occupied(world, "anna"), state(world, "c")) == (1, TaskState.QUEUED)
    waits(world, hub)
    assert (occupied(world, "anna"), state(world, "c")) == (1, TaskState.ASSIGNED)
    assert world.scheduler.why("p", 0, world.now) == "its worker waits for 1 task of its own; a stand-in runs meanwhile"
    world.check()
    world.fact(hub, hub.finish(("c", 0, 1)))
    world.fact(hub, WaitEnded(task="p", attempt=1, wait=1))
    assert not in_wait(world)
    assert occupied(world, "anna") == 1
    world.check()


@pytest.mark.parametrize("how", ["done", "failed", "died", "cancelled"])
def test_a_wait_is_no_use_of_a_worker_before_and_after_a_restart(world: World, hub: ModelHub, how: str) -> None:
    hub.on["p", 0, 1] = "lab.0.0"
    world.now += 1.0
    waits(world, hub)
    world.now += 4.0
    world.fact(hub, WaitEnded(task="p", attempt=1, wait=1))
    world.tick()
    world.now += 1.0
    if how == "died":
        for died in hub.die("lab.0.0", "killed"):
            world.fact(hub, died)
    elif how == "cancelled":
        world.say(ANNA, CancelTask(request=1, task="p"))
        world.fact(hub, hub.stopped(("p", 0, 1), "cancel"))
    else:
        world.fact(hub, hub.finish(("p", 0, 1), failures=(0,) if how == "failed" else (), duration_s=6.0))
    assert used_s(world, "anna") == pytest.approx([2.0, 2.0])


def test_a_wait_is_taken_off_the_time_of_calls_that_were_told_early(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "p", items=2)
    world.fact(hub, hub.start(("p", 0, 1)))
    waits(world, hub)
    world.now += 4.0
    world.fact(hub, WaitEnded(task="p", attempt=1, wait=1))
    world.tick()
    told = hub.tell(("p", 0, 1), 1)
    assert told is not None
    world.fact(hub, msgspec.structs.replace(told, duration_s=5.0))  # type: ignore[type-var]
    assert used_s(world, "anna")[0] == pytest.approx(1.0)
    world.fact(hub, hub.finish(("p", 0, 1), duration_s=6.0))
    assert used_s(world, "anna") == pytest.approx([2.0, 2.0])


def test_a_call_that_returns_a_task_is_not_charged_for_it(world: World, hub: ModelHub) -> None:
    child(world, "c")
    end = hub.finish(("p", 0, 1), duration_s=1.0)
    assert end is not None
    world.fact(hub, msgspec.structs.replace(end, follows=((0, "c"),)))  # type: ignore[type-var]
    world.tick()
    world.fact(hub, hub.finish(("c", 0, 1), duration_s=3.0))
    assert used_s(world, "anna") == pytest.approx([4.0, 4.0])


def test_a_worker_that_has_waited_has_its_users_turn(world: World, hub: ModelHub) -> None:
    bobs(world, "b1")
    bobs(world, "b2")
    waits(world, hub)
    assert state(world, "b1") is TaskState.ASSIGNED  # bob has used less
    world.fact(hub, WaitEnded(task="p", attempt=1, wait=1))
    assert in_wait(world)
    assert "as soon as a slot is free" in world.scheduler.why("p", 0, world.now)
    world.fact(hub, hub.finish(("b1", 0, 1), duration_s=9.0))
    assert not in_wait(world)
    assert state(world, "b2") is TaskState.QUEUED


def test_a_stand_in_adds_no_slot_until_it_takes_a_workers_place(world: World, hub: ModelHub) -> None:
    group = next(iter(world.scheduler.state.hubs.values())).groups[0]
    world.fact(hub, WorkerStarted(worker="s", stand_in=True))
    assert group.alive == 1
    world.fact(hub, WorkerStarted(worker="s"))
    assert group.alive == 2


def test_a_call_that_returns_a_task_ends_as_that_does(world: World, hub: ModelHub) -> None:
    child(world, "c")
    end = hub.finish(("p", 0, 1))
    assert end is not None
    world.fact(hub, msgspec.structs.replace(end, follows=((0, "c"),)))  # type: ignore[type-var]
    world.tick()
    assert (state(world, "p"), state(world, "c")) == (TaskState.BLOCKED, TaskState.ASSIGNED)
    assert "the task that it returned" in world.scheduler.why("p", 0, world.now)
    world.check()
    world.restart(grouped=True)
    assert state(world, "p") is TaskState.BLOCKED
    world.connect(hub)
    world.fact(hub, hub.finish(("c", 0, 1)))
    ends = [world.scheduler.state.records[task].slices[0].ended for task in "pc"]
    assert [end.state for end in ends if end is not None] == [TaskState.DONE] * 2
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].payload == ends[1].payload
    world.check()


def test_a_task_that_follows_one_that_fails_fails_likewise_and_can_be_tried_again(world: World, hub: ModelHub) -> None:
    child(world, "c")
    end = hub.finish(("p", 0, 1))
    assert end is not None
    world.fact(hub, msgspec.structs.replace(end, follows=((0, "c"),)))  # type: ignore[type-var]
    world.tick()
    world.fact(hub, hub.finish(("c", 0, 1), failures=(0,)))
    ended = world.scheduler.state.records["p"].slices[0].ended
    assert ended is not None
    assert ended.failure is not None
    assert ended.state is TaskState.FAILED
    world.say(ANNA, RetryFailed(request=1, task="p"))
    assert [run.task for run in sent(world, RunTask)] == ["p"]
    world.check()


def test_a_group_whose_slots_all_wait_silently_is_asked_for_one(world: World, hub: ModelHub) -> None:
    child(world, "c")
    assert sent(world, LendSlot) == []
    for _ in range(4):
        world.now += STALLED_S / 2
        asked = sent(world, LendSlot)
        if asked:
            break
    assert [order.task for order in asked] == ["p"]
    hub.workers["stand-in"] = 0
    world.fact(hub, WorkerStarted(worker="stand-in", stand_in=True))
    world.fact(hub, WaitBegan(task="p", attempt=1, wait=1, lent=True))
    world.tick()
    assert state(world, "c") is TaskState.ASSIGNED
    world.fact(hub, hub.finish(("c", 0, 1)))
    assert occupied(world, "anna") == 1  # it goes on, and is counted again
    world.check()


def test_an_order_to_go_on_is_not_valid_once_the_hub_has_reported_the_wait_again(world: World, hub: ModelHub) -> None:
    waits(world, hub)
    world.fact(hub, WaitEnded(task="p", attempt=1, wait=1))
    (order,) = sent(world, ResumeTask)
    assert world.scheduler.is_given(hub.address, order)
    world.fact(hub, WaitBegan(task="p", attempt=1, wait=2))  # it came back before the order was sent, and waits
    assert not world.scheduler.is_given(hub.address, order)


def returns(world: World, hub: ModelHub, task: str, nested: str) -> None:
    """The task submits another one, and returns it."""
    world.fact(hub, hub.start((task, 0, 1)))
    child(world, nested, parent=task)
    end = hub.finish((task, 0, 1))
    assert end is not None
    world.fact(hub, msgspec.structs.replace(end, follows=((0, nested),)))  # type: ignore[type-var]
    world.tick()
    assert state(world, task) is TaskState.BLOCKED


def pass_until_assigned(world: World, task: str) -> None:
    for _ in range(5):
        world.now += STALLED_S / 2
        world.tick()
        if state(world, task) is TaskState.ASSIGNED:
            return
    raise AssertionError(f"{task} waits for ever")


def test_a_limit_holds_back_no_task_that_a_nested_one_has_returned() -> None:
    world = World(Policy(core="c", limits=(Limits("anna", max_running=1),)))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(2),))
    submit(world, "p")
    world.fact(hub, hub.start(("p", 0, 1)))
    child(world, "c")
    pass_until_assigned(world, "c")
    returns(world, hub, "c", "d")
    pass_until_assigned(world, "d")
    world.check()


def test_a_slot_is_lent_for_a_task_that_a_nested_one_has_returned(world: World, hub: ModelHub) -> None:
    other = world.hub("other", (Group(1),))
    child(world, "c")
    returns(world, other, "c", "d")
    for message in other.die("other.0.0", "exit code 3"):  # with it goes the only worker that is free
        world.fact(other, message)
    asked: list[LendSlot] = []
    for _ in range(4):
        world.now += STALLED_S / 2
        asked += sent(world, LendSlot)
    assert [order.task for order in asked][:1] == ["p"]


def test_a_result_stays_while_its_parent_may_return_its_future(world: World, hub: ModelHub) -> None:
    child(world, "c")
    waits(world, hub)
    world.fact(hub, hub.finish(("c", 0, 1)))
    world.say(ANNA, CollectTask(task="c"))
    for _ in range(3):
        world.now += world.scheduler.policy.result_ttl_s + 1.0
        world.tick()
    assert "c" in world.scheduler.state.records
    world.fact(hub, hub.finish(("p", 0, 1)))
    for _ in range(2):
        world.now += world.scheduler.policy.result_ttl_s + 1.0
        world.tick()
    assert "c" not in world.scheduler.state.records


def test_a_slot_that_is_lent_when_the_nested_tasks_are_over_is_counted_again(world: World, hub: ModelHub) -> None:
    world.fact(hub, WaitBegan(task="p", attempt=1, wait=1, lent=True))
    assert not in_wait(world)
    assert occupied(world, "anna") == 1
    world.check()
