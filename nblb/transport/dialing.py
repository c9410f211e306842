"""Which line leads to an address, and which of a core's addresses is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nblb.protocol.framing import Codec, Find, Refer
from nblb.protocol.messages import Message
from nblb.transport.local_line import SCHEME, LocalLine


class Dialled(Protocol):
    """A party's connection to the core, over whatever it leads."""

    address: str
    connected: bool
    connections: int
    ready: list[int]
    unsent_bytes: int

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]: ...
    def send(self, messages: Sequence[Message]) -> None: ...
    def send_ahead(self, message: Message) -> None: ...
    def share(self, find: Find | None, refer: Refer | None) -> None: ...
    def close(self) -> None: ...


def dial(address: str, speaks: Codec, hears: Codec, max_message_mb: int = 1024) -> Dialled:
    """A line to this address; it dials for ever."""
    if address.startswith(SCHEME):
        return LocalLine(address, speaks, hears, max_message_mb)
    from nblb.transport.line import Line  # ZeroMQ is loaded by those who need it

    return Line(address, speaks, hears, max_message_mb)


def local_address(folder: Path, door: str) -> str:
    """Where the core of this runtime folder listens for parties on its computer; it need not be there yet."""
    return f"{SCHEME}{folder}/{door}.local"


def best_address(addresses: Mapping[str, str], door: str, zeromq: bool = False) -> str:
    """Of those that a core has written down (for sockets of ZeroMQ, if so); "" where there is none."""
    local = "" if zeromq else addresses.get(f"{door}_local", "")
    return local or addresses.get(door) or addresses.get(f"{door}_tcp") or ""
