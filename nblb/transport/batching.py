"""What both kinds of sockets share: their bounds, and messages in runs that each make one multipart message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nblb.protocol.framing import Buffer
from nblb.protocol.messages import Message

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
