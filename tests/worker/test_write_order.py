"""Two streams that are read apart are put together in the order in which they were written."""

from __future__ import annotations

import random

from nblb.worker.write_order import RING, WriteOrder


class Pipes:
    """What a task writes, and what a reader takes of it."""

    def __init__(self) -> None:
        self.order = WriteOrder.alone()
        self.order.begin()
        self.filled = [b"", b""]
        self.held = [b"", b""]

    def write(self, stream: int, text: bytes) -> None:
        self.order.wrote(stream, len(text))
        self.filled[stream] += text

    def read(self, *most: int, is_all: bool = False) -> list[tuple[int, bytes]]:
        taken = []
        for stream, limit in enumerate(most or (10**9, 10**9)):
            taken.append(self.held[stream] + self.filled[stream][:limit])
            self.order.has_read(stream, min(limit, len(self.filled[stream])))
            self.filled[stream] = self.filled[stream][limit:]
        pieces, self.held = self.order.sort(taken, is_all)
        return pieces


def test_lines_of_both_streams_keep_their_order() -> None:
    pipes = Pipes()
    for stream, text in [(1, b"e1 "), (0, b"o1 "), (0, b"o2 "), (1, b"e2 "), (0, b"o3 ")]:
        pipes.write(stream, text)
    assert pipes.read() == [(1, b"e1 "), (0, b"o1 o2 "), (1, b"e2 "), (0, b"o3 ")]
    pipes.write(1, b"e3")
    assert pipes.read() == [(1, b"e3")]
    assert pipes.read() == []


def test_later_output_waits_for_earlier_that_is_on_its_way() -> None:
    pipes = Pipes()
    pipes.write(0, b"o1 ")
    pipes.write(1, b"e1 ")
    pipes.write(0, b"o2 ")
    assert pipes.read(0, 10) == []
    assert pipes.read(10, 0) == [(0, b"o1 "), (1, b"e1 "), (0, b"o2 ")]
    pipes.write(1, b"e2")
    pipes.write(0, b"o3")
    assert pipes.read(10, 0) == []
    assert pipes.read(0, 0, is_all=True) == [(0, b"o3")], "it has waited long enough"


def test_any_order_of_writes_and_reads() -> None:
    for seed in range(200):
        chance, pipes, written, seen = random.Random(seed), Pipes(), [], []
        for number in range(chance.randrange(1, 60)):
            stream, text = chance.randrange(2), b"%d;" % number
            pipes.write(stream, text)
            written.append((stream, text))
            if chance.random() < 0.3:
                seen += pipes.read(chance.randrange(12), chance.randrange(12))
        seen += pipes.read(is_all=True)
        assert b"".join(text for _, text in seen) == b"".join(text for _, text in written), seed
        for stream in (0, 1):
            whole = b"".join(text for each, text in written if each == stream)
            assert b"".join(text for each, text in seen if each == stream) == whole


def test_what_python_has_not_counted_is_not_lost() -> None:
    pipes = Pipes()
    pipes.filled[0] += b"from C, "
    pipes.write(1, b"e1 ")
    pipes.write(0, b"o1 ")
    pipes.write(1, b"e2 ")
    found = pipes.read(is_all=True)
    assert b"".join(text for stream, text in found if stream == 0) == b"from C, o1 "
    assert b"".join(text for stream, text in found if stream == 1) == b"e1 e2 "


def test_more_changes_than_are_remembered_lose_nothing() -> None:
    pipes = Pipes()
    for number in range(2 * RING):
        pipes.write(number % 2, b"x")
    assert sorted(text for _, text in pipes.read(is_all=True)) != []
    assert pipes.read(is_all=True) == []


def test_a_new_slice_begins_at_zero() -> None:
    pipes = Pipes()
    pipes.write(1, b"old")
    assert pipes.read() == [(1, b"old")]
    pipes.order.begin()
    pipes.write(0, b"new")
    pipes.write(1, b"!")
    assert pipes.read() == [(0, b"new"), (1, b"!")]
