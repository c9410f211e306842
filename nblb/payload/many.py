"""The submissions of a map: its calls, as many to a submission as may travel together."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from nblb.errors import NotSerializable
from nblb.payload.calls import Packed, cannot_pickle, needs, pack_call
from nblb.payload.columns import Call, Columns, Row, are_plain, pack_pieces, take_plain
from nblb.payload.explain import MAX_REASON
from nblb.payload.pickling import Alike, Pickler, dump, kept
from nblb.protocol.framing import Payload
from nblb.user_text import text_of

MAX_ITEMS = 1024  # items of one submission
MAX_PLAIN = 4096  # items of one submission in pieces: as many as the core sends at once
MAX_RECORD_BYTES = 1024 * 1024


def pack_chunk(calls: Sequence[Call], alike: Alike | None = None) -> Packed:
    """Pack calls that stay together: one pickle, which one worker runs one after another."""
    try:
        buffers, pickler = dump(list(calls), arguments=True, alike=alike)
    except Exception as error:
        raise _one_of(calls, error) from error
    return Packed(Payload.of(buffers), len(calls), False, *needs(pickler.stand_ins))


def pack_columns(columns: Sequence[Sequence[Any]], kwargs: dict[str, Any], alike: Alike | None = None) -> Packed:
    """Pack calls with these columns of positional arguments, and the same keywords, that stay together."""
    try:
        buffers, pickler = dump(Columns(columns, kwargs), arguments=True, alike=alike)
    except Exception as error:
        raise _one_of([(args, kwargs) for args in zip(*columns, strict=True)], error) from error
    return Packed(Payload.of(buffers), len(columns[0]), False, *needs(pickler.stand_ins))


def pack_map(arguments: Sequence[Iterator[Any]], kwargs: dict[str, Any], steady: bool = False) -> Iterator[Packed]:
    """Pack calls as `pack_calls` does, with these positional arguments and the same keywords; plain ones in pieces."""
    behind: list[Row] = []
    while are_plain(kwargs.values()) and not behind:
        columns, behind = take_plain(arguments, MAX_PLAIN, steady)
        pieces = pack_pieces(columns, kwargs) if columns else None
        if pieces is None:
            behind = [*zip(*columns, strict=True), *behind]
            break
        yield Packed(pieces, len(columns[0]), True)
    rows = chain(behind, zip(*arguments))  # noqa: B905  # as zip does it
    yield from pack_calls(((args, kwargs) for args in rows), MAX_ITEMS, steady)


def pack_calls(calls: Iterable[Call], max_items: int = MAX_ITEMS, steady: bool = False) -> Iterator[Packed]:
    """Yield submissions that the core may cut between any two items; a call with large buffers or futures is alone.

    With `steady`, none of the caller's code runs between two calls, so equal addresses mean equal contents.
    """
    alike: Alike | None = {} if steady else None
    file = io.BytesIO()
    pickler = Pickler(file, arguments=True)
    dump, tell, clear_memo = pickler.dump, file.tell, pickler.clear_memo
    sizes: list[int] = []
    start = waiting = 0
    for call in calls:
        try:
            dump(call)
        except Exception as error:
            raise cannot_pickle(call, error) from error
        clear_memo()
        end = tell()
        if pickler.large or (len(pickler.stand_ins) > waiting and needs(pickler.stand_ins[waiting:])[0]):
            if sizes:
                yield _cut(file.getbuffer()[:start], sizes, pickler.stand_ins[:waiting])
            payload = Payload.of(kept([bytes(file.getbuffer()[start:end]), *pickler.large], alike))
            yield Packed(payload, 1, False, *needs(pickler.stand_ins[waiting:]))
        else:
            sizes.append(end - start)
            start, waiting = end, len(pickler.stand_ins)
            if len(sizes) < max_items and end < MAX_RECORD_BYTES:
                continue
            yield _cut(file.getbuffer(), sizes, pickler.stand_ins)
        file.seek(0)
        file.truncate()
        start = waiting = 0
        sizes = []
        pickler.large.clear()
        pickler.stand_ins.clear()
        pickler.globals_ref.clear()
    if sizes:
        yield _cut(file.getbuffer(), sizes, pickler.stand_ins)


def _cut(written: memoryview, sizes: list[int], stand_ins: list[Any]) -> Packed:
    payload = Payload((bytes(written),), sizes)
    written.release()  # a file with exported buffers cannot be truncated
    return Packed(payload, len(sizes), True, *needs(stand_ins))


def _one_of(calls: Sequence[Call], error: Exception) -> NotSerializable:
    for call in calls:
        try:
            pack_call(*call)
        except NotSerializable as named:
            return named
    return NotSerializable(f"the arguments cannot be pickled: {text_of(error, MAX_REASON)}")
