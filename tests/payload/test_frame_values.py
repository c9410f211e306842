"""Saved values of variables: bounded, separate, without secrets, and inspected before they are copied."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nblb import payload
from nblb.payload import frame_values, frames
from nblb.payload.frame_values import MAX_VALUES, MAX_VARIABLE, pack_value


def packed(value: Any) -> bytes | None:
    return pack_value(value, MAX_VALUES, payload.is_secret)


@pytest.mark.parametrize("value", [3, "text", [1, {"a": (2, 3)}], np.arange(12.0).reshape(3, 4)], ids=repr)
def test_values_come_back(value: Any) -> None:
    data = packed(value)
    assert data is not None
    assert np.array_equal(payload.load_value(data), value)


class Copied(np.ndarray[Any, Any]):
    """An array that must not be copied to be refused."""

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise AssertionError("it is too large to be pickled")


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(MAX_VARIABLE, dtype="u1").view(Copied).repeat(2),
        bytes(MAX_VARIABLE + 1),
        [bytes(1000)] * 3 + ["x" * MAX_VARIABLE],
        list(range(1_000_000)),
        [np.zeros(MAX_VARIABLE + 1, dtype="u1")],
        threading.Lock(),
        (x for x in range(3)),
        {"token": "abc"},
        {"user": {"password": "abc"}},
        SimpleNamespace(api_key="abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_large_secret_or_has_no_pickle_stays_a_text(value: Any) -> None:
    assert packed(value) is None


def test_a_large_value_costs_little() -> None:
    huge = list(range(3_000_000))
    begin = time.process_time()
    assert packed(huge) is None
    assert time.process_time() - begin < 0.5  # it takes some milliseconds; all of it would take a tenth of a second
    assert packed(np.arange(10)) is not None


def test_all_values_of_a_failure_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_values, "MAX_VARIABLE", 300)

    def fail(depth: int) -> None:
        data = bytes(250)
        if depth:
            fail(depth - 1)
        raise ValueError(len(data))

    try:
        fail(9)
    except ValueError as error:
        found = frames.pack_frames(error.__traceback__, lambda _: True, 1000)
    assert found is not None
    assert len(found.buffers[1]) <= 1000
    assert frames.pack_frames(None, lambda _: True) is None
