"""One connection of ZeroMQ, byte by byte: its handshake, its frames, and what is none."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.errors import ProtocolError
from nblb.protocol.framing import MAX_FRAMES, Buffer
from nblb.transport import zmtp
from nblb.transport.zmtp import GREETING, LONG, MORE, ZmtpConnection, command, frame_head, ready

LIMIT = 4 * 1024 * 1024
HELLO = GREETING + ready(Socket_Type=b"DEALER", Identity=b"me")


class Ends:
    """Both ends of a socket: `connection` is a ROUTER's."""

    def __init__(self) -> None:
        self.far, near = socket.socketpair()
        near.setblocking(False)
        self.wanted: list[bytes] = []
        self.connection = ZmtpConnection(near, LIMIT, self._admit)

    def _admit(self, wanted: bytes) -> bytes:
        self.wanted.append(wanted)
        return b"named"

    def messages(self) -> list[list[bytes]]:
        found = []
        try:
            while True:
                found.append([bytes(frame) for frame in self.connection.receive()])
        except BlockingIOError:
            return found

    def close(self) -> None:
        self.far.close()
        self.connection.socket.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def encoded(frames: list[bytes]) -> bytes:
    last = len(frames) - 1
    return b"".join(frame_head(MORE if at < last else 0, len(frame)) + frame for at, frame in enumerate(frames))


def test_a_handshake_and_messages_cut_at_every_byte(ends: Ends) -> None:
    expected = [[b"one"], [b"", b"{}"], [b"x" * 300, b"", b"y"]]
    found = []
    for byte in HELLO + b"".join(map(encoded, expected)):
        ends.far.send(bytes([byte]))
        found += ends.messages()
    assert found == expected
    assert (ends.connection.identity, ends.wanted) == (b"named", [b"me"])
    said = ends.far.recv(1000)
    assert said[:64] == GREETING
    assert said[64:] == ready(Socket_Type=b"ROUTER", Identity=b"")


@settings(deadline=None)
@given(st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=5), max_size=5), st.integers(1, 700))
def test_messages_arrive_as_they_were_sent(expected: list[list[bytes]], size: int) -> None:
    ends = Ends()
    try:
        data = HELLO + b"".join(map(encoded, expected))
        found = []
        for at in range(0, len(data), size):
            ends.far.send(data[at : at + size])
            found += ends.messages()
        assert found == expected
    finally:
        ends.close()


def test_long_frames_get_memory_of_their_own(ends: Ends) -> None:
    message = [b"a", b"L" * 3_000_000, b"b", b"M" * 70_000]
    data, found, at = HELLO + encoded(message), list[list[bytes]](), 0
    ends.far.setblocking(False)
    while not found:
        at += ends.far.send(data[at : at + 50_000])
        found = ends.messages()
    assert found == [message]


def receive_all(connection: ZmtpConnection) -> None:
    while True:
        connection.receive()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_whatever_arrives_only_the_connection_ends(noise: bytes, has_greeted: bool) -> None:
    ends = Ends()
    try:
        ends.far.send((HELLO if has_greeted else b"") + noise)
        ends.far.shutdown(socket.SHUT_WR)
        with pytest.raises((ProtocolError, ConnectionError)):
            receive_all(ends.connection)
    finally:
        ends.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x01\x00",  # ZMTP 1.0
        GREETING[:10] + b"\x01\x00",  # 2.0
        GREETING.replace(b"NULL", b"PLAIN"),
        GREETING + encoded([b"before the handshake"]),
        GREETING + command(b"HELLO"),
        GREETING + ready(Socket_Type=b"SUB"),
        GREETING + command(b"READY", b"\x05abc"),
        GREETING + command(b"READY", b"\x03abc\xff\xff\xff\xff"),
        HELLO + b"\x08\x00",
        HELLO + b"\x05\x00",
        HELLO + frame_head(LONG, 1 << 40),
        HELLO + frame_head(LONG | zmtp.COMMAND, 1 << 20),
    ],
)
def test_what_is_no_peer_of_a_router(ends: Ends, noise: bytes) -> None:
    ends.far.send(noise)
    with pytest.raises(ProtocolError):
        ends.connection.receive()


def test_a_heartbeat_is_answered(ends: Ends) -> None:
    ends.far.send(HELLO)
    assert ends.messages() == []
    ends.far.recv(1000)
    ends.far.send(command(b"PING", b"\0\x05context") + command(b"PONG") + command(b"SUBSCRIBE", b"x") + encoded([b"m"]))
    assert ends.messages() == [[b"m"]]
    assert ends.far.recv(1000) == command(b"PONG", b"context")


def test_frames_beyond_the_limit_are_dropped(ends: Ends) -> None:
    ends.far.send(HELLO)
    frames = [b"x"] * (MAX_FRAMES + 10)
    data, found, at = encoded([*frames, b"end"]), list[list[bytes]](), 0
    while not found:
        at += ends.far.send(data[at : at + 1000])
        found = ends.messages()
    assert [len(message) for message in found] == [MAX_FRAMES + 1]


def test_what_a_peer_does_not_take_waits_and_keeps_the_order(ends: Ends) -> None:
    ends.far.send(HELLO)
    ends.messages()
    number = 0
    message: list[Buffer] = [b"n", b"x" * 100_000, memoryview(b"y" * 20_000)]
    with contextlib.suppress(BlockingIOError):
        while number < 1000:
            message[0] = b"%d" % number
            ends.connection.send(message)
            number += 1
    assert number < 1000
    assert ends.connection.unsent_bytes > zmtp.UNSENT_BYTES
    other = ZmtpConnection(ends.far, LIMIT, lambda wanted: wanted)  # reads what a ROUTER says as a peer would
    ends.far.setblocking(False)
    found = list[list[bytes]]()
    while len(found) < number:
        ends.connection.flush()
        try:
            found.append([bytes(frame) for frame in other.receive()])
        except BlockingIOError:
            continue
    assert [int(frames[0]) for frames in found] == list(range(number))
    assert {tuple(map(len, frames[1:])) for frames in found} == {(100_000, 20_000)}
    assert ends.connection.unsent_bytes == 0
