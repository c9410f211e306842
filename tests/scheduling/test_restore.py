"""A restart of the core: the state from the journal, and attempts that are adopted, given up, or refused."""

from __future__ import annotations

import msgspec
import pytest

from nblb.broker.queries import answer
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AttemptKept, EndKept, TaskKept
from nblb.protocol.messages import CancelTask, ForgetJob, Group, OpenJob, RetryFailed, SubmitTask, TaskState
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, picture, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", adopt_s=30.0))
    world.client(ANNA, "anna")
    return world


def restart(world: World, grouped: bool) -> None:
    before = picture(world.scheduler, False)
    world.restart(grouped)
    assert picture(world.scheduler, False) == before
    world.client(ANNA, "anna")
    world.check()


def states(world: World, task: str) -> str:
    return " ".join(f"{t.first}:{t.first + t.items} {t.state}" for t in world.scheduler.state.records[task].slices)


both = pytest.mark.parametrize("grouped", [False, True])


@both
def test_everything_that_can_be_kept_is_the_same(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(3),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=8))
    submit(world, "split", items=8, split=True, payload=Payload((b"x" * 8,), [1] * 8), job="j", retries=1)
    submit(world, "needs", depends=("split",), items=2)
    submit(world, "k1", "k2", cache="key")
    world.fact(hub, hub.finish(("split", 0, 1), failures=(0,)))
    world.fact(hub, hub.finish(("split", 1, 1)))
    world.say(ANNA, CancelTask(request=1, task="split", first=6, items=1))
    world.say(ANNA, CancelTask(request=1, task="needs", first=1, items=1))
    world.tick()
    for message in hub.die("lab.0.0", "exit code 3"):
        world.fact(hub, message)
    restart(world, grouped)
    restart(world, not grouped)


@pytest.mark.parametrize("set_by_s", [4e5, -4e5, 4e9, -4e9])
def test_a_result_outlives_a_start_with_a_wrong_clock(set_by_s: float) -> None:
    world = World(Policy(core="c", job_ttl_s=172_800.0))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.crash()
    world.core_is_up, world.scheduler = True, world._core()
    world.scheduler.wall_offset += set_by_s
    world.perform(world.scheduler.restore(list(world.journal), world.now))
    record = world.scheduler.state.records["t"]
    assert 3600.0 <= record.expires - world.now <= 172_800.0
    assert record.ended_at <= world.now


def test_what_was_accepted_earlier_has_aged_longer_after_a_start_with_a_wrong_clock() -> None:
    world = World(Policy(core="c", ageing_s=1.0))
    world.client(ANNA, "anna")
    submit(world, "first", "second", priority=5.0)
    world.now += 1.0
    submit(world, "third", priority=5.0)
    world.crash()
    world.core_is_up, world.scheduler = True, world._core()
    world.scheduler.wall_offset -= 4e5  # the clock was set back, so they were accepted in the future
    world.perform(world.scheduler.restore(list(world.journal), world.now))
    world.client(ANNA, "anna")
    world.now += 1.0
    submit(world, "urgent", priority=4.0)
    since = [world.scheduler.state.records[task].since for task in ("first", "second", "third", "urgent")]
    assert since == sorted(since)
    assert since[-1] == world.now
    hub = world.hub("lab", (Group(1),))
    world.tick()
    assert [fence[0] for fence in hub.hands] == ["first"]


