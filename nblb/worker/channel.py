"""The channel between a hub and one worker: one datagram per message, large messages in shared memory.

A datagram is read whole or not at all, so the socket itself is the worker's short queue: the hub can read back what the
worker has not taken yet from the far end, and what the worker has taken it is running. So it is known exactly which
task a dead worker was running.

    datagram   number of the slice, kind, sizes of the header and of the small bytes; then those two
    in memory  the same head, then the sizes of all frames; the frames are in memory whose descriptor is attached
"""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from nblb.errors import ProtocolError
from nblb.protocol.framing import Buffer, Codec, Find, Refer, _Deal
from nblb.protocol.messages import (
    HoldBlob,
    ItemsFinished,
    KnobOffered,
    Message,
    RunTask,
    TaskCheckpointed,
    TaskEmitted,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WaitBegan,
    WaitEnded,
    WorkerStarted,
)
from nblb.worker.control_page import seal, shared_memory
from nblb.worker.result_files import HandTo

# A worker that receives it writes its stack to stderr; a signal that tasks are unlikely to use.
STACK_SIGNAL: int = signal.SIGRTMIN + 13 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2

INLINE_BYTES = 64 * 1024
BUFFER_BYTES = 1024 * 1024
MAP_BYTES = 1024 * 1024
PACKET = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM

_head = struct.Struct("<QBII")
_INLINE, _MEMORY = 0, 1
_ALIGN = 64
_MAP_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_ANCILLARY = socket.CMSG_SPACE(4 * 8)
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))  # an enum's `|` takes a microsecond


class DropBlob(Message):
    """An order to drop this blob; the hub sends it again before a task needs it."""

    hash: str


class PacketCodec(Codec):
    """A codec for single messages: its decoder is created once per thread, not once per message."""

    def __init__(self, vocabulary: Any) -> None:
        super().__init__(vocabulary)
        self._threads = threading.local()

    def decode_one(self, header: Buffer, small: Buffer, large: Sequence[Buffer], find: Find | None = None) -> Any:
        """Decode the message of one datagram; a malformed one raises (see `unpack`)."""
        threads = self._threads
        try:
            dealer, decode = threads.dealer, threads.decode
        except AttributeError:
            dealer = threads.dealer = _Dealer()
            decode = threads.decode = msgspec.json.Decoder(self._type, dec_hook=dealer).decode
        deal = dealer.deal = _Deal(memoryview(small), large, find)
        message = decode(header)[0]
        deal.close()
        return message


class _Dealer:
    """The hook of a reused decoder: forwards to the frames of the current message."""

    deal: _Deal

    def __call__(self, kind: type, value: Any) -> Any:
        return self.deal(kind, value)


to_worker = PacketCodec(RunTask | HoldBlob | DropBlob | HandTo)
from_worker = PacketCodec(
    WorkerStarted
    | TaskFinished
    | ItemsFinished
    | TaskStopped
    | TaskPrinted
    | TaskProgressed
    | TaskEmitted
    | TaskCheckpointed
    | KnobOffered
    | WaitBegan
    | WaitEnded
)


class Parcel(NamedTuple):
    """A message ready to be sent, to one peer or to several; `fd` is -1 or the memory with its frames.

    `names` keeps the files that the message names from being removed.
    """

    datagram: bytes
    fd: int
    names: object = None

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _size(buffer: Buffer) -> int:
    return len(buffer) if isinstance(buffer, bytes) else memoryview(buffer).nbytes


def pack(codec: Codec, number: int, message: Message, refer: Refer | None = None) -> Parcel:
    """Pack the message; raises OSError if there is no memory for a large one."""
    frames = codec.encode((message,), refer)
    header = frames[1]
    small = frames[2] if len(frames) > 2 else b""
    length, extra = len(header), _size(small)
    if len(frames) <= 3 and length + extra <= INLINE_BYTES:
        return Parcel(b"".join((_head.pack(number, _INLINE, length, extra), header, small)), -1)
    return _pack_in_memory(number, frames[1:])


def _pack_in_memory(number: int, frames: Sequence[Buffer]) -> Parcel:
    sizes = array.array("Q", map(_size, frames))
    fd = shared_memory("nblb-payload")
    try:
        at = 0
        for frame, size in zip(frames, sizes, strict=True):
            view, start = memoryview(frame).cast("B"), at
            while view.nbytes:
                written = os.pwrite(fd, view, start)
                view, start = view[written:], start + written
            at += _aligned(size)
        os.ftruncate(fd, max(at, 1))
        seal(fd, content=True)  # workers of several users may get the same memory
    except BaseException:
        os.close(fd)
        raise
    return Parcel(_head.pack(number, _MEMORY, len(sizes), 0) + sizes.tobytes(), fd)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def unpack(
    codec: PacketCodec, datagram: bytes, fd: int, find: Find | None = None, most_bytes: int = 0
) -> tuple[int, Any]:
    """Return the slice's number and the message; close `fd`. Raises ProtocolError for anything but a parcel.

    With `most_bytes` the sender is not trusted: its memory is copied, up to this size, since it could cut it.
    """
    try:
        number, kind, length, extra = _head.unpack_from(datagram)
        if kind == _INLINE:
            end = _head.size + length
            return number, codec.decode_one(datagram[_head.size : end], datagram[end : end + extra], (), find)
        header, *frames = _map(datagram, length, fd, most_bytes)
        return number, codec.decode_one(header, frames[0] if frames else b"", frames[1:], find)
    except (struct.error, msgspec.MsgspecError, ValueError, IndexError, OSError, MemoryError) as error:
        raise ProtocolError(f"a worker's channel contains a datagram that is no message: {error}") from None
    finally:
        if fd >= 0:
            os.close(fd)


