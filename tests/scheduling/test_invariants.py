"""The invariant checks work: each kind of damage to the state is detected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, OpenJob, SubmitTask, TaskState, WorkerStarted
from nblb.scheduling import invariants
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def scheduler() -> Scheduler:
    """One of everything: running, waiting, blocked, done; a job."""
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    world.say(ANNA, OpenJob(job="j", name="sweep", items=4))
    hub = world.hub("lab", (Group(2, 0, 10), Group(1, 500, 1000)))
    for fields in (
        {"task": "done"},
        {"task": "runs", "items": 4, "job": "j"},
        {"task": "waits"},
        {"task": "queued"},
        {"task": "blocked", "depends": ("runs",)},
    ):
        spec: dict[str, Any] = {"name": "work", "function": "f", "payload": Payload((b"x",)), **fields}
        world.say(ANNA, SubmitTask(**spec))
        world.tick()
    world.fact(hub, hub.start(("runs", 0, 1)))
    world.fact(hub, hub.finish(("done", 0, 1)))
    world.tick()
    world.check(ticked=True)
    return world.scheduler


def the_hub(s: Scheduler) -> Any:
    return next(iter(s.state.hubs.values()))


def slice_of(s: Scheduler, task: str) -> Any:
    return s.state.records[task].slices[0]


def user(s: Scheduler) -> Any:
    return s.state.share.user("anna")


def shift(task: Any, by: int) -> None:
    task.items += by


DAMAGE: dict[str, Callable[[Scheduler], object]] = {
    "should begin at item": lambda s: setattr(slice_of(s, "runs"), "first", 1),
    "the slices of runs have 3 of its 4": lambda s: shift(slice_of(s, "runs"), -1),
    "counts 3 open items": lambda s: setattr(s.state.records["runs"], "unended", 3),
    "is closed": lambda s: setattr(s.state.records["runs"], "closed", True),
    "has the end None": lambda s: setattr(slice_of(s, "done"), "ended", None),
    "must be either assigned or an orphan": lambda s: setattr(slice_of(s, "runs"), "held", None),
    "is not among the attempts of its hub": lambda s: the_hub(s).in_flight.clear(),
    "is with a hub that is gone": lambda s: s.state.hubs.clear(),
    "counts 9 assigned slices": lambda s: setattr(the_hub(s).groups[0], "given", 9),
    "s of work ahead": lambda s: setattr(the_hub(s).groups[0], "pending_s", 7.0),
    "counts 9 workers": lambda s: setattr(the_hub(s).groups[0], "alive", 9),
    "has an attempt that runs on": lambda s: setattr(slice_of(s, "runs").held, "worker", "lab.0.1"),
    "anna counts 9 occupied slots": lambda s: setattr(user(s), "occupied", 9),
    "counts 9 waiting items": lambda s: setattr(user(s), "waiting", 9),
    "counts 9 waiting outside jobs": lambda s: setattr(user(s), "single", 9),
    "has a slice twice in the line": lambda s: user(s).stand(slice_of(s, "queued")),
    "has the line [], waiting slices are": lambda s: user(s).best(0, 10) and user(s).levels[0.0].clear(),
    "job j counts": lambda s: s.state.jobs["j"].counts.update({TaskState.DONE: 1}),
    "counts 0 users": lambda s: setattr(s.state.blobs["f"], "uses", 0),
    "counts 0 pins": lambda s: setattr(s.state.records["runs"], "pins", 0),
    "waits for nothing": lambda s: setattr(s.state.records["blocked"], "blocked_on", 2),
    "and others still wait for it": lambda s: setattr(s.state.records["done"], "dependents", {-1: [1]}),
    "should have": lambda s: setattr(user(s), "usage", -1.0),
    "with the entry None": lambda s: [band.entries.clear() for band in s.state.share.bands.values()],
    "in the line of": lambda s: [band.line.clear() for band in s.state.share.bands.values()],
    "outside the band": lambda s: setattr(slice_of(s, "runs").held, "group", the_hub(s).groups[1]),
    "commands were left behind": lambda s: s.state.log("info", "x"),
}


@pytest.mark.parametrize("sentence", DAMAGE)
def test_damage_is_seen(scheduler: Scheduler, sentence: str) -> None:
    for band in scheduler.state.share.bands.values():
        band.refresh()
    DAMAGE[sentence](scheduler)
    with pytest.raises(AssertionError, match=re.escape(sentence)):
        invariants.check(scheduler, ticked=True)


def test_a_task_that_waits_in_vain_is_seen(scheduler: Scheduler) -> None:
    hub = the_hub(scheduler)
    scheduler.handle("hub:lab", WorkerStarted(worker="new"), 101.0)
    scheduler.state.dispatch_due = False
    assert hub.groups[0].alive == 3
    with pytest.raises(AssertionError, match="waits while a worker of lab is free for it"):
        invariants.check(scheduler, ticked=True)


def test_work_ahead_of_somebody_with_fewer_workers_is_seen() -> None:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    world.client("client:bob", "bob")
    hub = world.hub("lab", (Group(1),))
    submit(world, "warm")
    world.fact(hub, hub.finish(("warm", 0, 1), duration_s=0.001))
    submit(world, *(f"t{n}" for n in range(20)))
    world.check(ticked=True)
    world.say("client:bob", SubmitTask(task="b", name="long", function="g", payload=Payload((b"x",))))
    scheduler = world.scheduler
    scheduler.dispatch.held, scheduler.state.dispatch_due = True, False  # as if a run had sent these in spite of bob
    with pytest.raises(AssertionError, match=r"of bob \(0 workers\) waits, and .* of anna .* was sent ahead to lab"):
        world.check(ticked=True)
