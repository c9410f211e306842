"""Chooses the line for an address, and the best of a core's addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nblb.access import connection_file
from nblb.protocol.framing import Codec, Find, Refer
from nblb.protocol.messages import Message
from nblb.transport.local_line import SCHEME, LocalLine


class Dialled(Protocol):
    """A party's connection to the core, over either kind of socket."""

    address: str
    connected: bool
    connections: int
    ready: list[int]
    longest_silence_s: float

    @property
    def unsent_bytes(self) -> int: ...

    @property
    def peer_pid(self) -> int: ...

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]: ...
    def send(self, messages: Sequence[Message]) -> None: ...
    def send_ahead(self, message: Message) -> None: ...
    def share(self, find: Find | None, refer: Refer | None) -> None: ...
    def close(self) -> None: ...


def dial(address: str, speaks: Codec, hears: Codec, max_message_mb: int = 1024, files: bool = True) -> Dialled:
    """Return a line to this address; the line reconnects for ever.

    An address with a connection file (connection_file.address) is a core's on another computer. Without `files` the
    line moves none, which is enough for a question.
    """
    if address.startswith(SCHEME):
        return LocalLine(address, speaks, hears, max_message_mb)
    plain, file = connection_file.split(address)
    if file is not None:
        from nblb.transport.bulk.line import RemoteLine
        from nblb.transport.curve.line import CurveLine

        found = connection_file.read(file)
        door = "clients" if address == found.address("clients") else "hubs"
        if not files:
            return CurveLine(found, speaks, hears, max_message_mb, door)
        return RemoteLine(found, speaks, hears, max_message_mb, door)
    from nblb.transport.line import Line  # so that ZeroMQ is loaded only where it is needed

    return Line(plain, speaks, hears, max_message_mb)


def local_address(folder: Path, door: str) -> str:
    """Return the address at which this runtime folder's core listens locally, even before it has started."""
    return f"{SCHEME}{folder}/{door}.local"


def best_address(addresses: Mapping[str, str], door: str, zeromq: bool = False) -> str:
    """Return the best of a core's recorded addresses (for ZeroMQ sockets if `zeromq`); "" if there is none."""
    local = "" if zeromq else addresses.get(f"{door}_local", "")
    return local or addresses.get(door) or addresses.get(f"{door}_tcp") or ""
