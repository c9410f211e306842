"""Calls that must have ended by a time."""

from __future__ import annotations

import pytest

from nblb.protocol.messages import CancelTask, Failure, Group, RetryFailed, TaskEnded, TaskFinished
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

both = pytest.mark.parametrize("grouped", [False, True])


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0, suspect_s=1e4, lease_s=2e4, prefetch_s=0.0))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(1),))


def states(world: World, task: str) -> str:
    return " ".join(f"{t.first}:{t.first + t.items} {t.state}" for t in world.scheduler.state.records[task].slices)


def passes(world: World, seconds: float) -> None:
    world.now += seconds
    world.tick()
    world.check(ticked=True)


def failures(world: World, task: str) -> list[Failure]:
    ends = [m for m in world.heard[ANNA] if isinstance(m, TaskEnded) and m.task == task]
    return [end.failure for end in ends if end.failure is not None]


def test_a_waiting_call_fails_and_its_dependents_with_it(world: World, hub: ModelHub) -> None:
    submit(world, "long")
    submit(world, "t", deadline_s=10.0)
    submit(world, "after", depends=("t",))
    submit(world, "blocked", depends=("long",), deadline_s=5.0)
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert deadline <= world.now + 5.0
    passes(world, 5.1)
    assert (states(world, "t"), states(world, "blocked")) == ("0:1 QUEUED", "0:1 FAILED")
    passes(world, 5.0)
    assert (states(world, "t"), states(world, "after")) == ("0:1 FAILED", "0:1 FAILED")
    [failure] = failures(world, "t")
    assert failure.kind == "DeadlineExceeded"
    assert failure.message == "work had not ended by its deadline: 10 s after it was submitted it was still waiting"
    world.fact(hub, hub.finish(("long", 0, 1)))
    world.check()
    assert states(world, "long") == "0:1 DONE"


def test_a_running_call_is_stopped_and_its_worker_is_free_again(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=3, deadline_s=10.0, retries=5)
    world.fact(hub, hub.start(("t", 0, 1)))
    submit(world, "next")
    passes(world, 10.1)
    assert states(world, "t") == "0:3 FAILED"
    assert hub.stops == {("t", 0, 1): "cancel"}
    world.fact(hub, hub.stopped(("t", 0, 1), "cancel"))
    world.tick()
    world.check(ticked=True)
    assert (states(world, "t"), states(world, "next")) == ("0:3 FAILED", "0:1 ASSIGNED")
    assert "it was stopped" in failures(world, "t")[0].message


def test_a_result_that_comes_too_late_is_dropped(world: World, hub: ModelHub) -> None:
    submit(world, "t", deadline_s=10.0)
    world.fact(hub, hub.start(("t", 0, 1)))
    passes(world, 10.1)
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.tick()
    world.check(ticked=True)
    assert states(world, "t") == "0:1 FAILED"
    assert not hub.ends


def test_a_wait_for_a_retry_ends_at_the_deadline(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=3, retry_wait_s=100.0, deadline_s=20.0)
    world.fact(hub, hub.end(("t", 0, 1), TaskFinished(task="t", attempt=1, failures=(Failure(kind="OSError"),))))
    passes(world, 10.0)
    assert "before its 2nd attempt" in world.scheduler.why("t", 0, world.now)
    passes(world, 10.1)
    assert states(world, "t") == "0:1 FAILED"
    assert not [*world.scheduler.state.delayed]


def test_what_has_ended_or_is_being_cancelled_is_left_alone(world: World, hub: ModelHub) -> None:
    submit(world, "done", deadline_s=10.0)
    world.fact(hub, hub.finish(("done", 0, 1)))
    submit(world, "stopped", deadline_s=10.0)
    world.fact(hub, hub.start(("stopped", 0, 1)))
    world.say(ANNA, CancelTask(request=1, task="stopped"))
    passes(world, 20.0)
    assert (states(world, "done"), states(world, "stopped")) == ("0:1 DONE", "0:1 CANCELLING")
    world.fact(hub, hub.stopped(("stopped", 0, 1), "cancel"))
    assert states(world, "stopped") == "0:1 CANCELLED"


