"""The exchange between running tasks and their watchers."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.protocol.framing import PIECE, Payload
from nblb.protocol.messages import (
    Answer,
    CallTold,
    Failure,
    FetchCall,
    FetchTask,
    Group,
    KnobOffered,
    Message,
    OpenJob,
    PutBlob,
    StopAndKeep,
    TaskEmitted,
    TaskEnded,
    TaskFinished,
    TaskPrinted,
    TaskStarted,
    TaskState,
    TurnKnob,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

BERT = "client:bert"
VALUE = Payload((b"value",))


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"function",))))
    return world


@pytest.fixture
def hub(world: World) -> ModelHub:
    return world.hub("lab", (Group(2),))


def heard(world: World, kind: type, address: str = ANNA) -> list[Any]:
    return [message for message in world.heard[address] if isinstance(message, kind)]


def told(world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What the core says to the hub from now on, of knobs and early ends."""
    found: list[Message] = []
    real = hub.heard

    def hear(message: Message) -> list[Message]:
        if isinstance(message, (TurnKnob, StopAndKeep)):
            found.append(message)
            return []
        return real(message)

    monkeypatch.setattr(hub, "heard", hear)
    return found


def test_emissions_and_knobs_go_to_those_who_watch(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    emitted = TaskEmitted(task="t", attempt=1, payload=VALUE)
    knob = KnobOffered(task="t", attempt=1, name="lr", value=0.1, default=0.1)
    for word in (emitted, knob, TaskEmitted(task="t", attempt=0), TaskEmitted(task="no", attempt=1)):
        world.say(hub.address, word)
    assert heard(world, TaskEmitted) == [emitted]
    assert heard(world, KnobOffered) == [knob]


@pytest.mark.parametrize("offset", [-1, 1, 10**9])
def test_words_about_items_that_are_not_there_are_dropped(world: World, hub: ModelHub, offset: int) -> None:
    submit(world, "t")
    world.say(hub.address, TaskPrinted(task="t", attempt=1, text="x", offset=offset))
    assert not heard(world, TaskPrinted)


def test_a_knob_is_turned_where_the_task_runs(world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = told(world, hub, monkeypatch)
    submit(world, "t")
    world.say(ANNA, TurnKnob(request=1, task="t", item=0, name="lr", value=0.5))
    assert orders == [TurnKnob(task="t", attempt=1, item=0, name="lr", value=0.5)]
    assert heard(world, Answer) == [Answer(request=1, value=1)]


def test_a_knob_that_is_turned_before_it_is_offered_is_turned_then(
    world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = told(world, hub, monkeypatch)
    world.say(ANNA, TurnKnob(request=1, task="t", item=0, name="lr", value=0.5))  # not even submitted: nothing
    submit(world, "t")
    world.say(ANNA, TurnKnob(request=2, task="t", item=0, name="lr", value=0.7))
    orders.clear()
    world.say(hub.address, KnobOffered(task="t", attempt=1, name="lr", value=0.1, default=0.1))
    assert orders == [TurnKnob(task="t", attempt=1, item=0, name="lr", value=0.7)]
    orders.clear()
    world.say(hub.address, KnobOffered(task="t", attempt=1, name="lr", value=0.7, default=0.1))
    world.say(hub.address, KnobOffered(task="t", attempt=1, name="other", value=1, default=1))
    assert not orders


def test_a_job_is_turned_as_a_whole(world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = told(world, hub, monkeypatch)
    world.say(ANNA, OpenJob(job="j", name="sweep", items=3))
    for index in range(3):
        submit(world, f"t{index}", job="j", index=index)
    submit(world, "alone")
    world.say(ANNA, TurnKnob(request=1, job="j", name="lr", value=2))
    assert {(order.task, order.item) for order in orders} <= {("t0", -1), ("t1", -1), ("t2", -1)}
    assert orders
    orders.clear()
    world.fact(hub, hub.finish(("t0", 0, 1)))
    world.tick()
    world.say(hub.address, KnobOffered(task="t2", attempt=1, name="lr", value=1, default=1))
    assert [(order.task, order.value) for order in orders] == [("t2", 2)]


def test_stop_and_keep_needs_a_task_that_runs(world: World, hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = told(world, hub, monkeypatch)
    submit(world, "t")
    world.say(ANNA, StopAndKeep(request=1, task="t", item=0))
    assert "does not run yet" in heard(world, Answer)[-1].error
    world.fact(hub, TaskStarted(task="t", attempt=1, worker=hub.idle(0)))
    world.say(ANNA, StopAndKeep(request=2, task="t", item=0))
    assert heard(world, Answer)[-1] == Answer(request=2, value=1, kind="NblbError")
    assert orders == [StopAndKeep(task="t", attempt=1, item=0)]
    world.say(ANNA, StopAndKeep(request=3, task="unknown"))
    assert "does not know" in heard(world, Answer)[-1].error


def test_the_story_says_that_a_task_was_stopped_early(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    finished = hub.finish(("t", 0, 1))
    assert isinstance(finished, TaskFinished)
    early = TaskFinished(
        task="t", attempt=1, items=1, payload=finished.payload, worker=finished.worker, kept=(0,), duration_s=1.0
    )
    world.fact(hub, early)
    (task,) = world.scheduler.state.records["t"].slices
    assert task.state is TaskState.DONE
    assert [cause for _, cause, _, _ in task.story][-1] == "StoppedAndKept"
    world.check()


def test_a_task_that_had_emitted_nothing_is_not_tried_again(world: World, hub: ModelHub) -> None:
    submit(world, "t", retries=5)
    finished = hub.finish(("t", 0, 1), failures=(0,))
    assert isinstance(finished, TaskFinished)
    nothing = Failure(kind="NothingEmitted", message="nothing")
    world.fact(hub, TaskFinished(task="t", attempt=1, items=1, failures=(nothing,), worker=finished.worker))
    assert [ended.state for ended in heard(world, TaskEnded)] == [TaskState.FAILED]
    world.check()


def test_who_comes_later_hears_the_latest(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    for number in range(3):
        world.say(hub.address, TaskEmitted(task="t", attempt=1, bundle=str(number)))
    world.say(hub.address, KnobOffered(task="t", attempt=1, name="lr", value=1))
    world.client(BERT, "anna")
    world.say(BERT, FetchTask(task="t"))
    assert [message.bundle for message in heard(world, TaskEmitted, BERT)] == ["2"]
    assert [message.name for message in heard(world, KnobOffered, BERT)] == ["lr"]


def test_the_call_of_a_task_can_be_fetched(world: World, hub: ModelHub) -> None:
    world.say(ANNA, PutBlob(hash="constant", payload=VALUE))
    submit(world, "t", items=3, split=True, payload=Payload((b"abbccc",), (1, 2, 3)), constants=("constant",))
    world.say(ANNA, FetchCall(request=4, task="t", item=2))
    (call,) = heard(world, CallTold)
    assert (call.request, call.item, call.items, bytes(call.payload.buffers[0])) == (4, 0, 1, b"ccc")
    assert [blob.hash for blob in call.held] == ["f", "constant"]
    for item, task in ((3, "t"), (0, "unknown")):
        world.say(ANNA, FetchCall(request=5, task=task, item=item))
        answer = heard(world, Answer)[-1]
        assert (answer.kind, bool(answer.error)) == ("UnknownTask", True)


def test_a_call_that_lies_in_a_piece_is_fetched_with_it(world: World, hub: ModelHub) -> None:
    submit(world, "t", items=PIECE + 9, split=True, payload=Payload((b"abbb",), (1, 3)))
    world.say(ANNA, FetchCall(request=4, task="t", item=PIECE + 5))
    (call,) = heard(world, CallTold)
    assert (call.item, call.items, bytes(call.payload.buffers[0])) == (5, PIECE, b"bbb")


def test_the_arguments_of_a_task_that_is_done_are_gone(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.say(ANNA, FetchCall(request=1, task="t"))
    assert "dropped" in heard(world, Answer)[-1].error


def test_a_client_that_is_stopped_is_not_sent_pictures(world: World, hub: ModelHub) -> None:
    submit(world, "t")
    world.now += 4.0
    world.say(hub.address, TaskEmitted(task="t", attempt=1, bundle="heard"))
    world.now += 2.0
    world.say(hub.address, TaskEmitted(task="t", attempt=1, bundle="not heard"))
    world.say(hub.address, TaskPrinted(task="t", attempt=1, stream="display", text="{}"))
    world.say(hub.address, TaskPrinted(task="t", attempt=1, text="text"))
    assert [message.bundle for message in heard(world, TaskEmitted)] == ["heard"]
    assert [message.text for message in heard(world, TaskPrinted)] == ["text"]
