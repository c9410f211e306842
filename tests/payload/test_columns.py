"""The calls of a map as columns, and the constants that may be cut out of a pickle that many calls share."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from nblb.payload.columns import MAX_PIECE_BYTES, Columns, are_plain, pack_pieces, take, take_plain
from nblb.protocol.framing import PIECE


def test_columns_are_a_sequence_of_calls() -> None:
    calls = Columns([[1, 2, 3], ["a", "b", "c"]], {"k": 0})
    assert len(calls) == 3
    assert calls[1] == ((2, "b"), {"k": 0})
    assert calls[-1] == ((3, "c"), {"k": 0})
    assert calls[1:] == [calls[1], calls[2]]
    assert list(calls.rows(0, 2)) == [(1, "a"), (2, "b")]
    copy = pickle.loads(pickle.dumps(calls))
    assert (copy.columns, copy.kwargs) == (calls.columns, calls.kwargs)


@pytest.mark.parametrize("steady", [True, False])
def test_the_shortest_argument_ends_the_map(steady: bool) -> None:
    arguments: list[Iterator[Any]] = [iter(range(5)), iter("abc")]
    assert take(arguments, 2, steady) == [[0, 1], ["a", "b"]]
    assert take(arguments, 2, steady) == [[2], ["c"]]
    assert take(arguments, 2, steady) == []


def test_of_what_is_not_plain_one_row_at_most_is_taken_ahead() -> None:
    """The caller may change it before the next is taken."""
    thing: list[int] = []
    rows = iter([1, 2, thing, 4])
    assert take_plain([rows], 10, steady=False) == ([[1, 2]], [(thing,)])
    assert next(rows) == 4
    assert take_plain([iter([1, thing])], 10, steady=True) == ([], [(1,), (thing,)])
    assert take_plain([iter([1, (2, "x")])], 10, steady=True) == ([[1, (2, "x")]], [])
    assert take_plain([iter([(1, (2,))])], 10, steady=True) == ([], [((1, (2,)),)])


@pytest.mark.parametrize(
    ("values", "plain"), [((1, 2.0, "x", None, True, b"y", 1j), True), (([],), False), ((object(),), False)]
)
def test_plain_values(values: tuple[Any, ...], plain: bool) -> None:
    assert are_plain(values) is plain


def test_a_subclass_of_something_plain_is_not_plain() -> None:
    class Name(str):
        __slots__ = ()

    assert not are_plain([Name("x")])


def test_pieces_are_pickled_each_by_itself_unless_they_are_large() -> None:
    packed = pack_pieces([list(range(PIECE + 1))], {"k": 1})
    assert packed is not None
    whole = b"".join(bytes(buffer) for buffer in packed.buffers)
    first = pickle.loads(whole)
    assert (len(first), first[1]) == (PIECE, ((1,), {"k": 1}))
    assert pack_pieces([["x" * MAX_PIECE_BYTES]], {}) is None
