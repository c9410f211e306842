"""The tables of the journal, and the rows that one commit adds and deletes; each row has a checksum (seal.py).

Rows are found by number, so no index is kept on disk: each submission gets the next number, and its later rows have
the key number * SPAN + a running count. Attempts are written once a turn as one compact row, which is deleted when
all of them have ended. Payloads of INLINE bytes and more are files (blob_files.py).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.seal import sealed
from nblb.protocol.framing import IN_MEMORY, Part, Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    ArgumentsSpent,
    AttemptFailed,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    Collected,
    EndKept,
    Entry,
    JobForgotten,
    JobKept,
    PriorityKept,
    Published,
    StatisticsKept,
    TaskForgotten,
    TaskKept,
    UserKept,
)

INLINE = 32 * 1024  # bytes: a smaller payload is cheaper in its row, a larger one as a file
SPAN = 2**31

SUMS = (
    "CREATE TABLE statistics (name TEXT PRIMARY KEY, entry BLOB)",
    "CREATE TABLE users (user TEXT PRIMARY KEY, entry BLOB)",
)
FILES = "CREATE TABLE files (name TEXT PRIMARY KEY, size INT, changed INT, crc INT)"
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE blobs (hash TEXT PRIMARY KEY, file TEXT, entry BLOB)",
    "CREATE TABLE published (name TEXT PRIMARY KEY, entry BLOB)",
    "CREATE TABLE jobs (job TEXT PRIMARY KEY, entry BLOB)",
    "CREATE TABLE tasks (n INTEGER PRIMARY KEY, files TEXT, entry BLOB, hub TEXT)",
    "CREATE TABLE attempts (turn INTEGER PRIMARY KEY, entry BLOB)",
    "CREATE TABLE ends (key INTEGER PRIMARY KEY, first INT, items INT, attempt INT, files TEXT, entry BLOB)",
    "CREATE TABLE failed (key INTEGER PRIMARY KEY, entry BLOB)",
    "CREATE TABLE collected (n INTEGER PRIMARY KEY, expires REAL)",
    *SUMS,
    FILES,
)

# The tables whose entries are sealed, with the columns that the checksum covers besides the entry.
SEALED: dict[str, tuple[str, ...]] = {
    "blobs": ("hash", "file"),
    "published": ("name",),
    "statistics": ("name",),
    "users": ("user",),
    "jobs": ("job",),
    "tasks": ("n", "files"),
    "failed": ("key",),
    "attempts": ("turn",),
    "ends": ("key", "first", "items", "attempt", "files"),
}


class AttemptRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An open attempt, in the row of all attempts of its turn."""

    number: int  # of the submission
    first: int
    items: int
    attempt: int
    hub: str
    at: float = 0.0  # wall clock; absent in rows of schema 3


FORGET_TASKS = (
    "DELETE FROM tasks WHERE n = ?",
    "DELETE FROM collected WHERE n = ?",
)
FORGET_EVENTS = (
    "DELETE FROM ends WHERE key BETWEEN ? AND ?",
    "DELETE FROM failed WHERE key BETWEEN ? AND ?",
)


def keys(number: int) -> tuple[int, int]:
    """Return the first and the last key that rows of this submission can have."""
    return number * SPAN, number * SPAN + SPAN - 1


class Numbers:
    """The row numbers of submissions, and the counts that make new keys."""

    def __init__(self) -> None:
        self.of_task: dict[str, int] = {}
        self.next = 1
        self.turn = 1
        self.events = 0


