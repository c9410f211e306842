"""The files in which hubs store everything that tasks print and display, for any process with permission to read.

    FOLDER / record / FIRST-ATTEMPT.KIND.SEGMENT      KIND: "said" (stdout, stderr) or "shown" (displays)

A segment is HEAD, then chunks: CHUNK (length, item of the slice, stream) and the bytes. HEAD contains the size of the
slice's earlier output, so that a reader knows exactly how much is missing between two segments (bounds, a full disk).
A hub only appends, so a reader needs no lock, and ignores an incomplete last chunk.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nblb.protocol.framing import Buffer
from nblb.quantities import size

HEAD = struct.Struct("<8sQ")  # MAGIC, bytes of the slice's output that came before this segment
CHUNK = struct.Struct("<IIB3x")
MAGIC = b"nblbout1"
STREAMS = ("stdout", "stderr", "display")
READ_BYTES = 256 * 1024

_name = re.compile(r"(\d+)-(\d+)\.(said|shown)\.(\d+)")
_plain = re.compile(r"[A-Za-z0-9_-]{1,80}")


def folder_name(record: str) -> str:
    """Return the name of a submission's folder: its id, or a digest of an id that cannot be a file name."""
    if _plain.fullmatch(record):
        return record
    return "x." + hashlib.blake2b(record.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Segment(NamedTuple):
    attempt: int
    first: int
    number: int
    path: str


class Piece(NamedTuple):
    """A chunk in its file; `stream` is "" for a gap of `length` bytes that are not kept."""

    stream: str
    length: int
    path: str = ""
    at: int = 0

    def read(self) -> bytes:
        """Return the chunk's bytes; none if the file has been removed meanwhile."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.at)
                return file.read(self.length)
        except OSError:
            return b""


def segments(folder: str, record: str, kind: str) -> list[Segment]:
    """Return all segments of a submission, in order."""
    found = []
    with contextlib.suppress(OSError), os.scandir(f"{folder}/{folder_name(record)}") as entries:
        for entry in entries:
            match = _name.fullmatch(entry.name)
            if match is not None and match[3] == kind:
                found.append(Segment(int(match[2]), int(match[1]), int(match[4]), entry.path))
    return sorted(found)


def of_item(found: list[Segment], item: int) -> list[Segment]:
    """Return the segments that may have output of an item: an attempt's slices are disjoint, so the last before it."""
    first_of: dict[int, int] = {}
    for segment in found:
        if segment.first <= item:
            first_of[segment.attempt] = max(segment.first, first_of.get(segment.attempt, 0))
    return [segment for segment in found if first_of.get(segment.attempt) == segment.first]


def remove_folder(path: str | Path) -> int:
    """Remove the output files of a submission, and their folder unless something else is in it; follow no link.

    Returns
    -------
    int
        The number of bytes that were freed.
    """
    freed = others = 0
    with contextlib.suppress(OSError):
        if Path(path).is_symlink():
            return 0
        with os.scandir(path) as entries:
            for entry in entries:
                others += 1
                if _name.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                    held = entry.stat(follow_symlinks=False).st_size
                    Path(entry.path).unlink(missing_ok=True)
                    freed += held
                    others -= 1
        if not others:
            Path(path).rmdir()
    return freed


class Following:
    """A reader that returns the output of an item written since its last call."""

    def __init__(self, folder: str, record: str, item: int, kind: str = "said") -> None:
        self._what = folder, record, kind
        self._item = item
        self._at: tuple[int, int, int] = (-1, -1, -1)  # the segment read last, and the position in it
        self._offset = 0
        self._end = 0  # bytes of the slice's output read so far
        self._gap = 0  # reported only before this item's next output, as it may be of other items

    def new(self) -> Iterator[Piece]:
        """Yield the new pieces, in the order of writing."""
        for segment in of_item(segments(*self._what), self._item):
            if segment[:3] < self._at:
                continue
            try:
                with open(segment.path, "rb", READ_BYTES) as file:
                    yield from self._pieces(segment, file)
            except OSError:
                continue  # just removed: the next segment's head shows the gap

    def _pieces(self, segment: Segment, file: BinaryIO) -> Iterator[Piece]:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or not head.startswith(MAGIC):
            return
        if segment[:3] != self._at:
            before = HEAD.unpack(head)[1]
            seen = self._end if segment[:2] == self._at[:2] else 0
            self._gap = before - seen + (self._gap if segment[:2] == self._at[:2] else 0)
            self._at, self._offset, self._end = segment[:3], HEAD.size, before
        whole = os.fstat(file.fileno()).st_size
        file.seek(self._offset)
        while len(chunk := file.read(CHUNK.size)) == CHUNK.size:
            length, of, stream = CHUNK.unpack(chunk)
            at = self._offset + CHUNK.size
            if at + length > whole:
                return
            self._offset = at + length
            self._end += CHUNK.size + length
            file.seek(length, os.SEEK_CUR)
            if segment.first + of == self._item and stream < len(STREAMS):
                if self._gap > 0:
                    yield Piece("", self._gap)
                    self._gap = 0
                yield Piece(STREAMS[stream], length, segment.path, at)


class KeptOutput:
    """The stored output of one item, which is read on demand, one chunk at a time."""

    def __init__(self, folder: str, record: str, item: int, keeper: object = None) -> None:
        self._folder, self._record, self._item = folder, record, item
        self._keeper = keeper  # removes the folder, with the last reference to it

    @classmethod
    def of_segments(
        cls, record: str, item: int, numbers: Sequence[tuple[int, int, int]], contents: Sequence[Buffer]
    ) -> KeptOutput:
        """Return the output in segments from another computer, which are written to a folder for temporary files."""
        folder = tempfile.TemporaryDirectory(prefix="nblb-output-")
        place = Path(folder.name) / folder_name(record)
        place.mkdir(mode=0o700)
        for (attempt, first, number), content in zip(numbers, contents, strict=True):
            (place / f"{first}-{attempt}.said.{number}").write_bytes(content)
        return cls(folder.name, record, item, folder)

    def __bool__(self) -> bool:
        """Return True if there is any output."""
        return any(piece.stream for piece in self._following().new())

    def _following(self, kind: str = "said") -> Following:
        return Following(self._folder, self._record, self._item, kind)

    def text(self, stream: str = "") -> Iterator[str]:
        """Yield the text of a stream, in pieces; "": of both streams, in the order of writing."""
        yield from decoded(self._following().new(), stream)  # which keeps this object, and so its files

    def tail(self, lines: int, stream: str = "") -> str:
        """Return the last lines, without reading those before them."""
        pieces = [piece for piece in self._following().new() if piece.stream == stream or not (stream and piece.stream)]
        wanted, at = lines + 1, len(pieces)
        while at and wanted > 0:
            at -= 1
            wanted -= pieces[at].read().count(b"\n") if pieces[at].stream else 2
        found = "".join(decoded(iter(pieces[at:]), stream)).splitlines(keepends=True)
        return "".join(found[-lines:] if lines > 0 else ())

    def nbytes(self) -> dict[str, int]:
        """Return the bytes that each stream has written, stored or not; missing output is counted to stdout."""
        found: dict[str, int] = {}
        for piece in self._following().new():
            name = piece.stream or "stdout"
            found[name] = found.get(name, 0) + piece.length
        return found

    def displays(self, most: int) -> list[str]:
        """Return the JSON texts of the latest displays."""
        pieces = [piece for piece in self._following("shown").new() if piece.stream]
        return [piece.read().decode("utf-8", "replace") for piece in pieces[-most:]]


def decoded(pieces: Iterator[Piece], stream: str = "") -> Iterator[str]:
    """Yield the text of pieces, with characters cut in two rejoined, and a note for each gap."""
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in STREAMS}
    for piece in pieces:
        if not piece.stream:
            yield f"\n… {size(piece.length)} not kept …\n"
        elif stream in ("", piece.stream) and (text := decoders[piece.stream].decode(piece.read())):
            yield text
    for decoder in decoders.values():
        if rest := decoder.decode(b"", True):
            yield rest


