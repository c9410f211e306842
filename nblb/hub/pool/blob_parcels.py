"""The blobs that a hub has for its workers, each packed once for all workers that need it."""

from __future__ import annotations

import os

from msgspec.structs import replace

from nblb.protocol.framing import IN_MEMORY, Payload
from nblb.protocol.messages import HoldBlob
from nblb.shared_files.transfer import Folder
from nblb.worker.channel import Parcel, pack, to_worker


class BlobParcels:
    """Packed blobs by content hash; the results of a task may come in several pieces."""

    def __init__(self) -> None:
        self.folder: Folder | None = None  # the folder of large buffers
        self._held: dict[str, list[Parcel]] = {}

    def hold(self, message: HoldBlob) -> None:
        """Keep a blob; raises OSError if there is no space, or its file is gone."""
        pieces = self._held.setdefault(message.hash, [])
        if message.total == 0 and pieces:
            return
        folder, parts = self.folder, message.payload.parts
        if folder is None or parts is None:
            pieces.append(pack(to_worker, 0, message))
            return
        # A link of our own: the core may remove its link before the last worker has opened the file.
        own = Payload.of([part if isinstance(part, IN_MEMORY) else folder.link(part) for part in parts])
        parcel = pack(to_worker, 0, replace(message, payload=own), folder.refers)
        pieces.append(parcel._replace(names=own))

    def of(self, blob: str) -> list[Parcel]:
        """Return the parcels of a blob for a worker; the caller must close them."""
        return [p._replace(fd=os.dup(p.fd)) if p.fd >= 0 else p for p in self._held[blob]]

    def drop(self, blob: str) -> None:
        for parcel in self._held.pop(blob, ()):
            parcel.close()

    def close(self) -> None:
        for blob in list(self._held):
            self.drop(blob)