class OpenAttempts:
    """The attempts that have not ended, so that a turn's row is deleted with the last of them.

    An attempt is closed by an entry that covers all its items. An attempt is still open if only some of its items were
    cancelled or have ended: after a restart its hub may report the others.
    """

    def __init__(self) -> None:
        self._open: dict[int, dict[tuple[int, int], int]] = {}  # number -> (first item, items) -> turn
        self._in_turn: Counter[int] = Counter()
        self.empty_turns: list[int] = []

    def open(self, number: int, first: int, items: int, turn: int) -> None:
        self._drop(number, (first, items))
        if turn in self.empty_turns:  # earlier attempts of this turn have begun and ended already
            self.empty_turns.remove(turn)
        self._open.setdefault(number, {})[first, items] = turn
        self._in_turn[turn] += 1

    def close(self, number: int, first: int, items: int) -> None:
        opened = self._open.get(number)
        if opened is None:
            return
        last = first + items
        for part in [(first, 1)] if items == 1 else [part for part in opened if first <= part[0] < last]:
            if part[0] + part[1] <= last:
                self._drop(number, part)

    def _drop(self, number: int, part: tuple[int, int]) -> None:
        opened = self._open.get(number)
        if opened is None or part not in opened:
            return
        turn = opened.pop(part)
        self._in_turn[turn] -= 1
        if not self._in_turn[turn]:
            del self._in_turn[turn]
            self.empty_turns.append(turn)
        if not opened:
            del self._open[number]


class RowEncoder:
    """Encodes entries, and writes their large payloads to files."""

    def __init__(self, blobs: BlobFiles) -> None:
        self.blobs = blobs
        self._large: list[tuple[str, Payload]] = []
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._payload_out).encode

    def __call__(self, entry: Entry) -> tuple[bytes, list[tuple[str, Payload]]]:
        """Return the entry's bytes, and the payloads written to files with the names of those files."""
        self._large = []
        return self._encode(entry), self._large

    def _payload_out(self, value: Any) -> Any:
        if not isinstance(value, Payload):
            raise TypeError(f"a journal cannot hold a {type(value).__name__}")
        parts = value.parts
        if parts is not None:
            return (value.sizes, *(part if isinstance(part, IN_MEMORY) else self._place(part, value) for part in parts))
        if value.nbytes < INLINE:
            return (value.sizes, *value.buffers)
        name = self.blobs.write(value)
        self._large.append((name, value))
        return name

    def _place(self, part: Part, payload: Payload) -> tuple[str, int, int]:
        """Return the file of a buffer that was handed over in one; it stays there."""
        self.blobs.secure(part.name)
        self._large.append((part.name, payload))
        return part.name, part.at, part.nbytes


