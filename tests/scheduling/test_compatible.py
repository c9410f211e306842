"""A task that no hub's Python can run is refused if this cannot change, and waits if it can."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, PutBlob, SubmitTask, TaskAccepted, TaskRejected
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World


def answer(world: World, task: str, **fields: Any) -> Any:
    spec = {"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), "python": (3, 12), **fields}
    world.say(ANNA, SubmitTask(**spec))
    return next(m for m in reversed(world.heard[ANNA]) if isinstance(m, TaskAccepted | TaskRejected) and m.task == task)


@pytest.fixture(params=[1, 2])
def world(request: pytest.FixtureRequest) -> World:
    world = World(Policy(core="c", epoch=request.param, client_silence_s=1e9, lease_s=1e9))
    world.client(ANNA, "anna")
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    world.now += 60.0
    return world


def test_without_a_hub_it_waits(world: World) -> None:
    assert isinstance(answer(world, "t"), TaskAccepted)


def test_with_hubs_of_another_python_only_it_is_refused(world: World) -> None:
    world.hub("lab1", (Group(1),), python=(3, 11))
    rejected = answer(world, "t")
    assert rejected.kind == "NoCompatibleHub"
    assert "comes from Python 3.12, and lab1 has Python 3.11; start a hub with Python 3.12" in rejected.reason
    assert isinstance(answer(world, "json", python=(0, 0)), TaskAccepted), "any version can run it"
    assert isinstance(answer(world, "same", python=(3, 11)), TaskAccepted)


def test_where_a_hub_of_its_python_was_here_it_waits_for_the_next(world: World) -> None:
    world.hub("lab1", (Group(1),), python=(3, 11))
    elder = world.hub("lab2", (Group(1),), python=(3, 12))
    world.scheduler.liveness.hub_lost(elder.address, "gone", world.now)
    assert isinstance(answer(world, "t"), TaskAccepted)


def test_a_core_that_was_restarted_waits_for_the_hubs_of_the_one_before() -> None:
    world = World(Policy(core="c", epoch=2, suspect_s=5.0, client_silence_s=1e9, lease_s=1e9))
    world.scheduler.restore((), world.now)
    world.client(ANNA, "anna")
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    world.hub("lab1", (Group(1),), python=(3, 11))
    assert isinstance(answer(world, "early"), TaskAccepted)
    world.now += 6.0
    assert isinstance(answer(world, "late"), TaskRejected)


# ── NumPy ──


def test_arrays_of_a_newer_numpy_than_any_hub_has_are_refused(world: World) -> None:
    world.hub("lab1", (Group(1),), numpy="1.26.4")
    world.hub("lab2", (Group(1),))
    rejected = answer(world, "t", python=(3, 11), numpy=2)
    assert rejected.kind == "NoCompatibleHub"
    assert "its arrays need NumPy 2, and lab1 has NumPy 1.26.4, lab2 has no NumPy; install NumPy 2" in rejected.reason
    assert isinstance(answer(world, "old", python=(3, 11), numpy=1), TaskAccepted)
    assert isinstance(answer(world, "none", python=(3, 11)), TaskAccepted)


def test_arrays_go_to_the_hub_that_can_load_them(world: World) -> None:
    first = world.hub("lab1", (Group(4),), numpy="1.26.4")
    second = world.hub("lab2", (Group(1),), numpy="2.1.0")
    assert isinstance(answer(world, "t", python=(3, 11), numpy=2), TaskAccepted)
    assert isinstance(answer(world, "u", python=(3, 11), numpy=2), TaskAccepted)
    world.tick()
    assert not first.hands
    assert {run.task for run in second.hands.values()} == {"t"}


def test_where_the_hub_with_the_right_numpy_is_gone_the_task_waits_and_says_for_what(world: World) -> None:
    world.hub("lab1", (Group(1),), numpy="1.26.4")
    newer = world.hub("lab2", (Group(1),), numpy="2.1.0")
    world.scheduler.liveness.hub_lost(newer.address, "gone", world.now)
    assert isinstance(answer(world, "t", python=(3, 11), numpy=2), TaskAccepted)
    world.tick()
    why = world.scheduler.why("t", 0, world.now)
    assert "its arrays need NumPy 2, and lab1 has NumPy 1.26.4" in why
