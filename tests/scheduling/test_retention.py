"""Messages about running tasks, and the time at which results are dropped."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import BlobForgotten
from nblb.protocol.messages import (
    ForgetJob,
    Group,
    Heartbeat,
    JobChanged,
    OpenJob,
    Publish,
    PutBlob,
    SubmitTask,
    TaskChanged,
    TaskEnded,
    TaskFinished,
    TaskProgressed,
)
from nblb.scheduling import retention
from nblb.scheduling.retention import MOST_CHANGES
from nblb.scheduling.state import Policy
from nblb.scheduling.submission import Submission
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0, notice_s=0.1, job_ttl_s=1000.0, client_silence_s=1e9, lease_s=1e9))
    world.client(ANNA, "anna")
    return world


def heard(world: World, kind: type) -> list[Any]:
    return [message for message in world.heard[ANNA] if type(message) is kind]


def test_the_last_words_before_an_end_are_told_before_it(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", "silent")
    for task in ("t", "silent"):
        world.fact(hub, hub.start((task, 0, 1)))
        if task == "t":
            world.fact(hub, TaskProgressed(task="t", attempt=1, progress=90.0, note="nearly there"))
        world.fact(hub, TaskFinished(task=task, attempt=1, payload=Payload((b"r",))))
        world.tick()
    told = [m for m in world.heard[ANNA] if isinstance(m, TaskChanged | TaskEnded)]
    assert [(type(m), m.task) for m in told] == [(TaskChanged, "t"), (TaskEnded, "t"), (TaskEnded, "silent")]
    assert (told[0].note, told[0].progress, told[0].worker) == ("nearly there", 90.0, "lab.0.0")  # type: ignore[union-attr]


def test_changes_are_told_once_in_a_while_and_only_the_latest(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    fence = ("t", 0, 1)
    world.fact(hub, hub.start(fence))
    for percent in (10.0, 250.0, 55.0):
        world.fact(hub, TaskProgressed(task="t", attempt=1, progress=percent, note="x" * 9999))
    world.now += 0.05
    world.tick()
    assert not heard(world, TaskChanged)
    world.now += 0.05
    world.tick()
    (changed,) = heard(world, TaskChanged)
    assert (changed.progress, changed.worker, changed.host, len(changed.note)) == (55.0, "lab.0.0", "lab.lab", 2000)
    world.now += 1.0
    world.tick()
    assert len(heard(world, TaskChanged)) == 1


def test_all_changes_are_told_in_portions(world: World) -> None:
    hub = world.hub("lab", (Group(MOST_CHANGES * 2 + 7),))
    count = MOST_CHANGES * 2 + 7
    submit(world, *(f"t{n}" for n in range(count)))
    for n in range(count):
        world.scheduler.handle(hub.address, hub.start((f"t{n}", 0, 1)), world.now)  # type: ignore[arg-type]
    for _ in range(3):
        world.now += 0.1
        world.tick()
    assert len({changed.task for changed in heard(world, TaskChanged)}) == count


def test_a_job_tells_its_counts(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=3))
    submit(world, "t", items=3, job="j")
    world.fact(hub, hub.start(("t", 0, 1)))
    world.now += 0.1
    world.tick()
    world.fact(hub, hub.finish(("t", 0, 1), failures=(1,)))
    world.now += 0.1
    world.tick()
    assert [m.counts for m in heard(world, JobChanged)] == [
        {"RUNNING": 1, "ASSIGNED": 2},  # one worker is at one of them
        {"FAILED": 1, "DONE": 2},
    ]


def test_blobs_that_nobody_names_go_after_a_while(world: World) -> None:
    for name in ("f", "idle", "public"):
        world.say(ANNA, PutBlob(hash=name, payload=Payload((b"x",))))
    world.say(ANNA, Publish(name="name", hash="public"))
    submit(world, "t")
    world.now += 1100
    world.tick()
    assert sorted(world.scheduler.state.blobs) == ["f", "public"]
    assert world.journal[-1] == BlobForgotten("idle")
    world.check()


def test_large_blobs_that_nobody_names_go_soon(world: World) -> None:
    for number in range(10):
        world.say(ANNA, PutBlob(hash=f"large-{number}", payload=Payload((bytes(10 << 20),))))
        world.say(ANNA, OpenJob(job=f"j{number}", name="", items=1))
        world.say(ANNA, SubmitTask(task=f"t{number}", name="t", function=f"large-{number}", job=f"j{number}"))
        world.say(ANNA, ForgetJob(job=f"j{number}"))
        world.now += 1.5
        world.tick()
    assert sorted(world.scheduler.state.blobs) == [f"large-{number}" for number in range(4, 10)]
    world.check()


def test_uncollected_results_go_after_the_time_of_jobs(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1)))
    for wait, left in ((990.0, 1), (11.0, 0)):
        world.now += wait
        world.say(hub.address, Heartbeat())
        world.tick()
        assert len(world.scheduler.state.records) == left
    world.check()


def test_results_kept_for_no_time_but_needed_are_no_endless_loop() -> None:
    world = World(Policy(core="c", result_ttl_s=0.0, job_ttl_s=0.0))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(1),))
    submit(world, "a")
    submit(world, "b", depends=("a",))
    world.fact(hub, hub.finish(("a", 0, 1)))
    world.tick()
    assert "a" in world.scheduler.state.records


def test_what_is_forgotten_is_gone_without_the_garbage_collector(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.heard.clear()
    mine = world.scheduler.state.records["t"]
    gc.disable()
    try:
        alive = still_there(mine)
        del mine
        world.now += 10_000.0
        world.tick()
        assert "t" not in world.scheduler.state.records
        assert not alive()
    finally:
        gc.enable()


def still_there(record: Submission) -> Callable[[], bool]:
    """Whether this record, which has no weak references, is still there."""
    number, name = id(record), record.id
    return lambda: any(id(one) == number and type(one) is Submission and one.id == name for one in gc.get_objects())


def test_what_is_forgotten_early_does_not_stay_until_its_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SPARE_EXPIRIES", 10)
    hub, state = world.hub("lab", (Group(1),)), world.scheduler.state
    for n in range(60):
        world.say(ANNA, OpenJob(job=f"j{n}", name=f"sweep{n}", items=1))
        submit(world, f"t{n}", job=f"j{n}")
        world.fact(hub, hub.start((f"t{n}", 0, 1)))
        world.fact(hub, hub.finish((f"t{n}", 0, 1)))
        if n % 10:
            world.say(ANNA, ForgetJob(job=f"j{n}"))
        world.tick()
    assert len(state.records) == 6
    assert len(state.expiring) <= 2 * 6 + 10
    world.now += 2000.0
    world.tick()
    assert state.records == {}
    assert state.expiring == []
