"""Tasks that need GPUs, memory or features: which workers they get, what else these run, and whose turn it is there."""

from __future__ import annotations

import msgspec
import pytest

from nblb.access.limits import Limits
from nblb.broker import queries
from nblb.protocol.equipment import Equipment, Needs
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CardUse,
    CollectTask,
    Group,
    Heartbeat,
    SubmitTask,
    TaskFinished,
    TaskRejected,
    WorkerDied,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ModelHub, World

GPU = Equipment(gpus=1.0, reserved=True)


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    for name in ("anna", "bob"):
        world.client(f"client:{name}", name)
    return world


def submit(world: World, who: str, *tasks: str, **fields: object) -> None:
    for task in tasks:
        spec = SubmitTask(**{"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields})  # type: ignore[arg-type]
        world.say(f"client:{who}", spec)
    world.tick()
    world.check(ticked=True)


def at(world: World, hub: ModelHub) -> dict[int, list[str]]:
    """The tasks that a hub has, by the number of the group."""
    found: dict[int, list[str]] = {number: [] for number in range(len(hub.groups))}
    for run in hub.hands.values():
        found[run.group].append(run.task)
    return found


def finish(world: World, hub: ModelHub, task: str) -> None:
    fence = next(fence for fence in hub.hands if fence[0] == task)
    world.fact(hub, hub.finish(fence, duration_s=1.0))
    world.tick()
    world.check(ticked=True)


def test_gpu_workers_take_gpu_tasks_only(world: World) -> None:
    hub = world.hub("lab", (Group(1), Group(1, has=GPU)))
    submit(world, "anna", "a", "b", "c")
    submit(world, "anna", "g", "h", needs=Needs(gpus=1.0))
    assert at(world, hub) == {0: ["a"], 1: ["g"]}
    finish(world, hub, "g")
    assert at(world, hub) == {0: ["a"], 1: ["h"]}


def test_a_group_that_is_not_reserved_takes_other_tasks_when_the_others_are_busy(world: World) -> None:
    hub = world.hub("lab", (Group(1, has=Equipment(gpus=1.0)), Group(1)))
    submit(world, "anna", "a")
    assert at(world, hub) == {0: [], 1: ["a"]}
    submit(world, "anna", "b", "c")
    assert at(world, hub) == {0: ["b"], 1: ["a"]}
    submit(world, "bob", "g", needs=Needs(gpus=1.0))
    finish(world, hub, "b")
    assert at(world, hub) == {0: ["g"], 1: ["a"]}  # anna has a GPU worker's use behind her, and bob none


def test_the_least_that_fits_goes_first(world: World) -> None:
    small, large = Equipment(gpus=0.5, reserved=True), Equipment(gpus=2.0, reserved=True)
    hub = world.hub("lab", (Group(1, has=large), Group(1, has=GPU), Group(1, has=small)))
    submit(world, "anna", "half", needs=Needs(gpus=0.5))
    submit(world, "anna", "one", "other", needs=Needs(gpus=1.0))
    assert at(world, hub) == {0: ["other"], 1: ["one"], 2: ["half"]}


def test_memory_is_compared_with_the_limit_or_the_share(world: World) -> None:
    hub = world.hub("lab", (Group(1, share_mb=2000), Group(1, has=Equipment(memory_mb=4000))))
    submit(world, "anna", "m", needs=Needs(memory_mb=3000))
    submit(world, "anna", "n", needs=Needs(memory_mb=2000))
    assert at(world, hub) == {0: ["n"], 1: ["m"]}
    submit(world, "anna", "huge", needs=Needs(memory_mb=5000))
    why = world.scheduler.why("huge", 0, world.now)
    assert "no connected worker has 5,000 MB of memory; hub lab has 2,000 MB; hub lab has 4,000 MB" in why


def test_work_on_other_workers_costs_no_turn_on_a_gpu(world: World) -> None:
    hub = world.hub("lab", (Group(3), Group(1, has=GPU)))
    submit(world, "anna", "a0", "a1", "a2")  # anna occupies all ordinary workers
    submit(world, "bob", "b", needs=Needs(gpus=1.0))
    submit(world, "anna", "g0", needs=Needs(gpus=1.0))
    submit(world, "bob", "b1", needs=Needs(gpus=1.0))
    finish(world, hub, "b")  # by all workers it would be bob's turn again: he has none, and anna three
    assert at(world, hub)[1] == ["g0"]


def test_work_on_gpus_costs_no_turn_on_other_workers(world: World) -> None:
    hub = world.hub("lab", (Group(1), Group(3, has=GPU)))
    submit(world, "anna", "g0", "g1", "g2", needs=Needs(gpus=1.0))
    submit(world, "bob", "b0")
    submit(world, "anna", "a0")
    submit(world, "bob", "b1")
    finish(world, hub, "b0")
    assert at(world, hub)[0] == ["a0"]


def test_a_slice_for_two_classes_is_no_longer_next_in_one_when_the_other_has_it(world: World) -> None:
    one = world.hub("one", (Group(1),))
    submit(world, "anna", "a0", "a1")
    two = world.hub("two", (Group(1, has=Equipment(gpus=1.0)),))
    world.tick()
    world.check(ticked=True)
    assert (at(world, one)[0], at(world, two)[0]) == (["a0"], ["a1"])
    submit(world, "anna", "a2", "a3")
    finish(world, one, "a0")
    finish(world, two, "a1")
    assert sorted(at(world, one)[0] + at(world, two)[0]) == ["a2", "a3"]


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (
            Needs(features=("matlab",)),
            "no connected worker has feature 'matlab'; hub lab has avx512; hub lab has 1 GPU",
        ),
        (Needs(gpus=2.0), "no connected worker has 2 GPUs"),
        (Needs(gpus=1.0, features=("avx512",)), "no connected worker has all of gpus=1, needs=['avx512'] at once"),
    ],
)
def test_why_names_what_is_missing(world: World, needs: Needs, text: str) -> None:
    world.hub("lab", (Group(1, has=Equipment(features=("avx512",))), Group(1, has=GPU)))
    submit(world, "anna", "a", needs=needs)
    assert text in world.scheduler.why("a", 0, world.now)


