"""The choice of task and worker: fairness, placement, slices, work ahead, and the answers of why()."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import TaskKept
from nblb.protocol.messages import CancelTask, Group, Heartbeat, OpenJob, RunTask, SubmitTask, TaskState
from nblb.scheduling.reporting import place_in_line
from nblb.scheduling.state import Policy
from tests.scheduling.world import ModelHub, World


@pytest.fixture
def world() -> World:
    return a_world()


def a_world(**policy: float) -> World:
    world = World(Policy(core="c", max_queued=0, **policy))  # type: ignore[arg-type]
    for name in ("anna", "bob"):
        world.client(f"client:{name}", name)
    return world


def submit(world: World, who: str, *tasks: str, **fields: object) -> None:
    for task in tasks:
        spec = SubmitTask(**{"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields})  # type: ignore[arg-type]
        world.say(f"client:{who}", spec)


def split(world: World, who: str, task: str, items: int, **fields: object) -> None:
    submit(world, who, task, items=items, split=True, payload=Payload((b"x" * items,), [1] * items), **fields)


def hands(hub: ModelHub) -> list[tuple[str, int, int]]:
    return [(run.task, run.first, run.items) for run in hub.hands.values()]


def names(hub: ModelHub) -> list[str]:
    return [run.task for run in hub.hands.values()]


def run_all(world: World, took: float) -> None:
    for hub in world.hubs.values():
        for fence in list(hub.hands):
            world.fact(hub, hub.finish(fence, duration_s=took))
    world.tick()


def teach(world: World, seconds: float) -> None:
    """Let the scheduler learn how long the function runs."""
    submit(world, "anna", f"warm{seconds}")
    world.tick()
    run_all(world, seconds)


# ── fairness ──


@settings(max_examples=40, deadline=None)
@given(workers=st.integers(1, 7), anna=st.integers(8, 30), bob=st.integers(8, 30), seed=st.integers(0, 1000))
def test_two_users_with_work_never_differ_by_more_than_one_worker(workers: int, anna: int, bob: int, seed: int) -> None:
    world, chance = a_world(), random.Random(seed)
    submit(world, "anna", *(f"a{n}" for n in range(anna)))
    submit(world, "bob", *(f"b{n}" for n in range(bob)))
    hub = world.hub("lab", (Group(workers),))
    orders: list[str] = []
    users = world.scheduler.state.share.users
    while users["anna"].waiting and users["bob"].waiting:
        world.tick()
        if users["anna"].waiting and users["bob"].waiting:
            assert abs(users["anna"].occupied - users["bob"].occupied) <= 1, orders
        fence = chance.choice(list(hub.hands))
        orders.append(fence[0])
        world.now += 0.5
        world.fact(hub, hub.finish(fence, duration_s=1.0))


def test_the_order_does_not_depend_on_hashes() -> None:
    def order(users: list[str]) -> list[str]:
        world = World(Policy(max_queued=0))
        for user in users:
            world.client(f"client:{user}", user)
        for n in range(3):
            for user in users:
                submit(world, user, f"{user}{n}")
        hub = world.hub("lab", (Group(6),))
        world.tick()
        return [task.lstrip("abcdefghijklmnopqrstuvwxyz_")[:1] + str(names(hub).index(task)) for task in names(hub)]

    first = order([f"user_{chr(97 + n)}" for n in range(6)])
    assert first == order([f"other_{chr(122 - n)}" for n in range(6)])


def test_a_late_comer_gets_the_next_workers(world: World) -> None:
    submit(world, "anna", *(f"a{n}" for n in range(6)))
    hub = world.hub("lab", (Group(3),))
    world.tick()
    submit(world, "bob", "b0", "b1")
    for fence in list(hub.hands)[:2]:
        world.fact(hub, hub.finish(fence))
        world.tick()
    assert names(hub) == ["a2", "b0", "b1"]


# ── placement ──


def test_a_hub_that_holds_the_function_comes_first(world: World) -> None:
    first, second = world.hub("first", (Group(2),)), world.hub("second", (Group(2),))
    submit(world, "anna", "t1")
    world.tick()
    submit(world, "anna", "t2")
    world.tick()
    assert (names(first), names(second)) == (["t1", "t2"], [])


def test_a_free_worker_comes_before_work_ahead(world: World) -> None:
    warm = world.hub("warm", (Group(1),))
    teach(world, 0.0001)
    cold = world.hub("cold", (Group(1),))
    submit(world, "anna", "t1", "t2")
    world.tick()
    assert (names(warm), names(cold)) == (["t1"], ["t2"])


def test_then_the_narrowest_band(world: World) -> None:
    wide = world.hub("wide", (Group(2, 0, 1000),))
    narrow = world.hub("narrow", (Group(2, 0, 10),))
    submit(world, "anna", "t1", priority=5.0)
    submit(world, "anna", "t2", priority=500.0)
    world.tick()
    assert (names(narrow), names(wide)) == (["t1"], ["t2"])


def test_then_the_least_loaded(world: World) -> None:
    first, second = world.hub("first", (Group(4),)), world.hub("second", (Group(4),))
    submit(world, "anna", "t1", function="")
    submit(world, "anna", "warm1", "warm2")
    world.tick()
    assert len(names(first)) == 2
    submit(world, "anna", "t2", constants=("c",))
    world.tick()
    assert names(second) == ["t2"]


def test_a_worker_of_a_wider_band_is_free_for_whoever_is_next_though_the_narrow_one_only_sends_ahead() -> None:
    world = a_world(prefetch_s=0.1)
    hub = world.hub("lab", (Group(1, minP=0.0, maxP=1000.0), Group(1, minP=10.0, maxP=1000.0)))
    teach(world, 0.01)
    submit(world, "bob", "b1", "b2", priority=10.0)
    world.tick()
    assert len(hub.hands) == 2
    submit(world, "anna", "nowhere", priority=10.0, function="", name="unknown")  # no hub here has it
    submit(world, "anna", "a1", priority=10.0)
    submit(world, "bob", "b3", "b4", priority=10.0)
    first = next(fence for fence, run in hub.hands.items() if run.group == 0)
    world.fact(hub, hub.finish(first, duration_s=0.01))
    world.tick()
    assert [run.task for run in hub.hands.values() if run.group == 0][:1] == ["a1"]


def test_bands_include_their_ends(world: World) -> None:
    hub = world.hub("lab", (Group(5, 10, 20),))
    for priority in (9.99, 10.0, 20.0, 20.01):
        submit(world, "anna", f"t{priority}", priority=priority)
    world.tick()
    assert names(hub) == ["t20.0", "t10.0"]


def test_nothing_goes_to_a_hub_that_is_silent(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    world.now += 5.5
    submit(world, "anna", "t")
    world.tick()
    assert not hub.hands
    world.connect(hub)
    world.tick()
    assert names(hub) == ["t"]


# ── how much at once ──


def test_one_item_until_the_duration_is_known(world: World) -> None:
    hub = world.hub("lab", (Group(3),))
    split(world, "anna", "t", 100)
    world.tick()
    assert hands(hub) == [("t", 0, 1), ("t", 1, 1), ("t", 2, 1)]


def test_then_about_the_prefetch_time_and_shorter_at_the_end(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    teach(world, 0.001)
    split(world, "anna", "t", 60)
    sizes = []
    while world.scheduler.state.records["t"].unended:
        world.tick()
        (fence, run), *_ = hub.hands.items()
        sizes.append(run.items)
        world.fact(hub, hub.finish(fence, duration_s=0.001 * run.items))
    assert sum(sizes) == 60
    assert max(sizes) <= 10
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_no_slice_is_so_short_that_its_way_costs_more_than_its_items(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    teach(world, 0.000_01)
    split(world, "anna", "t", 3000)
    sizes = []
    while world.scheduler.state.records["t"].unended:
        world.tick()
        (fence, run), *_ = hub.hands.items()
        sizes.append(run.items)
        world.fact(hub, hub.finish(fence, duration_s=0.000_01 * run.items))
    assert sum(sizes) == 3000
    assert max(sizes) <= 1000
    assert min(sizes[:-1]) >= 45  # 10 us each: half a millisecond


def test_long_items_go_one_by_one_and_never_ahead(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    teach(world, 3.0)
    split(world, "anna", "t", 10)
    world.tick()
    assert hands(hub) == [("t", 0, 1), ("t", 1, 1)]


def test_work_ahead_is_bounded_by_its_time(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    teach(world, 0.002)
    submit(world, "anna", *(f"t{n}" for n in range(50)))
    world.tick()
    assert 11 <= len(hub.hands) <= 12  # two run, and 20 ms of work wait behind them
    assert world.scheduler.state.share.user("anna").occupied == len(hub.hands)


def test_a_task_ahead_hides_the_way_of_the_next_one(world: World) -> None:
    """Tasks of 8 ms: as many wait at the hub as run there, so that no worker waits for the core."""
    hub = world.hub("lab", (Group(2),))
    teach(world, 0.008)
    submit(world, "anna", *(f"t{n}" for n in range(20)))
    world.tick()
    assert len(hub.hands) >= 4
    waiting = len(hub.hands) - 2
    assert waiting * 0.008 <= 2 * world.scheduler.policy.prefetch_s


@pytest.mark.parametrize(("workers", "seconds", "ahead"), [(2, 0.012, 1), (2, 0.019, 1), (2, 0.021, 0), (1, 0.012, 0)])
def test_one_slice_waits_ahead_where_a_worker_is_soon_free_for_it(workers: int, seconds: float, ahead: int) -> None:
    """Two workers of 12 ms tasks have one that ends each 6 ms: who comes behind waits for less than a prefetch."""
    world = a_world(prefetch_s=0.010)
    hub = world.hub("lab", (Group(workers),))
    teach(world, seconds)
    submit(world, "anna", *(f"t{n}" for n in range(20)))
    world.tick()
    assert len(hub.hands) == workers + ahead


def test_a_record_that_may_not_be_split_goes_whole(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "anna", "t", items=500)
    world.tick()
    assert hands(hub) == [("t", 0, 500)]


def test_one_turn_assigns_so_many_and_the_next_goes_on(world: World) -> None:
    world.hub("lab", (Group(2500),))
    submit(world, "anna", *(f"t{n}" for n in range(2400)))
    world.tick()
    given = sum(isinstance(run, RunTask) for hub in world.hubs.values() for run in hub.hands.values())
    assert given == 2000
    assert world.scheduler.next_deadline() == 0.0
    world.tick()
    assert len(world.hubs["hub:lab"].hands) == 2400


# ── work ahead makes nobody wait ──


def a_flood(world: World, workers: int = 2, seconds: float = 0.002, groups: tuple[Group, ...] = ()) -> ModelHub:
    """Anna's short tasks of a known length fill a hub and the line behind it; bob's function `g` is known as long."""
    hub = world.hub("lab", groups or (Group(workers),))
    teach(world, seconds)
    submit(world, "bob", "known", function="g")
    world.tick()
    run_all(world, 0.2)
    submit(world, "anna", *(f"a{n}" for n in range(300)))
    world.tick()
    assert len(hub.hands) > sum(group.workers for group in hub.groups)
    return hub


def ends_until(world: World, hub: ModelHub, task: str, most: int = 300) -> int:
    """How many slices end, one after the other in the order in which they came, before this task is at the hub."""
    for ends in range(most):
        if task in names(hub):
            return ends
        fence, run = next((fence, run) for fence, run in hub.hands.items() if run.user != "bob")
        world.fact(hub, hub.finish(fence, duration_s=0.002 * run.items))
        world.tick()
        world.check(ticked=True)
    raise AssertionError(f"{task} has not begun after {most} slices")


@pytest.mark.parametrize("function", ["g", "unknown"])
def test_a_long_task_gets_the_next_slot_that_ends_behind_a_flood_of_short_ones(world: World, function: str) -> None:
    hub = a_flood(world)
    submit(world, "bob", *(f"b{n}" for n in range(6)), function=function)
    world.tick()
    assert names(hub) == ["a0", "a1"]  # the others were called back
    assert ends_until(world, hub, "b0") == 1


def test_of_equal_users_the_short_tasks_of_one_take_no_slot_of_the_others_long_ones(world: World) -> None:
    hub = a_flood(world, workers=4)
    submit(world, "bob", *(f"b{n}" for n in range(40)), function="g")
    world.tick()
    ends_until(world, hub, "b1")
    users, chance = world.scheduler.state.share.users, random.Random(7)
    for _ in range(200):
        fence, run = chance.choice(list(hub.hands.items()))
        world.fact(hub, hub.finish(fence, duration_s=0.2 if run.user == "bob" else 0.002))
        world.tick()
        world.check(ticked=True)
        if users["bob"].waiting:
            assert abs(users["anna"].occupied - users["bob"].occupied) <= 1
            assert len(hub.hands) == 4
    assert not users["bob"].waiting
    assert users["bob"].done == 41
    assert len(hub.hands) > 4  # nobody waits any more, and work goes ahead again


def test_a_task_that_is_too_long_for_one_sort_of_group_only_waits_for_the_next_slot_there() -> None:
    """Bob's tasks of 15 ms are sent ahead to two workers, not to one; anna's of 2 ms must not go before them there."""
    world = a_world(prefetch_s=0.010)
    world.client("client:carol", "carol")
    world.client("client:dave", "dave")
    wide, narrow = world.hub("wide", (Group(2),)), world.hub("narrow", (Group(1),))
    for function, seconds in (("f", 0.002), ("g", 0.015)):  # one on each worker: both hubs have the functions
        submit(world, "carol", *(f"{function}{n}" for n in range(3)), function=function)
        world.tick()
        run_all(world, seconds)
    submit(world, "carol", "c1", "c2", "c3", function="long")
    world.tick()
    for hub in (wide, narrow):
        for fence in list(hub.hands):
            world.fact(hub, hub.start(fence))
    submit(world, "dave", *(f"d{n}" for n in range(20)))
    submit(world, "anna", *(f"a{n}" for n in range(20)))
    submit(world, "bob", *(f"b{n}" for n in range(20)), function="g")
    world.tick()
    assert world.scheduler.state.share.users["bob"].waiting
    assert "dave" in {run.user for run in wide.hands.values()}  # who was first, before anna
    assert {run.user for run in narrow.hands.values()} == {"carol"}
    world.check(ticked=True)


def test_tasks_that_are_both_short_and_of_unlike_lengths_take_turns() -> None:
    world = a_world(prefetch_s=0.010)
    hub = a_flood(world, workers=1)
    submit(world, "bob", "known8", function="h")
    ends_until(world, hub, "known8")
    world.fact(hub, hub.finish(("known8", 0, 1), duration_s=0.008))
    world.tick()
    submit(world, "bob", "b0", function="h")
    world.tick()
    assert ends_until(world, hub, "b0") <= 6  # as many as stood in line


def test_a_job_and_a_map_stand_in_nobodys_way_either(world: World) -> None:
    hub = a_flood(world)
    world.say("client:anna", OpenJob(job="j", name="sweep", items=30_000))
    split(world, "anna", "job", 30_000, job="j", priority=10.0)
    world.tick()
    ends_until(world, hub, "job")
    submit(world, "bob", "b0", function="g")
    world.tick()
    assert ends_until(world, hub, "b0") <= 1


def test_in_a_band_too_where_the_flood_takes_the_workers_of_several(world: World) -> None:
    hub = a_flood(world, groups=(Group(1, minP=0.0, maxP=1000.0), Group(1, minP=0.0, maxP=9.0)))
    submit(world, "bob", "b0", function="g", priority=100.0)
    world.tick()
    assert ends_until(world, hub, "b0") <= 2
    assert len(hub.hands) > 2  # bob does not wait for the narrow band: work goes ahead there


def test_a_user_of_a_narrow_band_does_not_take_all_workers_of_the_wide_one_before_their_turn(world: World) -> None:
    hub = a_flood(world, groups=(Group(1, minP=0.0, maxP=1000.0), Group(1, minP=0.0, maxP=9.0)))
    submit(world, "bob", *(f"b{n}" for n in range(3)), function="g", priority=100.0)
    for n in range(3):
        ends_until(world, hub, f"b{n}", most=20)
        world.fact(hub, hub.finish((f"b{n}", 0, 1), duration_s=0.2))
        world.tick()


def test_what_no_hub_can_run_keeps_nobody_from_work_ahead(world: World) -> None:
    hub = a_flood(world)
    before = len(hub.hands)
    submit(world, "bob", "nowhere", function="", name="unknown")
    submit(world, "bob", "elsewhere", function="g", priority=100.0, python=(3, 99))
    world.tick()
    assert len(hub.hands) == before
    ends_until(world, hub, "a40")
    assert len(hub.hands) >= before - 1


def test_a_hub_that_can_not_run_what_waits_gets_work_ahead_as_before(world: World) -> None:
    other = world.hub("other", (Group(2),), python=(3, 10))
    teach(world, 0.002)
    hub = a_flood(world)
    submit(world, "bob", *(f"b{n}" for n in range(9)), function="", name="by-name")
    assert len(other.hands) > 2
    submit(world, "bob", "b311", function="g", python=(3, 11))
    world.tick()
    assert names(hub)[:2] == ["a0", "a1"] or len(hub.hands) == 2
    assert len(other.hands) > 2
    assert len(hub.hands) == 2


def test_what_is_long_of_ones_own_waits_for_a_slot_too(world: World) -> None:
    hub = a_flood(world)
    submit(world, "anna", "long", function="g", priority=1.0)
    world.tick()
    assert ends_until(world, hub, "long") <= 12


def test_what_was_called_back_stands_where_it_stood(world: World) -> None:
    hub = a_flood(world)
    ahead = len(hub.hands) - 2
    submit(world, "bob", "b0", function="g")
    world.tick()
    line = [task.record.id for task in world.scheduler.state.share.user("anna").tasks()]
    assert line[: ahead + 1] == [f"a{n}" for n in range(2, ahead + 3)]


# ── bounds and words ──


def test_what_is_submitted_beyond_the_bound_is_kept_and_waits_behind_it() -> None:
    world = World(Policy(max_queued=2))
    world.client("client:anna", "anna")
    submit(world, "anna", *(f"t{n}" for n in range(5)))
    world.say("client:anna", OpenJob(job="j", name="sweep", items=0))
    submit(world, "anna", "t5", "t6", job="j")
    assert world.scheduler.is_full("anna")
    assert not world.scheduler.is_full("bob")
    assert [entry.spec.task for entry in world.journal if isinstance(entry, TaskKept)] == [f"t{n}" for n in range(7)]
    hub = world.hub("lab", (Group(1, 0, 100),))
    order = []
    while world.scheduler.state.share.user("anna").waiting or hub.hands:
        world.tick()
        (fence,) = hub.hands
        order.append(fence[0])
        if len(order) == 2:
            submit(world, "anna", "urgent", priority=9.0)  # does not wait behind those that wait behind the bound
        world.fact(hub, hub.finish(fence))
        world.check()
    assert order == ["t0", "t1", "urgent", "t2", "t3", "t4", "t5", "t6"]


def test_why_says_what_waits_behind_the_bound() -> None:
    world = World(Policy(max_queued=2))
    world.client("client:anna", "anna")
    submit(world, "anna", *(f"t{n}" for n in range(4)))
    world.hub("lab", (Group(1),))
    why = world.scheduler.why
    assert why("t1", 0, world.now) == "2nd of anna's tasks in line for 1 worker"
    behind = "behind the 2 of one user that compete at once (LB_QUEING_MAXPERUSER)"
    assert why("t2", 0, world.now) == f"3rd of anna's tasks in line for 1 worker, {behind}"
    unbound = World(Policy(max_queued=0))
    unbound.client("client:anna", "anna")
    submit(unbound, "anna", *(f"t{n}" for n in range(4)))
    unbound.hub("lab", (Group(1),))
    assert "behind" not in unbound.scheduler.why("t3", 0, unbound.now)
    assert not unbound.scheduler.is_full("anna")


def test_a_place_in_line_and_the_time_left_are_counted_in_calls(world: World) -> None:
    hub = world.hub("lab", (Group(2, 0, 10),))
    submit(world, "anna", "first")
    world.tick()
    world.fact(hub, hub.finish(("first", 0, 1), duration_s=1.0))
    split(world, "anna", "loop", 12)
    split(world, "anna", "urgent", 3, priority=5.0)
    split(world, "anna", "elsewhere", 50, priority=500.0)
    split(world, "anna", "map", 100)
    split(world, "bob", "his", 5)

    def why(task: str, item: int) -> str:
        return world.scheduler.why(task, item, world.now)

    assert why("loop", 0).startswith("4th of anna's tasks in line for 2 workers")
    assert why("loop", 11).startswith("15th of anna's tasks")
    assert why("map", 99).startswith("115th of anna's tasks")
    assert why("map", 99).endswith("; about 1 min 54 s")  # 114 calls before it, and bob has his share of the workers
    world.say("client:bob", CancelTask(task="his", request=1))
    assert why("map", 99).endswith("; about 57 s")
    world.tick()  # two of the urgent ones run now, and take a second each
    assert why("map", 99) == "113th of anna's tasks in line for 2 workers; about 57 s"
    world.say("client:anna", CancelTask(task="map", request=1, first=10, items=80))
    assert why("map", 99).startswith("33rd of anna's tasks")
    assert why("map", 100) == "the core does not know this task"
    world.check()


def test_a_place_far_behind_is_not_counted_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_in_line, "MOST_SLICES", 3)
    hub = world.hub("lab", (Group(1),))
    submit(world, "anna", "first")
    world.tick()
    world.fact(hub, hub.finish(("first", 0, 1), duration_s=2.0))
    submit(world, "anna", *(f"t{n}" for n in range(9)))
    said = world.scheduler.why("t8", 0, world.now)
    assert said == "behind more than 4 of anna's tasks in line for 1 worker; about 8 s or more"
    assert world.scheduler.why("t3", 0, world.now) == "4th of anna's tasks in line for 1 worker; about 6 s"


def test_why(world: World) -> None:
    def why(task: str) -> str:
        return world.scheduler.why(task, 0, world.now)

    submit(world, "anna", "t1")
    assert why("t1") == "waiting: no hub has a worker; start one with %lb_hub or `nblb hub`"
    assert why("nonsense") == "the core does not know this task"
    hub = world.hub("lab", (Group(1, 0, 10),))
    world.tick()
    assert why("t1") == "waiting: hub lab has just been given it"
    submit(world, "anna", "t2", "t3")
    submit(world, "bob", "b1", depends=("t1",))
    submit(world, "anna", "t9", priority=500.0)
    assert why("t3") == "2nd of anna's tasks in line for 1 worker"
    assert why("b1") == "waits for the results of 1 other task"
    assert why("t9") == "waiting: no worker takes priority 500 (those here take 0 to 10)"
    world.fact(hub, hub.finish(("t1", 0, 1), duration_s=60.0))
    submit(world, "bob", "b2")
    assert why("t3").endswith("in line for 1 worker; about 2 min")  # 60 s, of a worker that bob has half of
    world.tick()
    (holder,) = {run.user for run in hub.hands.values()}
    waiting = next(t for t in ("b1", "t3") if world.scheduler.state.records[t].slices[0].state is TaskState.QUEUED)
    if holder != world.scheduler.state.records[waiting].user:
        assert f"; 1 of {holder}'s run there" in why(waiting)


# ── hubs whose batch jobs end ──


def later(world: World, seconds: float) -> None:
    """Let time pass, in which the hubs are not silent."""
    world.now += seconds
    for hub in world.hubs.values():
        world.say(hub.address, Heartbeat(at=world.now))


def test_a_task_that_says_how_long_it_takes_starts_only_where_it_can_end(world: World) -> None:
    hub = world.hub("node", (Group(2),), left_s=60.0)
    submit(world, "anna", "long", time_s=7200.0)
    submit(world, "anna", "fits", time_s=59.0)
    world.tick()
    assert names(hub) == ["fits"]  # although neither has been measured
    assert "it takes about 2 h, and the batch job of hub node ends in 1 min" in world.scheduler.why(
        "long", 0, world.now
    )
    teach(world, 100.0)
    submit(world, "anna", "short", time_s=30.0)
    world.tick()
    assert "short" in names(hub)  # the owner knows better than the mean


def test_no_task_starts_where_it_would_be_cut_off(world: World) -> None:
    hub = world.hub("node", (Group(1),), left_s=60.0)
    teach(world, 20.0)
    later(world, 30.0)
    submit(world, "anna", "t1")
    world.tick()
    assert names(hub) == ["t1"]
    run_all(world, 20.0)
    later(world, 20.0)
    submit(world, "anna", "t2")
    world.tick()
    assert names(hub) == []
    assert world.scheduler.why("t2", 0, world.now) == (
        "waiting: it takes about 20 s, and the batch job of hub node ends in 10 s; a new job, or one with more time, "
        "can run it"
    )
    fresh = world.hub("next", (Group(1),), left_s=60.0)
    world.tick()
    assert names(fresh) == ["t2"]


def test_a_task_that_fits_still_starts_near_the_end(world: World) -> None:
    hub = world.hub("node", (Group(1),), left_s=60.0)
    teach(world, 2.0)
    later(world, 57.0)
    submit(world, "anna", "t1", "t2")
    world.tick()
    assert names(hub) == ["t1"]
    later(world, 2.0)
    run_all(world, 2.0)
    assert names(hub) == []  # 1 s is left


def test_a_hub_without_an_end_gets_what_others_have_no_time_for(world: World) -> None:
    ending = world.hub("node", (Group(4),), left_s=60.0)
    teach(world, 30.0)
    stays = world.hub("lab", (Group(1),))
    later(world, 40.0)
    submit(world, "anna", *(f"t{n}" for n in range(3)))
    world.tick()
    assert (names(ending), names(stays)) == ([], ["t0"])


def test_the_end_follows_the_latest_hello(world: World) -> None:
    hub = world.hub("node", (Group(1),), left_s=60.0)
    teach(world, 20.0)
    later(world, 50.0)
    hub.left_s = 600.0  # somebody has extended the job
    world.connect(hub)
    submit(world, "anna", "t1")
    world.tick()
    assert names(hub) == ["t1"]
