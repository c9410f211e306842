"""A ROUTER socket of ZeroMQ's own library, for connections over TCP."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from nblb.protocol.framing import Buffer
from nblb.transport.sockets import bound, read_frames, skip_frames, write_frames

SMALL_FRAMES = 4  # at the beginning of a message, which are copied


class ZmqRouter:
    """A ROUTER with the same methods as UnixRouter; what fails raises ZMQError, and Again instead of blocking."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], max_message_mb: int) -> None:
        self.socket = context.socket(zmq.ROUTER)
        bound(self.socket, max_message_mb)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an undeliverable message raises
        self._identity = b""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable, once, when messages arrive."""
        return int(self.socket.getsockopt(zmq.FD))

    def has_input(self) -> bool:
        """Return True if a message has arrived."""
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def next(self) -> bytes:
        """Begin to take the next message, and return the identity of its sender."""
        self._identity = self.socket.recv(zmq.NOBLOCK)
        return self._identity

    def next_frame(self) -> zmq.Frame:
        """Do the same as `next`; return the frame, which knows the connection."""
        frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        self._identity = frame.bytes
        return frame

    def rest(self) -> list[Buffer]:
        """Return the message that `next` has begun to take, its sender's identity first."""
        return read_frames(self.socket, SMALL_FRAMES, self._identity)

    def skip(self) -> int:
        """Drop the message that `next` has begun to take; return the number of its frames."""
        return skip_frames(self.socket)

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message to the identity in its first frame."""
        write_frames(self.socket, frames)

    def close(self) -> None:
        """Close the socket; its context waits for messages on their way."""
        self.socket.close()
