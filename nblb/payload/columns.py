"""The calls of a map as columns: one list for each argument, and what they all are called with besides.

A map calls one function again and again, and its calls differ in a value or two: so a pickle of the values costs a
small part of what a pickle of each call does, at both ends. Where the values are *plain* (numbers, texts, flat tuples
of them) it can be cut as well: nothing of theirs can fail to be loaded, and nothing that a call changes is seen by the
next, so an item may come with its neighbours, PIECE at a time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias, overload

from nblb.protocol.framing import PIECE, Payload

Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
Row: TypeAlias = "tuple[Any, ...]"  # the positional arguments of a call

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
MAX_PIECE_BYTES = 8 * 1024  # larger values travel each by itself: a slice of one item takes a whole piece along


class Columns(Sequence[Call]):
    """Calls that are alike; pickled as its columns."""

    __slots__ = ("columns", "kwargs")

    def __init__(self, columns: Sequence[Sequence[Any]], kwargs: dict[str, Any]) -> None:
        self.columns, self.kwargs = columns, kwargs

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The positional arguments of these calls."""
        return zip(*(column[start:stop] for column in self.columns))  # noqa: B905  # alike in length, and in a hurry

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return tuple(column[index] for column in self.columns), self.kwargs

    def __reduce__(self) -> tuple[Any, ...]:
        return Columns, (self.columns, self.kwargs)


def take(arguments: Sequence[Iterator[Any]], most: int, steady: bool) -> list[list[Any]]:
    """The columns of the next rows, so many at most; none when one of the arguments is at its end.

    With `steady` nothing of the caller's runs between two rows, so a column may be taken at once.
    """
    if steady:
        columns = [list(islice(argument, most)) for argument in arguments]
        shortest = min(map(len, columns), default=0)
        return [column if len(column) == shortest else column[:shortest] for column in columns] if shortest else []
    return transposed(islice(zip(*arguments), most))  # noqa: B905  # as zip does it


def take_plain(arguments: Sequence[Iterator[Any]], most: int, steady: bool) -> tuple[list[list[Any]], list[Row]]:
    """The columns of the next rows, if all in them is plain; and rows that were taken and are not.

    What is not plain may be changed by the caller before the next row is taken: there is one such row at most.
    """
    if steady:
        columns = take(arguments, most, steady)
        return (columns, []) if _are_plain(columns) else ([], list(zip(*columns, strict=True)))
    found: list[Row] = []
    for row in islice(zip(*arguments), most):  # noqa: B905
        if not are_plain(row):
            return transposed(found), [row]
        found.append(row)
    return transposed(found), []


def transposed(rows: Iterable[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _are_plain(columns: Sequence[Sequence[Any]]) -> bool:
    kinds: set[type] = set()
    for column in columns:
        kinds.update(map(type, column))
        if tuple in kinds:
            kinds.discard(tuple)
            kinds.update(map(type, chain.from_iterable(value for value in column if type(value) is tuple)))
    return kinds <= PLAIN


def are_plain(values: Iterable[Any]) -> bool:
    return PLAIN.issuperset(map(type, values))


def pack_pieces(columns: Sequence[Sequence[Any]], kwargs: dict[str, Any]) -> Payload | None:
    """Plain values, PIECE calls in a pickle; None if that makes pieces too large to be handed out whole."""
    pieces: list[bytes] = []
    for start in range(0, len(columns[0]), PIECE):
        piece = pickle.dumps(Columns([column[start : start + PIECE] for column in columns], kwargs), 5)
        if len(piece) > MAX_PIECE_BYTES:
            return None
        pieces.append(piece)
    return Payload((b"".join(pieces),), [len(piece) for piece in pieces])