def test_why_says_that_all_workers_are_kept_for_others(world: World) -> None:
    world.hub("lab", (Group(1, has=GPU),))
    submit(world, "anna", "a")
    assert '"reserved": false' in world.scheduler.why("a", 0, world.now)
    submit(world, "anna", "m", needs=Needs(memory_mb=10))
    assert "kept for tasks that need" in world.scheduler.why("m", 0, world.now)


def test_why_counts_only_the_line_for_workers_that_take_it(world: World) -> None:
    world.hub("lab", (Group(1), Group(1, has=GPU)))
    submit(world, "anna", "a", "b", "c")
    submit(world, "anna", "g", "h", needs=Needs(gpus=1.0))
    assert "1st of anna's tasks in line for 1 worker" in world.scheduler.why("h", 0, world.now)


def test_wrong_needs_are_refused(world: World) -> None:
    seen: list[object] = []
    world.trace = lambda _to, _way, message: seen.append(message)  # type: ignore[method-assign,assignment]
    spec = SubmitTask(task="a", name="work", function="f", payload=Payload((b"x",)), needs=Needs(-1.0))
    commands = world.scheduler.handle("client:anna", spec, world.now)
    (rejected,) = [c.message for c in commands if isinstance(getattr(c, "message", None), TaskRejected)]
    assert "gpus is -1.0" in rejected.reason


def test_a_restart_keeps_needs_and_classes(world: World) -> None:
    hub = world.hub("lab", (Group(1), Group(1, has=GPU)))
    submit(world, "anna", "g0", "g1", needs=Needs(gpus=1.0))
    finish(world, hub, "g0")
    anna = world.scheduler.state.share.user("anna")
    assert anna.of_class("gpu").usage > 0 == anna.usage
    world.crash()
    world.restart(grouped=True)
    world.connect(hub)
    world.tick()
    world.check(ticked=True)
    anna = world.scheduler.state.share.user("anna")
    assert anna.of_class("gpu").usage > 0 == anna.usage
    assert anna.of_class("gpu").level == 1
    assert at(world, hub) == {0: [], 1: ["g1"]}


def test_limits_count_all_classes_and_a_new_share_keeps_them_apart(world: World) -> None:
    hub = world.hub("lab", (Group(4), Group(4, has=GPU)))
    submit(world, "anna", "a0", "a1")
    submit(world, "anna", "g0", "g1", "g2", needs=Needs(gpus=1.0))
    world.scheduler.limit([Limits("anna", share=2.0, group="lab", max_running=5), Limits("bob")])
    world.tick()
    world.check(ticked=True)
    anna = world.scheduler.state.share.user("anna")
    assert (anna.occupied, anna.level, anna.of_class("gpu").level) == (5, 1, 1)
    submit(world, "anna", "a2")
    assert "max-running" in world.scheduler.why("a2", 0, world.now)
    finish(world, hub, "g0")
    assert at(world, hub)[0] == ["a0", "a1", "a2"]


def test_the_core_knows_the_cards_of_a_hub(world: World) -> None:
    hub = world.hub("lab", (Group(1, has=GPU),))
    submit(world, "anna", "g", needs=Needs(gpus=1.0))
    run = next(iter(hub.hands))
    world.fact(hub, hub.start(run))
    card = CardUse(id="GPU-a", used_mb=900, outside_mb=800, outside=("bob",), workers=(hub.on[run], "gone"))
    world.fact(hub, Heartbeat(cards=(card,)))
    (row,) = queries.answer(world.scheduler, "hubs", {}, world.now)[0]["gpus"]
    assert (row["id"], row["outside_mb"], row["outside"]) == ("GPU-a", 800, ["bob"])
    assert row["tasks"] == [{"task": "g", "name": "work", "user": "anna"}]
    (group,) = queries.answer(world.scheduler, "hubs", {}, world.now)[0]["groups"]
    assert (group["gpus"], group["reserved"]) == (1.0, True)


