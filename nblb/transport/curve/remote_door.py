"""A door for parties on other computers: a ROUTER of its own, whose every message has the key of its connection."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from nblb.access.key_store import key_mark
from nblb.errors import NblbError
from nblb.protocol.framing import Buffer, Codec, Find
from nblb.transport.curve.keys import KeyPair, guard
from nblb.transport.door import Arrived, Door
from nblb.transport.sockets import notice_silence
from nblb.transport.zmq_router import ZmqRouter

PREFIX = "remote-"  # of the addresses of these parties, in front of "client:" or "hub:"
USER_ID, SOCKET_FD = "User-Id", zmq.SRCFD


@dataclass(frozen=True)
class Guard:
    """The core's key pair, the address on which it listens, and who is let in (see zap.ZapHandler)."""

    pair: KeyPair
    ip: str
    admits: Callable[[str, str], bool]


class RemoteDoor(Door):
    """A Door whose messages carry the key of their sender; its files are those whose names begin with its mark."""

    is_remote = True
    socket: ZmqRouter

    def __init__(self, door: Door, hears: Codec, speaks: Codec) -> None:
        super().__init__(f"{door.name}_remote", f"{PREFIX}{door.kind}", door.key, hears, speaks)
        self._find: Find | None = None
        self._key, self._fd = "", -1

    def share(self, find: Find) -> None:
        self._find = find

    def bind(self, guarded: Guard, port: int) -> str:
        """Listen; return the address. Raises NblbError."""
        socket = self.socket.socket
        guard(socket, guarded.pair)
        socket.setsockopt(zmq.IPV6, ":" in guarded.ip)
        notice_silence(socket)
        host = f"[{guarded.ip}]" if ":" in guarded.ip else guarded.ip
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            what = "is taken by another program" if error.errno == errno.EADDRINUSE else f"fails: {error.strerror}"
            raise NblbError(
                f"{self.key}: listening on {guarded.ip} port {port} {what}; choose another port or LB_IP."
            ) from None
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def next(self) -> bytes:
        """Begin to take the next message, and its sender's key; return the sender's identity."""
        frame = self.socket.next_frame()
        self._key, self._fd = str(frame.get(USER_ID)), int(frame.get(SOCKET_FD))
        return frame.bytes

    def read(self, frames: list[Buffer]) -> Arrived:
        """Return the message with the key of its sender."""
        self.reader.find = self._own_file if self._find is not None else None
        return super().read(frames)._replace(key=self._key, fd=self._fd)

    def _own_file(self, name: str, at: int, nbytes: int) -> Any:
        """Find a file that this party has sent; no other may be named."""
        assert self._find is not None
        if name[:8] != key_mark(self._key):
            raise ValueError(f"the file {name[:60]!r} is not one of the sender's")
        return self._find(name, at, nbytes)
