"""The journal for LB_DURABILITY "none": nothing outlives the core's process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.damage import Damage
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
from nblb.shared_files.transfer import is_handed_over
from nblb.system.private_folder import private_folder


class MemoryJournal:
    """A journal that writes no entries; it still refuses a second core on the same folder.

    Files handed over by senders stay while they are needed, and other large payloads are written to files too, so
    that the core needs no more memory than with a journal. These files are kept apart from a journal's own files,
    which another core may have left in the folder.
    """

    durability = "none"
    epoch = 1
    is_tight = is_gone = is_maintained = False
    full_reason = ""
    commits, commit_s = 0, 0.0

    def __init__(self, folder: Path, name: str = "") -> None:
        self.core = uuid.uuid4().hex  # a new core each time: promises of an earlier one are void
        self.warning = ""
        self.damage = Damage()
        self.unkept: list[tuple[AnyEntry, Exception]] = []
        self._folder = StateFolder(folder, name)
        try:
            root = private_folder(folder / "memory")
            self._blobs = BlobFiles(root / "blobs", sync=False)
            self._blobs.sweep()
        except BaseException:
            self._folder.close()
            raise
        self._files: dict[str, list[str]] = {}  # by submission or blob
        self._large: list[tuple[str, Payload]] = []  # payloads written to files, and still in memory

    @property
    def folder(self) -> StateFolder:
        """The locked state folder."""
        return self._folder

    @property
    def claims(self) -> FileClaims:
        """The claims on files that senders hand over."""
        return self._blobs.claims

    def append(self, entry: AnyEntry) -> None:
        """Store the entry's large payloads, and update the reference counts of files."""
        kind = type(entry)
        if kind is TaskKept:
            self._take(f"{entry.spec.task} arguments", entry.spec.payload)  # type: ignore[union-attr]
        elif kind is EndKept:
            self._take(entry.task, entry.payload)  # type: ignore[union-attr]
        elif kind is BlobKept:
            before = self._files.pop(entry.hash, ())  # type: ignore[union-attr]  # of a saved state that it replaces
            self._take(entry.hash, entry.payload)  # type: ignore[union-attr]
            self._blobs.release(before)
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
        self._blobs.checks.added(name for name in names if is_handed_over(name))
        self._blobs.drop_unneeded()
        settled(payload)

    def _put_away(self, payload: Payload) -> list[str]:
        """Write the payload to a file and return its name; none if there is no room, as this mode needs no disk."""
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

    def update_witness(self) -> None:
        """Do nothing: no later core reads what this one promises."""

    def unload_sent(self) -> None:
        """Unload payloads that are stored in files and remove unneeded files, once all messages have been sent."""
        large, self._large = self._large, []
        for name, payload in large:
            self._blobs.unload(name, payload)
        self._blobs.remove_released()
        self._blobs.checks.gone.clear()

    def withdraw(self, tasks: set[str]) -> bool:  # noqa: ARG002
        return False

    def has_room(self) -> bool:
        return True

    def pending_tasks(self) -> list[str]:
        return []

    def rest(self) -> None:
        pass

    def deadline(self) -> None:
        return None

    def replay(self) -> Iterator[AnyEntry]:
        return iter(())

    def close(self) -> None:
        self._blobs.sweep(all_of_it=True)
        self._folder.close()
