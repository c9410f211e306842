"""The rule `max_failures` of a job."""

from __future__ import annotations

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    CancelTask,
    Group,
    Message,
    OpenJob,
    RetryFailed,
    SubmitTask,
    TaskEnded,
    TaskState,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World

both = pytest.mark.parametrize("grouped", [False, True])


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0, prefetch_s=0.0))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(2),))


def open_job(world: World, most: int, items: int = 6) -> None:
    world.say(ANNA, OpenJob(job="j", name="sweep", items=items, max_failures=most))


def send(world: World, task: str, index: int, **changes: object) -> None:
    spec = SubmitTask(task=task, name="f", function="fn", payload=Payload((b"x",)), job="j", index=index, **changes)  # type: ignore[arg-type]
    world.say(ANNA, spec)
    world.tick()


def fails(world: World, hub: ModelHub, task: str, attempt: int = 1) -> None:
    world.fact(hub, hub.finish((task, 0, attempt), failures=(0,)))
    world.tick()
    world.check(ticked=True)


def states(world: World) -> list[str]:
    return [record.slices[0].state.value for record in world.scheduler.state.jobs["j"].records.values()]


def answers(world: World) -> list[Message]:
    return [m for m in world.heard[ANNA] if isinstance(m, Answer)]


def limited(world: World, hub: ModelHub) -> None:
    """A job of which two calls have failed, one is stopped, and three never began."""
    open_job(world, 2)
    for n in range(6):
        send(world, f"t{n}", n)
    fails(world, hub, "t0")
    assert states(world) == ["FAILED", "ASSIGNED", "ASSIGNED", "QUEUED", "QUEUED", "QUEUED"]
    world.fact(hub, hub.start(("t1", 0, 1)))
    fails(world, hub, "t2")
    assert states(world) == ["FAILED", "CANCELLING", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]


def test_the_rest_is_cancelled_with_the_reason(world: World, hub: ModelHub) -> None:
    limited(world, hub)
    world.fact(hub, hub.stopped(("t1", 0, 1), "cancel"))
    ended = [m for m in world.heard[ANNA] if isinstance(m, TaskEnded) and m.state is TaskState.CANCELLED]
    assert {m.task for m in ended} == {"t1", "t3", "t4", "t5"}
    for end in ended:
        assert end.failure is not None
        assert "2 calls of job sweep failed (max_failures=2)" in end.failure.message
    assert "max_failures=2" in world.scheduler.why("t4", 0, world.now)
    send(world, "t9", 9)
    assert states(world)[-1] == "CANCELLED"
    assert world.scheduler.state.tallies.by_name["f"].total == 2


def test_fewer_failures_and_retries_end_nothing(world: World, hub: ModelHub) -> None:
    open_job(world, 2)
    send(world, "t0", 0)
    send(world, "t1", 1, retries=1)
    send(world, "t2", 2)
    fails(world, hub, "t0")
    fails(world, hub, "t1")
    assert states(world) == ["FAILED", "ASSIGNED", "ASSIGNED"]
    fails(world, hub, "t1", 2)
    assert states(world) == ["FAILED", "FAILED", "CANCELLED"]


def test_a_retry_runs_failed_and_ended_calls_and_counts_anew(world: World, hub: ModelHub) -> None:
    limited(world, hub)
    world.fact(hub, hub.stopped(("t1", 0, 1), "cancel"))
    world.say(ANNA, RetryFailed(request=7, job="j"))
    world.tick()
    world.check(ticked=True)
    assert answers(world)[-1].value == 6  # type: ignore[attr-defined]
    assert sorted(states(world)) == ["ASSIGNED", "ASSIGNED", "QUEUED", "QUEUED", "QUEUED", "QUEUED"]
    fails(world, hub, *next(iter((f[0], f[2]) for f in hub.hands)))
    assert states(world).count("FAILED") == 1
    assert "CANCELLED" not in states(world)


def test_a_retry_of_one_of_them_leaves_the_others(world: World, hub: ModelHub) -> None:
    limited(world, hub)
    world.fact(hub, hub.stopped(("t1", 0, 1), "cancel"))
    world.say(ANNA, RetryFailed(request=7, job="j", items=(4,)))
    world.tick()
    world.check(ticked=True)
    assert states(world) == ["FAILED", "CANCELLED", "FAILED", "CANCELLED", "ASSIGNED", "CANCELLED"]


@both
def test_the_end_of_the_rest_survives_a_restart(world: World, hub: ModelHub, grouped: bool) -> None:
    limited(world, hub)
    world.restart(grouped)
    world.client(ANNA, "anna")
    world.connect(hub)
    world.tick()
    assert states(world) == ["FAILED", "CANCELLED", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]
    assert "max_failures=2" in world.scheduler.why("t1", 0, world.now)
    send(world, "late", 9)
    assert states(world)[-1] == "CANCELLED"
    world.say(ANNA, RetryFailed(request=7, job="j"))
    world.tick()
    world.check(ticked=True)
    assert "CANCELLED" not in states(world)
    world.restart(grouped)
    world.check()
    assert set(states(world)) <= {"QUEUED", "ASSIGNED"}


def test_what_a_user_cancelled_is_not_retried(world: World, hub: ModelHub) -> None:
    open_job(world, 1)
    for n in range(4):
        send(world, f"t{n}", n)
    world.say(ANNA, CancelTask(request=1, task="t3"))
    fails(world, hub, "t0")
    world.fact(hub, hub.stopped(("t1", 0, 1), "cancel"))
    world.say(ANNA, RetryFailed(request=2, job="j"))
    world.tick()
    world.check(ticked=True)
    assert states(world)[3] == "CANCELLED"
    assert world.scheduler.why("t3", 0, world.now) == "does not wait: it is CANCELLED"
    assert answers(world)[-1].value == 3  # type: ignore[attr-defined]
