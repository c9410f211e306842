"""Reads a journal once, at the start: yields its entries in an order in which they can be restored.

The order is blobs, published values, jobs, submissions as accepted, failed attempts and changed priorities, open
attempts, ends, collected results. It also fills in the writer's counts of existing rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.needed_files import NeededFiles
from nblb.broker.journal.rows import SPAN, AttemptRow, Numbers, OpenAttempts, keys
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

# Single-item submissions whose row names the hub of their first attempt, and that have not ended since.
GIVEN_AT_ONCE = (
    "SELECT n, hub, entry FROM tasks WHERE hub IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM ends WHERE key BETWEEN n * ? AND n * ? + ? - 1 AND attempt >= 1)"
)

AnyKept = TypeVar("AnyKept", bound=Entry)


class Replay:
    """One pass over the tables; fills in `numbers`, `attempts`, and the needed files."""

    def __init__(
        self, db: sqlite3.Connection, blobs: BlobFiles, files: NeededFiles, numbers: Numbers, attempts: OpenAttempts
    ) -> None:
        self._db, self._blobs, self._files, self._numbers, self._attempts = db, blobs, files, numbers, attempts

    def entries(self, rewrite: Callable[[list[AttemptRow]], None]) -> Iterator[AnyEntry]:
        """Yield all entries; `rewrite` must replace all attempt rows by one row with these open attempts."""
        names: dict[int, str] = {}
        db = self._db
        decode_blob = self._decoder(BlobKept)
        for name, file, row in db.execute("SELECT hash, file, entry FROM blobs ORDER BY rowid"):
            if file is not None:
                self._files.blob(name, file.split())
            yield decode_blob(row)
        yield from self._rows(Published, "SELECT entry FROM published ORDER BY rowid")
        yield from self._rows(StatisticsKept, "SELECT entry FROM statistics ORDER BY rowid")
        yield from self._rows(UserKept, "SELECT entry FROM users ORDER BY rowid")
        yield from self._rows(JobKept, "SELECT entry FROM jobs ORDER BY rowid")
        decode_task = self._decoder(TaskKept)
        for number, files, row in db.execute("SELECT n, files, entry FROM tasks ORDER BY n"):
            entry = decode_task(row)
            names[number] = entry.spec.task
            self._numbers.of_task[entry.spec.task] = number
            self._numbers.next = number + 1
            if files is not None:
                self._files.arguments(number, files.split())
            yield entry
        decode_event = msgspec.msgpack.Decoder(AttemptFailed | PriorityKept, dec_hook=self._payload_in).decode
        failures: dict[int, list[AttemptFailed]] = {}
        for key, row in db.execute("SELECT key, entry FROM failed ORDER BY key"):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            event = decode_event(row)
            if isinstance(event, AttemptFailed):
                failures.setdefault(key // SPAN, []).append(event)
            yield event
        still_open = self._still_open(names, failures)
        rewrite(still_open)
        for each in still_open:
            self._attempts.open(each.number, each.first, each.items, self._numbers.turn)
            yield AttemptKept(names[each.number], each.first, each.items, each.attempt, each.hub, each.at)
        self._numbers.turn += 1
        decode_end = self._decoder(EndKept)
        for key, files, row in db.execute("SELECT key, files, entry FROM ends ORDER BY key"):
            self._numbers.events = max(self._numbers.events, key % SPAN + 1)
            if files is not None:
                self._files.results(key // SPAN, files.split())
            yield decode_end(row)
        for number, expires in db.execute("SELECT n, expires FROM collected ORDER BY n"):
            if number in names:
                yield Collected(names[number], expires)

    def _still_open(self, names: dict[int, str], failures: dict[int, list[AttemptFailed]]) -> list[AttemptRow]:
        """Return the attempts that neither an end nor a failure nor a later attempt has closed."""
        latest: dict[tuple[int, int, int], AttemptRow] = {}
        decode_task = self._decoder(TaskKept)
        for number, hub, task in self._db.execute(GIVEN_AT_ONCE, (SPAN, SPAN, SPAN)):
            if type(hub) is not str:
                raise ValueError("a task's hub has no name")
            latest[number, 0, 1] = AttemptRow(number, 0, 1, 1, hub, decode_task(task).at)
        for turn, row in self._db.execute("SELECT turn, entry FROM attempts ORDER BY turn"):
            self._numbers.turn = turn + 1
            for attempt in msgspec.msgpack.decode(row, type=list[AttemptRow]):
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

    def _rows(self, kind: type[AnyKept], query: str) -> Iterator[AnyKept]:
        decode = self._decoder(kind)
        for (row,) in self._db.execute(query):
            yield decode(row)

    def _decoder(self, kind: type[AnyKept]) -> Callable[[bytes], AnyKept]:
        return msgspec.msgpack.Decoder(kind, dec_hook=self._payload_in).decode

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
