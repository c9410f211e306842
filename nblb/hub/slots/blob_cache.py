"""Which functions, constants and results a hub holds, and which slices wait for one; pure, the bytes lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from nblb.hub.slots.attempts import Attempt
from nblb.protocol.framing import LARGE
from nblb.protocol.messages import HoldBlob, RunTask

FUNCTION_BYTES = 256 * 1024 * 1024  # of functions that no slice in hand needs; what they capture is seldom used again
MAX_LARGE = 256  # blobs that each take a descriptor in the hub and in its workers


class _Pieces:
    """Results of a task that come in several messages."""

    __slots__ = ("held", "seen", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self.seen: set[tuple[int, int, tuple[int, ...]]] = set()  # two may begin at one item, with a hole for the other


class BlobCache:
    """Holds at most `most` bytes, and FUNCTION_BYTES of functions, but for what slices in hand need."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = self._large = 0
        self._functions: set[str] = set()
        self._sizes: dict[str, int] = {}  # complete ones
        self._used: dict[str, int] = {}
        self._pieces: dict[str, _Pieces] = {}
        self._waiting: dict[str, list[Attempt]] = {}
        self._pinned: set[str] = set()

    def pin(self, blob: str) -> None:
        """A blob of the hub's own, which is always there."""
        self._pinned.add(blob)
        self._sizes[blob] = 0

    def unpin(self, blob: str) -> None:
        self._pinned.discard(blob)

    def missing(self, run: RunTask, arrival: int) -> set[str] | None:
        """The blobs of this slice that are not here; None, at no cost, in the usual case."""
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
        """Note that the slice waits; the blobs that have not been asked for yet."""
        wanted = []
        for blob in sorted(slice_.missing or ()):
            if blob not in self._waiting:
                wanted.append(blob)
            self._waiting.setdefault(blob, []).append(slice_)
        return wanted

    @property
    def wanted(self) -> list[str]:
        """All blobs that slices wait for."""
        return list(self._waiting)

    def wants(self, message: HoldBlob) -> bool:
        """Is this news? A blob that is here already need not be kept twice."""
        if message.hash in self._sizes:
            return False
        pieces = self._pieces.get(message.hash)
        return pieces is None or (message.first, message.items, message.holes) not in pieces.seen

    def put(self, message: HoldBlob) -> list[Attempt]:
        """A blob, or a piece of one; the slices that have all they need now."""
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

    def give_up(self, blob: str) -> list[Attempt]:
        """Nobody has this blob: the slices that waited for it."""
        waiting = self._waiting.pop(blob, [])
        for slice_ in waiting:
            for other in (slice_.missing or set()) - {blob}:
                if slice_ in self._waiting.get(other, ()):
                    self._waiting[other].remove(slice_)
        return waiting

    def evict(self, in_hand: Iterable[Attempt]) -> list[str]:
        """What must go so that the bound is kept: the longest unused first, none that a slice in hand needs."""
        functions = sum(self._sizes.get(name, 0) for name in self._functions)
        if self._bytes <= self._most and self._large <= MAX_LARGE and functions <= FUNCTION_BYTES:
            return []
        needed = set(self._pinned)
        for slice_ in in_hand:
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
