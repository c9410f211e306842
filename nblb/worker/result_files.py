"""Where a worker puts large results: in files of the core's folder, which are its hub's from the moment it hears."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nblb.payload import Alike
from nblb.protocol.framing import IN_MEMORY, Buffer, Part, Payload
from nblb.protocol.messages import Message
from nblb.shared_files.transfer import Folder


class HandTo(Message, frozen=True):
    """From the hub: large results may be handed over in this folder, under names that begin like this."""

    root: str
    prefix: str


class ResultFiles:
    """The store of a worker (see payload/pickling.py)."""

    def __init__(self, told: HandTo) -> None:
        self.folder = Folder(told.root, told.prefix, os.getpid())
        self._written: list[Buffer | Part] = []

    def put(self, buffers: Sequence[Buffer], _alike: Alike | None = None) -> list[Buffer | Part]:
        """The buffers, in a new file."""
        placed = self.folder.write(buffers, owned=False)
        self._written += placed
        return placed

    def copy_of(self, _buffer: Buffer) -> None:
        """Nothing is remembered."""

    def settle(self, payload: Payload | None) -> None:
        """This is all that will be spoken of: what else was written goes."""
        if self._written:
            said = {part.name for part in (payload.parts if payload else None) or () if not isinstance(part, IN_MEMORY)}
            self.folder.remove([p for p in self._written if not isinstance(p, IN_MEMORY) and p.name not in said])
            self._written.clear()
