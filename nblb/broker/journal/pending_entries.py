"""The entries that the next commit writes, and the blobs that it does not write before the disk has room again.

Both journals on a disk use it: broker/journal/journal.py and the simulated one, simulation/disk.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from nblb.protocol.journal_entries import AnyEntry, BlobForgotten, BlobKept, JobKept, Published, TaskKept


class PendingEntries:
    """Entries in the order in which they were appended; `withheld` are blobs and their names that wait for room."""

    __slots__ = ("entries", "withheld")

    def __init__(self) -> None:
        self.entries: list[AnyEntry] = []
        self.withheld: list[BlobKept | Published] = []

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self.entries)

    @property
    def is_empty(self) -> bool:
        """True if everything is on the disk, and no blob waits for space."""
        return not self.entries and not self.withheld

    def append(self, entry: AnyEntry) -> None:
        """Write this with the next commit."""
        self.entries.append(entry)
        if self.withheld and type(entry) is BlobForgotten:
            self._drop_withheld(entry.hash)

    def clear(self) -> None:
        """All entries are written; what waits for room still waits."""
        self.entries.clear()

    def tasks(self) -> list[str]:
        """The tasks that a commit would begin to keep."""
        return [entry.spec.task for entry in self.entries if isinstance(entry, TaskKept)]

    def begins_anything(self) -> bool:
        """True if a commit would write a new task or blob, which must not use the reserve."""
        return any(isinstance(entry, (TaskKept, BlobKept)) for entry in self.entries)

    def withdraw(self, tasks: set[str]) -> bool:
        """Drop what was appended about these tasks, and withhold blobs until there is room.

        False if that changes nothing.
        """
        before, self.entries = self.entries, []
        for entry in before:
            if isinstance(entry, (BlobKept, Published)):
                if self.withheld and isinstance(entry, BlobKept):
                    self._drop_withheld_blob(entry.hash)  # the state that a call has saved replaces its last one
                self.withheld.append(entry)
            elif subject(entry) not in tasks:
                self.append(entry)
        return len(self.entries) < len(before)

    def readmit(self) -> None:
        """There is room: write what was withheld first, since later entries may need it."""
        self.entries[:0], self.withheld = self.withheld, []

    def withheld_nbytes(self) -> int:
        """The size of the blobs that wait for room."""
        return sum(entry.payload.nbytes for entry in self.withheld if isinstance(entry, BlobKept))

    def _drop_withheld_blob(self, blob: str) -> None:
        self.withheld = [entry for entry in self.withheld if isinstance(entry, Published) or entry.hash != blob]

    def _drop_withheld(self, blob: str) -> None:
        """A blob that is forgotten before it was written must not be written behind that entry."""
        self.withheld = [entry for entry in self.withheld if entry.hash != blob]


def subject(entry: AnyEntry) -> str:
    """The id of the task, job or blob that an entry is about."""
    if isinstance(entry, TaskKept):
        return entry.spec.task
    if isinstance(entry, JobKept):
        return entry.spec.job
    return str(getattr(entry, "task", "") or getattr(entry, "job", "") or getattr(entry, "hash", ""))
