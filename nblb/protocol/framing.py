"""Encodes messages as frames and decodes them; no other module depends on the layout of frames.

One multipart message of ZeroMQ carries a list of nblb messages:

    frame 0   b"nblb1"      the version of this layout
    frame 1   JSON          a list of messages (see messages/), with each payload replaced by its layout
    frame 2   small bytes   the small buffers of all payloads, end to end in the order of the layouts
    frame 3.. large buffers of LARGE bytes and more, one frame each

The layout of a payload is a number (one buffer of that many small bytes, or minus one for one large
frame), a list of such numbers (several buffers), or {"items": [sizes]} (one buffer with many items). In a list,
{"file": name, "at": offset, "size": bytes} stands for a buffer in a file that both sides see; the shell that makes
the Reader finds the file, and decides which buffers to name instead of sending them. Every number is checked before
it is used: malformed input raises only ProtocolError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

import msgspec

from nblb.errors import ProtocolError
from nblb.user_text import clean

Buffer: TypeAlias = "bytes | bytearray | memoryview"

VERSION = b"nblb1"
LARGE = 64 * 1024
MAX_FRAMES = 4096
PIECE = 64  # items in one pickle, for a payload with fewer sizes than items
IN_MEMORY = (bytes, bytearray, memoryview)


class Away(Protocol):
    """The place of a payload's bytes while they are not in memory."""

    @property
    def nbytes(self) -> int: ...

    def read(self) -> tuple[Buffer, ...]:
        """Return all buffers."""

    def cut(self, start: int, end: int) -> bytes:
        """Return a part of the first buffer."""


class Part(Protocol):
    """One buffer in a file."""

    name: str  # of the file, in the folder that both sides share
    at: int
    nbytes: int

    @property
    def is_copied(self) -> bool:
        """Return True if the core has only a copy of the file, under another name."""

    def read(self) -> Buffer:
        """Return the bytes; raise OSError if the file can no longer be read."""


Find: TypeAlias = "Callable[[str, int, int], Part | Buffer]"  # name, offset, size; raises ValueError
# returns True if this part may be named instead of sent, or the name to use for it
Refer: TypeAlias = "Callable[[Part], bool | str]"


class Scattered:
    """A payload with some buffers in files; an Away."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Buffer | Part]) -> None:
        self.parts = tuple(parts)

    @property
    def nbytes(self) -> int:
        return sum(map(_nbytes, self.parts))

    def read(self) -> tuple[Buffer, ...]:
        return tuple(part if isinstance(part, IN_MEMORY) else part.read() for part in self.parts)

    def cut(self, start: int, end: int) -> bytes:
        first = self.parts[0]
        return bytes(memoryview(first if isinstance(first, IN_MEMORY) else first.read())[start:end])


def _nbytes(buffer: Buffer | Part) -> int:
    if type(buffer) is bytes:
        return len(buffer)
    return memoryview(buffer).nbytes if isinstance(buffer, IN_MEMORY) else buffer.nbytes


class Payload:
    """Pickled bytes that only clients and workers load; the processes between carry them unopened.

    `buffers` are bytes-like objects: the pickle first, then its out-of-band buffers. If `sizes` is not empty, there is
    one buffer with `len(sizes)` items of these sizes, or pieces of PIECE items, and `slice` cuts it. The bytes may be
    in a file (`put_away`); each access then reads them, without keeping them in memory.
    """

    __slots__ = ("_away", "_buffers", "_starts", "sizes")

    def __init__(self, buffers: Sequence[Buffer] = (), sizes: Sequence[int] = (), away: Away | None = None) -> None:
        self._buffers = tuple(buffers)
        self.sizes = tuple(sizes)
        self._starts: list[int] | None = None
        self._away = away

    @classmethod
    def of(cls, buffers: Sequence[Buffer | Part]) -> Payload:
        """Return the payload of these buffers, which may be in memory or in files."""
        if all(isinstance(buffer, IN_MEMORY) for buffer in buffers):
            return cls(buffers)  # type: ignore[arg-type]
        return cls((), (), Scattered(buffers))

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return self._buffers if self._away is None else self._away.read()

    @property
    def parts(self) -> tuple[Buffer | Part, ...] | None:
        """The buffers, with places for those in files; None if no buffer is in a file."""
        return self._away.parts if type(self._away) is Scattered else None

    @property
    def is_away(self) -> bool:
        return self._away is not None

    @property
    def away(self) -> Away | None:
        """The place of the bytes while they are not in memory."""
        return self._away

    def put_away(self, away: Away) -> None:
        """Replace the bytes in memory by their place."""
        self._away, self._buffers = away, ()

    @property
    def nbytes(self) -> int:
        if self._away is not None:
            return self._away.nbytes
        if len(self._buffers) == 1 and type(self._buffers[0]) is bytes:  # by far the most common case
            return len(self._buffers[0])
        return sum(memoryview(buffer).nbytes for buffer in self._buffers)

    def slice(self, first: int, items: int) -> Payload:
        """Return the payload of `items` items from `first` on; the whole payload is not copied."""
        if first == 0 and items == len(self.sizes):
            return self
        if self._starts is None:
            self._starts = [0, *accumulate(self.sizes)]
        start, end = self._starts[first], self._starts[first + items]
        cut = bytes(memoryview(self._buffers[0])[start:end]) if self._away is None else self._away.cut(start, end)
        return Payload((cut,), self.sizes[first : first + items])

    def part(self, first: int, items: int, of: int) -> Payload:
        """Return the payload of these of its `of` items: the items alone, or the pieces that contain them."""
        if len(self.sizes) == of:
            return self.slice(first, items)
        start, end = first // PIECE, pieces(first + items)
        return self.slice(start, end - start)

    def items(self) -> list[memoryview]:
        """Return each item's bytes, for a payload with `sizes`."""
        whole, at, cuts = memoryview(self.buffers[0]), 0, []
        for size in self.sizes:
            cuts.append(whole[at : at + size])
            at += size
        return cuts

    def tobytes(self) -> bytes:
        """Return all buffers in one piece, with their layout in front, as the journal stores them."""
        buffers = self.buffers
        layout = msgspec.json.encode([list(self.sizes), [memoryview(b).nbytes for b in buffers]])
        return b"".join([len(layout).to_bytes(4, "big"), layout, *buffers])

    @classmethod
    def frombytes(cls, stored: Buffer) -> Payload:
        """Return the payload from the bytes of `tobytes`; its buffers are views of `stored`."""
        view = memoryview(stored)
        start = 4 + int.from_bytes(view[:4], "big")
        sizes, lengths = msgspec.json.decode(view[4:start])
        buffers = []
        for length in lengths:
            buffers.append(view[start : start + length])
            start += length
        return cls(buffers, sizes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Payload):
            return NotImplemented
        return self.sizes == other.sizes and [bytes(b) for b in self.buffers] == [bytes(b) for b in other.buffers]

    __hash__ = None  # type: ignore[assignment]  # buffers may be writable

    def __repr__(self) -> str:
        return f"<Payload {self.nbytes:,} bytes in {len(self.buffers)} buffers>"


