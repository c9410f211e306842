"""LB_DURABILITY "none": the journal's place, with nothing kept beyond the core's own life."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.file_claims import FileClaims, settled
from nblb.broker.journal.rows import INLINE
from nblb.broker.journal.state_folder import StateFolder
from nblb.protocol.framing import IN_MEMORY, Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    ArgumentsSpent,
    BlobForgotten,
    BlobKept,
    EndKept,
    TaskForgotten,
    TaskKept,
)


class MemoryJournal:
    """Nothing survives the process; a second core on the same folder is refused all the same.

    What is handed over in files stays there for as long as it is needed, and other large payloads are put into files
    as well, so that memory holds no more than with a journal. They lie apart from a journal's own, which another core
    may have left in the folder.
    """

    durability = "none"
    epoch = 1
    is_tight = False
    full_reason = ""
    commits, commit_s = 0, 0.0

    def __init__(self, folder: Path, name: str = "") -> None:
        self.core = uuid.uuid4().hex  # another core each time: what the one before promised is void
        self.warning = ""
        self.unkept: list[tuple[AnyEntry, Exception]] = []
        self._folder = StateFolder(folder, name)
        try:
            root = folder / "memory"
            root.mkdir(mode=0o700, exist_ok=True)
            self._blobs = BlobFiles(root / "blobs", sync=False)
            self._blobs.sweep()
        except BaseException:
            self._folder.close()
            raise
        self._files: dict[str, list[str]] = {}  # of a task or a blob
        self._large: list[tuple[str, Payload]] = []  # payloads that are in files now, and in memory still

    @property
    def claims(self) -> FileClaims:
        """The files that senders hand over."""
        return self._blobs.claims

    def append(self, entry: AnyEntry) -> None:
        """Keeps large payloads, and the count of who needs which file."""
        kind = type(entry)
        if kind is TaskKept:
            self._take(f"{entry.spec.task} arguments", entry.spec.payload)  # type: ignore[union-attr]
        elif kind is EndKept:
            self._take(entry.task, entry.payload)  # type: ignore[union-attr]
        elif kind is BlobKept:
            self._take(entry.hash, entry.payload)  # type: ignore[union-attr]
        elif self._files:
            if kind is TaskForgotten or kind is ArgumentsSpent:
                self._release(f"{entry.task} arguments")  # type: ignore[union-attr]
            if kind is TaskForgotten:
                self._release(entry.task)  # type: ignore[union-attr]
            elif kind is BlobForgotten:
                self._release(entry.hash)  # type: ignore[union-attr]

    def _take(self, of: str, payload: Payload | None) -> None:
        if payload is None:
            return
        parts = payload.parts
        if parts is not None:
            names = [part.name for part in parts if not isinstance(part, IN_MEMORY)]
        elif payload.nbytes < INLINE or not (names := self._put_away(payload)):
            return
        self._files.setdefault(of, []).extend(names)
        self._blobs.take(names)
        self._blobs.drop_unneeded()
        settled(payload)

    def _put_away(self, payload: Payload) -> list[str]:
        """The file that it is in now; none where there is no room, for nobody was promised a disk."""
        try:
            name = self._blobs.write(payload)
        except OSError:
            return []
        self._large.append((name, payload))
        return [name]

    def _release(self, of: str) -> None:
        self._blobs.release(self._files.pop(of, ()))

    def commit(self) -> None:
        pass

    def said(self) -> None:
        """All that was decided has been said: what is in files need not be in memory, what nobody needs may go."""
        large, self._large = self._large, []
        for name, payload in large:
            self._blobs.unload(name, payload)
        self._blobs.remove_released()

    def withdraw(self, tasks: set[str]) -> bool:  # noqa: ARG002
        return False

    def has_room(self) -> bool:
        return True

    def pending_tasks(self) -> list[str]:
        return []

    def rest(self) -> None:
        pass

    def replay(self) -> Iterator[AnyEntry]:
        return iter(())

    def close(self) -> None:
        self._blobs.sweep(all_of_it=True)
        self._folder.close()
