"""Hypothesis strategies for tests of decoders: any message by the types of its fields, and damage to its bytes."""

from __future__ import annotations

import functools
import typing
from typing import Any

import msgspec
from hypothesis import strategies as st

from nblb.protocol.framing import LARGE, Payload

buffers = st.binary(max_size=40) | st.sampled_from([b"L" * LARGE, b"M" * (LARGE + 3)])
several = st.lists(buffers, max_size=5).map(Payload)
parts = st.lists(st.binary(max_size=20), min_size=1, max_size=6)
split = parts.map(lambda items: Payload((b"".join(items),), [len(item) for item in items]))
payloads = several | split


@functools.cache  # to look up the types takes longer than to make a message
def fill(kind: type) -> st.SearchStrategy[Any]:
    """Any message of this class, by the types of its fields."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: value(hint) for name, hint in hints.items() if not name.startswith("__")})


def value(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Payload:
        return payloads
    if hint is Any:
        return st.none() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text())
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(value(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(value, arguments))
    if typing.get_origin(hint) is dict:
        return st.dictionaries(st.text(), value(arguments[1]), max_size=3)
    if arguments:  # a union
        return st.one_of(*map(value, arguments))
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return fill(hint)
    return st.from_type(hint)


def spoilt(data: st.DataObject, good: bytes) -> bytes:
    """These bytes with a few of them changed, added, gone, or cut off."""
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(good) - 1)))
        good = good[:at] + data.draw(st.binary(max_size=3)) + good[at + data.draw(st.integers(0, 2)) :]
    return good[: data.draw(st.integers(0, len(good)))] if data.draw(st.integers(0, 9)) == 0 else good