def pieces(items: int) -> int:
    """Return the number of pieces for `items` items."""
    return -(-items // PIECE)


class _Gather:
    """Replaces payloads by their layouts while the header is encoded, and collects the bytes."""

    __slots__ = ("large", "refer", "small")

    def __init__(self, refer: Refer | None) -> None:
        self.small: list[Buffer] = []
        self.large: list[Buffer] = []
        self.refer = refer

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, Payload):
            raise TypeError(f"{type(value).__name__} is not part of a message")
        if value.sizes:
            self.small.append(value.buffers[0])
            return {"items": value.sizes}
        if self.refer is not None and (parts := value.parts) is not None:
            return [self._part(part, self.refer) for part in parts]
        numbers = [self._one(b) for b in value.buffers]
        return numbers[0] if len(numbers) == 1 else numbers

    def _part(self, part: Buffer | Part, refer: Refer) -> int | dict[str, Any]:
        if isinstance(part, IN_MEMORY):
            return self._one(part)
        if named := refer(part):
            return {"file": part.name if named is True else named, "at": part.at, "size": part.nbytes}
        return self._one(part.read())

    def _one(self, buffer: Buffer) -> int:
        size = len(buffer) if isinstance(buffer, bytes) else memoryview(buffer).nbytes
        if size >= LARGE and len(self.large) < MAX_FRAMES - 3:  # further ones join the small bytes
            self.large.append(buffer)
            return -1
        self.small.append(buffer)
        return size


