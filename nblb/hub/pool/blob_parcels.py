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
        self._in_files: dict[str, dict[int, HoldBlob]] = {}  # those of these pieces that name files, by number …
        self._whole: dict[str, dict[int, Parcel]] = {}  # … and the same packed without files

    def store(self, message: HoldBlob) -> None:
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
        self._in_files.setdefault(message.hash, {})[len(pieces)] = replace(message, payload=own)
        pieces.append(parcel._replace(names=own))

    def of(self, blob: str, files: bool = True) -> list[Parcel]:
        """Return the parcels of a blob for a worker, which the caller must close.

        Without `files` they name none: the worker's account cannot read the folder. Raises OSError.
        """
        pieces = self._held[blob]
        if not files and blob in self._in_files:
            whole = self._whole_of(blob)
            pieces = [whole.get(number, parcel) for number, parcel in enumerate(pieces)]
        return [p._replace(fd=os.dup(p.fd)) if p.fd >= 0 else p for p in pieces]

    def _whole_of(self, blob: str) -> dict[int, Parcel]:
        """Return the pieces that name files, packed once with the contents of these files."""
        whole = self._whole.setdefault(blob, {})
        for number, message in self._in_files[blob].items():
            if number not in whole:
                whole[number] = pack(to_worker, 0, message)
        return whole

    def drop(self, blob: str) -> None:
        self._in_files.pop(blob, None)
        for parcel in (*self._whole.pop(blob, {}).values(), *self._held.pop(blob, ())):
            parcel.close()

    def close(self) -> None:
        for blob in list(self._held):
            self.drop(blob)
