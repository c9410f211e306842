"""What every ZeroMQ socket of nblb shares: its bounds, and how a multipart message is read and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq

from nblb.protocol.framing import MAX_FRAMES, Buffer
from nblb.protocol.messages import Message

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


def holder_of(port: int, runtime_base: Path) -> str:
    """As far as this account can see; a clause that goes on after "is taken"."""
    for file in runtime_base.glob("*/core.json"):
        try:
            core = msgspec.json.decode(file.read_bytes())
            if any(address.endswith(f":{port}") for address in core["addresses"].values()):
                return f" by the core {core['name']!r} (pid {core['pid']})"
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
            continue
    import psutil  # only when something is wrong already

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return " by another program"


MIB = 1024 * 1024
TURN_MESSAGES = 1000  # multipart messages taken in one turn, so that a flood cannot hold back the clock …
TURN_WORDS = 4000  # … and, about, messages in them: each may hold BATCH_MESSAGES
BATCH_MESSAGES = 1024  # messages in one multipart message
BATCH_BYTES = MIB  # … unless one message alone is larger
FLUSH_S = 0.2  # at most this long a closing socket waits for its last messages to leave


def batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in runs that each make a multipart message of a reasonable size."""
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
    """The same, beginning with another each turn."""
    if len(things) < 2:
        return things
    at = turn % len(things)
    return things[at:] + things[:at]