def test_why_names_who_uses_the_cards_of_a_polite_hub(world: World) -> None:
    hub = world.hub("lab", (Group(1, has=GPU),))
    (worker,) = hub.workers
    world.fact(hub, Heartbeat(cards=(CardUse(id="GPU-a", outside=("bob",)),)))
    world.fact(hub, WorkerDied(worker=worker, group=hub.workers.pop(worker), reason="it is not needed any more"))
    submit(world, "anna", "g", needs=Needs(gpus=1.0))
    assert "in use outside the queue, by bob" in world.scheduler.why("g", 0, world.now)


def dies_for_memory(world: World, hub: ModelHub, task: str) -> None:
    """The worker that runs the task is killed for its memory, and another takes its place."""
    fence = next(fence for fence in hub.hands if fence[0] == task)
    if fence not in hub.on:
        world.fact(hub, hub.start(fence))
    for message in hub.die(hub.on[fence], "killed for memory: 2.1 GB"):
        if isinstance(message, WorkerDied):
            message = msgspec.structs.replace(message, memory=True)
            hub.ends[fence] = message
        world.fact(hub, message)
    world.tick()
    world.check(ticked=True)


SIZES = tuple(Group(1, has=Equipment(memory_mb=mb)) for mb in (1000, 1800, 3000))


def test_after_a_death_for_memory_the_next_attempt_needs_more(world: World) -> None:
    hub = world.hub("lab", SIZES)
    submit(world, "anna", "a", memory_retry=2.0)
    assert at(world, hub)[0] == ["a"]
    dies_for_memory(world, hub, "a")
    assert at(world, hub) == {0: [], 1: [], 2: ["a"]}
    assert world.scheduler.state.records["a"].spec.needs == Needs(memory_mb=2000)
    dies_for_memory(world, hub, "a")
    assert at(world, hub)[2] == ["a"]  # there is no larger worker: the same again


def test_the_largest_worker_bounds_what_it_needs(world: World) -> None:
    hub = world.hub("lab", SIZES)
    submit(world, "anna", "a", memory_retry=50.0)
    dies_for_memory(world, hub, "a")
    assert world.scheduler.state.records["a"].spec.needs == Needs(memory_mb=3000)


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_another_death_or_no_factor_changes_nothing(world: World, factor: float) -> None:
    hub = world.hub("lab", SIZES)
    submit(world, "anna", "a", memory_retry=factor)
    if factor:
        world.fact(hub, hub.start(next(iter(hub.hands))))
        for message in hub.die(next(iter(hub.on.values())), "killed by signal 11"):
            world.fact(hub, message)
    else:
        dies_for_memory(world, hub, "a")
    assert world.scheduler.state.records["a"].spec.needs is None


def test_the_waiting_calls_of_a_map_need_as_much_and_a_restart_keeps_that(world: World) -> None:
    hub = world.hub("lab", SIZES[:1])
    payload = Payload((b"xxx",), [1] * 3)
    submit(world, "anna", "m", items=3, split=True, payload=payload, memory_retry=2.0)
    big = world.hub("big", SIZES[2:])
    for message in [m for f in list(big.hands) for m in [big.finish(f, duration_s=1.0)]]:
        world.fact(big, message)
    world.tick()
    dies_for_memory(world, hub, "m")
    assert at(world, hub)[0] == []
    assert len(at(world, big)[0]) == 1
    world.crash()
    world.restart(grouped=True)
    for each in (hub, big):
        world.connect(each)
    world.tick()
    world.check(ticked=True)
    assert world.scheduler.state.records["m"].spec.needs == Needs(memory_mb=2000)
    assert at(world, hub)[0] == []


def test_a_wrong_factor_is_refused(world: World) -> None:
    spec = SubmitTask(task="a", name="work", function="f", payload=Payload((b"x",)), memory_retry=float("nan"))
    commands = world.scheduler.handle("client:anna", spec, world.now)
    (rejected,) = [c.message for c in commands if isinstance(getattr(c, "message", None), TaskRejected)]
    assert "memory_retry" in rejected.reason


def test_the_statistics_of_a_name_have_the_peak_of_its_memory_also_after_its_tasks_were_dropped(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "anna", "a", "b")
    for fence, peak in zip(list(hub.hands), (300 << 20, 200 << 20), strict=True):
        end = hub.finish(fence, duration_s=1.0)
        assert isinstance(end, TaskFinished)
        world.fact(hub, msgspec.structs.replace(end, peak_bytes=peak))
    world.tick()
    assert queries.answer(world.scheduler, "stats", {}, world.now)["work"]["peak_mb"] == 300.0
    world.say("client:anna", CollectTask(tasks=("a", "b")))
    world.now += 1e6
    world.tick()
    assert not world.scheduler.state.records
    world.crash()
    world.restart(grouped=True)
    assert queries.answer(world.scheduler, "stats", {}, world.now)["work"]["peak_mb"] == 300.0
