"""Reports of hubs: ends with holes, crashes, timeouts, late and broken facts."""

from __future__ import annotations

import msgspec
import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelTask,
    EndCommitted,
    Failure,
    Group,
    ItemsFinished,
    TaskEnded,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStarted,
    TaskState,
    TaskStopped,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import InvalidTransition, Slice
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(2),))


def states(world: World, task: str) -> str:
    return " ".join(f"{t.first}:{t.first + t.items} {t.state}" for t in world.scheduler.state.records[task].slices)


def ends(world: World) -> list[TaskEnded]:
    return [m for m in world.heard[ANNA] if isinstance(m, TaskEnded)]


def test_items_that_raise_are_holes_of_the_end_of_the_others(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=6)
    world.fact(hub, hub.finish(("t", 0, 1), failures=(0, 3)))
    world.check()
    assert states(world, "t") == "0:1 FAILED 1:3 DONE 3:4 FAILED 4:6 DONE"
    assert [(e.first, e.items, e.state, e.holes) for e in ends(world)] == [
        (0, 1, TaskState.FAILED, ()),
        (3, 1, TaskState.FAILED, ()),
        (0, 6, TaskState.DONE, (0, 3)),
    ]


def test_all_items_of_a_large_slice_raise(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=3000)
    world.fact(hub, hub.finish(("t", 0, 1), failures=range(3000)))
    assert world.scheduler.state.records["t"].unended == 0
    assert len(world.scheduler.state.records["t"].slices) == 3000
    world.check()


def test_items_that_are_over_end_while_their_slice_goes_on(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=6)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.tell(("t", 0, 1), 2))
    assert states(world, "t") == "0:2 DONE 2:6 RUNNING"
    assert ends(world)[-1].payload == Payload((b"t[0:2]#1",))
    assert not hub.parts  # committed
    world.fact(hub, hub.tell(("t", 0, 1), 3, failures=(1,)))
    assert states(world, "t") == "0:2 DONE 2:3 DONE 3:4 FAILED 4:5 DONE 5:6 RUNNING"
    assert ends(world)[-1].holes == (1,)
    assert world.scheduler.state.share.user("anna").occupied == 1
    world.check(ticked=True)
    world.fact(hub, hub.finish(("t", 0, 1)))
    assert states(world, "t") == "0:2 DONE 2:3 DONE 3:4 FAILED 4:5 DONE 5:6 DONE"
    assert (ends(world)[-1].items, ends(world)[-1].holes) == (6, (0, 1, 2, 3, 4))
    assert ends(world)[-1].duration_s == pytest.approx(0.5 - 2 * 0.1)
    statistics = world.scheduler.state.tallies.by_name["work"]
    assert (statistics.total, statistics.failed, statistics.calc_sum) == (6, 1, pytest.approx(0.5))
    world.check(ticked=True)


def test_an_item_that_was_told_to_have_failed_is_tried_again_beside_its_slice(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4, retries=1)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.tell(("t", 0, 1), 1, failures=(0,)))
    world.tick()
    assert list(hub.hands) == [("t", 0, 1), ("t", 0, 2)]
    world.check(ticked=True)
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.fact(hub, hub.finish(("t", 0, 2)))
    assert states(world, "t") == "0:1 DONE 1:4 DONE"


