"""Packets on a Unix stream socket: the connection between parties on one computer, without an extra thread or hop.

A connection begins with the version of the layout and 16 random bytes, which identify the party. Then come packets:

    head      number of large buffers, size of the header, size of the small buffers: 4 bytes each, little-endian
    sizes     8 bytes for each large buffer
    header, small bytes, large buffers     as in framing.py

Nothing here waits: bytes that a socket does not take are kept and sent later; incomplete packets are kept, too.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from nblb.errors import ProtocolError
from nblb.protocol.framing import MAX_FRAMES, VERSION, Buffer

IDENTITY_BYTES = 16
GREETING_BYTES = len(VERSION) + IDENTITY_BYTES
READ_BYTES = 128 * 1024  # in one read; a longer packet gets its own memory
FILL_BYTES = 16 * 1024 * 1024  # of one long packet, read in one turn
MAPPED = 1024 * 1024  # memory for larger buffers is mapped, and not filled with zeros first
BUFFER_BYTES = 1024 * 1024  # requested size of the kernel's buffers; the system may give less
PARTS_AT_ONCE = 512  # in one sendmsg; the system allows 1024

_head = struct.Struct("<III")
_PRIVATE: int = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class Packet(NamedTuple):
    """The parts of one multipart message, as `Reader.decode_parts` takes them."""

    header: Buffer
    small: Buffer
    large: Sequence[Buffer]


def greeting() -> bytes:
    """Return the first bytes of a connection; a line uses the same for all its connections."""
    return VERSION + os.urandom(IDENTITY_BYTES)


def widen(sock: socket.socket) -> None:
    """Enlarge the socket's buffers, so that a batch is written in one go."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    sock.setblocking(False)


class _LongPacket:
    """A packet that has arrived in part; its memory is allocated as its parts arrive."""

    def __init__(self, sizes: Sequence[int], limit: int) -> None:
        if max(sizes) > limit:
            raise ProtocolError(f"a packet has a part of {max(sizes):,} bytes; LB_MAX_MESSAGE_MB allows {limit:,}")
        self._sizes = deque(sizes)
        self._parts: list[Buffer] = []
        self._space = memoryview(b"")  # the unfilled rest of the arriving part
        self.is_whole = False
        self._next()

    def _next(self) -> None:
        while not self._space.nbytes:
            if not self._sizes:
                self.is_whole = True
                return
            size = self._sizes.popleft()
            memory = bytearray(size) if size < MAPPED else mmap.mmap(-1, size, flags=_PRIVATE)
            self._space = memoryview(memory)
            self._parts.append(self._space)

    def put(self, data: Buffer) -> int:
        """Take bytes from the beginning of `data`; return how many."""
        source, taken = memoryview(data), 0
        while not self.is_whole and taken < source.nbytes:
            size = min(self._space.nbytes, source.nbytes - taken)
            self._space[:size] = source[taken : taken + size]
            self._advance(size)
            taken += size
        return taken

    def read(self, sock: socket.socket) -> None:
        """Read more of the packet; raise BlockingIOError if no more has arrived."""
        read = 0
        while not self.is_whole and read < FILL_BYTES:
            size = sock.recv_into(self._space)
            if not size:
                raise ConnectionResetError("hung up in the middle of a packet")
            self._advance(size)
            read += size

    def _advance(self, size: int) -> None:
        self._space = self._space[size:]
        self._next()

    def packet(self) -> Packet:
        return Packet(self._parts[0], self._parts[1] if len(self._parts) > 1 else b"", self._parts[2:])


class Inflow:
    """Splits the arriving bytes into packets."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._long: _LongPacket | None = None
        self.has_more = False  # complete packets were left by the last `read`

    def read(self, sock: socket.socket, most: int) -> list[Packet]:
        """Return the packets that one read of the socket completes, at most `most` of them.

        Raises
        ------
        OSError
            BlockingIOError if nothing is there; any other means that the peer is gone.
        ProtocolError
            The bytes are not packets.
        """
        if self._long is not None:
            self._long.read(sock)
            if not self._long.is_whole:
                return []
            packet, self._long = self._long.packet(), None
            return [packet]
        if not self.has_more:
            data = sock.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("hung up")
            self._rest = self._rest + data if self._rest else data
        return self._cut(most)

    def _cut(self, most: int) -> list[Packet]:
        packets: list[Packet] = []
        data, at, end = self._rest, 0, len(self._rest)
        self.has_more = False
        while end - at >= _head.size:
            if len(packets) >= most:
                self.has_more = True
                break
            large, header, small = _head.unpack_from(data, at)
            middle = at + _head.size + header
            stop = middle + small
            if large or stop > end:
                taken, packet = self._begin_long(data, at, large, header, small)
                if not taken:
                    break
                at += taken
                if packet is None:
                    break
                packets.append(packet)
                continue
            packets.append(Packet(data[at + _head.size : middle], data[middle:stop], ()))
            at = stop
        self._rest = data[at:] if at else data
        return packets

    def _begin_long(self, data: bytes, at: int, large: int, header: int, small: int) -> tuple[int, Packet | None]:
        """Begin a packet with its own memory; return how much of `data` belongs to it, and the packet if complete."""
        if large > MAX_FRAMES:
            raise ProtocolError(f"a packet announces {large:,} large buffers; there may be {MAX_FRAMES:,}")
        start = at + _head.size
        if not large and header + small <= READ_BYTES:
            return 0, None  # a short packet: wait for its rest
        if len(data) < start + 8 * large:
            return 0, None
        sizes = struct.unpack_from(f"<{large}Q", data, start)
        start += 8 * large
        long = _LongPacket((header, small, *sizes), self._max_bytes)
        taken = long.put(memoryview(data)[start:])
        if not long.is_whole:
            self._long = long
            return start + taken - at, None
        return start + taken - at, long.packet()


class Outflow:
    """Sends packets in order, and keeps the unsent rest of the current one."""

    def __init__(self) -> None:
        self._rest: deque[memoryview] = deque()

    @property
    def is_clear(self) -> bool:
        return not self._rest

    def write(self, sock: socket.socket, frames: Sequence[Buffer]) -> None:
        """Send the frames of a message, or begin to; raise OSError, or BlockingIOError if it cannot begin."""
        if self._rest:
            raise BlockingIOError
        large = frames[3:]
        small = frames[2] if len(frames) > 2 else b""
        head = _head.pack(len(large), len(frames[1]), memoryview(small).nbytes)
        if not large:
            whole = b"".join((head, frames[1], small))
            sent = sock.send(whole)
            if sent < len(whole):
                self._rest.append(memoryview(whole)[sent:])
            return
        sizes = struct.pack(f"<{len(large)}Q", *(memoryview(buffer).nbytes for buffer in large))
        first = b"".join((head, sizes, frames[1], small))
        sent = sock.send(first)
        self._rest.append(memoryview(first)[sent:])
        self._rest.extend(memoryview(buffer).cast("B") for buffer in large)
        self.flush(sock)

    def flush(self, sock: socket.socket) -> bool:
        """Send more of the current packet; return True if all of it has left."""
        rest = self._rest
        try:
            while rest:
                sent = sock.sendmsg([*rest][:PARTS_AT_ONCE])
                while rest and sent >= rest[0].nbytes:
                    sent -= rest.popleft().nbytes
                if sent:
                    rest[0] = rest[0][sent:]
        except BlockingIOError:
            return False
        return True
