"""What every ZeroMQ socket of nblb shares: its bounds, and how a multipart message is read and written."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from nblb.protocol.framing import MAX_FRAMES, Buffer
from nblb.transport.batching import FLUSH_S, MIB

HIGH_WATER = 32  # multipart messages inside ZeroMQ for one peer
SILENCE_S = 5  # after which TCP asks whether the other end is still there; three times, then the connection is over


def read_frames(socket: zmq.Socket[bytes], small: int, first: bytes | None = None) -> list[Buffer]:
    """One multipart message that is there, or the rest of one; all but `small` frames without a copy.

    Raises zmq.Again if there is none.
    """
    frames: list[Buffer] = [socket.recv(zmq.NOBLOCK) if first is None else first]
    while len(frames) < small and socket.getsockopt(zmq.RCVMORE):
        frames.append(socket.recv())
    has_more = len(frames) == small and bool(socket.getsockopt(zmq.RCVMORE))
    while has_more:
        frame = socket.recv(copy=False)
        if len(frames) <= MAX_FRAMES + 1:  # the others are read and not kept: the codec refuses by their number
            frames.append(frame.buffer)
        has_more = frame.more
    return frames


def skip_frames(socket: zmq.Socket[bytes]) -> int:
    """The rest of a multipart message, for nothing; how many frames it had."""
    number, has_more = 1, bool(socket.getsockopt(zmq.RCVMORE))
    while has_more:
        has_more = socket.recv(copy=False).more
        number += 1
    return number


def write_frames(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    socket.send_multipart(frames, zmq.NOBLOCK, copy=len(frames) <= 4)


def bound(socket: zmq.Socket[bytes], max_message_mb: int) -> None:
    socket.setsockopt(zmq.MAXMSGSIZE, max_message_mb * MIB)
    socket.setsockopt(zmq.LINGER, int(1000 * FLUSH_S))
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)


def notice_silence(socket: zmq.Socket[bytes]) -> None:
    """For TCP alone: on a Unix socket a stopped process keeps its place, and finds all of it when it goes on.

    By the kernel and not by ZeroMQ's heartbeats: those abort the process (libzmq 4.3.5, out_event) when they come due
    on a connection whose peer has hung up while what it had said was not yet read.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, SILENCE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, SILENCE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)
    socket.setsockopt(zmq.TCP_MAXRT, 3 * SILENCE_S * 1000)  # for what was sent and is not acknowledged
