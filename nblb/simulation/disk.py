"""The simulated disk under the journal: committed entries survive a crash, uncommitted ones do not.

Writes are batches that end with a mark. A crash may tear the current batch: some of its entries are on the disk but
not its mark, so replay ignores it (as SQLite does with the checksums of its WAL). After a failed fsync the batch may
or may not be on the disk: the process must end and read the disk again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nblb.broker.journal.pending_entries import PendingEntries, subject
from nblb.errors import JournalError, JournalFull
from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    Collected,
    EndKept,
    JobForgotten,
    JobKept,
    PriorityKept,
    Published,
    StatisticsKept,
    TaskForgotten,
    TaskKept,
    UserKept,
)
from nblb.simulation.simulator import Simulator

MARK = None
TABLES = (
    BlobKept,
    Published,
    StatisticsKept,
    UserKept,
    JobKept,
    TaskKept,
    AttemptFailed,
    PriorityKept,
    AttemptKept,
    EndKept,
    Collected,
)


class Disk:
    """The journal that FullDisk commits (a JournalPort), on a disk that may fail; `watch` gets each committed batch."""

    full_reason = "no space left on device (simulated)"
    is_gone = False

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.pages: list[AnyEntry | None] = []  # with MARKs
        self.pending = PendingEntries()
        self.epoch = 0
        self.full = False  # no room for new tasks; ends and attempts still fit into the reserve
        self.is_tight = False  # the reserve is in use
        self.brimful = False  # no room for anything
        self.durability = "process"  # "full": a commit survives a power failure; "none": nothing survives the process
        self.synced = 0  # number of pages that survive a power failure
        self.fsync_fails = False
        self.watch: Callable[[Sequence[AnyEntry]], None] | None = None

    def append(self, entry: AnyEntry) -> None:
        self.pending.append(entry)

    def commit(self) -> None:
        """Makes all appended entries durable.

        Raises
        ------
        JournalFull
            There is no room for a new task or blob; nothing was written, and the buffer is unchanged.
        JournalError
            The fsync failed: only a restart shows whether the batch is on the disk.
        """
        if not self.pending:
            return
        if self.brimful or (self.full and self.pending.begins_anything()):
            raise JournalFull(self.full_reason)
        self.is_tight = self.is_tight or self.full
        if self.fsync_fails:
            self.fsync_fails = False
            if self.simulator.random.random() < 0.5:
                self._keep()
            raise JournalError("fsync failed (simulated)")
        self._keep()

    def withdraw(self, tasks: set[str]) -> bool:
        """Do not keep what was appended about these tasks after all, and blobs not before there is room."""
        return self.pending.withdraw(tasks)

    def pending_tasks(self) -> list[str]:
        """The tasks that a commit which failed would have begun to keep."""
        return self.pending.tasks()

    def has_room(self) -> bool:
        """Returns True when new tasks fit again."""
        if self.full or self.brimful:
            return False
        self.is_tight = False
        self.pending.readmit()
        return True

    def _keep(self) -> None:
        batch = [*self.pending]
        self.pending.clear()
        self.pages += batch
        self.pages.append(MARK)
        if self.durability == "full":
            self.sync()
        if self.watch is not None:
            self.watch(batch)

    @property
    def forgets(self) -> bool:
        """True if LB_DURABILITY is "none"."""
        return self.durability == "none"

    def sync(self) -> None:
        """Makes everything written so far survive a power failure."""
        self.synced = len(self.pages)

    def power_cut(self) -> None:
        """Drops the pages that were not synced: the machine lost power. The process has crashed before."""
        del self.pages[self.synced :]

    def crash(self) -> None:
        """The process is gone: the buffer is lost, or torn in the middle of being written."""
        if self.pending and self.simulator.random.random() < 0.5:
            self.pages += self.pending.entries[: self.simulator.random.randrange(len(self.pending) + 1)]
            self.simulator.note("disk", "a write was torn")
        self.pending = PendingEntries()
        self.is_tight = False
        if self.forgets:
            self.pages.clear()

    def replay(self, in_tables: bool = False) -> list[AnyEntry]:
        """Returns what a new process finds: all batches with their mark; a torn batch is cut off.

        `in_tables`: in the order of broker/journal/journal.py, which keeps a table for each kind of entry.
        """
        while self.pages and self.pages[-1] is not MARK:
            self.pages.pop()
        entries = [entry for entry in self.pages if entry is not MARK]
        return _in_tables(entries) if in_tables else entries


def _in_tables(entries: Sequence[AnyEntry]) -> list[AnyEntry]:
    """The entries by kind, without forgotten tasks, and with only the latest attempt at each slice."""
    closed = [entry for entry in entries if isinstance(entry, (EndKept, AttemptFailed))]
    tables: dict[type, dict[object, AnyEntry]] = {kind: {} for kind in TABLES}
    for number, entry in enumerate(entries):
        if isinstance(entry, (TaskForgotten, JobForgotten, BlobForgotten)):
            for table in tables.values():
                for key in [key for key, other in table.items() if subject(other) == subject(entry)]:
                    del table[key]
            continue
        key_: object = number
        if isinstance(entry, AttemptKept):
            key_ = entry.task, entry.first, entry.items
            tables[AttemptKept].pop(key_, None)
            if any(_closes(other, entry) for other in closed):
                continue
        tables[type(entry)][key_] = entry
    return [entry for kind in TABLES for entry in tables[kind].values()]


def _closes(entry: EndKept | AttemptFailed, attempt: AttemptKept) -> bool:
    """True if this end covers all items of the attempt, or belongs to a later attempt."""
    if entry.task != attempt.task or entry.attempt < attempt.attempt:
        return False
    return entry.first <= attempt.first and attempt.first + attempt.items <= entry.first + entry.items
