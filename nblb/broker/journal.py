"""What makes an accepted task survive: records on disk before anything that promises them is said.

The loop appends what must be kept and commits once a turn, so that a thousand tasks cost one transaction:

    append(entry), append(entry), …   nothing touches the disk
    commit()                          all of them, or none and JournalFull; then they can be tried again

A start raises the epoch, replays, and sweeps files that no row needs. A schema newer than records.SCHEMA is
refused; for an older one UPGRADES has the steps.
"""

from __future__ import annotations

import errno
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from nblb.broker.blob_files import BlobFiles
from nblb.broker.journal_rows import SPAN, TABLES, Attempt, Batch, Numbers, OpenAttempts, RowEncoder, keys
from nblb.broker.state_folder import StateFolder, network_file_system
from nblb.errors import JournalError, JournalFull
from nblb.framing import Payload
from nblb.records import (
    SCHEMA,
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobKept,
    Collected,
    EndKept,
    Entry,
    JobKept,
    Published,
    TaskKept,
)

CHECKPOINT_BYTES = 4 * 1024 * 1024  # written since the last checkpoint, before an idle moment is used for one
WAL_BYTES = 64 * 1024 * 1024  # … and before one is made without waiting for an idle moment
SPARE_PAGES = 4096  # free pages that make a start worth a VACUUM
UPGRADES: dict[int, Callable[[sqlite3.Connection], None]] = {}  # the step from this schema to the next

AnyKept = TypeVar("AnyKept", bound=Entry)