class RowBatch:
    """The rows of one transaction, and the updates to apply once it is committed."""

    def __init__(self, numbers: Numbers, encode: RowEncoder) -> None:
        self._known, self._encode = numbers, encode
        self.tasks: list[tuple[int, str | None, bytes, str | None]] = []
        self.singles: dict[int, int] = {}  # new submissions of one item: number -> place in `tasks`
        self.ends: list[tuple[int, int, int, int, str | None, bytes]] = []
        self.failed: list[tuple[int, bytes]] = []
        self.collected: list[tuple[int, float]] = []
        self.attempts: list[AttemptRow] = []
        self.jobs: dict[str, bytes | None] = {}
        self.blobs: dict[str, tuple[str | None, bytes] | None] = {}
        self.published: dict[str, bytes | None] = {}
        self.statistics: dict[str, StatisticsKept] = {}  # the latest of each name, encoded at the end
        self.users: dict[str, UserKept] = {}
        self.forgotten: list[tuple[int, str]] = []
        self.numbers: dict[str, int] = {}
        self.files: list[tuple[int, list[str]]] = []  # of results, by submission
        self.arguments: list[tuple[int, list[str]]] = []  # of arguments, by submission
        self.spent: list[int] = []  # submissions that no longer need their arguments
        self.large: list[tuple[str, Payload]] = []  # the file, and the payload now in it
        self.checks: list[tuple[str, int, int]] = []  # files handed over: name, size, time of change
        self.unchecked: list[tuple[str]] = []  # handed-over files that are gone
        self.moves: list[tuple[bool, int, int, int]] = []  # an attempt opens or closes: opens, number, first, items
        self.nbytes = 0

    def add(self, entry: AnyEntry) -> None:
        """Make the rows of this entry; its large payloads are written to files at once."""
        self._ADD[type(entry)](self, entry)

    def _row(self, entry: Entry) -> tuple[bytes, list[str]]:
        """Return the encoded entry, and the files of its large payloads."""
        row, large = self._encode(entry)
        self.nbytes += len(row)
        if not large:
            return row, []
        self.large += large
        return row, [name for name, _ in large]

    def _number(self, task: str) -> int | None:
        """Return the submission's number; None if it has been dropped meanwhile."""
        return self.numbers.get(task) or self._known.of_task.get(task)

    def _key(self, number: int) -> int:
        return number * SPAN + (self._known.events + len(self.ends) + len(self.failed)) % SPAN

    def _task_kept(self, entry: TaskKept) -> None:
        row, files = self._row(entry)
        number = self._known.next + len(self.tasks)
        self.numbers[entry.spec.task] = number
        if entry.spec.items == 1:
            self.singles[number] = len(self.tasks)
        named = " ".join(files) or None
        self.tasks.append((number, named, sealed(row, number, named), None))
        if files:
            self.arguments.append((number, files))

    def _end_kept(self, entry: EndKept) -> None:
        number = self._number(entry.task)
        if number is None:
            return
        row, files = self._row(entry)
        named = " ".join(files) or None
        columns = self._key(number), entry.first, entry.items, entry.attempt, named
        self.ends.append((*columns, sealed(row, *columns)))
        self.moves.append((False, number, entry.first, entry.items))
        if files:
            self.files.append((number, files))

    def _attempt_kept(self, entry: AttemptKept) -> None:
        number = self._number(entry.task)
        if number is None:
            return
        at = self.singles.get(number) if entry.attempt == 1 else None
        if at is not None:  # a single item assigned in the turn of its submission: one row for both
            self.tasks[at] = (*self.tasks[at][:3], entry.hub)
        else:
            self.attempts.append(AttemptRow(number, entry.first, entry.items, entry.attempt, entry.hub, entry.at))
            self.moves.append((True, number, entry.first, entry.items))

    def _attempt_failed(self, entry: AttemptFailed) -> None:
        number = self._number(entry.task)
        if number is not None:
            key = self._key(number)
            self.failed.append((key, sealed(self._row(entry)[0], key)))
            self.moves.append((False, number, entry.first, entry.items))

    def _priority_kept(self, entry: PriorityKept) -> None:
        number = self._number(entry.task)
        if number is not None:
            key = self._key(number)
            self.failed.append((key, sealed(self._row(entry)[0], key)))

    def _collected(self, entry: Collected) -> None:
        number = self._number(entry.task)
        if number is not None:
            self.collected.append((number, entry.expires))

    def _arguments_spent(self, entry: ArgumentsSpent) -> None:
        number = self._number(entry.task)
        if number is not None:
            self.spent.append(number)

    def _task_forgotten(self, entry: TaskForgotten) -> None:
        number = self._number(entry.task)
        if number is not None:
            self.forgotten.append((number, entry.task))

    def _job_kept(self, entry: JobKept) -> None:
        self.jobs[entry.spec.job] = sealed(self._row(entry)[0], entry.spec.job)

    def _job_forgotten(self, entry: JobForgotten) -> None:
        self.jobs[entry.job] = None

    def _blob_kept(self, entry: BlobKept) -> None:
        row, files = self._row(entry)
        named = " ".join(files) or None
        self.blobs[entry.hash] = (named, sealed(row, entry.hash, named))

    def _blob_forgotten(self, entry: BlobForgotten) -> None:
        self.blobs[entry.hash] = None

    def _published(self, entry: Published) -> None:
        self.published[entry.name] = sealed(self._row(entry)[0], entry.name) if entry.hash else None

    def _statistics_kept(self, entry: StatisticsKept) -> None:
        self.statistics[entry.name] = entry

    def _user_kept(self, entry: UserKept) -> None:
        self.users[entry.user] = entry

    _ADD: ClassVar[dict[type, Callable[[RowBatch, Any], None]]] = {
        TaskKept: _task_kept,
        EndKept: _end_kept,
        AttemptKept: _attempt_kept,
        AttemptFailed: _attempt_failed,
        PriorityKept: _priority_kept,
        Collected: _collected,
        ArgumentsSpent: _arguments_spent,
        TaskForgotten: _task_forgotten,
        JobKept: _job_kept,
        JobForgotten: _job_forgotten,
        BlobKept: _blob_kept,
        BlobForgotten: _blob_forgotten,
        Published: _published,
        StatisticsKept: _statistics_kept,
        UserKept: _user_kept,
    }

    def write(self, db: sqlite3.Connection, empty_turns: Sequence[int]) -> None:
        """Write all rows in one transaction."""
        work = self._statements(empty_turns)
        if len(work) == 1 and len(work[0][1]) == 1:  # one statement is a transaction by itself
            db.execute(work[0][0], work[0][1][0])
            return
        db.execute("BEGIN IMMEDIATE")
        for statement, rows in work:
            db.executemany(statement, rows)
        db.execute("COMMIT")

    def _statements(self, empty_turns: Sequence[int]) -> list[tuple[str, Sequence[Sequence[Any]]]]:
        """Return the statements to execute, each with its rows; none for a table without rows."""
        work: list[tuple[str, Sequence[Sequence[Any]]]] = []
        if self.published:
            work += _replacing("published", "name", [(name, row) for name, row in self.published.items()])
        if self.statistics:
            entries = self.statistics.items()
            rows = [(n, sealed(self._row(e)[0], n) if e.total else None) for n, e in entries]
            work += _replacing("statistics", "name", rows)
        if self.users:
            users = [(name, sealed(self._row(entry)[0], name)) for name, entry in self.users.items()]
            work += _replacing("users", "user", users)
        if self.jobs:
            work += _replacing("jobs", "job", [(job, row) for job, row in self.jobs.items()])
        if self.blobs:
            blobs = [(name, *row) if row else (name, None) for name, row in self.blobs.items()]
            work += _replacing("blobs", "hash", blobs)
        if self.tasks:
            work.append(("REPLACE INTO tasks VALUES (?, ?, ?, ?)", self.tasks))
        if self.ends:
            work.append(("REPLACE INTO ends VALUES (?, ?, ?, ?, ?, ?)", self.ends))
        if self.failed:
            work.append(("REPLACE INTO failed VALUES (?, ?)", self.failed))
        if self.collected:
            work.append(("REPLACE INTO collected VALUES (?, ?)", self.collected))
        if self.attempts:
            row = sealed(msgspec.msgpack.encode(self.attempts), self._known.turn)
            self.nbytes += len(row)
            work.append(("REPLACE INTO attempts VALUES (?, ?)", [(self._known.turn, row)]))
        if self.checks:
            work.append(("REPLACE INTO files VALUES (?, ?, ?, NULL)", self.checks))
        if self.unchecked:
            work.append(("DELETE FROM files WHERE name = ?", self.unchecked))
        if empty_turns:
            work.append(("DELETE FROM attempts WHERE turn = ?", [(turn,) for turn in empty_turns]))
        if self.forgotten:
            work += [(statement, [(number,) for number, _ in self.forgotten]) for statement in FORGET_TASKS]
            work += [(statement, [keys(number) for number, _ in self.forgotten]) for statement in FORGET_EVENTS]
        return work

    @property
    def rows(self) -> int:
        return len(self.tasks) + len(self.ends) + len(self.failed) + len(self.collected) + len(self.forgotten)


def _replacing(table: str, key: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[str, Sequence[Sequence[Any]]]]:
    """Return statements that replace each row, or delete it if its last value is None."""
    gone = [(row[0],) for row in rows if row[-1] is None]
    kept = [row for row in rows if row[-1] is not None]
    work: list[tuple[str, Sequence[Sequence[Any]]]] = []
    if gone:
        work.append((f"DELETE FROM {table} WHERE {key} = ?", gone))
    if kept:
        work.append((f"REPLACE INTO {table} VALUES ({', '.join('?' * len(kept[0]))})", kept))
    return work
