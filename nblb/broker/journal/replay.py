"""Reads a journal once, at the start: yields its entries in an order in which they can be restored.

The order is blobs, published values, jobs, submissions as accepted, failed attempts and changed priorities, open
attempts, ends, collected results. It also fills in the writer's counts of existing rows.

A damaged row or file costs what it contained, and nothing else: an end without its result becomes LOST, a submission
without its arguments stays and is LOST when it would run, a function is missing for those who need it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from nblb.broker.journal.blob_files import BlobFiles, LostBytes, lost_reason
from nblb.broker.journal.damage import Damage
from nblb.broker.journal.file_checks import FileRow
from nblb.broker.journal.needed_files import NeededFiles
from nblb.broker.journal.rows import SPAN, AttemptRow, Numbers, OpenAttempts, keys
from nblb.broker.journal.seal import contents, unsealed
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobKept,
    Collected,
    EndKept,
    Entry,
    JobKept,
    PriorityKept,
    Published,
    StatisticsKept,
    TaskKept,
    UserKept,
)
from nblb.protocol.messages import Failure, TaskState

# Single-item submissions whose row names the hub of their first attempt, and that have not ended since.
GIVEN_AT_ONCE = (
    "SELECT n, hub, files, entry FROM tasks WHERE hub IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM ends WHERE key BETWEEN n * ? AND n * ? + ? - 1 AND attempt >= 1)"
)

AnyKept = TypeVar("AnyKept", bound=Entry)
Decoded = TypeVar("Decoded")


class Replay:
    """One pass over the tables; fills in `numbers`, `attempts`, the needed files, and what is damaged."""

    def __init__(
        self,
        db: sqlite3.Connection,
        blobs: BlobFiles,
        files: NeededFiles,
        numbers: Numbers,
        attempts: OpenAttempts,
        damage: Damage,
    ) -> None:
        self._db, self._blobs, self._files, self._numbers, self._attempts = db, blobs, files, numbers, attempts
        self._damage = damage
        self._names: dict[int, str] = {}  # number -> submission

    def entries(self, rewrite: Callable[[list[AttemptRow]], None]) -> Iterator[AnyEntry]:
        """Yield all entries; `rewrite` must replace all attempt rows by one row with these open attempts."""
        db, names = self._db, self._names
        for name, size, changed, crc in db.execute("SELECT name, size, changed, crc FROM files"):
            self._blobs.checks.restore(name, FileRow(size, changed, crc))
        yield from self._blob_entries()
        yield from self._rows(Published, "SELECT name, entry FROM published ORDER BY rowid", "name")
        yield from self._rows(StatisticsKept, "SELECT name, entry FROM statistics ORDER BY rowid", "sums of task")
        yield from self._rows(UserKept, "SELECT user, entry FROM users ORDER BY rowid", "sums of user")
        yield from self._rows(JobKept, "SELECT job, entry FROM jobs ORDER BY rowid", "job")
        yield from self._task_entries()
        failures: dict[int, list[AttemptFailed]] = {}
        decode_event = msgspec.msgpack.Decoder(AttemptFailed | PriorityKept, dec_hook=self._payload_in).decode
        for key, row in db.execute("SELECT key, entry FROM failed ORDER BY key"):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            event = self._decoded(decode_event, unsealed(row, key))
            if event is None:
                self._damage.single(f"a failed attempt of task {names.get(key // SPAN, '?')} is not counted")
                continue
            if isinstance(event, AttemptFailed):
                failures.setdefault(key // SPAN, []).append(event)
            yield event
        still_open = self._still_open(names, failures)
        rewrite(still_open)
        for each in still_open:
            self._attempts.open(each.number, each.first, each.items, self._numbers.turn)
            yield AttemptKept(names[each.number], each.first, each.items, each.attempt, each.hub, each.at)
        self._numbers.turn += 1
        yield from self._end_entries()
        for number, expires in db.execute("SELECT n, expires FROM collected ORDER BY n"):
            if number in names:
                yield Collected(names[number], expires)
        self._blobs.checks.drop_others(self._blobs.is_needed)

    def _blob_entries(self) -> Iterator[BlobKept]:
        decode = self._decoder(BlobKept)
        for name, file, row in self._db.execute("SELECT hash, file, entry FROM blobs ORDER BY rowid"):
            entry = self._decoded(decode, unsealed(row, name, file))
            if entry is None or lost_reason(entry.payload):
                reason = lost_reason(entry.payload) if entry is not None else "its row in the journal is damaged"
                what = entry.name if entry is not None else ""
                self._damage.single(f"the function or constant {what or name} is lost: {reason}")
                continue
            if file is not None:
                self._files.blob(name, file.split())
            yield entry

    def _task_entries(self) -> Iterator[TaskKept]:
        decode, lenient = self._decoder(TaskKept), self._decoder(TaskKept, lenient=True)
        for number, files, row in self._db.execute("SELECT n, files, entry FROM tasks ORDER BY n"):
            self._numbers.next = number + 1
            entry = self._decoded(decode, unsealed(row, number, files))
            if entry is None:
                entry = self._decoded(lenient, contents(row))  # what can still be read tells whose task it was
                if entry is None:
                    self._damage.single(f"submission {number} of the journal is lost: its row is damaged")
                    continue
                self._damage.single(f"the arguments of task {entry.spec.name} ({entry.spec.task}) are lost")
            self._names[number] = entry.spec.task
            self._numbers.of_task[entry.spec.task] = number
            if type(files) is str:
                self._files.arguments(number, files.split())
            yield entry

    def _end_entries(self) -> Iterator[EndKept]:
        decode = self._decoder(EndKept)
        query = "SELECT key, first, items, attempt, files, entry FROM ends ORDER BY key"
        for key, first, items, attempt, files, row in self._db.execute(query):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            entry = self._decoded(decode, unsealed(row, key, first, items, attempt, files))
            if entry is not None and not lost_reason(entry.payload):
                if files is not None:
                    self._files.results(key // SPAN, files.split())
                yield entry
                continue
            name = self._names.get(key // SPAN, "")
            reason = lost_reason(entry.payload) if entry is not None else "its row in the journal is damaged"
            self._damage.single(f"a result of task {name or '?'} is lost: {reason}")
            if name:
                yield _lost(name, entry, (first, items, attempt), reason)

    def _still_open(self, names: dict[int, str], failures: dict[int, list[AttemptFailed]]) -> list[AttemptRow]:
        """Return the attempts that neither an end nor a failure nor a later attempt has closed."""
        latest: dict[tuple[int, int, int], AttemptRow] = {}
        decode_task = self._decoder(TaskKept, lenient=True)
        for number, hub, files, task in self._db.execute(GIVEN_AT_ONCE, (SPAN, SPAN, SPAN)):
            entry = self._decoded(decode_task, unsealed(task, number, files) or contents(task))
            if type(hub) is str and entry is not None:
                latest[number, 0, 1] = AttemptRow(number, 0, 1, 1, hub, entry.at)
        decode = msgspec.msgpack.Decoder(list[AttemptRow]).decode
        for turn, row in self._db.execute("SELECT turn, entry FROM attempts ORDER BY turn"):
            self._numbers.turn = turn + 1
            attempts = self._decoded(decode, unsealed(row, turn))
            if attempts is None:
                self._damage.entries("a row with running attempts is damaged: what ran there may run again")
            for attempt in attempts or ():
                latest[attempt.number, attempt.first, attempt.items] = attempt
        return [
            attempt
            for attempt in latest.values()
            if attempt.number in names and not self._closed(attempt, failures.get(attempt.number, ()))
        ]

    def _closed(self, attempt: AttemptRow, failures: Iterable[AttemptFailed]) -> bool:
        """Return True if an end or a failure covers all items of this attempt or of a later one."""
        number, first, items, attempt_number = attempt.number, attempt.first, attempt.items, attempt.attempt
        query = "SELECT 1 FROM ends WHERE key BETWEEN ? AND ? AND attempt >= ? AND first <= ? AND first + items >= ?"
        if self._db.execute(query, (*keys(number), attempt_number, first, first + items)).fetchone():
            return True
        return any(
            f.attempt >= attempt_number and f.first <= first and first + items <= f.first + f.items for f in failures
        )

    def _rows(self, kind: type[AnyKept], query: str, what: str) -> Iterator[AnyKept]:
        decode = self._decoder(kind)
        for name, row in self._db.execute(query):
            entry = self._decoded(decode, unsealed(row, name))
            if entry is None:
                self._damage.single(f"the {what} {name} is lost: its row in the journal is damaged")
            else:
                yield entry

    @staticmethod
    def _decoded(decode: Callable[[bytes], Decoded], entry: bytes | None) -> Decoded | None:
        """Return the decoded entry; None if its row is damaged."""
        try:
            return decode(entry) if entry is not None else None
        except (msgspec.MsgspecError, ValueError):  # UnicodeError is a ValueError
            return None

    def _decoder(self, kind: type[AnyKept], lenient: bool = False) -> Callable[[bytes], AnyKept]:
        """Return a decoder of entries; a `lenient` one, for damaged rows, trusts no payload."""
        return msgspec.msgpack.Decoder(kind, dec_hook=_no_payload if lenient else self._payload_in).decode

    def _payload_in(self, _kind: type, value: Any) -> Any:
        if isinstance(value, str):
            return self._blobs.read(value)
        try:
            sizes, *buffers = value
            if not all(type(buffer) is bytes for buffer in buffers):
                return self._blobs.lying(buffers)
            whole = not sizes or sum(sizes) == len(buffers[0])
        except (TypeError, ValueError, IndexError):
            whole = False
        if not whole:
            raise ValueError("a payload is neither its bytes nor the name of its file")
        return Payload(buffers, sizes)


def _no_payload(_kind: type, _value: Any) -> Payload:
    return Payload((), (), LostBytes("The row in the journal is damaged."))


def _lost(task: str, entry: EndKept | None, columns: tuple[Any, Any, Any], reason: str) -> EndKept:
    """Return the end of the items whose result is lost; `columns` are those of the row, which may be damaged, too."""
    failure = Failure(kind="TaskLost", message=f"its result is lost: {reason}")
    if entry is not None:
        return msgspec.structs.replace(entry, state=TaskState.LOST, payload=None, failure=failure, kept=())
    first, items, attempt = (number if type(number) is int else 1 for number in columns)
    return EndKept(task, max(0, first), max(1, items), max(1, attempt), TaskState.LOST, time.time(), failure=failure)
