"""The calls of a map as columns: one list for each positional argument, and the keyword arguments of all calls.

The calls of a map differ in a value or two, so that one pickle of the values costs far less, on both sides, than a
pickle of each call. If the values are *plain* (numbers, strings, flat tuples of them), the calls are also pickled in
pieces of PIECE items, which can be cut: plain values cannot fail to load, and no call can change a value of the next
one, so an item may travel with its neighbours.
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
MAX_PIECE_BYTES = 8 * 1024  # larger values travel one by one, as any slice carries whole pieces


class Columns(Sequence[Call]):
    """Calls with the same keyword arguments, pickled as columns of positional arguments."""

    __slots__ = ("columns", "kwargs")

    def __init__(self, columns: Sequence[Sequence[Any]], kwargs: dict[str, Any]) -> None:
        self.columns, self.kwargs = columns, kwargs

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Return the positional arguments of these calls."""
        return zip(*(column[start:stop] for column in self.columns))  # noqa: B905  # equal lengths; a hot path

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
    """Return the columns of the next rows, at most `most`; none when one of the arguments is exhausted.

    With `steady`, none of the caller's code runs between two rows, so that a whole column is taken at once.
    """
    if steady:
        columns = [list(islice(argument, most)) for argument in arguments]
        shortest = min(map(len, columns), default=0)
        return [column if len(column) == shortest else column[:shortest] for column in columns] if shortest else []
    return transposed(islice(zip(*arguments), most))  # noqa: B905  # as zip does it


def take_plain(arguments: Sequence[Iterator[Any]], most: int, steady: bool) -> tuple[list[list[Any]], list[Row]]:
    """Return the columns of the next rows that are plain, and the rows that were taken and are not plain.

    Without `steady` the caller may change a value that is not plain before the next row is taken, so at most one
    such row is returned.
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
    """Pack plain values, PIECE calls in each pickle; return None if a piece is too large to be sent with each slice."""
    pieces: list[bytes] = []
    for start in range(0, len(columns[0]), PIECE):
        piece = pickle.dumps(Columns([column[start : start + PIECE] for column in columns], kwargs), 5)
        if len(piece) > MAX_PIECE_BYTES:
            return None
        pieces.append(piece)
    return Payload((b"".join(pieces),), [len(piece) for piece in pieces])
