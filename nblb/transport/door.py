"""A door of the core, and the messages that arrive there from any kind of socket."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, TypeAlias

import msgspec

from nblb.errors import ProtocolError
from nblb.protocol.framing import VERSION, Buffer, Codec, Find
from nblb.transport.unix_router import UnixRouter
from nblb.transport.zmq_router import ZmqRouter

WORD = VERSION[:4]  # common to all versions of the protocol


class Arrived(NamedTuple):
    """The contents of one multipart message: messages, or a JSON request, or the error if it is neither."""

    sender: str
    messages: list[Any] | None = None
    json: Any = None
    error: ProtocolError | None = None
    key: str = ""  # of a party on another computer: the public key that it has proved to own …
    fd: int = -1  # … and the descriptor of its connection


RouterSocket: TypeAlias = "UnixRouter | ZmqRouter"


class Door:
    """One ROUTER socket with the codecs for the messages that it receives and sends."""

    is_remote = False  # its parties are on other computers (curve/remote_door.py)

    def __init__(self, name: str, kind: str, key: str, hears: Codec, speaks: Codec) -> None:
        self.name, self.kind, self.key, self.speaks = name, kind, key, speaks
        self.codecs = hears, speaks
        self.reader = hears.reader()
        self.socket: RouterSocket = None  # type: ignore[assignment]  # until open()
        self.is_stirred = True  # input may be left over, so ask the socket, whose descriptor may be edge-triggered

    @property
    def is_for_hubs(self) -> bool:
        return self.kind.endswith("hub")

    def next(self) -> bytes:
        """Begin to take the next message, and return the identity of its sender."""
        return self.socket.next()

    def share(self, find: Find) -> None:
        """Allow messages to name files from here on."""
        self.reader.find = find

    def read(self, frames: list[Buffer]) -> Arrived:
        identity = bytes(frames[0])
        if len(frames) > 1 and frames[1][: len(WORD)] == WORD:
            address = f"{self.kind}:{identity.hex()}"
            try:
                return Arrived(address, self.reader.decode(frames[1:]))
            except ProtocolError as error:
                # a new exception, since this one's traceback keeps the frames alive until a garbage collection
                return Arrived(address, error=ProtocolError(str(error)))
        return self._read_json(identity, frames)

    def _read_json(self, identity: bytes, frames: list[Buffer]) -> Arrived:
        """Read a request of a REQ socket: its envelope up to an empty frame, and one frame of JSON."""
        parts = [bytes(frame) for frame in frames[1:3]]
        end = parts.index(b"") if b"" in parts else -1  # a REQ_CORRELATE socket puts the request's number before it
        bare = end < 0 and len(frames) == 2 and parts[0][:1] == b"{"
        if (end < 0 and not bare) or (end == 1 and len(parts[0]) > 16):
            said = parts[0][:16] if parts else b""
            return Arrived(
                f"{self.kind}:{identity.hex()}", error=ProtocolError(f"not an nblb message: it begins with {said!r}")
            )
        envelope = [identity, *parts[: end + 1]]
        address = f"json-{self.name}:{'.'.join(part.hex() for part in envelope)}"
        if len(frames) != len(envelope) + 1:
            return Arrived(address, error=ProtocolError("a JSON request must be one frame"))
        try:
            return Arrived(address, json=msgspec.json.decode(frames[-1]))
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as error:
            return Arrived(address, error=ProtocolError(f"the request is not JSON: {error}"))


RETRY_S = (0.001, 0.2)  # first and longest pause before a send to a slow ZeroMQ peer is retried


class Outbox:
    """The unsent messages of a slow peer, in order."""

    __slots__ = ("nbytes", "pause_s", "try_at", "waiting", "withheld")

    def __init__(self, now: float) -> None:
        self.waiting: deque[tuple[list[Buffer], int]] = deque()
        self.nbytes = 0
        self.pause_s = RETRY_S[0]
        self.try_at = now + self.pause_s
        self.withheld = False
