"""The frames of a failure as text: bounded, without secrets, and never the cause of another error."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest

from nblb import payload
from nblb.errors import TaskFailed
from nblb.payload import frames


def failed(function: Any, *args: Any) -> TaskFailed:
    """The error that a client would see, after its journey."""
    try:
        function(*args)
    except BaseException as error:
        failure = payload.pack_exception(error)
        told = pickle.loads(pickle.dumps(payload.to_exception(failure, "t")))
        assert isinstance(told, TaskFailed)
        return told
    raise AssertionError("nothing was raised")


def outer(number: int) -> float:
    password = "hunter2"
    return inner(number, {"token": "abc", "n": 1}) + len(password)


def inner(divisor: int, settings: dict[str, Any]) -> float:
    rows = list(range(1_000_000))
    return len(rows) / (divisor * len(settings))


def test_frames_have_lines_and_variables() -> None:
    error = failed(outer, 0)
    own = [frame for frame in error.frames if frame["function"] in ("outer", "inner")]
    assert [frame["function"] for frame in own] == ["outer", "inner"]
    first, last = own
    assert last["source"][last["line"] - last["first"]].strip().startswith("return len(rows)")
    assert last["locals"]["divisor"] == "0"
    assert len(last["locals"]["rows"]) < 200
    assert first["locals"]["password"] == frames.HIDDEN
    values = json.dumps([frame["locals"] for frame in error.frames])
    assert "abc" not in values
    assert "hunter2" not in values


@pytest.mark.parametrize(
    ("name", "secret"),
    [("password", True), ("api_key", True), ("dbPassword", True), ("tokens", True), ("SECRET_KEY", True),
     ("monkey", False), ("keyboard", False), ("tokenizer", False), ("x", False)],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert payload.is_secret(name) is secret


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def many_variables() -> None:
    exec("\n".join(f"v{number} = {number}" for number in range(300)) + "\nraise ValueError", {"__name__": "x"}, {})


def large_variables() -> None:
    nasty, text, data = Nasty(), "x" * 10**7, b"y" * 10**7
    deep: list[Any] = []
    deep.append(deep)
    raise ValueError((nasty is None, len(text), len(data), deep is None))


def recursion(depth: int) -> None:
    padding = "z" * 500
    if depth:
        recursion(depth - 1)
    raise ValueError(padding[:3])


def test_whatever_a_frame_holds_the_frames_are_small() -> None:
    for error in (failed(many_variables), failed(large_variables), failed(recursion, 200)):
        assert error.frames
        assert len(error.frames_json) <= frames.MAX_BYTES + 8 * 1024
        assert len(error.frames) <= frames.MAX_FRAMES
        for frame in error.frames:
            assert len(frame["locals"]) <= frames.MAX_LOCALS + 1
            assert all(len(value) <= frames.MAX_REPR for value in frame["locals"].values())
    (frame,) = [f for f in failed(large_variables).frames if f["function"] == "large_variables"]
    assert "fails" in frame["locals"]["nasty"]


def test_a_call_is_written_as_one_would_write_it() -> None:
    def simulate(seed: int, password: str = "", n: int = 1) -> None: ...

    describe = payload.describe_call
    assert describe(simulate, "simulate", (3,), {"n": 1000}) == "simulate(3, n=1000)"
    assert describe(simulate, "simulate", (3, "pw"), {}) == f"simulate(3, {frames.HIDDEN})"
    assert len(describe(simulate, "simulate", ("x" * 10**6,) * 50, {})) <= frames.MAX_CALL
    assert describe(len, "len", ([1, 2],), {}) == "len([1, 2])"


def test_an_error_without_frames_has_none() -> None:
    assert TaskFailed("text", "t").frames == []


class Reluctant:
    """A value whose repr waits, or computes, for so long."""

    def __init__(self, wait_s: float, compute_s: float) -> None:
        self.wait_s, self.compute_s = wait_s, compute_s

    def __repr__(self) -> str:
        time.sleep(self.wait_s)
        until = time.thread_time() + self.compute_s
        while time.thread_time() < until:
            pass
        return "here"


def fails_beside(first: Reluctant) -> None:
    second = "later"
    raise ValueError(second)


def test_a_worker_that_waits_for_a_processor_shows_as_much_as_another() -> None:
    (frame,) = failed(fails_beside, Reluctant(wait_s=2 * frames.MAX_CPU_S, compute_s=0.0)).frames[-1:]
    assert frame["locals"] == {"first": "here", "second": "'later'"}
    assert set(frame["values"]) == {"first", "second"}


def test_reprs_that_compute_for_long_are_the_last_ones() -> None:
    (frame,) = failed(fails_beside, Reluctant(wait_s=0.0, compute_s=frames.MAX_CPU_S)).frames[-1:]
    assert frame["locals"] == {"first": "here", "…": "there are more"}
