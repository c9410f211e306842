"""Chunks of a file: each moved once, sent again after a cut, whatever order the replies have."""

from __future__ import annotations

import random

import pytest

from nblb.errors import ProtocolError
from nblb.transport.bulk.chunks import CHUNK, GET, PUT, Chunks, packed, unpacked


def test_heads_there_and_back() -> None:
    assert unpacked(packed(PUT, "a" * 44, 5 * CHUNK)) == (PUT, 5 * CHUNK, 0, "a" * 44)
    assert unpacked(packed(GET, "n.t", 1, 2**40)) == (GET, 1, 2**40, "n.t")
    for bad in (b"", b"G", b"x" * 500, packed(GET, "n")[:-1] + b"\xff"):
        with pytest.raises(ProtocolError):
            unpacked(bad)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 10 * CHUNK])
@pytest.mark.parametrize("known", [True, False])
def test_every_chunk_once_whatever_is_cut(size: int, known: bool) -> None:
    dice, seen = random.Random(size), list[int]()
    chunks = Chunks(size if known else None)
    on_their_way: list[int] = []
    for _ in range(1000):
        if chunks.is_done:
            break
        at = chunks.take()
        if at is not None:
            on_their_way.append(at)
        if dice.random() < 0.1:
            chunks.again()
        elif on_their_way and dice.random() < 0.7:
            at = on_their_way.pop(dice.randrange(len(on_their_way)))
            if chunks.moved(at):
                seen.append(at)
                chunks.learn(size)
    assert chunks.is_done
    assert sorted(set(seen)) == (list(range(0, size, CHUNK)) or ([] if known else [0]))
    assert chunks.on_their_way == chunks.left_bytes == 0