class Journal:
    """The journal of one core in its state folder; `core` and `epoch` tell it from others and from its past.

    Raises
    ------
    JournalLocked
        Another core holds the folder.
    JournalError
        The journal is newer than this nblb, damaged, or cannot be written.
    """

    def __init__(self, folder: Path, durability: str = "process", name: str = "") -> None:
        self.path = folder / "journal.sqlite"
        self.durability = durability
        self.unkept: list[tuple[AnyEntry, Exception]] = []  # entries that no journal could hold: bugs, to be logged
        self.warning = ""
        self._pending: list[AnyEntry] = []
        self._numbers = Numbers()
        self._attempts = OpenAttempts()
        self._task_files: dict[int, list[str]] = {}
        self._blob_files: dict[str, str] = {}
        self._large: list[tuple[str, Payload]] = []  # payloads that are in files now, and in memory still
        self._written = 0
        self.commits, self.commit_s = 0, 0.0  # how often, and how long all of them took, for `nblb bench`
        self._replayed = False
        self._folder = StateFolder(folder, name)
        try:
            self._blobs = BlobFiles(folder / "blobs", sync=durability == "full")
            self._encode = RowEncoder(self._blobs)
            self._db = self._connect()
            self.core, self.epoch = self._begin_epoch()
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

    def _connect(self) -> sqlite3.Connection:
        # Not tied to the thread that opens it: startLB may run in another than the constructor.
        db = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        self.path.chmod(0o600)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # also spares the shared-memory file beside the WAL
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if self.durability == 'full' else 'NORMAL'}")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # `rest` and `commit` choose the moment
        db.execute("PRAGMA cache_size = -16000")
        schema = db.execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise JournalError(
                f"The journal {self.path} was written by a newer nblb (schema {schema}, this one knows {SCHEMA}): "
                "upgrade nblb, or name another folder with LB_STATE_DIR."
            )
        db.execute("BEGIN IMMEDIATE")
        if schema == 0:
            for table in TABLES:
                db.execute(table)
        for step in range(schema or SCHEMA, SCHEMA):
            UPGRADES[step](db)
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")
        free, pages = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        if free > SPARE_PAGES and free > pages // 2:
            db.execute("VACUUM")

    def _begin_epoch(self) -> tuple[str, int]:
        known = dict(self._db.execute("SELECT key, value FROM meta"))
        core, epoch = known.get("core") or uuid.uuid4().hex, int(known.get("epoch", 0)) + 1
        self._db.executemany("REPLACE INTO meta VALUES (?, ?)", [("core", core), ("epoch", epoch)])
        return core, epoch

    def _error(self, error: Exception, verb: str) -> JournalError:
        if _no_room(error):
            return JournalFull(f"The disk of {self.path.parent} is full, so the journal cannot be {verb}; make room.")
        return JournalError(
            f"The journal {self.path} cannot be {verb}: {error}. "
            "If it is damaged, move its folder away and start again."
        )

    def close(self) -> None:
        """Leave a journal that needs no recovery, and let another core have the folder."""
        self.said()
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # the next start replays the WAL instead
        self._db.close()
        self._folder.close()

    # ── writing ──

    def append(self, entry: AnyEntry) -> None:
        """Keep this with the next commit."""
        self._pending.append(entry)

    def commit(self) -> None:
        """Write all that was appended, in one transaction.

        Raises
        ------
        JournalFull
            There is no room; nothing of it was written, and the next commit tries all of it again.
        JournalError
            The disk fails otherwise. Nothing is certain then: end the process, the next one replays.
        """
        if not self._pending:
            return
        if not self._replayed:
            for _ in self.replay():
                pass
        begun = perf_counter()
        self.said()
        try:
            batch = self._gather()
            self._blobs.settle()
            batch.write(self._db, self._attempts.empty_turns)
        except (sqlite3.Error, OSError) as error:
            self._blobs.drop_unneeded()
            raise self._error(self._roll_back(error), "written") from None
        self._pending.clear()
        self._remember(batch)
        if self._written > WAL_BYTES:
            self._checkpoint("TRUNCATE")
        self.commits += 1
        self.commit_s += perf_counter() - begun

    def said(self) -> None:
        """All that the last commit allows has been said: what lies in files need not be in memory any more."""
        large, self._large = self._large, []
        for name, payload in large:
            self._blobs.unload(name, payload)
        self._blobs.remove_released()

    def _roll_back(self, error: Exception) -> Exception:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as worse:
            return worse
        return error

    def withdraw(self, tasks: set[str]) -> None:
        """Do not keep what was appended about these tasks after all."""
        self._pending = [entry for entry in self._pending if _task_of(entry) not in tasks]

    def pending_tasks(self) -> list[str]:
        """The tasks that a commit which failed would have begun to keep."""
        return [entry.spec.task for entry in self._pending if isinstance(entry, TaskKept)]

    def _gather(self) -> Batch:
        batch = Batch(self._numbers, self._encode)
        for entry in self._pending:
            try:
                batch.add(entry)
            except (TypeError, ValueError, OverflowError) as error:
                self.unkept.append((entry, error))
        return batch

    def _remember(self, batch: Batch) -> None:
        """What the next batches need to know of this one, now that it is certain."""
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
        if batch.large or self._task_files or self._blob_files:
            self._remember_files(batch)

    def _remember_files(self, batch: Batch) -> None:
        """Count who needs which file; all that are needed before any that are not, for content may be equal."""
        blobs, unneeded = self._blobs, list[str]()
        for number, files in batch.files:
            self._task_files.setdefault(number, []).extend(files)
            blobs.take(files)
        for name, row in batch.blobs.items():
            old = self._blob_files.pop(name, None)
            if old is not None:
                unneeded.append(old)
            if row is not None and row[0] is not None:
                self._blob_files[name] = row[0]
                blobs.take([row[0]])
        blobs.drop_unneeded()
        self._large = batch.large
        for number, _ in batch.forgotten:
            unneeded += self._task_files.pop(number, ())
        blobs.release(unneeded)

    def rest(self) -> None:
        """Use an idle moment: move what was written from the WAL to its place."""
        if self._written > CHECKPOINT_BYTES:
            self._checkpoint("PASSIVE")

    def _checkpoint(self, kind: str) -> None:
        try:
            self._db.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
        except sqlite3.Error as error:
            if not _no_room(error):
                raise self._error(error, "written") from None
        self._written = 0

    # ── reading ──

    def replay(self) -> Iterator[AnyEntry]:
        """Everything that is kept, in an order in which it can be taken up; once, before the first commit.

        Blobs, what is published, jobs, tasks as they were accepted, failed attempts, open attempts, ends, and
        what was collected.
        """
        try:
            yield from self._replay()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._error(error, "read") from None
        self._replayed = True
        self._blobs.sweep()

    def _replay(self) -> Iterator[AnyEntry]:
        names: dict[int, str] = {}
        db = self._db
        for name, file, row in db.execute("SELECT hash, file, entry FROM blobs ORDER BY rowid"):
            if file is not None:
                self._blob_files[name] = file
                self._blobs.take([file])
            yield self._decode(BlobKept, row)
        yield from self._rows(Published, "SELECT entry FROM published ORDER BY rowid")
        yield from self._rows(JobKept, "SELECT entry FROM jobs ORDER BY rowid")
        decode_task = self._decoder(TaskKept)
        for number, files, row in db.execute("SELECT n, files, entry FROM tasks ORDER BY n"):
            entry = decode_task(row)
            names[number] = entry.spec.task
            self._numbers.of_task[entry.spec.task] = number
            self._numbers.next = number + 1
            self._keep_files(number, files)
            yield entry
        decode_failed = self._decoder(AttemptFailed)
        failures: dict[int, list[AttemptFailed]] = {}
        for key, row in db.execute("SELECT key, entry FROM failed ORDER BY key"):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            failure = decode_failed(row)
            failures.setdefault(key // SPAN, []).append(failure)
            yield failure
        yield from self._open_attempts(names, failures)
        decode_end = self._decoder(EndKept)
        for key, files, row in db.execute("SELECT key, files, entry FROM ends ORDER BY key"):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            self._keep_files(key // SPAN, files)
            yield decode_end(row)
        for number, expires in db.execute("SELECT n, expires FROM collected ORDER BY n"):
            if number in names:
                yield Collected(names[number], expires)

    def _keep_files(self, number: int, files: str | None) -> None:
        if files is not None:
            self._task_files.setdefault(number, []).extend(files.split())
            self._blobs.take(files.split())

    def _open_attempts(self, names: dict[int, str], failures: dict[int, list[AttemptFailed]]) -> Iterator[AttemptKept]:
        """Those that neither end nor failure nor a later attempt has closed; they get one new row."""
        latest: dict[tuple[int, int], Attempt] = {}
        for turn, row in self._db.execute("SELECT turn, entry FROM attempts ORDER BY turn"):
            self._numbers.turn = turn + 1
            for attempt in msgspec.msgpack.decode(row, type=list[Attempt]):
                latest[attempt[:2]] = attempt
        still_open = [
            attempt
            for attempt in latest.values()
            if attempt[0] in names and not self._closed(attempt, failures.get(attempt[0], ()))
        ]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM attempts")
        if still_open:
            row = msgspec.msgpack.encode(still_open)
            self._db.execute("INSERT INTO attempts VALUES (?, ?)", (self._numbers.turn, row))
        self._db.execute("COMMIT")
        for number, first, items, attempt_number, hub in still_open:
            self._attempts.open(number, first, items, self._numbers.turn)
            yield AttemptKept(names[number], first, items, attempt_number, hub)
        self._numbers.turn += 1

    def _closed(self, attempt: Attempt, failures: Iterable[AttemptFailed]) -> bool:
        """Does an end or a failure speak of all its items, or of those of a later attempt?"""
        number, first, items, attempt_number, _ = attempt
        query = "SELECT 1 FROM ends WHERE key BETWEEN ? AND ? AND attempt >= ? AND first <= ? AND first + items >= ?"
        if self._db.execute(query, (*keys(number), attempt_number, first, first + items)).fetchone():
            return True
        return any(
            f.attempt >= attempt_number and f.first <= first and first + items <= f.first + f.items for f in failures
        )

    def _rows(self, kind: type[AnyKept], query: str) -> Iterator[AnyKept]:
        decode = self._decoder(kind)
        for (row,) in self._db.execute(query):
            yield decode(row)

    def _decoder(self, kind: type[AnyKept]) -> Callable[[bytes], AnyKept]:
        return msgspec.msgpack.Decoder(kind, dec_hook=self._payload_in).decode

    def _decode(self, kind: type[AnyKept], row: bytes) -> AnyKept:
        return self._decoder(kind)(row)

    def _payload_in(self, _kind: type, value: Any) -> Any:
        if isinstance(value, str):
            return self._blobs.read(value)
        return Payload(value[1:], value[0])


def _no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.Error) and "full" in str(error)


def _task_of(entry: AnyEntry) -> str:
    if isinstance(entry, TaskKept):
        return entry.spec.task
    return getattr(entry, "task", "")