@both
def test_a_retry_survives_before_and_after_its_new_attempt(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", items=3)
    world.fact(hub, hub.finish(("t", 0, 1), failures=(0, 2)))
    world.say(ANNA, RetryFailed(request=1, task="t"))
    restart(world, grouped)
    assert states(world, "t") == "0:1 QUEUED 1:2 DONE 2:3 QUEUED"
    world.connect(hub)
    world.tick()
    world.fact(hub, hub.finish(("t", 0, 3), failures=(0,)))
    world.tick()
    restart(world, grouped)
    assert states(world, "t") == "0:1 FAILED 1:2 DONE 2:3 ASSIGNED"


@both
def test_a_running_slice_with_cancelled_items_is_adopted_as_a_whole(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", items=10)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.say(ANNA, CancelTask(request=1, task="t", first=0, items=1))
    world.say(ANNA, CancelTask(request=2, task="t", first=4, items=2))
    restart(world, grouped)
    world.say(ANNA, CancelTask(request=3, task="t", first=9, items=1))  # of an orphan
    world.check()
    world.connect(hub)
    world.check()
    assert states(world, "t") == "0:1 CANCELLED 1:4 RUNNING 4:6 CANCELLED 6:9 RUNNING 9:10 CANCELLED"
    world.fact(hub, hub.finish(("t", 0, 1)))
    assert states(world, "t") == "0:1 CANCELLED 1:4 DONE 4:6 CANCELLED 6:9 DONE 9:10 CANCELLED"
    assert world.ended["t", 7].holes == (0, 4, 5, 9) if ("t", 7) in world.ended else True
    world.check()


@both
def test_a_slice_of_which_a_part_was_told_is_adopted_with_the_rest(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "t", items=6, retries=1)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.tell(("t", 0, 1), 3, failures=(0,)))  # which is tried again on the other worker
    world.tick()
    restart(world, grouped)
    assert states(world, "t") == "0:1 ASSIGNED 1:3 DONE 3:6 ASSIGNED"
    world.connect(hub)
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.fact(hub, hub.finish(("t", 0, 2)))
    assert states(world, "t") == "0:1 DONE 1:3 DONE 3:6 DONE"
    assert world.began["t", 4] <= 1
    world.check()


@both
def test_a_part_that_is_told_while_the_core_is_away_is_taken(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", items=6)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.crash()
    world.fact(hub, hub.tell(("t", 0, 1), 2))
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.restart(grouped)
    world.connect(hub)
    assert states(world, "t") == "0:2 DONE 2:6 DONE"
    world.check()


@both
def test_an_end_right_behind_the_hello_is_taken(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "t1", "t2", at_most_once=True)
    world.crash()
    world.fact(hub, hub.finish(("t1", 0, 1)))
    world.restart(grouped)
    world.connect(hub)
    assert states(world, "t1") == "0:1 DONE"
    assert states(world, "t2") == "0:1 ASSIGNED"
    world.check()


@both
def test_orphans_that_nobody_claims_run_again_or_are_lost(world: World, grouped: bool) -> None:
    world.hub("lab", (Group(2),))
    submit(world, "again")
    submit(world, "once", at_most_once=True)
    world.restart(grouped)
    assert world.scheduler.why("again", 0, world.now).startswith("waits for its hub")
    world.now += 30.0
    world.tick()
    assert (states(world, "again"), states(world, "once")) == ("0:1 QUEUED", "0:1 LOST")
    restart(world, grouped)


@both
def test_nobody_waits_for_a_hub_that_is_dead(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "again")
    submit(world, "once", at_most_once=True)
    world.restart(grouped)
    world.perform(world.scheduler.hub_dead("another", world.now))
    assert len(world.scheduler.state.orphans) == 2
    world.perform(world.scheduler.hub_dead(hub.hello().hub, world.now))
    assert (states(world, "again"), states(world, "once")) == ("0:1 QUEUED", "0:1 LOST")
    restart(world, grouped)


def test_a_hub_that_is_there_and_said_to_be_dead_is_dropped(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.perform(world.scheduler.hub_dead(hub.hello().hub, world.now))
    assert states(world, "t") == "0:1 QUEUED"
    assert not world.scheduler.state.hubs


@both
def test_an_orphan_is_not_given_to_a_hub_of_another_name(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.restart(grouped)
    thief = ModelHub("other", (Group(1),), (), (3, 11), "2.0")
    thief.workers["w"] = 0
    thief.hands = dict(hub.hands)
    world.hubs[thief.address] = thief
    world.connect(thief)
    assert ("t", 0, 1) in world.scheduler.state.orphans
    world.check()


@both
def test_numbers_of_attempts_go_on(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", retries=5)
    for attempt in (1, 2, 3):
        world.fact(hub, hub.finish(("t", 0, attempt), failures=(0,)))
        world.tick()
    restart(world, grouped)
    world.connect(hub)
    world.fact(hub, hub.finish(("t", 0, 4), failures=(0,)))
    world.tick()
    assert list(hub.hands) == [("t", 0, 5)]


def test_stale_and_strange_entries_do_no_harm() -> None:
    scheduler = Scheduler(Policy())
    spec = SubmitTask(task="t", name="work", user="anna")
    end = EndKept(task="t", first=0, items=1, attempt=2, state=TaskState.DONE, at=5.0, payload=Payload((b"r",)))
    scheduler.restore(
        [
            AttemptKept("unknown", 0, 1, 1, "h"),
            TaskKept(spec, 1.0),
            AttemptKept("t", 0, 1, 2, "h"),
            AttemptKept("t", 0, 1, 1, "h"),
            end,
            end,
            EndKept(task="unknown", first=0, items=1, attempt=1, state=TaskState.DONE, at=5.0),
        ],
        now=10.0,
    )
    assert scheduler.state.records["t"].done
    assert not scheduler.state.orphans


@both
def test_a_cached_result_is_still_known(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "k1", cache="key")
    world.fact(hub, hub.finish(("k1", 0, 1)))
    restart(world, grouped)
    submit(world, "k2", cache="key")
    assert states(world, "k2") == "0:1 DONE"


@both
def test_workers_have_their_pids_and_attempts_their_time(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "runs", "ahead")
    for task in ("runs", "ahead"):
        world.fact(hub, hub.start((task, 0, 1)))
    world.restart(grouped)
    hello = hub.hello()
    running = [msgspec.structs.replace(each, ran_s=7.0, ahead=each.task == "ahead") for each in hello.running]
    hub.connected = True
    world.say(hub.address, msgspec.structs.replace(hello, running=tuple(running), pids=(41, 42)))
    workers = world.scheduler.state.hubs[hub.address].workers.values()
    assert sorted(worker.pid for worker in workers) == [41, 42]
    assert states(world, "runs") == "0:1 RUNNING"
    assert world.scheduler.state.records["runs"].slices[0].held.started_at == world.now - 7.0  # type: ignore[union-attr]
    assert states(world, "ahead") == "0:1 ASSIGNED"  # it waits in the socket of a worker
    world.check()


def test_a_pid_that_is_not_known_is_none_and_never_0(world: World) -> None:
    world.hub("lab", (Group(1),))
    assert [row["pid"] for row in answer(world.scheduler, "workers", {}, world.now)] == [None]


def flat(stats: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name} {key}": value for name, row in stats.items() for key, value in row.items()}


@both
def test_statistics_and_use_survive_ends_failures_retries_and_forgetting(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(2),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=4))
    submit(world, "job", items=4, split=True, payload=Payload((b"abcd",), [1] * 4), job="j")
    submit(world, "fails", "crashes", "stopped", name="other")
    for _ in range(4):
        for fence in list(hub.hands):
            world.fact(hub, hub.start(fence))
            if fence[0] == "crashes" and fence[2] == 1:
                world.now += 2.0  # its worker was in use so long
                for message in hub.die(hub.on[fence], "killed"):
                    world.fact(hub, message)
            elif fence[0] == "stopped":
                world.now += 3.0
                world.say(ANNA, CancelTask(request=1, task="stopped"))
                world.fact(hub, hub.stopped(fence, "cancel"))
            else:
                world.fact(hub, hub.finish(fence, failures=(0,) if fence[0] == "fails" else ()))
        world.tick()
    before = answer(world.scheduler, "stats", {}, world.now)
    assert (before["other"]["totaltasks"], before["other"]["failed"]) == (2, 1)
    assert before["work"]["totaltasks"] == 4
    restart(world, grouped)
    assert flat(answer(world.scheduler, "stats", {}, world.now)) == pytest.approx(flat(before))
    (anna,) = answer(world.scheduler, "users", {}, world.now)
    assert (anna["done"], anna["failed"]) == (5, 1)
    assert anna["used_s"] >= 5.0 + before["work"]["totalcalctimes"]
    world.say(ANNA, RetryFailed(request=2, task="fails"))
    world.say(ANNA, ForgetJob(job="j"))
    world.tick()
    assert "job" not in world.scheduler.state.records
    restart(world, not grouped)
    after = answer(world.scheduler, "stats", {}, world.now)
    assert (after["other"]["totaltasks"], after["other"]["failed"], after["work"]["totaltasks"]) == (1, 0, 4)
    restart(world, grouped)
    assert flat(answer(world.scheduler, "stats", {}, world.now)) == pytest.approx(flat(after))


@both
def test_the_story_has_the_times_of_before(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "runs")
    world.now += 5.0
    for message in hub.die(next(iter(hub.workers)), "killed"):
        world.fact(hub, message)
    world.fact(hub, hub.start(("runs", 0, 1)))
    world.now += 5.0
    for message in hub.die(next(iter(hub.workers)), "killed"):
        world.fact(hub, message)
    world.now += 1.0
    world.tick()
    story = answer(world.scheduler, "task", {"task": "runs"}, world.now)["story"]
    steps = {cause: at for at, cause, _, _ in story}
    world.now += 100.0
    restart(world, grouped)
    again = {cause: at for at, cause, _, _ in answer(world.scheduler, "task", {"task": "runs"}, world.now)["story"]}
    for cause in ("SubmitTask", "WorkerDied", "RunTask"):
        assert again[cause] == pytest.approx(steps[cause])


@both
def test_the_story_of_what_ended_before_has_its_times(world: World, grouped: bool) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "done")
    world.fact(hub, hub.start(("done", 0, 1)))
    world.now += 5.0
    world.fact(hub, hub.finish(("done", 0, 1), duration_s=4.5))
    ended_at = world.now + 1000.0
    world.now += 100.0
    restart(world, grouped)
    story = answer(world.scheduler, "task", {"task": "done"}, world.now)["story"]
    assert [(cause, new) for _, cause, _, new in story] == [
        ("SubmitTask", "QUEUED"), ("RunTask", "ASSIGNED"), ("TaskStarted", "RUNNING"), ("TaskFinished", "DONE"),
    ]  # fmt: skip
    assert [at for at, *_ in story][2:] == [pytest.approx(ended_at - 4.5), pytest.approx(ended_at)]
