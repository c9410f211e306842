"""The functions and constants that a session keeps for the core: those of open submissions, and some idle ones."""

from __future__ import annotations

from collections.abc import Iterable

from nblb.protocol.messages import PutBlob

IDLE_BYTES = 64 * 1024 * 1024  # most bytes of blobs that no open submission names, kept for later use


class SessionBlobs(dict[str, PutBlob]):
    """Blobs by content hash; the oldest idle ones are dropped when they take more than IDLE_BYTES."""

    def __init__(self) -> None:
        super().__init__()
        self._uses: dict[str, int] = {}
        self._idle_bytes = 0

    def put(self, blob: PutBlob) -> None:
        if blob.hash not in self:
            self[blob.hash] = blob
            self._idle_bytes += blob.payload.nbytes
            self._drop_idle(blob.hash)

    def use(self, names: Iterable[str]) -> None:
        """Count an open submission that names these blobs."""
        for name in names:
            uses = self._uses[name] = self._uses.get(name, 0) + 1
            if uses == 1 and name in self:
                self._idle_bytes -= self[name].payload.nbytes

    def release(self, names: Iterable[str]) -> None:
        """Discount a closed submission that named these blobs."""
        for name in names:
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name]
                if name in self:
                    self._idle_bytes += self[name].payload.nbytes
                    self._drop_idle("")

    def _drop_idle(self, but: str) -> None:
        while self._idle_bytes > IDLE_BYTES:
            idle = next((name for name in self if name not in self._uses and name != but), None)
            if idle is None:
                return
            self._idle_bytes -= self.pop(idle).payload.nbytes
