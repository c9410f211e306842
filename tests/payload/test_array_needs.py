"""A pickle tells which NumPy it needs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from nblb import payload
from nblb.payload import array_needs
from nblb.payload.array_needs import numpy_needed

OURS = int(np.__version__.partition(".")[0])


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        (np.arange(3), OURS),
        (np.arange(300_000.0), OURS),  # its bytes travel beside the pickle
        ({"deep": [np.float64(1.5)]}, OURS),
        ("numpy", 0),
        (np.sqrt, 0),
        ([1, 2.0, b"3"], 0),
    ],
)
def test_arguments(value: Any, needed: int) -> None:
    if value is np.sqrt:  # a ufunc is found by its public name, or by that of its module
        needed = numpy_needed(payload.pack_call((value,), {}).payload.buffers)
        assert needed in (0, OURS)
        return
    assert numpy_needed(payload.pack_call((value,), {}).payload.buffers) == needed


def test_constants_tell_it_for_their_tasks() -> None:
    name, _ = payload.dump_constant(np.arange(5))
    plain, _ = payload.dump_constant([1, 2])
    assert numpy_needed((b"no array",), (plain, name)) == OURS
    assert numpy_needed((b"no array",), (plain,)) == 0


def test_an_array_of_numpy_1_needs_1() -> None:
    assert numpy_needed((b"\x8c\x15numpy.core.multiarray",)) == 1
    assert numpy_needed((memoryview(b"\x8c\x16numpy._core.multiarray"),)) == 2
    assert numpy_needed(()) == 0


def test_without_numpy_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    assert numpy_needed((b"numpy._core.multiarray",)) == 0


def test_what_is_noted_of_constants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_needs, "MOST_NOTED", 2)
    monkeypatch.setattr(array_needs, "_constants", {})
    for number in range(4):
        payload.dump_constant(np.arange(number + 1))
    assert len(array_needs._constants) == 2
