"""The journal: entries are on disk before any message that promises them is sent, so accepted tasks survive a crash.

The loop appends entries and commits once a turn, so that a thousand tasks cost one transaction:

    append(entry), append(entry), …   nothing touches the disk
    commit()                          writes all of them, or none and raises JournalFull; then commit() again

A start raises the epoch, replays, and sweeps files that no row needs. The steps from older schemas are in schema.py.
What a damaged journal has lost is found by the checksums of its rows and files, and by its witness (witness.py).
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import msgspec

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.damage import Damage
from nblb.broker.journal.file_claims import FileClaims
from nblb.broker.journal.needed_files import NeededFiles
from nblb.broker.journal.pending_entries import PendingEntries
from nblb.broker.journal.replay import Replay
from nblb.broker.journal.reserve import NO_ROOM, Reserve
from nblb.broker.journal.rows import AttemptRow, Numbers, OpenAttempts, RowBatch, RowEncoder
from nblb.broker.journal.schema import damaged, prepare
from nblb.broker.journal.seal import sealed
from nblb.broker.journal.state_folder import StateFolder
from nblb.broker.journal.witness import JournalWitness, after_opening, before_opening
from nblb.errors import JournalError, JournalFull
from nblb.host import network_file_system
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AnyEntry
from nblb.shared_files.transfer import is_handed_over

CHECKPOINT_BYTES = 4 * 1024 * 1024  # in the WAL before `rest` makes a checkpoint
WAL_BYTES = 64 * 1024 * 1024  # in the WAL before `commit` makes a checkpoint


class _Gone(OSError):
    """The journal's path no longer leads to it."""


