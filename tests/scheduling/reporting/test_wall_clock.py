"""Times shown to people, while the wall clock is changed and the machine sleeps."""

from __future__ import annotations

import pytest

from nblb.broker.queries import answer
from nblb.protocol.messages import Group, Hello, OpenJob, TaskEnded
from nblb.scheduling.reporting.wall_clock import WallClock
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def clock() -> WallClock:
    clock = WallClock()
    clock.begin(1000.0, slept_s=50.0)
    clock.update(10.0, 1010.0, 50.0)
    return clock


def test_a_clock_that_is_set_tells_earlier_times_as_it_is_now(clock: WallClock) -> None:
    assert clock.wall(10.0) == 1010.0
    clock.update(20.0, 4620.0, 50.0)
    assert clock.wall(10.0) == 4610.0
    assert clock.passed_s(10.0, 20.0) == 10.0
    assert clock.restamped(1010.0) == 4610.0  # written down before
    assert clock.restamped(4620.0) == 4620.0  # … and after
    clock.update(30.0, 1030.0, 50.0)  # and back again
    assert clock.wall(10.0) == clock.restamped(1010.0) == clock.restamped(1010.0) == 1010.0
    assert clock.restamped(4625.0) == 1025.0


def test_what_was_before_a_sleep_keeps_its_time(clock: WallClock) -> None:
    clock.update(20.0, 1020.0 + 28_800.0, 50.0 + 28_800.0)
    assert clock.wall(10.0) == clock.restamped(1010.0) == 1010.0
    assert clock.wall(20.0) == 29_820.0
    assert clock.passed_s(10.0, 20.0) == 28_810.0


def test_clocks_that_run_apart_have_made_no_step(clock: WallClock) -> None:
    for n in range(100):
        clock.update(20.0 + n, 1020.0 + 1.1 * n, 50.0)
    assert clock.wall(119.0) == pytest.approx(1128.9)
    assert clock.restamped(1010.0) == 1010.0


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    world.scheduler.update_clocks(world.now, world.now + 1000.0)
    return world


def test_times_of_tasks_and_jobs_after_the_clock_was_set(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=2))
    submit(world, "one", "two", job="j")
    world.now += 5.0
    world.fact(hub, hub.finish(("one", 0, 1)))
    world.now += 5.0
    world.scheduler.update_clocks(world.now, 9000.0)
    (job,) = answer(world.scheduler, "jobs", {}, world.now)
    assert (job["created_at"], job["ended_at"], job["ended_ago_s"]) == (8990.0, 0.0, 0.0)  # it has not ended
    world.fact(hub, hub.finish(("two", 0, 1)))
    ended = [m for m in world.heard[ANNA] if isinstance(m, TaskEnded)]
    assert ended[-1].ended_at == 9000.0
    world.now += 7.0
    (job,) = answer(world.scheduler, "jobs", {}, world.now)
    assert (job["created_at"], job["ended_at"], job["ended_ago_s"]) == (8990.0, 9000.0, 7.0)
    assert job["expires_in_s"] == 172_800.0 - 7.0
    rows = {row["task"]: row for row in answer(world.scheduler, "tasks", {}, world.now)["rows"]}
    assert (rows["one"]["submitted_at"], rows["one"]["ended_at"], rows["one"]["ended_ago_s"]) == (8990.0, 8995.0, 12.0)
    assert (rows["two"]["ended_at"], rows["two"]["ended_ago_s"]) == (9000.0, 7.0)


def test_presence_of_a_kernel_whose_clock_is_another(world: World) -> None:
    world.say("client:bob", Hello(client="b", user="bob", notebook="b.ipynb", since=1e9, here_s=3.0))
    assert answer(world.scheduler, "presence", {}, world.now)["b.ipynb"] == [(1097.0, 1100.0)]
    world.scheduler.update_clocks(world.now, 5000.0)
    assert answer(world.scheduler, "presence", {}, world.now)["b.ipynb"] == [(4997.0, 5000.0)]