def latest(folder: str, records: Iterable[str], kind: str, most_bytes: int) -> Iterator[tuple[str, int, Piece]]:
    """Return the latest output of the items of many submissions: (submission, item, piece), the oldest first."""
    dated: list[tuple[float, int, str, Segment]] = []
    for record in records:
        for segment in segments(folder, record, kind):
            with contextlib.suppress(OSError):
                about = Path(segment.path).stat()
                dated.append((about.st_mtime, about.st_size, record, segment))
    chosen: list[tuple[str, Segment]] = []
    for _, held, record, segment in sorted(dated, reverse=True):
        chosen.append((record, segment))
        most_bytes -= held
        if most_bytes <= 0:
            break
    for record, segment in reversed(chosen):
        for of, piece in _chunks(segment.path):
            yield record, segment.first + of, piece


def _chunks(path: str) -> Iterator[tuple[int, Piece]]:
    """Yield (item of the slice, piece) of a whole segment."""
    try:
        with open(path, "rb", READ_BYTES) as file:
            whole, at = os.fstat(file.fileno()).st_size, HEAD.size
            file.seek(at)
            while len(chunk := file.read(CHUNK.size)) == CHUNK.size:
                length, of, stream = CHUNK.unpack(chunk)
                at += CHUNK.size + length
                if at > whole or stream >= len(STREAMS):
                    return
                yield of, Piece(STREAMS[stream], length, path, at - length)
                file.seek(at)
    except OSError:
        return
