"""Limits hold tasks back or refuse them, and say which limit it is and until when."""

from __future__ import annotations

import pytest

from nblb.access.limits import Limits
from nblb.protocol.framing import Payload
from nblb.protocol.messages import ForgetJob, Group, OpenJob, SubmitTask, TaskRejected
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World


def limited(*limits: Limits) -> tuple[World, ModelHub]:
    world = World(Policy(limits=limits))
    world.client(ANNA, "anna")
    world.client("client:bob", "bob")
    return world, world.hub("lab", (Group(4, 0, 100),))


def submit(world: World, *tasks: str, sender: str = ANNA, job: str = "", size: int = 1) -> None:
    for number, task in enumerate(tasks):
        spec = SubmitTask(task=task, name="f", function="h", payload=Payload((b"x" * size,)), job=job, index=number)
        world.say(sender, spec)
    world.tick()


def rejected(world: World, task: str) -> TaskRejected:
    (found,) = [
        said for every in world.heard.values() for said in every if isinstance(said, TaskRejected) and said.task == task
    ]
    return found


def test_max_running_holds_back_and_says_until_when() -> None:
    world, hub = limited(Limits("anna", max_running=2))
    submit(world, "t0", "t1", "t2", "t3")
    assert len(hub.hands) == 2
    why = world.scheduler.why("t2", 0, world.now)
    assert why == "waiting: anna may run 2 at once (max-running), and 2 run; the next one starts when one of them ends"
    submit(world, "b0", "b1", sender="client:bob")
    assert len(hub.hands) == 4
    world.check()
    first = next(iter(hub.hands))
    world.fact(hub, hub.start(first))
    world.fact(hub, hub.finish(first, duration_s=2.0))
    world.tick()
    assert sum(fence[0].startswith("t") for fence in hub.hands) == 2
    assert world.scheduler.why("t3", 0, world.now).endswith("ends, which is in about 2 s")
    world.check()


def test_a_limit_of_the_group_is_named() -> None:
    world, hub = limited(Limits("anna", group="lab"), Limits("bob", group="lab"), Limits("lab", "group", max_running=1))
    submit(world, "t0")
    submit(world, "b0", sender="client:bob")
    assert len(hub.hands) == 1
    assert "group lab may run 1 at once (max-running), and 1 run" in world.scheduler.why("b0", 0, world.now)
    world.check()


def test_more_may_run_from_the_change_on() -> None:
    world, hub = limited(Limits("anna", max_running=1))
    submit(world, "t0", "t1", "t2")
    assert len(hub.hands) == 1
    world.scheduler.limit([])
    world.tick()
    assert len(hub.hands) == 3
    world.check()


def test_max_queued_takes_the_place_of_the_parameter() -> None:
    world, hub = limited(Limits("anna", max_queued=2, max_running=1))
    assert not world.scheduler.is_full("anna")
    submit(world, *(f"t{n}" for n in range(5)))
    assert world.scheduler.full_queue("anna") == (2, "max-queued of anna")
    assert world.scheduler.full_queue("bob") == (0, "")
    world.scheduler.limit([Limits("anna", max_queued=2)])
    for fence in list(hub.hands):
        hub.hands.pop(fence)
    held = world.scheduler.state.share.user("anna")
    assert held.waiting == 4


def test_max_queued_is_named_by_why() -> None:
    world = World(Policy(limits=(Limits("anna", max_queued=2),)))
    world.client(ANNA, "anna")
    for n in range(4):
        world.say(ANNA, SubmitTask(task=f"t{n}", name="f", function="h"))
    world.hub("lab", (Group(1, 0, 100),))
    why = world.scheduler.why("t2", 0, world.now)
    assert why == "3rd of anna's tasks in line for 1 worker, behind the 2 of anna that compete at once (max-queued)"


def test_beyond_max_bytes_a_submission_is_refused_and_nothing_is_dropped() -> None:
    world, hub = limited(Limits("anna", max_bytes=1024))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    submit(world, "t0", job="j", size=600)
    submit(world, "t1", size=600)
    refused = rejected(world, "t1")
    assert refused.kind == "QuotaExceeded"
    assert refused.reason == (
        "task f is refused: anna may store 1.0 kB (max-bytes), 601 B are stored, and this would add 600 B; "
        "forget jobs whose results you have (job.forget())"
    )
    world.check()
    (fence,) = hub.hands
    world.fact(hub, hub.start(fence))
    world.fact(hub, hub.finish(fence))
    world.tick()
    stored = world.scheduler.state.share.user("anna").stored
    assert 0 < stored < 600  # the arguments are released, the result counts
    submit(world, "t2", size=600)
    assert "t2" in world.scheduler.state.records
    submit(world, "t3", size=600)
    assert "the first of them expires in " in rejected(world, "t3").reason
    world.say(ANNA, ForgetJob(job="j", request=1))
    world.tick()
    world.check()


def test_bytes_of_a_group_are_summed() -> None:
    world, _ = limited(Limits("anna", group="lab"), Limits("bob", group="lab"), Limits("lab", "group", max_bytes=1024))
    submit(world, "t0", size=600)
    submit(world, "b0", sender="client:bob", size=600)
    assert "group lab may store 1.0 kB" in rejected(world, "b0").reason
    world.check()


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_stored_bytes_are_the_same_after_a_restart(share: float) -> None:
    world, _ = limited(Limits("anna", share=share))
    submit(world, "t0", "t1", size=100)
    before = world.scheduler.state.share.user("anna").stored
    assert before == 200
    world.restart(grouped=False)
    assert world.scheduler.state.share.user("anna").stored == before
    assert world.scheduler.state.share.user("anna").share == share
