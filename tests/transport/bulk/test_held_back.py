"""Messages that wait for files: what must stay behind them, and what passes."""

from __future__ import annotations

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from nblb.protocol import messages
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Ask,
    CancelTask,
    ForgetJob,
    Heartbeat,
    HoldBlob,
    ItemsFinished,
    Message,
    OpenJob,
    PutBlob,
    RunTask,
    StopTask,
    SubmitTask,
    TaskEnded,
    TaskFinished,
    TaskReopened,
    TaskStarted,
    TaskState,
)
from nblb.transport.bulk.held_back import HeldBack


def run(task: str, attempt: int = 1, first: int = 0, **more: object) -> RunTask:
    return RunTask(task=task, attempt=attempt, first=first, name="f", function="F", payload=Payload((b"",)), **more)  # type: ignore[arg-type]


def example(kind: Any) -> Any:
    """A value of this type; of a message, with something in each of its fields."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated or origin is Literal:
        return of[0] if origin is Literal else example(of[0])
    if origin is tuple:
        return tuple(example(each) for each in of if each is not Ellipsis)
    if origin is dict:
        return {example(of[0]): example(of[1])}
    if origin is list:
        return [example(of[0])]
    if origin in (Union, types.UnionType):
        return example(of[0])
    if kind is Payload:
        return Payload((b"",))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: example(field.type) for field in msgspec.structs.fields(kind)})
    if isinstance(kind, type) and issubclass(kind, tuple):
        return kind(*map(example, get_type_hints(kind).values()))
    return {Any: None, type(None): None, msgspec.Raw: msgspec.Raw(b"1")}.get(kind) if kind in PLAIN else kind(1)


PLAIN = (Any, type(None), msgspec.Raw)
UNIONS = (messages.FromClient, messages.ToClient, messages.FromHub, messages.ToHub)


@pytest.mark.parametrize("kind", {kind: None for union in UNIONS for kind in get_args(union)}, ids=lambda k: k.__name__)
def test_every_message_passes_or_waits_whatever_it_contains(kind: type[Message]) -> None:
    """A hub on another computer died of the greeting that it sent again while a result was on its way."""
    held, message = HeldBack(), example(kind)
    assert not held.pass_on(TaskFinished(task="t", attempt=1, first=0, items=1, payload=Payload((b"",))), ["file"])
    if not held.pass_on(message, ()):
        assert held.moved(["file"])[1:] == [message]


def test_a_client_sends_in_the_order_that_matters() -> None:
    held = HeldBack()
    blob = PutBlob(hash="B", payload=Payload((b"",)))
    first = SubmitTask(task="t1", name="f", function="F", constants=("B",), job="j")
    second = SubmitTask(task="t2", name="f", function="F", depends=("t1.3",), job="j")
    assert held.pass_on(OpenJob(job="j", name="sweep", items=9), ())
    assert not held.pass_on(blob, ["file"])
    assert not held.pass_on(first, ())
    assert not held.pass_on(second, ())
    assert held.pass_on(SubmitTask(task="t3", name="f", function="F", job="j"), ())
    assert held.pass_on(Ask(request=1, topic="status"), ())
    assert held.pass_on(Heartbeat(), ())
    cancel, forget = CancelTask(request=2, task="t1"), ForgetJob(job="j")
    assert not held.pass_on(cancel, ())
    assert not held.pass_on(forget, ())
    assert held.pass_on(CancelTask(request=3, task="t3"), ())
    assert held.moved(["other"]) == []
    assert held.moved(["file"]) == [blob, first, second, cancel, forget]
    assert not held
    assert held.pass_on(first, ())


def test_one_file_may_hold_up_one_and_not_the_other() -> None:
    held = HeldBack()
    one, two = SubmitTask(task="t1", name="f"), SubmitTask(task="t2", name="f")
    assert not held.pass_on(one, ["a", "b"])
    assert not held.pass_on(two, ["a"])
    assert held.moved(["a"]) == [two]
    assert held.moved(["b"]) == [one]


def test_a_hub_reports_other_slices_meanwhile() -> None:
    held = HeldBack()
    part = ItemsFinished(task="t", attempt=1, first=0, items=2)
    end = TaskFinished(task="t", attempt=1, first=0)
    assert not held.pass_on(part, ["file"])
    assert not held.pass_on(end, ())
    assert held.pass_on(TaskStarted(task="t", attempt=1, first=64), ())
    assert held.pass_on(TaskFinished(task="t", attempt=1, first=64), ())
    assert held.moved(["file"]) == [part, end]


def test_an_order_waits_for_its_blobs_and_can_be_taken_back() -> None:
    held = HeldBack()
    blob = HoldBlob(hash="B", payload=Payload((b"",)))
    assert not held.pass_on(blob, ["file"])
    assert not held.pass_on(run("t1", constants=("B",)), ())
    assert not held.pass_on(run("t2"), ["other"])
    assert held.pass_on(run("t3"), ())
    assert held.pass_on(StopTask(task="t2", attempt=1), ()), "the hub answers for what it never received"
    assert held.pass_on(StopTask(task="t2", attempt=2), ())
    assert held.moved(["other"]) == []
    assert [type(message) for message in held.moved(["file"])] == [HoldBlob, RunTask]


def test_a_client_hears_of_a_new_life_after_the_old_end() -> None:
    held = HeldBack()
    end = TaskEnded(task="t", state=TaskState.DONE, first=3, attempt=1)
    again = TaskReopened(task="t", again=((3, 1),), job="j")
    assert not held.pass_on(end, ["file"])
    assert not held.pass_on(again, ())
    assert held.pass_on(TaskEnded(task="t", state=TaskState.DONE, first=4, attempt=1), ())
    assert held.moved(["file"]) == [end, again]
    assert not held.pass_on(end, ["file"])
    assert held.clear() == [end]