class _Deal:
    """Turns layouts back into payloads while the header is decoded; refuses layouts that do not fit the bytes."""

    __slots__ = ("at", "find", "large", "next_large", "small")

    def __init__(self, small: memoryview, large: Sequence[Buffer], find: Find | None = None) -> None:
        self.small, self.large, self.find = small, large, find
        self.at = self.next_large = 0

    def __call__(self, kind: type, value: Any) -> Any:
        if kind is not Payload:
            raise ProtocolError(f"a message may not hold a {kind.__name__}")
        if isinstance(value, int):
            return Payload((self._one(value),))
        if isinstance(value, list):
            if any(type(number) is dict for number in value):
                return Payload.of([self._part(n) if type(n) is dict else self._one(n) for n in value])
            return Payload([self._one(number) for number in value])
        sizes = value.get("items") if isinstance(value, dict) else None
        if not isinstance(sizes, list) or not all(type(n) is int and n >= 0 for n in sizes):
            raise ProtocolError("a payload's layout is neither a size, nor sizes, nor items")
        return Payload((self._take(sum(sizes)),), sizes)

    def _part(self, said: dict[str, Any]) -> Buffer | Part:
        name, at, size = said.get("file"), said.get("at"), said.get("size")
        if type(name) is not str or type(at) is not int or type(size) is not int or at < 0 or size < 1:
            raise ProtocolError("a payload's layout names a file without saying where in it")
        if self.find is None:
            raise ProtocolError("a message names a file, but the parties have not agreed to share files")
        try:
            return self.find(name, at, size)
        except ValueError as error:
            raise ProtocolError(f"a message names a file that cannot be shared: {error}") from None

    def _one(self, number: Any) -> Buffer:
        if type(number) is not int:
            raise ProtocolError("a payload's layout holds something that is not a number")
        if number >= 0:
            return self._take(number)
        if self.next_large >= len(self.large):
            raise ProtocolError("a message announces more large buffers than it carries")
        self.next_large += 1
        return self.large[self.next_large - 1]

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.small):
            raise ProtocolError("a message announces more bytes than it carries")
        taken = bytes(self.small[self.at : end])
        self.at = end
        return taken

    def close(self) -> None:
        if self.at != len(self.small) or self.next_large != len(self.large):
            raise ProtocolError("a message carries more bytes than it announces")


def _as_text(value: Any) -> Any:
    """Return the same messages with all lone surrogates escaped."""
    if isinstance(value, str):
        return clean(value, len(value))
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **{name: _as_text(field) for name, field in fields.items()})
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_text(item) for item in value]
    return value


class Codec:
    """Encodes and decodes one vocabulary: a union of msgspec.Struct types, distinguished by their tags.

    Each direction between two kinds of parties has its own Codec (see messages/), so a door accepts only the
    messages that are allowed there.
    """

    def __init__(self, vocabulary: Any) -> None:
        self._type = list[vocabulary]

    def encode(self, messages: Iterable[Any], refer: Refer | None = None) -> list[Buffer]:
        """Return the frames of `messages`; buffers in files that `refer` accepts are named, not included."""
        gather, messages = _Gather(refer), list(messages)
        try:
            header = msgspec.json.encode(messages, enc_hook=gather)
        except UnicodeEncodeError:  # lone surrogates, which UTF-8 cannot encode
            gather = _Gather(refer)
            header = msgspec.json.encode(_as_text(messages), enc_hook=gather)
        if not gather.small and not gather.large:
            return [VERSION, header]
        return [VERSION, header, b"".join(gather.small), *gather.large]

    def reader(self, find: Find | None = None) -> Reader:
        """Return a reusable decoder for one thread, as making one costs more than decoding a short message."""
        return Reader(self._type, find)

    def decode(self, frames: Sequence[Buffer]) -> list[Any]:
        """Return the messages in `frames`; raise ProtocolError if they are malformed."""
        return self.reader().decode(frames)


class Reader:
    """Decodes the messages of one vocabulary, in one thread; `find` finds the buffers in files."""

    def __init__(self, kind: Any, find: Find | None = None) -> None:
        self.find = find
        self._deal = _Deal(memoryview(b""), ())
        self._decoder = msgspec.json.Decoder(kind, dec_hook=self._hook)

    def _hook(self, kind: type, value: Any) -> Any:
        return self._deal(kind, value)

    def decode(self, frames: Sequence[Buffer]) -> list[Any]:
        """Return the messages in `frames`.

        Raises
        ------
        ProtocolError
            The frames are malformed.
        """
        if len(frames) < 2 or bytes(frames[0]) != VERSION:
            said = bytes(frames[0])[:16] if frames else b""
            raise ProtocolError(f"not an nblb message, or another version of it (this is {VERSION!r}, that {said!r})")
        if len(frames) > MAX_FRAMES:
            raise ProtocolError(f"a message of {len(frames)} frames is more than the {MAX_FRAMES} that are read")
        return self.decode_parts(frames[1], frames[2] if len(frames) > 2 else b"", frames[3:])

    def decode_parts(self, header: Buffer, small: Buffer, large: Sequence[Buffer]) -> list[Any]:
        """Return the messages of a header, its small bytes and its large buffers, from any transport."""
        deal = self._deal = _Deal(memoryview(small), large, self.find)
        try:
            messages: list[Any] = self._decoder.decode(header)
        except ProtocolError:
            raise
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError, OverflowError) as error:
            raise ProtocolError(f"the header of a message is wrong: {error}") from None
        deal.close()
        return messages
