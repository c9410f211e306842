"""Files for large results, in the core's folder; the hub owns them once it has received their message."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nblb.payload import Alike
from nblb.protocol.framing import IN_MEMORY, Buffer, Part, Payload
from nblb.protocol.messages import Message
from nblb.shared_files.transfer import Folder


class HandTo(Message, frozen=True):
    """From the hub: the folder, and the prefix of file names, for large results."""

    root: str
    prefix: str


class ResultFiles:
    """The store for a worker's large buffers (see payload/pickling.py)."""

    def __init__(self, told: HandTo) -> None:
        self.folder = Folder(told.root, told.prefix, os.getpid())
        self._written: list[Buffer | Part] = []

    def put(self, buffers: Sequence[Buffer], _alike: Alike | None = None) -> list[Buffer | Part]:
        """Write the buffers to a new file."""
        placed = self.folder.write(buffers, owned=False)
        self._written += placed
        return placed

    def copy_of(self, _buffer: Buffer) -> None:
        """Return None: no copies are known here."""

    def settle(self, payload: Payload | None) -> None:
        """Remove the files that this payload does not name."""
        if self._written:
            said = {part.name for part in (payload.parts if payload else None) or () if not isinstance(part, IN_MEMORY)}
            self.folder.remove([p for p in self._written if not isinstance(p, IN_MEMORY) and p.name not in said])
            self._written.clear()
