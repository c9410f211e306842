"""Packets on a stream: cut anywhere, long or short, and refused as soon as they are invalid."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from nblb.errors import ProtocolError
from nblb.protocol.framing import LARGE, VERSION, Buffer
from nblb.transport.packets import MAPPED, READ_BYTES, Inflow, Outflow, Packet, widen

LIMIT = 8 * MAPPED


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    widen(near)
    widen(far)
    yield near, far
    near.close()
    far.close()


def said(packet: Packet) -> list[bytes]:
    return [bytes(part) for part in (packet.header, packet.small, *packet.large)]


def read(inflow: Inflow, far: socket.socket, most: int = 9) -> list[Packet]:
    try:
        return inflow.read(far, most)
    except BlockingIOError:
        return []


def messages(chance: random.Random) -> list[list[Buffer]]:
    sizes = [
        [2],
        [2, 0],
        [40, 9],
        [READ_BYTES, 5],
        [3, READ_BYTES + 1],
        [10, 0, LARGE],
        [10, 7, LARGE, MAPPED + 3, LARGE, 0],
        [0, 0, *[LARGE] * 20],
    ]
    return [[VERSION, *(chance.randbytes(size) for size in each)] for each in sizes]


@pytest.mark.parametrize("most", [1, 1000])
def test_packets_arrive_as_they_were_sent(pair: tuple[socket.socket, socket.socket], most: int) -> None:
    near, far = pair
    chance = random.Random(7)
    sent = messages(chance) * 3
    chance.shuffle(sent)
    outflow, inflow, waiting, found = Outflow(), Inflow(LIMIT), list(sent), list[list[bytes]]()
    for _ in range(100_000):
        if outflow.flush(near) and waiting:
            try:
                outflow.write(near, waiting[0])
                waiting.pop(0)
            except BlockingIOError:
                pass
        found += map(said, read(inflow, far, most))
        if len(found) == len(sent):
            break
    assert found == [
        [bytes(part) for part in (*frames[1:3], *[b""] * (len(frames) == 2), *frames[3:])] for frames in sent
    ]


def test_a_packet_cut_at_every_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    inflow, found = Inflow(LIMIT), list[list[bytes]]()
    for byte in struct.pack("<III", 0, 3, 2) + b"abcde" + struct.pack("<IIIQ", 1, 1, 0, 4) + b"x" + b"long":
        near.send(bytes([byte]))
        found += map(said, read(inflow, far))
    assert found == [[b"abc", b"de"], [b"x", b"", b"long"]]


def test_a_writer_keeps_the_rest_and_the_order(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    outflow, inflow = Outflow(), Inflow(LIMIT)
    outflow.write(near, [VERSION, b"a" * 6_000_000, b"b"])
    assert not outflow.is_clear
    with pytest.raises(BlockingIOError):
        outflow.write(near, [VERSION, b"next"])
    found: list[Packet] = []
    while not found:
        found = read(inflow, far)
        outflow.flush(near)
    assert said(found[0]) == [b"a" * 6_000_000, b"b"]


@pytest.mark.parametrize(
    "noise",
    [
        struct.pack("<III", 1 << 31, 1, 1),
        struct.pack("<III", 0, LIMIT + 1, 0),
        struct.pack("<IIIQ", 1, 2, 0, LIMIT + 1) + b"[]",
        b"\xff" * 100,
    ],
)
def test_what_is_no_packet_is_refused(pair: tuple[socket.socket, socket.socket], noise: bytes) -> None:
    near, far = pair
    near.send(noise)
    with pytest.raises(ProtocolError):
        Inflow(LIMIT).read(far, 9)


def test_the_end_of_a_connection_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    near.send(struct.pack("<III", 0, 1, 0) + b"a")
    near.close()
    inflow = Inflow(LIMIT)
    assert [said(packet) for packet in inflow.read(far, 9)] == [[b"a", b""]]
    with pytest.raises(ConnectionError):
        inflow.read(far, 9)
