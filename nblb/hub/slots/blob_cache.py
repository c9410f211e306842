"""The index of the functions, constants and results that a hub has, and of the slices that wait for one; pure.

The bytes themselves are in pool/blob_parcels.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from nblb.hub.slots.attempts import Attempt
from nblb.protocol.framing import LARGE
from nblb.protocol.messages import HoldBlob, RunTask

FUNCTION_BYTES = 256 * 1024 * 1024  # of functions that no current slice needs; they are seldom used again
MAX_LARGE = 256  # blobs that each use a descriptor in the hub and in its workers


class _Pieces:
    """Results of a task that arrive in several messages."""

    __slots__ = ("held", "seen", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self.seen: set[tuple[int, int, tuple[int, ...]]] = set()  # two may begin at one item, with holes


class BlobCache:
    """Bounds blobs to `most` bytes, and functions to FUNCTION_BYTES, except those that current slices need."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = self._large = 0
        self._functions: set[str] = set()
        self._sizes: dict[str, int] = {}  # of complete blobs
        self._used: dict[str, int] = {}
        self._pieces: dict[str, _Pieces] = {}
        self._waiting: dict[str, list[Attempt]] = {}
        self._pinned: set[str] = set()

    def pin(self, blob: str) -> None:
        """Add a blob of the hub's own, which is never dropped."""
        self._pinned.add(blob)
        self._sizes[blob] = 0

    def unpin(self, blob: str) -> None:
        self._pinned.discard(blob)

    def missing(self, run: RunTask, arrival: int) -> set[str] | None:
        """Return the missing blobs of this slice; None if all are here."""
        function = run.function
        self._functions.add(function)
        if function in self._sizes and not run.constants and not run.depends:
            self._used[function] = arrival
            return None
        needed = {function, *run.constants, *run.depends}
        for blob in needed:
            self._used[blob] = arrival
        return needed - self._sizes.keys() or None

    def wait(self, slice_: Attempt) -> list[str]:
        """Register a slice that waits; return the blobs that have not been requested yet."""
        wanted = []
        for blob in sorted(slice_.missing or ()):
            if blob not in self._waiting:
                wanted.append(blob)
            self._waiting.setdefault(blob, []).append(slice_)
        return wanted

    @property
    def wanted(self) -> list[str]:
        """Return all blobs that slices wait for."""
        return list(self._waiting)

    def wants(self, message: HoldBlob) -> bool:
        """Return whether this blob, or piece, is not here yet."""
        if message.hash in self._sizes:
            return False
        pieces = self._pieces.get(message.hash)
        return pieces is None or (message.first, message.items, message.holes) not in pieces.seen

    def put(self, message: HoldBlob) -> list[Attempt]:
        """Add a blob, or a piece of one; return the slices that now have all they need."""
        blob, size = message.hash, message.payload.nbytes
        self._bytes += size
        if message.total:
            pieces = self._pieces.setdefault(blob, _Pieces(message.total))
            pieces.seen.add((message.first, message.items, message.holes))
            pieces.held += message.items - len(message.holes)
            if pieces.held < pieces.total:
                self._pieces[blob] = pieces
                return []
            del self._pieces[blob]
        self._sizes[blob] = size
        self._large += size >= LARGE
        ready = []
        for slice_ in self._waiting.pop(blob, ()):
            assert slice_.missing is not None
            slice_.missing.discard(blob)
            if not slice_.missing:
                ready.append(slice_)
        return ready

    def abandon(self, blob: str) -> list[Attempt]:
        """Return the slices that wait for this blob, which does not exist any more."""
        waiting = self._waiting.pop(blob, [])
        for slice_ in waiting:
            for other in (slice_.missing or set()) - {blob}:
                if slice_ in self._waiting.get(other, ()):
                    self._waiting[other].remove(slice_)
        return waiting

    def evict(self, in_flight: Iterable[Attempt]) -> list[str]:
        """Remove blobs beyond the bounds, longest unused first, none that a current slice needs; return them."""
        functions = sum(self._sizes.get(name, 0) for name in self._functions)
        if self._bytes <= self._most and self._large <= MAX_LARGE and functions <= FUNCTION_BYTES:
            return []
        needed = set(self._pinned)
        for slice_ in in_flight:
            needed |= {slice_.run.function, *slice_.run.constants, *slice_.run.depends}
        gone = []
        for blob in sorted(self._sizes, key=lambda name: self._used.get(name, 0)):
            fits = self._bytes <= self._most and self._large <= MAX_LARGE
            if fits and functions <= FUNCTION_BYTES:
                break
            if blob not in needed and (not fits or blob in self._functions):
                size = self._sizes.pop(blob)
                if blob in self._functions:
                    self._functions.discard(blob)
                    functions -= size
                self._bytes -= size
                self._large -= size >= LARGE
                self._used.pop(blob, None)
                gone.append(blob)
        return gone
