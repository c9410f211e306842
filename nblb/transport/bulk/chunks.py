"""The words of the bulk door; pure.

    GET name.ticket, at        →  GET name.ticket, at, size of the file | chunk
    PUT name, at | chunk       →  PUT name, at
    DROP name                  →  (nothing)
    KEEP prefix                →  (nothing)
    any of them                →  FAIL name, at | why

A party has at most WINDOW chunks on their way in each direction, so that one that is slow holds up nobody. Each
request can be repeated: chunks have a place, and nothing is kept between them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from nblb.errors import ProtocolError

CHUNK = 1 << 20
WINDOW = 8
LONGEST_NAME = 128
GET, PUT, DROP, KEEP, FAIL = b"G", b"P", b"D", b"K", b"F"

_HEAD = struct.Struct("<cQQ")


class Head(NamedTuple):
    """The first frame of a request or a reply."""

    word: bytes
    at: int
    size: int
    name: str


def packed(word: bytes, name: str, at: int = 0, size: int = 0) -> bytes:
    """Return the first frame."""
    return _HEAD.pack(word, at, size) + name.encode("ascii", "replace")


def unpacked(frame: bytes) -> Head:
    """Return what a first frame says; raise ProtocolError if it is none."""
    if not _HEAD.size <= len(frame) <= _HEAD.size + LONGEST_NAME:
        raise ProtocolError(f"a request of {len(frame)} bytes is none of the bulk door's")
    word, at, size = _HEAD.unpack_from(frame)
    try:
        return Head(word, at, size, frame[_HEAD.size :].decode("ascii"))
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the name in a request is not ASCII: {error}") from None


class Chunks:
    """The chunks of one file that are still to be moved, in order; those on their way are sent again after a cut."""

    __slots__ = ("_left", "_on_their_way", "size")

    def __init__(self, size: int | None) -> None:
        self.size = size  # None until the first reply has told it
        self._left = [0] if size is None else list(range(0, size, CHUNK))[::-1]
        self._on_their_way: dict[int, None] = {}

    @property
    def on_their_way(self) -> int:
        return len(self._on_their_way)

    @property
    def is_done(self) -> bool:
        """True when every chunk has been moved; an empty file has none."""
        return self.size is not None and not self._left and not self._on_their_way

    @property
    def left_bytes(self) -> int:
        """The bytes that have not arrived, about."""
        return CHUNK * (len(self._left) + len(self._on_their_way))

    def take(self) -> int | None:
        """Return the place of the next chunk to ask for or to send; None if there is none now."""
        if not self._left:
            return None
        at = self._left.pop()
        self._on_their_way[at] = None
        return at

    def moved(self, at: int) -> bool:
        """Note that a chunk has arrived; return False if it was not awaited."""
        if at not in self._on_their_way:
            return False
        del self._on_their_way[at]
        return True

    def learn(self, size: int) -> None:
        """Take the size of the file from the first reply."""
        if self.size is None:
            self.size = size
            self._left += list(range(CHUNK, size, CHUNK))[::-1]

    def again(self) -> None:
        """Put what was on its way back: the connection was cut."""
        self._left += sorted(self._on_their_way, reverse=True)
        self._on_their_way.clear()