@both
def test_a_deadline_survives_a_restart_also_of_what_ran(world: World, hub: ModelHub, grouped: bool) -> None:
    submit(world, "t", "waits", deadline_s=10.0)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.now += 6.0
    world.restart(grouped)
    passes(world, 3.0)
    assert (states(world, "t"), states(world, "waits")) == ("0:1 ASSIGNED", "0:1 QUEUED")
    passes(world, 1.1)
    assert (states(world, "t"), states(world, "waits")) == ("0:1 FAILED", "0:1 FAILED")
    assert not world.scheduler.state.orphans
    world.client(ANNA, "anna")
    world.connect(hub)
    passes(world, 2.0)
    world.restart(grouped)
    world.check()
    assert states(world, "t") == "0:1 FAILED"


@both
def test_a_retry_of_failed_calls_counts_anew(world: World, hub: ModelHub, grouped: bool) -> None:
    submit(world, "busy")
    submit(world, "t", deadline_s=10.0)
    wall = world.scheduler.state.wall(world.now)
    submit(world, "at", deadline_at=wall + 10.0)
    passes(world, 10.1)
    assert (states(world, "t"), states(world, "at")) == ("0:1 FAILED", "0:1 FAILED")
    world.say(ANNA, RetryFailed(request=1, task="t"))
    world.say(ANNA, RetryFailed(request=2, task="at"))
    passes(world, 6.0)
    world.restart(grouped)
    passes(world, 3.0)
    assert (states(world, "t"), states(world, "at")) == ("0:1 QUEUED", "0:1 QUEUED")
    passes(world, 1.1)
    assert (states(world, "t"), states(world, "at")) == ("0:1 FAILED", "0:1 QUEUED")


def test_a_time_that_has_passed_fails_at_once(world: World, hub: ModelHub) -> None:
    submit(world, "t", deadline_at=world.scheduler.state.wall(world.now) - 1.0)
    assert states(world, "t") == "0:1 FAILED"


@pytest.mark.parametrize("field", [{"deadline_s": -1.0}, {"deadline_s": float("nan")}, {"deadline_at": float("inf")}])
def test_what_is_no_time_is_refused(world: World, field: dict[str, float]) -> None:
    submit(world, "t", **field)
    assert "t" not in world.scheduler.state.records


def test_what_failed_while_it_waited_for_another_waits_again_once_when_it_is_retried(
    world: World, hub: ModelHub
) -> None:
    submit(world, "long")
    submit(world, "blocked", depends=("long",), deadline_s=5.0)
    passes(world, 5.1)
    world.say(ANNA, RetryFailed(request=1, task="blocked"))
    assert states(world, "blocked") == "0:1 BLOCKED"
    assert world.scheduler.state.records["long"].dependents == {-1: [world.scheduler.state.records["blocked"]]}
    world.check()
    world.fact(hub, hub.finish(("long", 0, 1)))
    world.tick()
    world.check(ticked=True)
    assert ("blocked", 0, 2) in hub.hands
    world.fact(hub, hub.finish(("blocked", 0, 2)))
    assert states(world, "blocked") == "0:1 DONE"


def test_what_failed_in_the_line_is_in_it_once_when_it_is_retried(world: World, hub: ModelHub) -> None:
    submit(world, "long")
    submit(world, "t", deadline_s=5.0)
    passes(world, 5.1)
    assert states(world, "t") == "0:1 FAILED"
    world.say(ANNA, RetryFailed(request=1, task="t"))
    world.check()
    world.fact(hub, hub.finish(("long", 0, 1)))
    world.tick()
    assert [fence[0] for fence in hub.hands] == ["t"]
    world.check(ticked=True)
