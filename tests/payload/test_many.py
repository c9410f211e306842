"""The submissions of a map: plain values in pieces, others call by call; each item gets its own call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nblb import payload
from nblb.errors import NotSerializable
from nblb.payload import Packed, many
from nblb.protocol.framing import PIECE, pieces
from nblb.protocol.messages import RunTask

plain = (
    st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.booleans() | st.none() | st.binary(max_size=9)
)
values = plain | st.tuples(plain, plain)


def calls_of(record: Packed, first: int, items: int) -> list[Any]:
    """What a worker gets for a slice, as the core cuts it."""
    cut = record.payload.part(first, items, record.items) if record.split else record.payload
    run = RunTask(
        task="t", attempt=1, name="f", function="h", payload=cut, first=first, items=items, split=record.split
    )
    calls = payload.unpack_calls(run)
    found = by_portions(calls)
    assert [calls[n] for n in range(len(calls))] == found
    return found


def columns(rows: list[Any]) -> list[Iterator[Any]]:
    return [iter(column) for column in zip(*rows, strict=True)]


def by_portions(calls: payload.Calls) -> list[Any]:
    found: list[Any] = []
    while len(found) < len(calls):
        found += calls.portion(len(found))
    return found


@given(
    st.lists(st.tuples(values, plain), min_size=1, max_size=20),
    st.integers(1, 4 * PIECE),
    st.dictionaries(st.text(max_size=3), plain, max_size=2),
    st.booleans(),
    st.data(),
)
def test_plain_calls_can_be_cut_anywhere(
    some: list[Any], count: int, kwargs: dict[str, Any], steady: bool, data: st.DataObject
) -> None:
    rows = [some[n % len(some)] for n in range(count)]
    records = list(payload.pack_map(columns(rows), kwargs, steady))
    assert sum(record.items for record in records) == count
    assert all(record.split for record in records)
    record = records[0]
    first = data.draw(st.integers(0, record.items - 1))
    items = data.draw(st.integers(1, record.items - first))
    assert calls_of(record, first, items) == [(args, kwargs) for args in rows[first : first + items]]
    assert [call for one in records for call in calls_of(one, 0, one.items)] == [(args, kwargs) for args in rows]


def test_plain_values_travel_in_pieces_and_long_maps_in_few_records() -> None:
    records = list(payload.pack_map([iter(range(10_000))], {}, steady=True))
    assert [record.items for record in records] == [4096, 4096, 1808]
    assert [len(record.payload.sizes) for record in records] == [pieces(4096), pieces(4096), pieces(1808)]


def test_two_pieces_that_hold_two_items_are_not_taken_for_items() -> None:
    (record,) = payload.pack_map([iter(range(2 * PIECE))], {}, steady=True)
    assert calls_of(record, PIECE - 1, 2) == [((PIECE - 1,), {}), ((PIECE,), {})]


def test_large_values_travel_each_by_itself() -> None:
    rows = [(f"{n}" * 500,) for n in range(PIECE)]
    (record,) = payload.pack_map(columns(rows), {}, steady=True)
    assert len(record.payload.sizes) == PIECE
    assert record.payload.part(5, 1, PIECE).nbytes < 1100
    assert calls_of(record, 5, 2) == [(rows[5], {}), (rows[6], {})]


@pytest.mark.parametrize("steady", [True, False])
def test_what_a_call_could_change_is_its_own(steady: bool) -> None:
    shared: list[int] = []
    for rows, kwargs in ([(n, shared) for n in range(3)], {}), ([(n,) for n in range(3)], {"seen": shared}):
        (record,) = payload.pack_map(columns(rows), kwargs, steady)
        calls = calls_of(record, 0, 3)
        assert calls == [(args, kwargs) for args in rows]
        lists = [args[-1] if args[1:] else named["seen"] for args, named in calls]
        assert len({id(one) for one in lists}) == 3


def test_values_are_packed_as_they_are_when_their_turn_comes() -> None:
    changing = [0]

    def values() -> Iterator[Any]:
        yield 1
        for n in range(3):
            changing[0] = n
            yield changing
        yield 2

    records = list(payload.pack_map([values()], {}))
    assert [call for one in records for call in calls_of(one, 0, one.items)] == [
        ((value,), {}) for value in (1, [0], [1], [2], 2)
    ]


def test_a_chunk_is_one_pickle_of_its_columns() -> None:
    shared = [0]
    packed = payload.pack_columns([list(range(5)), [shared] * 5], {"k": 1})
    assert (packed.items, packed.split, len(packed.payload.buffers)) == (5, False, 1)
    assert calls_of(packed, 0, 5) == [((n, shared), {"k": 1}) for n in range(5)]
    assert calls_of(packed, 2, 2) == [((n, shared), {"k": 1}) for n in (2, 3)]
    assert payload.load_constant(packed.payload)[3:] == [((3, shared), {"k": 1}), ((4, shared), {"k": 1})]
    assert packed.payload.nbytes < payload.pack_chunk([((n, shared), {"k": 1}) for n in range(5)]).payload.nbytes + 99


def test_what_cannot_be_pickled_is_named() -> None:
    bad = {"model": (n for n in "x")}
    with pytest.raises(NotSerializable, match="argument 1"):
        payload.pack_columns([[1, bad]], {})
    with pytest.raises(NotSerializable, match="argument 1"):
        list(payload.pack_map([iter([1, bad])], {}))


@pytest.mark.parametrize("steady", [True, False])
def test_the_shortest_argument_counts(steady: bool) -> None:
    (record,) = payload.pack_map([iter([1, 2, 3]), iter("ab")], {}, steady)
    assert calls_of(record, 0, record.items) == [((1, "a"), {}), ((2, "b"), {})]
    arguments = iter(range(5)), iter("abc")
    assert payload.take(arguments, 2, steady) == [[0, 1], ["a", "b"]]
    assert payload.take(arguments, 2, steady) == [[2], ["c"]]
    assert payload.take(arguments, 2, steady) == []


def test_no_calls_are_no_records() -> None:
    assert list(payload.pack_map([], {})) == []
    assert len(list(payload.pack_map([iter(range(many.MAX_PLAIN))], {}, steady=True))) == 1


class Unloadable:
    """Cannot be opened where it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_a_call_that_cannot_be_opened_takes_no_other_with_it() -> None:
    (record,) = payload.pack_map([iter([0, Unloadable(), 2, Unloadable(), Unloadable(), 5])], {}, steady=True)
    run = RunTask(task="t", attempt=1, name="f", function="h", payload=record.payload, items=6, split=True)
    calls, got = payload.unpack_calls(run), []
    while len(got) < 6:
        try:
            got += calls.portion(len(got))
        except ValueError as error:
            got.append("no number" in str(error))
    assert got == [((0,), {}), True, ((2,), {}), True, True, ((5,), {})]