class Journal:
    """The journal of one core in its state folder; `core` and `epoch` identify the core and this start of it.

    Raises
    ------
    JournalLocked
        Another core uses the folder.
    JournalError
        The journal is newer than this nblb, damaged, or cannot be written.
    """

    def __init__(self, folder: Path, durability: str = "process", name: str = "") -> None:
        self.path = folder / "journal.sqlite"
        self.durability = durability
        self.unkept: list[tuple[AnyEntry, Exception]] = []  # entries that could not be encoded: bugs, to be logged
        self.warning = ""
        self.damage = Damage()
        self._pending = PendingEntries()
        self._numbers = Numbers()
        self._attempts = OpenAttempts()
        self._large: list[tuple[str, Payload]] = []  # payloads written to files, and still in memory
        self._written = 0
        self.commits, self.commit_s = 0, 0.0  # number and total duration, for `nblb bench`
        self.is_maintained = False  # the owner calls `update_witness`, so that a commit need not
        self._replayed = self._is_closed = False
        self._is_witnessed = True  # the last commit
        self._folder = StateFolder(folder, name)
        self._witness = JournalWitness(self.path)
        self._inode, self._name = 0, str(self.path)
        try:
            self._blobs = BlobFiles(folder / "blobs", sync=durability == "full")
            self._files = NeededFiles(self._blobs)
            self._encode = RowEncoder(self._blobs)
            self._reserve = Reserve(folder)
            before_opening(self.path, self._witness.promise, self.damage)
            self._open()
            self._reserve.set_aside()
        except (sqlite3.Error, OSError) as error:
            self._folder.close()
            raise self._error(error, "opened") from None
        except BaseException:
            self._folder.close()
            raise
        kind = network_file_system(folder)
        if kind:
            self.warning = (
                f"The journal in {folder} is on a network file system ({kind}): it survives only what that server "
                "survives, and each commit waits for it. Name a local folder with LB_STATE_DIR."
            )

    # ── opening ──

    def _open(self) -> None:
        while True:
            try:
                self._db, self.core, self.epoch = self._connect()
                return
            except (sqlite3.Error, OSError) as error:
                if not _no_room(error) or not self._reserve.release():
                    raise

    def _connect(self) -> tuple[sqlite3.Connection, str, int]:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))  # SQLite's is 0644
        # Not bound to the opening thread: startLB may run in another thread than the constructor.
        db = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            self.path.chmod(0o600)
            self._inode = self.path.stat().st_ino
            prepare(db, self.path, self.durability, self._inspect)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the size of the WAL is what it contains
            core, epoch = _begin_epoch(db)
            self._mark(db, core)
            return db, core, epoch
        except BaseException:
            db.close()
            raise

    def _inspect(self, db: sqlite3.Connection) -> None:
        after_opening(db, self.path, self._witness.promise, self.damage)
        found = db.execute("PRAGMA quick_check(3)").fetchall()
        if found != [("ok",)]:
            raise sqlite3.DatabaseError("; ".join(str(row[0]) for row in found))

    def _mark(self, db: sqlite3.Connection, core: str) -> None:
        """Raise the mark, as the first commit of a WAL, and let the witness promise it."""
        mark = int(dict(db.execute("SELECT key, value FROM meta")).get("mark") or 0)
        if self._witness.promise is not None:
            mark = max(mark, self._witness.promise.mark)
        db.execute("BEGIN IMMEDIATE")
        db.executemany("REPLACE INTO meta VALUES (?, ?)", [("mark", mark + 1), ("at", time.time())])
        db.execute("COMMIT")
        self._witness.begin(core, mark + 1)

    def _error(self, error: Exception, verb: str) -> JournalError:
        if isinstance(error, _Gone):
            return JournalFull(self._gone_reason)
        if _no_room(error):
            return JournalFull(f"The disk of {self.path.parent} is full, so the journal cannot be {verb}; make room.")
        return damaged(self.path, verb, error)

    def close(self) -> None:
        """Checkpoint, so that the next start needs no recovery, and release the folder."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.unload_sent()
            self._keep_checksums(self._blobs.checks.complete())
            self._witness.loosen()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()
            self._witness.loosen(closed=True)
        except (sqlite3.Error, JournalError):
            self._db.close()  # the next start replays the WAL
        self._witness.close()
        self._reserve.remove()
        self._folder.close()

    # ── room ──

    @property
    def full_reason(self) -> str:
        """Return the sentence that reports a full disk, or a journal that has been removed."""
        if self.is_gone:
            return self._gone_reason
        return f"The disk of {self.path.parent} is full; make room."

    @property
    def is_gone(self) -> bool:
        """True if the journal's path no longer leads to it, so that no later core would find what it contains."""
        try:
            return os.stat(self._name).st_ino != self._inode  # noqa: PTH116  # at each commit of new tasks
        except OSError:
            return True

    @property
    def _gone_reason(self) -> str:
        return (
            f"The journal {self.path} has been removed or replaced while this core was running, so nothing that it "
            "accepts now would survive it; collect the results of what it has, stop it, and start again."
        )

    @property
    def is_tight(self) -> bool:
        """True if the reserve is in use."""
        return self._reserve.is_in_use

    def has_room(self) -> bool:
        """Return True if there is room for new submissions; then restore the reserve and append the waiting blobs."""
        if self.is_gone or not self._reserve.restore(2 * self._pending.withheld_nbytes()):
            return False
        self._pending.readmit()
        return True

    # ── writing ──

    def append(self, entry: AnyEntry) -> None:
        """Add the entry to the next commit."""
        self._pending.append(entry)

    def commit(self) -> None:
        """Write all that was appended, in one transaction.

        Raises
        ------
        JournalFull
            There is no room; nothing was written, and the next commit tries all entries again.
        JournalError
            The disk failed in another way. The state on disk is unknown then: end the process; the next one replays.
        """
        if not self._pending:
            return
        if not self._replayed:
            for _ in self.replay():
                pass
        begun = perf_counter()
        self.unload_sent()
        while True:
            try:
                batch = self._write()
                break
            except JournalFull:
                if self._pending.begins_anything() or not self._reserve.release():
                    raise
        self._is_witnessed = False
        if not self.is_maintained:
            self.update_witness()
        self._pending.clear()
        self._remember(batch)
        if self._written > WAL_BYTES:
            self._checkpoint()
        self.commits += 1
        self.commit_s += perf_counter() - begun

    def update_witness(self) -> None:
        """Let the witness promise what has been committed since it was last written."""
        if not self._is_witnessed:
            self._is_witnessed = True
            self._witness.committed()

    def _write(self) -> RowBatch:
        batch = RowBatch(self._numbers, self._encode)
        try:
            self._gather(batch)
            if (batch.tasks or batch.blobs) and self.is_gone:
                raise _Gone
            self._blobs.settle()
            batch.write(self._db, self._attempts.empty_turns)
        except (sqlite3.Error, OSError) as error:
            self._blobs.drop_unneeded()
            self._blobs.checks.forget(batch.checks)
            raise self._error(self._roll_back(error), "written") from None
        return batch

    def unload_sent(self) -> None:
        """Unload payloads that are stored in files, once the messages that the last commit allowed have been sent."""
        large, self._large = self._large, []
        for name, payload in large:
            self._blobs.unload(name, payload)
        self._blobs.remove_released()

    def _roll_back(self, error: Exception) -> Exception:
        self._witness.loosen()  # the WAL may be longer than what is committed
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as worse:
            return worse
        return error

    def withdraw(self, tasks: set[str]) -> bool:
        """Drop the uncommitted entries of these submissions, and postpone blobs until there is room.

        Return False if that changes nothing.
        """
        return self._pending.withdraw(tasks)

    def pending_tasks(self) -> list[str]:
        """Return the new submissions of a failed commit."""
        return self._pending.tasks()

    def _gather(self, batch: RowBatch) -> None:
        for entry in self._pending:
            try:
                batch.add(entry)
            except (TypeError, ValueError, OverflowError) as error:
                self.unkept.append((entry, error))
        checks = self._blobs.checks
        if batch.large:
            batch.checks = checks.added(name for name, _ in batch.large if is_handed_over(name))
        if checks.gone:
            batch.unchecked = [(name,) for name in checks.gone]

    def _remember(self, batch: RowBatch) -> None:
        """Apply a committed batch to the counts that the next batches need."""
        numbers, attempts = self._numbers, self._attempts
        attempts.empty_turns.clear()
        numbers.of_task.update(batch.numbers)
        numbers.next += len(batch.tasks)
        numbers.events += len(batch.ends) + len(batch.failed)
        self._written += batch.nbytes + 64 * batch.rows + 8192
        for opens, number, first, items in batch.moves:
            if opens:
                attempts.open(number, first, items, numbers.turn)
            else:
                attempts.close(number, first, items)
        numbers.turn += bool(batch.attempts)
        for number, task in batch.forgotten:
            attempts.close(number, 0, 2**62)
            if numbers.of_task.get(task) == number:
                del numbers.of_task[task]
        if batch.unchecked:
            del self._blobs.checks.gone[: len(batch.unchecked)]
        self._files.remember(batch)
        self._large = batch.large

    @property
    def folder(self) -> StateFolder:
        """The locked state folder."""
        return self._folder

    @property
    def claims(self) -> FileClaims:
        """The claims on files that senders hand over."""
        return self._blobs.claims

    def rest(self) -> None:
        """Use an idle moment for a checkpoint, which moves rows from the WAL to the database, or for a checksum."""
        if self._written > CHECKPOINT_BYTES:
            self._checkpoint()
        elif ready := self._blobs.checks.rest():
            self._keep_checksums(ready)

    def deadline(self) -> float | None:
        """Return when `rest` has something to do, by the monotonic clock; None if it has nothing."""
        return self._blobs.checks.deadline()

    def _keep_checksums(self, ready: list[tuple[int, str]]) -> None:
        if not ready:
            return
        try:
            self._db.executemany("UPDATE files SET crc = ? WHERE name = ?", ready)
        except sqlite3.Error as error:
            if not _no_room(error):
                raise self._error(error, "written") from None

    def _checkpoint(self) -> None:
        self._witness.loosen()
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._mark(self._db, self.core)
        except sqlite3.Error as error:
            if not _no_room(self._roll_back(error)):
                raise self._error(error, "written") from None
        self._written = 0
        self._reserve.set_aside()

    # ── reading ──

    def replay(self) -> Iterator[AnyEntry]:
        """Yield all entries in an order in which they can be restored; call it once, before the first commit."""
        replay = Replay(self._db, self._blobs, self._files, self._numbers, self._attempts, self.damage)
        try:
            yield from replay.entries(self._rewrite_attempts)
        except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:  # UnicodeError is a ValueError
            raise self._error(error, "read") from None
        self._replayed = True
        self._blobs.sweep(aside=self.path.with_name("blobs.damaged") if self.damage.lost_orders else None)

    def _rewrite_attempts(self, still_open: list[AttemptRow]) -> None:
        """Write the open attempts as one row; on a full disk, use the reserve for it."""
        row = (self._numbers.turn, sealed(msgspec.msgpack.encode(still_open), self._numbers.turn))
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("DELETE FROM attempts")
                if still_open:
                    self._db.execute("INSERT INTO attempts VALUES (?, ?)", row)
                self._db.execute("COMMIT")
                return
            except sqlite3.Error as error:
                if not _no_room(self._roll_back(error)) or not self._reserve.release():
                    raise


def _begin_epoch(db: sqlite3.Connection) -> tuple[str, int]:
    """Return the core's id and the raised epoch, which counts its starts."""
    known = dict(db.execute("SELECT key, value FROM meta"))
    core, epoch = known.get("core") or uuid.uuid4().hex, int(known.get("epoch", 0)) + 1
    db.executemany("REPLACE INTO meta VALUES (?, ?)", [("core", core), ("epoch", epoch)])
    return core, epoch


def _no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return isinstance(error, sqlite3.Error) and "full" in str(error)
