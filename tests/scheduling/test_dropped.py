"""The core's answers about dropped results: expired for as long as it remembers them, unknown afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.broker.json_door import handle_json
from nblb.broker.outgoing import is_unbound
from nblb.broker.queries import answer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    CollectTask,
    FetchCall,
    FetchTask,
    ForgetJob,
    Group,
    OpenJob,
    SubmitTask,
    TaskFinished,
    TaskRejected,
)
from nblb.scheduling import dropped
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


@pytest.fixture
def world() -> World:
    """Anna's task `t` and her job `sweep` with the record `u` are done."""
    world = World(
        Policy(core="c", max_queued=0, result_ttl_s=10.0, job_ttl_s=1000.0, client_silence_s=1e9, lease_s=1e9)
    )
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    submit(world, "t")
    submit(world, "u", job="j")
    for task in ("t", "u"):
        world.fact(hub, hub.start((task, 0, 1)))
        world.fact(hub, TaskFinished(task=task, attempt=1, payload=Payload((b"r",))))
        world.tick()
    return world


def later(world: World, seconds: float) -> None:
    world.now += seconds
    world.tick()


def last(world: World, message: Any) -> Any:
    world.say(ANNA, message)
    return world.heard[ANNA][-1]


def test_a_collected_result_expires(world: World) -> None:
    world.say(ANNA, CollectTask(task="t"))
    later(world, 11.0)
    rejected = last(world, FetchTask(task="t"))
    assert isinstance(rejected, TaskRejected)
    assert rejected.kind == "ResultExpired"
    assert "LB_RESULT_TTL_S" in rejected.reason
    assert not is_unbound(rejected), "it may follow from a drop that is not kept yet"
    call = last(world, FetchCall(request=1, task="t"))
    assert isinstance(call, Answer)
    assert call.kind == "ResultExpired"


def test_a_task_that_needs_an_expired_result_is_told_so(world: World) -> None:
    later(world, 1001.0)
    for needed in ("t", "u", "u.0"):
        spec = SubmitTask(task=f"needs {needed}", name="work", function="f", depends=(needed,))
        rejected = last(world, spec)
        assert (rejected.kind, rejected.task) == ("ResultExpired", spec.task)
        assert f"needs the result of task {needed}" in rejected.reason


def test_the_json_door_says_that_it_has_expired(world: World) -> None:
    later(world, 1001.0)
    request = {"toLB": "GETTASK", "taskid": "t"}
    value, _, _ = handle_json(world.scheduler, request, world.now, "new", "anna")
    assert value["progress"] is None
    assert "has expired" in value["error"]


def test_a_job_that_expired_is_told_from_one_that_never_was(world: World) -> None:
    about = {"name": "sweep", "user": "anna"}
    assert answer(world.scheduler, "dropped", about, world.now) is False
    later(world, 1001.0)
    assert answer(world.scheduler, "dropped", about, world.now) is True
    assert answer(world.scheduler, "dropped", {"job": "j"}, world.now) is True
    assert answer(world.scheduler, "dropped", {"name": "sweep", "user": "bob"}, world.now) is False


def test_what_was_dropped_on_request_has_not_expired(world: World) -> None:
    world.say(ANNA, ForgetJob(job="j"))
    later(world, 2.0)
    assert last(world, FetchTask(task="u")).kind == "UnknownTask"
    assert answer(world.scheduler, "dropped", {"name": "sweep", "user": "anna"}, world.now) is False


def test_the_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST_DROPPED", 1)
    later(world, 1001.0)
    assert last(world, FetchTask(task="t")).kind == "UnknownTask"
    assert last(world, FetchTask(task="u")).kind == "ResultExpired"
