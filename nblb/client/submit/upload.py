"""Upload of the large buffers that this process submits, to files in the core's folder, each content once.

An array that is submitted again is compared with the file that holds its earlier content: byte by byte, unless the
operating system reports that its memory was not written to. The comparison takes at most half the time of writing the
array, and no disk space, and it detects changes made in place.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from nblb.payload import Alike, stores
from nblb.protocol.framing import Buffer, Part
from nblb.shared_files.dirty_pages import are_same
from nblb.shared_files.memory_map import address_of
from nblb.shared_files.transfer import BY_FILE, FilePart, Folder

RECENT_FROM = 1024 * 1024  # smaller buffers are written as quickly as they are compared
RECENT_BYTES = 128 * 1024 * 1024  # of files kept for comparison; freed memory is soon reused for other data
LARGEST = 512 * 1024 * 1024  # a single file up to this size is kept even so


class Upload:
    """The buffer store of a process that submits tasks (see payload/pickling.py)."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._recent: OrderedDict[tuple[int, int], tuple[FilePart, Buffer]] = OrderedDict()  # and its mapping
        self._nbytes = 0
        self._lock = threading.Lock()

    @classmethod
    def to(cls, root: str, token: str, before: Upload | None) -> Upload | None:
        """Set the store of this process if it sees the folder; the earlier store is kept if the folder is the same."""
        folder = Folder.seen(root, token)
        if folder is None:
            if stores.store is before:
                stores.store = None
            return None
        sending = before if before is not None and before.folder.token == token else cls(folder)
        stores.store = sending
        return sending

    def put(self, buffers: Sequence[Buffer], alike: Alike | None = None) -> list[Buffer | Part]:
        """Return each buffer as part of an existing file, as part of one new file, or as itself if it is small."""
        placed: list[Buffer | Part | None] = []
        rest: list[Buffer] = []
        for buffer in buffers:
            known = self._known(buffer, alike) if memoryview(buffer).nbytes >= RECENT_FROM else None
            placed.append(known)
            if known is None:
                rest.append(buffer)
        if sum(memoryview(buffer).nbytes for buffer in rest) >= BY_FILE:
            written = self._write(rest)
        else:
            written = [buffer if type(buffer) is bytes else bytes(buffer) for buffer in rest]
        for buffer, part in zip(rest, written, strict=True):
            if isinstance(part, FilePart) and part.nbytes >= RECENT_FROM:
                self._remember(buffer, part, alike)
        others = iter(written)
        return [next(others) if part is None else part for part in placed]

    def _write(self, buffers: Sequence[Buffer]) -> list[Buffer | Part]:
        try:
            return self.folder.write(buffers)
        except OSError:
            with self._lock:
                if not self._recent:
                    raise
            self._forget()  # this may free space
            return self.folder.write(buffers)

    def _forget(self) -> None:
        with self._lock:
            self._recent.clear()
            self._nbytes = 0

    def copy_of(self, buffer: Buffer) -> Buffer | None:
        """The mapped file with the last content of this buffer, if it is known; it must not be written to."""
        with self._lock:
            found = self._recent.get((address_of(buffer), memoryview(buffer).nbytes))
        return found[1] if found is not None else None

    def _known(self, buffer: Buffer, alike: Alike | None) -> Part | None:
        """A file that holds exactly these bytes."""
        key = address_of(buffer), memoryview(buffer).nbytes
        if alike is not None and key in alike:
            return alike[key][0]
        with self._lock:
            found = self._recent.get(key)
        if found is None:
            return None
        if not found[0].is_there:  # the file was purged; only this process still maps it
            self._drop(key)
            return None
        if not are_same(buffer, found[1]):
            return None
        if alike is not None:
            alike[key] = found[0], buffer
        return found[0]

    def _drop(self, key: tuple[int, int]) -> None:
        with self._lock:
            if self._recent.pop(key, None) is not None:
                self._nbytes -= key[1]

    def _remember(self, buffer: Buffer, part: FilePart, alike: Alike | None) -> None:
        key = address_of(buffer), part.nbytes
        if alike is not None:
            alike[key] = part, buffer
        if part.nbytes > LARGEST:
            return
        with self._lock:
            before = self._recent.pop(key, None)
            self._recent[key] = part, part.read()
            self._nbytes += part.nbytes if before is None else 0
            while self._nbytes > RECENT_BYTES and len(self._recent) > 1:
                (_, nbytes), _ = self._recent.popitem(last=False)
                self._nbytes -= nbytes

    def close(self) -> None:
        """Stop uploading to this folder; its files are removed with the messages that name them."""
        if stores.store is self:
            stores.store = None
        self._forget()