def _map(datagram: bytes, count: int, fd: int, most_bytes: int = 0) -> list[memoryview]:
    """Map the frames of a parcel, private to this process and writable; with `most_bytes`, copy them."""
    sizes = array.array("Q", datagram[_head.size : _head.size + 8 * count])
    if len(sizes) != count or fd < 0:
        raise ProtocolError("a parcel arrived without its memory")
    memory = _private_memory(fd, os.fstat(fd).st_size) if not most_bytes else _copied(fd, most_bytes)
    frames, at = [], 0
    for size in sizes:
        if at + size > memory.nbytes:
            raise ProtocolError("a parcel's memory is shorter than its header claims")
        frames.append(memory[at : at + size])
        at += _aligned(size)
    return frames


def _private_memory(fd: int, size: int) -> memoryview:
    if size >= MAP_BYTES:
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY, **_MAP_OPTIONS))
    return _read_all(fd, size)  # copying a small one is as fast as mapping it, and keeps no descriptor


def _copied(fd: int, most_bytes: int) -> memoryview:
    """Return a copy of the memory of a sender who is not trusted: a file of another kind could block its reader."""
    if hasattr(fcntl, "F_GET_SEALS"):
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # fails for anything but shared memory
    size = os.fstat(fd).st_size
    if size > most_bytes:
        raise ProtocolError(f"a parcel has {size:,} bytes; the most is {most_bytes:,}")
    return _read_all(fd, size)


def _read_all(fd: int, size: int) -> memoryview:
    memory = bytearray(size)
    view = memoryview(memory)
    at = 0
    while at < size:
        got = os.preadv(fd, [view[at:]], at)
        if not got:
            break
        at += got
    return view


class Channel:
    """One end of the channel; `hears` and `speaks` are its codecs for receiving and sending."""

    def __init__(self, sock: socket.socket, hears: PacketCodec, speaks: PacketCodec) -> None:
        self.socket = sock
        self.refer: Refer | None = None  # refers to large buffers in files
        self._hears, self._speaks = hears, speaks

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Return the hub's end, which never blocks, and the worker's socket, which does."""
        near, far = socket.socketpair(socket.AF_UNIX, PACKET)
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        near.setblocking(False)
        return cls(near, from_worker, to_worker), far

    @classmethod
    def of_worker(cls, fd: int) -> Channel:
        sock = socket.socket(fileno=fd)
        sock.setblocking(True)
        return cls(sock, to_worker, from_worker)

    def send(self, number: int, message: Message) -> None:
        """Send a message, blocking while the socket is full (the worker's way); raises OSError."""
        parcel = pack(self._speaks, number, message, self.refer)
        try:
            self.post(parcel)
        finally:
            parcel.close()

    def post(self, parcel: Parcel) -> None:
        """Send a parcel, which the caller still owns; raises BlockingIOError if the far end is full."""
        if parcel.fd < 0:
            self.socket.send(parcel.datagram)
        else:
            rights = array.array("i", [parcel.fd])
            self.socket.sendmsg([parcel.datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def receive(self) -> tuple[int, Any] | None:
        """Return the next message and its slice's number; None if the other end is gone.

        Raises
        ------
        BlockingIOError
            At the hub's end, if there is none.
        ProtocolError
            If the other end wrote anything but a message.
        """
        datagram, fd = receive_datagram(self.socket)
        return unpack(self._hears, datagram, fd) if datagram else None

    def close(self) -> None:
        self.socket.close()


def receive_datagram(sock: socket.socket, flags: int = 0) -> tuple[bytes, int]:
    """Return one datagram and its descriptor, or -1; an empty datagram if the other end is gone."""
    datagram, ancillary, _, _ = sock.recvmsg(INLINE_BYTES + 64, _ANCILLARY, flags | _CLOSE_ON_EXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += array.array("i", data[: len(data) // 4 * 4])
    for extra in fds[1:]:
        os.close(extra)
    return datagram, fds[0] if fds else -1


def peek_number(datagram: bytes) -> int:
    """Return the slice's number of a datagram that was read back; 0 for a blob."""
    return int.from_bytes(datagram[:8], "little")


__all__ = [
    "Channel",
    "DropBlob",
    "Parcel",
    "from_worker",
    "pack",
    "peek_number",
    "receive_datagram",
    "to_worker",
    "unpack",
]
