"""The functions and constants that a session holds for the core: those of open records, and a few that none names."""

from __future__ import annotations

from collections.abc import Iterable

from nblb.protocol.messages import PutBlob

IDLE_BYTES = 64 * 1024 * 1024  # blobs that no open record names are kept up to this, should they be wanted again


class SessionBlobs(dict[str, PutBlob]):
    """By content hash; the oldest idle ones are dropped when there are too many bytes of them."""

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
        """An open record names these."""
        for name in names:
            uses = self._uses[name] = self._uses.get(name, 0) + 1
            if uses == 1 and name in self:
                self._idle_bytes -= self[name].payload.nbytes

    def release(self, names: Iterable[str]) -> None:
        """A record that named these is closed."""
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
