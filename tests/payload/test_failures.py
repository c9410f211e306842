"""The failure of a task, as text for people and as an exception."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nblb import errors, payload
from nblb.errors import TaskFailed
from nblb.protocol.messages import Failure, TaskState
from nblb.worker import main


def caught(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def raise_deep(n: int = 3) -> None:
    if n:
        raise_deep(n - 1)
    raise ValueError("too deep")


class Awkward(Exception):
    """Pickles, and cannot be loaded."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")

    def __reduce__(self) -> Any:
        return Awkward, (1,)


def test_the_text_shows_lines_and_the_place() -> None:
    failure = payload.pack_exception(caught(raise_deep), 4, "raise_deep(n=3)")
    assert (failure.kind, failure.message, failure.offset) == ("ValueError", "too deep", 4)
    assert 'raise ValueError("too deep")' in failure.traceback
    assert failure.where.startswith("test_failures.py line ")
    error = payload.to_exception(failure, "t1")
    assert type(error) is TaskFailed
    assert error.task_id == "t1"
    *traceback, call = str(error).splitlines()  # the line in the own code is the traceback's last
    assert "\n".join(traceback) == failure.traceback.rstrip()
    assert call == "called as raise_deep(n=3)"
    ran = msgspec.structs.replace(failure, host="lab2", attempt=3)
    assert str(payload.to_exception(ran)).endswith("\ncalled as raise_deep(n=3) on lab2, attempt 3")
    assert isinstance(error.__cause__, ValueError)
    assert payload.to_exception(failure, cause=False).__cause__ is None


def test_the_innermost_line_of_the_users_own_code() -> None:
    import json

    failure = payload.pack_exception(caught(lambda: json.loads("{")))
    assert failure.kind == "JSONDecodeError"
    assert failure.where.startswith("test_failures.py line ")
    assert str(payload.to_exception(failure)).splitlines()[-1].startswith(f"at {failure.where}:  ")


def test_a_call_that_does_not_fit_the_function_has_no_place() -> None:
    worker = compile("function(tims=3)", main.__file__, "exec")  # where functions are called
    error = caught(lambda: exec(worker, {"function": lambda times: times}))
    while error.__traceback__ is not None and error.__traceback__.tb_next is not None:  # without this test
        error.__traceback__ = error.__traceback__.tb_next
    failure = payload.pack_exception(error)
    assert failure.where == ""
    assert failure.traceback.startswith("TypeError: ")
    assert "unexpected keyword argument 'tims'" in failure.message


def test_exceptions_that_cannot_be_loaded_are_text() -> None:
    failure = payload.pack_exception(Awkward(1, 2))
    assert failure.payload is None
    error = payload.to_exception(failure)
    assert "Awkward: 1 and 2" in str(error)
    assert error.__cause__ is None
    gone = Failure(kind="X", traceback="Traceback", payload=payload.pack_results([1]))
    assert payload.to_exception(gone).__cause__ is None, "whatever it is, it is not an exception"


def test_causes_notes_and_groups_stay_in_the_text() -> None:
    def chained() -> None:
        try:
            raise_deep(0)
        except ValueError as error:
            raise RuntimeError("in the end") from error

    text = payload.pack_exception(caught(chained)).traceback
    assert "too deep" in text
    assert "in the end" in text
    assert "direct cause" in text


def test_hostile_exceptions() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    failure = payload.pack_exception(Mute())
    assert failure.kind == "Mute"
    assert "cannot be shown" in failure.message
    huge = payload.pack_exception(ValueError("x" * 1_000_000))
    assert len(huge.message) < 3_000
    assert len(huge.traceback) < 20_000
    assert "characters left out" in huge.message
    assert payload.pack_exception(SystemExit(3)).kind == "SystemExit"
    assert payload.pack_exception(KeyboardInterrupt()).kind == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("failure", "state", "kind"),
    [
        (Failure(kind="TaskCancelled", message="cancelled"), TaskState.CANCELLED, errors.TaskCancelled),
        (Failure(), TaskState.CANCELLED, concurrent.futures.CancelledError),
        (Failure(kind="TaskTimeout", message="too long"), TaskState.FAILED, TimeoutError),
        (Failure(kind="TaskLost", message="killed 3 workers"), TaskState.LOST, errors.TaskLost),
        (Failure(kind="", message="gone"), TaskState.LOST, errors.TaskLost),
        (Failure(kind="DependencyFailed", message="t0 failed"), TaskState.FAILED, errors.DependencyFailed),
        (Failure(kind="TooManyQueuedTasks", message="full"), TaskState.FAILED, errors.TooManyQueuedTasks),
        (Failure(kind="UnknownTask", message="unknown"), TaskState.FAILED, errors.UnknownTask),
        (Failure(kind="NotSerializable", message="result.lock"), TaskState.FAILED, errors.NotSerializable),
        (Failure(kind="NotSerializable", message="r", traceback="T"), TaskState.FAILED, errors.NotSerializable),
        (Failure(kind="ValueError", message="no traceback"), TaskState.FAILED, errors.TaskFailed),
        (Failure(kind="TaskLost", message="x", traceback="raised by the user"), TaskState.FAILED, errors.TaskFailed),
        (Failure(kind="annotations", message="a name that is no class"), TaskState.FAILED, errors.TaskFailed),
    ],
)
def test_every_failure_is_an_error_of_the_tree(failure: Failure, state: TaskState, kind: type[Exception]) -> None:
    error = payload.to_exception(failure, "t1", state)
    assert isinstance(error, kind)
    assert isinstance(error, errors.NblbError)
    assert getattr(error, "task_id", "t1") == "t1"
    assert failure.message in str(error) or failure.traceback in str(error)
