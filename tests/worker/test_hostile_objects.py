"""User objects that misbehave in every method used by pickling or printing: only their own call fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nblb.protocol.messages import RunTask, TaskFinished, TaskProgressed, WorkerDied
from tests.hub.pool_rig import PoolRig

METHODS = [
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__repr__", "__str__", "__eq__", "__hash__",
    "__getattr__", "__getattribute__", "__class__", "__len__", "__iter__", "__bool__", "__format__", "__del__",
    "__nblb_argument__", "_repr_html_", "_repr_mimebundle_", "_ipython_display_", "nbytes", "__traceback__",
    "__cause__", "__notes__", "__dict__",
]  # fmt: skip
RAISES = ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "RecursionError", "StopIteration", "ValueError", "Mute"]
WAYS = ["return", "raise", "raise from", "emit", "print", "progress", "keep", "display", "variable", "stdout"]


@pytest.fixture(scope="module")
def rig() -> Iterator[PoolRig]:
    with contextlib.closing(PoolRig()) as rig:
        yield rig


def hostile(way: str, methods: list[str], raises: str, text: str) -> Any:
    """Runs in the worker: makes an object whose methods raise, and lets it out in one way."""
    import builtins
    import sys

    import nblb
    from nblb.task_api import StoppedAndKept

    class Mute(BaseException):
        def __str__(self) -> str:
            raise self

        __repr__ = __str__

    error = Mute if raises == "Mute" else StoppedAndKept if raises == "StopAndKeep" else getattr(builtins, raises)

    def misbehave(*_: Any, **__: Any) -> Any:
        raise error(text)

    members: dict[str, Any] = {
        name: property(misbehave) if name in {"nbytes", "__class__", "__traceback__", "__cause__", "__notes__"}
        else misbehave
        for name in methods
    }  # fmt: skip
    base: Any = BaseException if way.startswith("raise") else object
    thing = type("Hostile" + text.encode("ascii", "ignore").decode().replace("\0", ""), (base,), members)()
    if way == "raise":
        raise thing
    if way == "raise from":
        raise ValueError(text) from thing
    if way == "emit":
        nblb.emit(thing)
    elif way == "print":
        print(thing)
    elif way == "progress":
        nblb.progress(float("nan"), thing)
    elif way == "keep":
        raise StoppedAndKept
    elif way == "display":
        builtins.display(thing)  # type: ignore[attr-defined]
    elif way == "variable":
        raise ValueError(text)
    elif way == "stdout":
        sys.stdout = sys.stderr = thing
    return thing


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    way=st.sampled_from(WAYS),
    methods=st.lists(st.sampled_from(METHODS), max_size=5, unique=True),
    raises=st.sampled_from([*RAISES, "StopAndKeep"]),
    text=st.text(st.characters(), max_size=5),
)
def test_only_its_call_fails(rig: PoolRig, way: str, methods: list[str], raises: str, text: str) -> None:
    rig.events.clear()
    end = rig.end_of(rig.give(hostile, way, methods, raises, text))
    assert end.payload is not None or len(end.failures) == 1
    for failure in end.failures:
        assert failure.kind
        (failure.kind + failure.message + failure.traceback).encode()
    assert rig.result(os.getpid) == rig.pool._handles["worker_0"].pid  # the next one runs in the same worker
    assert not [event for _, event in rig.events if isinstance(event, WorkerDied)]


@pytest.mark.parametrize("method", ["__reduce__", "__setstate__"])
@pytest.mark.parametrize("raises", ["KeyboardInterrupt", "SystemExit"])
def test_of_many_results_only_the_one_that_cannot_travel_fails(rig: PoolRig, method: str, raises: str) -> None:
    def one(x: int) -> Any:
        return hostile("return", [method], raises, "") if x == 2 else x

    end = rig.end_of(rig.give_many(one, [0, 1, 2, 3]))
    assert [(f.offset, f.kind) for f in end.failures] == ([(2, "NotSerializable")] if method == "__reduce__" else [])
    assert end.payload is not None


@pytest.mark.parametrize("way", ["kill", "raise"])
def test_an_interrupt_that_nobody_asked_for_is_a_failure(rig: PoolRig, way: str) -> None:
    def interrupts(way: str) -> int:
        import os
        import signal

        if way == "raise":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)
        return 1

    end = rig.end_of(rig.give(interrupts, way))
    assert [failure.kind for failure in end.failures] == (["KeyboardInterrupt"] if way == "raise" else [])


def test_an_exception_of_a_gigabyte_is_bounded(rig: PoolRig) -> None:
    def shouts() -> None:
        raise ValueError("x" * (1 << 28))

    end = rig.end_of(rig.give(shouts), 60.0)
    (failure,) = end.failures
    assert failure.kind == "ValueError"
    assert len(failure.message) < 3000
    assert len(failure.traceback) < 20_000
    assert failure.payload is None  # it does not travel as itself


def test_a_note_is_cleaned_and_no_number_is_no_progress(rig: PoolRig) -> None:
    def notes() -> int:
        import nblb

        nblb.progress(float("nan"), "caf\udce9\x1b[2J" + "x" * 10_000_000)
        return 1

    run = rig.give(notes)
    assert rig.end_of(run).payload is not None
    (told,) = [e for _, e in rig.events if isinstance(e, TaskProgressed) and e.task == run.task]
    assert told.progress == 0.0
    assert told.note.startswith("caf\\udce9\\x1b[2Jxxx")
    assert len(told.note) < 500


def ends(rig: PoolRig, *calls: Callable[..., Any]) -> list[TaskFinished]:
    runs: list[RunTask] = [rig.give(call) for call in calls]
    return [rig.end_of(run) for run in runs]


def test_a_name_of_ours_is_no_signal_of_ours(rig: PoolRig) -> None:
    def looks_like() -> None:
        raise type("NothingEmitted", (Exception,), {})("mine")

    (end,) = ends(rig, looks_like)
    (failure,) = end.failures
    assert (failure.kind, failure.message) == ("NothingEmitted", "mine")
    assert failure.traceback  # by which the core knows that the task said so, not nblb