def test_what_was_told_survives_the_worker(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.fact(hub, hub.tell(("t", 0, 1), 2))
    for message in hub.die(hub.on["t", 0, 1], "killed by signal 11 (SIGSEGV)"):
        world.fact(hub, message)
    world.tick()
    assert states(world, "t") == "0:2 DONE 2:4 ASSIGNED"
    assert list(hub.hands) == [("t", 2, 2)]
    world.check(ticked=True)


def test_nobody_wants_the_rest_of_a_slice(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.say(ANNA, CancelTask(request=1, task="t", first=2, items=2))
    world.fact(hub, hub.tell(("t", 0, 1), 2))
    assert states(world, "t") == "0:2 DONE 2:4 CANCELLED"
    assert hub.stops == {("t", 0, 1): "cancel"}
    world.check()
    world.fact(hub, hub.stopped(("t", 0, 1), "cancel"))
    assert not world.scheduler.state.hubs[hub.address].in_flight
    world.check(ticked=True)


def test_items_that_were_told_to_nobody_run_again(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4)
    world.fact(hub, hub.start(("t", 0, 1)))
    assert hub.tell(("t", 0, 1), 2) is not None  # and it is lost
    world.fact(hub, hub.finish(("t", 0, 1)))
    assert states(world, "t") == "0:2 QUEUED 2:4 DONE"


@pytest.mark.parametrize(("offset", "items"), [(-1, 2), (0, 0), (0, 4), (3, 9)])
def test_parts_that_cannot_be_change_nothing(world: World, hub: ModelHub, offset: int, items: int) -> None:
    submit(world, "t", items=4)
    world.fact(hub, hub.start(("t", 0, 1)))
    world.say(hub.address, ItemsFinished(task="t", attempt=1, offset=offset, items=items, payload=Payload((b"x",))))
    assert states(world, "t") == "0:4 RUNNING"
    world.check(ticked=True)


def test_an_item_both_cancelled_and_failed_stays_cancelled(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=4)
    world.say(ANNA, CancelTask(request=1, task="t", first=1, items=2))
    world.fact(hub, hub.finish(("t", 0, 1), failures=(2, 3)))
    world.check()
    assert states(world, "t") == "0:1 DONE 1:3 CANCELLED 3:4 FAILED"
    assert ends(world)[-1].holes == (1, 2, 3)


def test_a_stopped_slice_that_finished_first_is_cancelled_all_the_same(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.say(ANNA, CancelTask(request=1, task="t"))
    world.fact(hub, TaskFinished(task="t", attempt=1, payload=Payload((b"r",))))
    assert states(world, "t") == "0:1 CANCELLED"
    world.check()


def test_at_most_once_is_not_retried_in_any_way(world: World, hub: ModelHub) -> None:
    for n, end in enumerate(["finish", "die", "ran"]):
        submit(world, f"t{n}", at_most_once=True, retries=5)
        fence = (f"t{n}", 0, 1)
        world.fact(hub, hub.start(fence))
        if end == "finish":
            world.fact(hub, hub.finish(fence, failures=(0,)))
        elif end == "die":
            for message in hub.die(hub.on[fence], "exit code 3"):
                world.fact(hub, message)
        else:
            world.fact(hub, hub.stopped(fence, "recall"))
    assert [states(world, f"t{n}") for n in range(3)] == ["0:1 FAILED", "0:1 LOST", "0:1 LOST"]
    world.check()


def test_late_facts_are_acknowledged_and_change_nothing(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=1)
    world.fact(hub, hub.finish(("t", 0, 1), failures=(0,)))
    world.tick()
    before = states(world, "t")
    late = world.scheduler.state.late_facts
    for fact in (
        TaskStarted(task="t", attempt=1, worker="lab.0.0"),
        TaskProgressed(task="t", attempt=1, progress=50.0),
        TaskFinished(task="t", attempt=1, payload=Payload((b"old",))),
        TaskStopped(task="t", attempt=1),
        WorkerDied(worker="nobody", reason="?", task="t", attempt=1),
        TaskFinished(task="never heard of", attempt=1, payload=Payload((b"r",))),
    ):
        commands = world.scheduler.handle("hub:lab", fact, world.now)
        ending = not isinstance(fact, TaskStarted | TaskProgressed)
        assert [type(c.message) for c in commands] == [EndCommitted] * ending  # type: ignore[attr-defined]
    assert states(world, "t") == before
    assert world.scheduler.state.late_facts == late + 6
    world.check()


@pytest.mark.parametrize(
    "fact",
    [
        TaskFinished(task="t", attempt=1, items=2, payload=None),
        TaskFinished(task="t", attempt=1, items=7, payload=Payload((b"r",))),
        TaskFinished(task="t", attempt=1, items=2, failures=(Failure(offset=99), Failure(offset=-1))),
    ],
)
def test_an_end_that_lacks_results_fails_the_items(world: World, hub: ModelHub, fact: TaskFinished) -> None:
    submit(world, "t", items=2)
    world.say(hub.address, fact)
    assert {task.state for task in world.scheduler.state.records["t"].slices} == {TaskState.FAILED}
    world.check()


def test_impossible_durations_are_not_believed(world: World, hub: ModelHub) -> None:
    for n, duration in enumerate([-5.0, 1e300]):
        submit(world, f"t{n}")
        world.fact(hub, hub.finish((f"t{n}", 0, 1), duration_s=duration))
    user = world.scheduler.state.share.user("anna")
    assert 0.0 < user.used_s < 1.0
    world.check()


def test_a_worker_counts_its_tasks_also_when_no_start_was_told(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1), duration_s=2.0))
    worker = world.scheduler.state.hubs["hub:lab"].workers["lab.0.0"]
    assert (worker.done, worker.used_s, worker.held) == (1, 2.0, None)


def test_a_task_that_moves_to_another_worker_frees_the_first(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    for worker in ("lab.0.0", "lab.0.1"):
        world.say(hub.address, TaskStarted(task="t", attempt=1, worker=worker))
        world.check()
    workers = world.scheduler.state.hubs["hub:lab"].workers
    assert workers["lab.0.0"].held is None
    assert workers["lab.0.1"].held is not None


def test_workers_come_once_and_go_once(world: World, hub: ModelHub) -> None:
    for message in (
        WorkerStarted(worker="lab.0.0"),
        WorkerStarted(worker="new", group=7),
        WorkerStarted(worker="extra"),
        WorkerDied(worker="extra", reason="exit code 1"),
        WorkerDied(worker="extra", reason="exit code 1"),
    ):
        world.say(hub.address, message)
        world.check()
    assert world.scheduler.state.hubs["hub:lab"].groups[0].alive == 2


def test_output_is_kept_as_a_tail_and_not_from_a_replaced_attempt(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=1)
    world.say(hub.address, TaskPrinted(task="t", attempt=1, text="one "))
    world.fact(hub, hub.finish(("t", 0, 1), failures=(0,)))
    world.tick()
    world.say(hub.address, TaskPrinted(task="t", attempt=1, text="late "))
    world.say(hub.address, TaskPrinted(task="t", attempt=2, text="two" * 50_000))
    live = world.scheduler.state.live.get("t", 0)
    assert live is not None
    assert len(live.output["stdout"]) == 64 * 1024
    assert "late" not in live.output["stdout"]


def test_a_bug_leaves_what_had_followed_for_the_next_call(
    world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(world, "t", items=2, retries=0)
    real = Slice.move

    def broken(task: Slice, cause: str, now: float) -> TaskState:
        if cause == "TaskFinished":
            raise InvalidTransition(task, cause)
        return real(task, cause, now)

    monkeypatch.setattr(Slice, "move", broken)
    with pytest.raises(InvalidTransition, match="TaskFinished came to"):
        world.scheduler.handle(hub.address, hub.finish(("t", 0, 1), failures=(1,)), world.now)  # type: ignore[arg-type]
    monkeypatch.undo()
    commands = world.scheduler.tick(world.now)
    assert any(getattr(c, "entry", None) is not None and c.entry.first == 1 for c in commands)  # type: ignore[attr-defined]
    assert not world.scheduler.state.out


def test_what_was_stopped_early_is_marked_also_after_a_restart_and_serves_no_cache() -> None:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(1),))
    three = Payload((b"abc",), [1] * 3)
    submit(world, "t", items=3, split=True, payload=three)
    submit(world, "c", cache="k")
    world.tick()
    while hub.hands:
        fence = next(iter(hub.hands))
        finished = hub.finish(fence)
        assert isinstance(finished, TaskFinished)
        early = tuple(n for n in range(finished.items) if finished.first + n == 1 or fence[0] == "c")
        world.fact(hub, msgspec.structs.replace(finished, kept=early))
        world.tick()

    def kept(core: Scheduler) -> set[tuple[str, int]]:
        ends = [(record.id, task.ended) for record in core.state.records.values() for task in record.slices]
        return {(name, end.first + n) for name, end in ends if end is not None for n in end.kept}

    assert kept(world.scheduler) == {("t", 1), ("c", 0)}
    told = [end for end in world.heard[ANNA] if isinstance(end, TaskEnded)]
    assert {(end.task, end.first + n) for end in told for n in end.kept} == {("t", 1), ("c", 0)}
    submit(world, "d", cache="k")
    world.tick()
    assert ("d", 0, 1) in hub.hands, "half a result is no result for others"
    world.restart(grouped=True)
    assert kept(world.scheduler) == {("t", 1), ("c", 0)}
    assert world.scheduler.state.cache["k"].id == "d"
