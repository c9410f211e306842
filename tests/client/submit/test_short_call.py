"""Arguments in a few characters, whatever they are, and quickly."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from nblb.client.submit.short_call import MOST, short


class Slow:
    """Its repr is what a user has made of it."""

    def __repr__(self) -> str:
        time.sleep(10)
        raise RuntimeError("never called")


def named() -> None:
    pass


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((100,), {}, "100"),
        ((3, 0.5, None), {"name": "ann"}, "3, 0.5, None, name='ann'"),
        (("x" * 1000,), {}, f"'{'x' * 24}'…"),
        ((10**5000, -7), {}, "<int of 16,610 bits>, -7"),
        ((Slow(), [Slow()] * 9), {}, "<Slow>, [<Slow>, <Slow>, <Slow>, … 6 more]"),
        (([1, [2, 3]], (4,), {"a": 1}, {5}, []), {}, "[1, <list of 2>], (4,), {'a': 1}, {5}, []"),
        ((np.zeros((3, 4)), np.float64(2.5)), {}, "<ndarray 3 × 4>, 2.5"),
        ((named, len), {}, "named, len"),
        (("two\nlines",), {}, r"'two\nlines'"),
        ((), {}, ""),
    ],
)
def test_what_is_shown(args: tuple[Any, ...], kwargs: dict[str, Any], said: str) -> None:
    assert short(args, kwargs) == said


def test_many_arguments_are_cut() -> None:
    assert len(short(range(1000), {})) == MOST + 1
