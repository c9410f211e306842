"""ZMTP 3.1 without encryption, the protocol of ZeroMQ's connections, for a ROUTER's side of a stream socket.

Nothing here waits: bytes that a socket does not take are kept and sent later; incomplete messages are kept, too.
The specification is https://rfc.zeromq.org/spec/37.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

from nblb.errors import ProtocolError
from nblb.protocol.framing import MAX_FRAMES, Buffer

SIGNATURE_BYTES = 10
GREETING_BYTES = 64
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
OLDEST = 3  # major version
MECHANISM = slice(12, 32)

MORE, LONG, COMMAND = 1, 2, 4  # flags of a frame
PEERS = (b"REQ", b"DEALER", b"ROUTER")  # the types of sockets that may connect to a ROUTER
LONGEST_COMMAND = 4096
LONGEST_IDENTITY = 255

READ_BYTES = 64 * 1024  # in one read; a longer frame gets its own memory
FILL_BYTES = 16 * 1024 * 1024  # of one long frame, read in one turn
UNSENT_BYTES = 1024 * 1024  # after so many, no further message is taken
PARTS_AT_ONCE = 512  # in one sendmsg; the system allows 1024
JOINED = 16 * 1024  # shorter frames are copied into one buffer with their heads

_long = struct.Struct(">Q")
_size = struct.Struct(">I")


def frame_head(flags: int, size: int) -> bytes:
    """Return the bytes in front of a frame of this size."""
    if size < 256:
        return bytes((flags, size))
    return bytes((flags | LONG,)) + _long.pack(size)


def command(name: bytes, data: bytes = b"") -> bytes:
    """Return a command as bytes to send."""
    body = bytes((len(name),)) + name + data
    return frame_head(COMMAND, len(body)) + body


def ready(**properties: bytes) -> bytes:
    """Return the command READY with these properties; an underscore in a name stands for a hyphen."""
    return command(b"READY", b"".join(_property(name, value) for name, value in properties.items()))


def _property(name: str, value: bytes) -> bytes:
    return bytes((len(name),)) + name.replace("_", "-").encode() + _size.pack(len(value)) + value


def read_properties(data: bytes) -> dict[str, bytes]:
    """Return the properties of a READY, with names in lower case; raise ProtocolError if they are malformed."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        if name_end + _size.size > len(data):
            raise ProtocolError("a handshake ends within a property")
        (size,) = _size.unpack_from(data, name_end)
        value_at = name_end + _size.size
        if value_at + size > len(data):
            raise ProtocolError("a handshake ends within a property")
        found[data[at + 1 : name_end].decode("ascii", "replace").lower()] = data[value_at : value_at + size]
        at = value_at + size
    return found


