"""Messages that wait for files: what must stay behind them, and what passes."""

from __future__ import annotations

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Ask,
    CancelTask,
    ForgetJob,
    Heartbeat,
    HoldBlob,
    ItemsFinished,
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
