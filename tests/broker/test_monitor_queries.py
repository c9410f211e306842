"""Answers to the Monitor: the timeline, whose turn is next and why, failures, percentiles."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.broker.queries import answer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, OpenJob, SubmitTask
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World

BOB = "client:bob"


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    world.client(BOB, "bob")
    return world


def put(world: World, who: str, task: str, **fields: Any) -> None:
    world.say(who, SubmitTask(**{"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields}))


def ask(world: World, topic: str, **about: Any) -> Any:
    return answer(world.scheduler, topic, about, world.now)


def test_the_timeline_has_what_ended_and_what_runs(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    put(world, ANNA, "a")
    world.tick()
    world.now += 4.0
    world.fact(hub, hub.finish(("a", 0, 1), duration_s=3.0))
    put(world, BOB, "b", name="other")
    world.tick()
    world.fact(hub, hub.start(("b", 0, 1)))
    world.now += 2.0
    found = ask(world, "timeline")
    rows = {row["task"]: row for row in found["rows"]}
    assert rows["a"]["end"] - rows["a"]["begin"] == pytest.approx(3.0)
    assert (rows["b"]["state"], rows["b"]["seconds"]) == ("RUNNING", pytest.approx(2.0))
    assert {row["task"] for row in ask(world, "timeline", user="bob")["rows"]} == {"b"}
    assert {row["task"] for row in ask(world, "timeline", name="work")["rows"]} == {"a"}
    assert ask(world, "timeline", seconds=1)["rows"][0]["task"] == "b"
    assert ask(world, "timeline", limit=1)["more"] == 0


def test_who_is_next_and_why(world: World) -> None:
    hub = world.hub("lab", (Group(2, 0, 10),))
    for n in range(4):
        put(world, ANNA, f"a{n}")
    world.tick()
    put(world, BOB, "b")
    put(world, BOB, "high", priority=500.0)
    first, second = ask(world, "turns")
    assert (first["user"], first["place"], first["workers"], first["waiting"]) == ("bob", 1, 2, 2)
    assert first["why"] == "occupies 0 workers, fewer than anna"
    assert second["why"] == "occupies 2 workers, more than bob"
    world.fact(hub, hub.finish(("a0", 0, 1)))
    world.tick()
    assert [row["user"] for row in ask(world, "turns")] == ["anna"]
    assert ask(world, "turns")[0]["why"] == "nobody else waits"


def test_turns_of_equals_are_told_apart_by_use_and_age(world: World) -> None:
    world.hub("lab", (Group(1, 0, 10),))
    put(world, "client:carl" if False else ANNA, "now")
    world.tick()
    world.client("client:carl", "carl")
    put(world, BOB, "b")
    put(world, "client:carl", "c")
    assert ask(world, "turns")[0]["why"] == "equal to carl, and its task is the older"
    share = world.scheduler.state.share
    share.charge(share.user("bob"), 5.0, world.now)
    assert ask(world, "turns")[0]["why"] == "as many workers as bob, and less worker time lately"


def test_failures_are_grouped(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=3, task_name="work"))
    put(world, ANNA, "s", items=3, job="j")
    world.tick()
    world.fact(hub, hub.finish(("s", 0, 1), failures=(0, 2)))
    groups = ask(world, "failures", job="j")
    assert [(group["kind"], group["message"], group["calls"]) for group in groups] == [("ValueError", "item …", 2)]
    assert sorted(groups[0]["items"]) == [0, 2]
    assert ask(world, "failures", job="x") == []
    assert len(ask(world, "failures")) == 1
    assert ask(world, "strip", job="j", cells=10) == "fdf"
    assert ask(world, "strip", job="x") == ""


def test_percentiles(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    put(world, ANNA, "a")
    world.tick()
    world.now += 6.0
    world.fact(hub, hub.finish(("a", 0, 1), duration_s=4.0))
    found = ask(world, "percentiles")["work"]
    assert found["p50calctimes"] == pytest.approx(4.0, rel=0.2)
    assert found["p95waittimes"] == pytest.approx(2.0, rel=0.2)


def test_a_task_has_what_its_page_shows(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    put(world, ANNA, "j", call="json", payload=Payload((b'{"x": 1}',)), retries=2)
    put(world, ANNA, "p")
    world.tick()
    world.fact(hub, hub.finish(("j", 0, 1)))
    world.tick()
    world.fact(hub, hub.finish(("p", 0, 1), failures=(0,)))
    json_task, failed = ask(world, "task", task="j"), ask(world, "task", task="p")
    assert (json_task["arguments"], json_task["retries"], json_task["result_bytes"] > 0) in (
        ('{"x": 1}', 2, True),
        ("", 2, True),  # the arguments of a task that is done are dropped
    )
    assert failed["error"] == "ValueError: item 0"