class ZmtpConnection:
    """One peer's connection: its handshake, the messages that arrive, and the unsent bytes.

    `identity` is None until the handshake is complete; `admit` takes the identity that the peer wants (empty for none)
    and returns the one that it gets. Everything that reads or writes may raise OSError, which means that the peer is
    gone; reading raises ProtocolError if the bytes are not ZMTP.
    """

    def __init__(self, sock: socket.socket, max_bytes: int, admit: Callable[[bytes], bytes]) -> None:
        self.socket = sock
        self.identity: bytes | None = None
        self.unsent_bytes = 0
        self._max_bytes, self._admit = max_bytes, admit
        self._has_greeted = False
        self._data, self._at = b"", 0  # read from the socket, and how far it is used
        self._frames: list[Buffer] = []  # of the arriving message
        self._number = 0  # of its frames, with those that were dropped
        self._is_whole = False  # its last frame has arrived
        self._space: memoryview | None = None  # the unfilled rest of an arriving long frame …
        self._long_frame: bytearray = bytearray()
        self._flags = 0  # … and its flags
        self._unsent: deque[memoryview] = deque()
        self._write(GREETING)

    # ── receiving ──

    def receive(self) -> list[Buffer]:
        """Return the frames of the next message; raise BlockingIOError if it has not arrived completely."""
        read = 0
        while True:
            if self._space is not None:
                read += self._fill(self._space)
                if self._space is not None:
                    if read > FILL_BYTES:
                        raise BlockingIOError
                    continue
            elif not self._cut():
                data = self.socket.recv(READ_BYTES)
                if not data:
                    raise ConnectionResetError("hung up")
                self._data, self._at = self._data[self._at :] + data, 0
                continue
            if self._is_whole:
                frames, self._frames, self._number, self._is_whole = self._frames, [], 0, False
                return frames

    @property
    def has_more(self) -> bool:
        """True if bytes have been read that were not looked at."""
        return self._at < len(self._data)

    def _cut(self) -> bool:
        """Take one greeting, command or frame of the data that was read; return False if more must be read for it."""
        if not self._has_greeted:
            return self._greet()
        data, at = self._data, self._at
        have = len(data) - at
        if have < 2:
            return False
        flags = data[at]
        if flags & ~(MORE | LONG | COMMAND) or flags & (MORE | COMMAND) == MORE | COMMAND:
            raise ProtocolError(f"a frame has the flags {flags:#x}")
        if flags & LONG:
            if have < 9:
                return False
            size, start = _long.unpack_from(data, at + 1)[0], at + 9
        else:
            size, start = data[at + 1], at + 2
        if size > (LONGEST_COMMAND if flags & COMMAND else self._max_bytes):
            raise ProtocolError(f"a frame of {size:,} bytes is longer than LB_MAX_MESSAGE_MB allows")
        if self.identity is None and not flags & COMMAND:
            raise ProtocolError("a message before the handshake")
        if size > len(data) - start:
            if size <= READ_BYTES:
                return False
            self._begin_long(size, start, flags)
            return True
        self._at = start + size
        body = data[start : start + size]
        if flags & COMMAND:
            self._obey(body)
        else:
            self._take(body, flags)
        return True

    def _greet(self) -> bool:
        """Check the greeting as it arrives; return True once it is complete."""
        data = self._data
        if data[:1] not in (b"", b"\xff") or (len(data) >= SIGNATURE_BYTES and not data[9] & 1):
            raise ProtocolError("not a ZeroMQ party")
        if len(data) > SIGNATURE_BYTES and data[SIGNATURE_BYTES] < OLDEST:
            raise ProtocolError("a version of ZeroMQ before 4.0")
        if len(data) < GREETING_BYTES:
            return False
        if data[MECHANISM].rstrip(b"\0") != b"NULL":
            raise ProtocolError("a party that wants encryption or a password")
        self._has_greeted, self._at = True, GREETING_BYTES
        return True

    def _obey(self, body: bytes) -> None:
        name_end = 1 + (body[0] if body else 0)
        name, data = body[1:name_end], body[name_end:]
        if self.identity is None:
            if name != b"READY":
                raise ProtocolError("a handshake without READY")
            found = read_properties(data)
            if found.get("socket-type") not in PEERS:
                raise ProtocolError("a type of socket that cannot connect to a ROUTER")
            self.identity = self._admit(found.get("identity", b"")[:LONGEST_IDENTITY])
            self._write(ready(Socket_Type=b"ROUTER", Identity=b""))  # not before: a refused peer must not send messages
        elif name == b"PING":
            self._write(command(b"PONG", data[2:18]))  # after the time to live: the context, of 16 bytes at most

    def _begin_long(self, size: int, start: int, flags: int) -> None:
        """Begin a frame with its own memory."""
        first = self._data[start:]
        self._long_frame, self._flags = bytearray(size), flags
        self._space = memoryview(self._long_frame)[len(first) :]
        self._long_frame[: len(first)] = first
        self._data, self._at = b"", 0

    def _fill(self, space: memoryview) -> int:
        """Read more of a long frame; return how much."""
        size = self.socket.recv_into(space)
        if not size:
            raise ConnectionResetError("hung up in the middle of a frame")
        self._space = space[size:]
        if not self._space.nbytes:
            self._space = None
            self._take(memoryview(self._long_frame), self._flags)
            self._long_frame = bytearray()
        return size

    def _take(self, frame: Buffer, flags: int) -> None:
        self._is_whole = not flags & MORE
        self._number += 1
        if self._number <= MAX_FRAMES + 1:  # the others are read and dropped: the codec refuses a message with more
            self._frames.append(frame)

    # ── sending ──

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message, or begin to; raise BlockingIOError if too much is unsent."""
        if self.unsent_bytes > UNSENT_BYTES:
            raise BlockingIOError
        joined: list[Buffer] = []
        last = len(frames) - 1
        for number, frame in enumerate(frames):
            view = memoryview(frame).cast("B")
            joined.append(frame_head(MORE if number < last else 0, view.nbytes))
            if view.nbytes <= JOINED:
                joined.append(view)
                continue
            self._put(b"".join(joined))
            self._put(view)
            joined.clear()
        if joined:
            self._put(b"".join(joined))
        self.flush()

    def _write(self, data: bytes) -> None:
        self._put(data)
        self.flush()

    def _put(self, data: Buffer) -> None:
        view = memoryview(data)
        if view.nbytes:
            self._unsent.append(view)
            self.unsent_bytes += view.nbytes

    def flush(self) -> bool:
        """Send more of what is unsent; return True if all of it has left."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self.socket.sendmsg([*unsent][:PARTS_AT_ONCE] if len(unsent) > 1 else unsent)
                self.unsent_bytes -= sent
                while unsent and sent >= unsent[0].nbytes:
                    sent -= unsent.popleft().nbytes
                if sent:
                    unsent[0] = unsent[0][sent:]
        except BlockingIOError:
            return False
        return True
