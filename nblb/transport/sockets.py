"""Common settings of nblb's ZeroMQ sockets, and the reading and batching of multipart messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

from nblb.protocol.framing import MAX_FRAMES, Buffer
from nblb.protocol.messages import Message

HIGH_WATER = 32  # multipart messages inside ZeroMQ for one peer
SILENCE_S = 5  # of silence before a TCP keepalive probe; after three without an answer the connection ends


def read_frames(socket: zmq.Socket[bytes], small: int, first: bytes | None = None) -> list[Buffer]:
    """Return an arrived multipart message, or the rest of one; all but the first `small` frames without a copy.

    Raise zmq.Again if there is none.
    """
    frames: list[Buffer] = [socket.recv(zmq.NOBLOCK) if first is None else first]
    while len(frames) < small and socket.getsockopt(zmq.RCVMORE):
        frames.append(socket.recv())
    has_more = len(frames) == small and bool(socket.getsockopt(zmq.RCVMORE))
    while has_more:
        frame = socket.recv(copy=False)
        if len(frames) <= MAX_FRAMES + 1:  # the others are read and dropped: the codec refuses a message with more
            frames.append(frame.buffer)
        has_more = frame.more
    return frames


def skip_frames(socket: zmq.Socket[bytes]) -> int:
    """Read and drop the rest of a multipart message; return the number of its frames."""
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
    """Turn on keepalive for TCP connections; on a Unix socket a stopped process loses nothing and needs none.

    The kernel does it, not ZeroMQ's heartbeats, which abort the process (libzmq 4.3.5, out_event) if they come due on
    a connection whose peer has disconnected while its last messages were not yet read.
    """
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, SILENCE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, SILENCE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 2)
    socket.setsockopt(zmq.TCP_MAXRT, 3 * SILENCE_S * 1000)  # for sent data without a TCP acknowledgement


def holder_of(port: int, core_files: Iterable[Path]) -> str:
    """Return a clause that follows "is taken" and names the port's owner, as far as this account can see."""
    for file in core_files:
        try:
            core = msgspec.json.decode(file.read_bytes())
            if any(address.endswith(f":{port}") for address in core["addresses"].values()):
                return f" by the core {core['name']!r} (pid {core['pid']})"
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
            continue
    import psutil  # imported only for this error

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return " by another program"


MIB = 1024 * 1024
TURN_MESSAGES = 1000  # multipart messages read in one turn, so that a flood cannot delay timers …
TURN_WORDS = 4000  # … and, roughly, messages in them: each may contain BATCH_MESSAGES
BATCH_MESSAGES = 1024  # messages in one multipart message
BATCH_BYTES = MIB  # … unless one message alone is larger
FLUSH_S = 0.2  # longest wait of a closing socket for its last messages to leave


def batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield the messages in runs, each of a reasonable size for one multipart message."""
    start = size = 0
    for at, message in enumerate(messages):
        payload = getattr(message, "payload", None)
        if payload is not None:
            size += payload.nbytes
        if at > start and (size > BATCH_BYTES or at - start >= BATCH_MESSAGES):
            yield messages[start:at]
            start, size = at, payload.nbytes if payload is not None else 0
    if start < len(messages):
        yield messages[start:]


def frames_nbytes(frames: Sequence[Buffer]) -> int:
    return sum(len(frame) if isinstance(frame, bytes) else memoryview(frame).nbytes for frame in frames)


def turned(things: list[Any], turn: int) -> list[Any]:
    """Return the list rotated by `turn`, so that each turn begins with another element."""
    if len(things) < 2:
        return things
    at = turn % len(things)
    return things[at:] + things[:at]
