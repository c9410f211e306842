"""Reads a journal that no core uses, sound or damaged: counts what is whole, exports it, and makes a new journal of it.

The journal itself is not opened, since SQLite would change it: everything is read from a copy beside it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from nblb.broker.journal import schema, witness
from nblb.broker.journal.blob_files import BlobFiles, lost_reason
from nblb.broker.journal.damage import Damage, put_aside
from nblb.broker.journal.file_checks import FileRow
from nblb.broker.journal.rows import SEALED, SPAN
from nblb.broker.journal.seal import contents, unsealed
from nblb.broker.journal.state_folder import StateFolder
from nblb.errors import JournalError
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import EndKept, TaskKept

NAME = "journal.sqlite"
MAGIC, HEADER_BYTES = b"SQLite format 3\0", 100  # of a database
CHANGES, PAGES, FREE_PAGES, VALID_FOR = slice(24, 28), slice(28, 32), slice(32, 40), slice(92, 96)  # in its header
PLAIN = ("meta", "collected", "files")  # tables without seals
PARTS = (NAME, f"{NAME}-wal", "journal.witness")


@dataclass
class Report:
    """What a journal has, and what is wrong with it.

    Attributes
    ----------
    rows, damaged
        Rows that are whole, and rows that are not, by table.
    bad_files
        A sentence for each payload file that is missing or changed.
    problems
        A sentence for each problem of the journal as a whole.
    """

    folder: str
    rows: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bad_files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Return True if nothing is wrong."""
        return not (self.bad_files or self.problems or any(self.damaged.values()))


class Examination:
    """A copy of a journal, opened for reading until `close`.

    Raises
    ------
    JournalLocked
        A core uses the folder.
    JournalError
        There is no journal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not any((folder / name).exists() for name in PARTS):
            raise JournalError(f"There is no journal in {folder}.")
        self._lock = StateFolder(folder, "nblb doctor")
        self._copy = folder / "journal.examined"
        self._db: sqlite3.Connection | None = None
        self.report = Report(str(folder))
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the copy, and release the folder."""
        if self._db is not None:
            self._db.close()
        shutil.rmtree(self._copy, ignore_errors=True)
        self._lock.close()

    def _open(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir(mode=0o700)
        for name in PARTS:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, self._copy / name)
        path, damage = self._copy / NAME, Damage()
        self._mend_header(path)
        try:
            promise = witness.read(self._copy / "journal.witness")
            witness.before_opening(path, promise, damage)
            self._db = sqlite3.connect(path, isolation_level=None)
            schema.prepare(self._db, path, "process", lambda db: witness.after_opening(db, path, promise, damage))
            found = self._db.execute("PRAGMA quick_check(20)").fetchall()
            self.report.problems += [str(row[0]) for row in found if row[0] != "ok"]
        except (sqlite3.Error, OSError, JournalError) as error:
            self.report.problems.append(f"it cannot be opened: {error}")
        shown = str(self._copy)
        self.report.problems += [text.replace(shown, str(self.folder)) for text in damage.sentences]

    def _mend_header(self, path: Path) -> None:
        """Mend the copy's header if it is damaged or counts more pages than there are: SQLite would read nothing."""
        if not path.exists() or path.stat().st_size < HEADER_BYTES:
            return
        with open(path, "r+b") as file:
            header = bytearray(file.read(HEADER_BYTES))
            if not header.startswith(MAGIC):
                self.report.problems.append("the header of the database is damaged")
                header = self._new_header()
                header[FREE_PAGES] = bytes(8)  # then they are only unused
            size = int.from_bytes(header[16:18], "big") or 4096
            pages = path.stat().st_size // max(512, size)
            if pages < int.from_bytes(header[PAGES], "big"):
                self.report.problems.append("the database is cut short")
            elif not self.report.problems:
                return
            header[PAGES] = pages.to_bytes(4, "big")
            header[VALID_FOR] = header[CHANGES]
            file.seek(0)
            file.write(header)

    def _new_header(self) -> bytearray:
        new = self._copy / "new.sqlite"
        db = sqlite3.connect(new, isolation_level=None)
        try:
            schema.prepare(db, new, "process")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        return bytearray(new.read_bytes()[:HEADER_BYTES])

    # ── rows ──

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield the whole rows of a table, and count the others; an unreadable page hides only its own rows."""
        for row in self._raw(table):
            whole = table in PLAIN or unsealed(row[-1], *row[:-1]) is not None
            counts = self.report.rows if whole else self.report.damaged
            counts[table] = counts.get(table, 0) + 1
            if whole:
                yield row

    def _raw(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows from both ends, up to pages that cannot be read."""
        if self._db is None:
            return
        names = ", ".join((*SEALED[table], "entry")) if table in SEALED else "*"
        key = "key" if table == "meta" else "rowid"  # the table `meta` has no rowid
        seen: set[Any] = set()
        for order in ("ASC", "DESC"):
            try:
                for row in self._db.execute(f"SELECT {key}, {names} FROM {table} ORDER BY {key} {order}"):
                    if row[0] in seen:
                        return
                    seen.add(row[0])
                    yield row[1:]
                return
            except sqlite3.Error as error:
                if "no such table" in str(error):
                    return
                problem = f"the table {table} cannot be read as a whole: {error}"
                if problem not in self.report.problems:
                    self.report.problems.append(problem)

    # ── what can be done with it ──

    def check(self) -> Report:
        """Check all rows and all payload files; return the report."""
        blobs = BlobFiles(self.folder / "blobs", sync=False)
        checks = {row[0]: FileRow(*row[1:]) for row in self.rows("files")}
        names: set[str] = set()
        for table in ("meta", *SEALED, "collected"):
            at = {"tasks": 1, "ends": 4, "blobs": 1}.get(table)
            for row in self.rows(table):
                if at is not None and type(row[at]) is str:
                    names.update(row[at].split())
        self.report.files = len(names)
        for name in sorted(names):
            if problem := self._file_problem(blobs, checks, name):
                self.report.bad_files.append(problem)
        return self.report

    def _file_problem(self, blobs: BlobFiles, checks: dict[str, FileRow], name: str) -> str:
        path, row = self.folder / "blobs" / name, checks.get(name)
        try:
            if row is None:
                payload = blobs.read(name)
                if not (reason := lost_reason(payload)):
                    payload.buffers  # noqa: B018  # compares the content with the name
                return reason
            content = path.read_bytes()
        except (OSError, JournalError) as error:
            return f"The file {path} cannot be read: {error}."
        if len(content) != row.size or (row.crc is not None and crc32(content) != row.crc):
            return f"The file {path} is not as it was written."
        return ""

    def export(self, target: Path) -> int:
        """Write what is whole to a folder: `items.jsonl`, and each result's bytes in a file; return how many results.

        A result stays pickled: `nblb.protocol.framing.Payload.frombytes` reads the file.
        """
        target.mkdir(parents=True, exist_ok=True)
        blobs = BlobFiles(self.folder / "blobs", sync=False)
        decoders = Payloads(blobs)
        specs: dict[int, TaskKept] = {}
        for row in self.rows("tasks"):
            if (task := decoders.task(contents(row[-1]))) is not None:
                specs[row[0]] = task
        written = 0
        with open(target / "items.jsonl", "w", encoding="utf-8") as lines:
            for row in self.rows("ends"):
                end, task = decoders.end(contents(row[-1])), specs.get(row[0] // SPAN)
                if end is None:
                    continue
                line: dict[str, Any] = {"task": end.task, "first": end.first, "items": end.items}
                line |= {"state": end.state.value, "ended": end.at, "attempt": end.attempt}
                if task is not None:
                    line |= {"name": task.spec.name, "job": task.spec.job, "user": task.spec.user}
                if end.failure is not None:
                    line["failure"] = f"{end.failure.kind}: {end.failure.message}"
                if end.payload is not None:
                    line["file"] = name = f"{end.task}-{end.first}.result"
                    try:
                        (target / name).write_bytes(end.payload.tobytes())
                        written += 1
                    except (OSError, JournalError) as error:
                        line |= {"file": None, "lost": str(error)}
                lines.write(json.dumps(line) + "\n")
        return written

    def repair(self) -> Path:
        """Put a new journal with all whole rows in the place of the damaged one; return where that is now.

        Raises
        ------
        JournalError
            Nothing in the journal can be read.
        """
        if not any(True for table in ("tasks", "jobs", "blobs") for _ in self.rows(table)):
            raise JournalError(f"Nothing in the journal in {self.folder} can be read, so it was left as it is.")
        made = self.folder / "journal.repaired"
        made.unlink(missing_ok=True)
        db = sqlite3.connect(made, isolation_level=None)
        try:
            schema.prepare(db, made, "full")
            db.execute("BEGIN IMMEDIATE")
            for table in ("meta", *SEALED, "collected", "files"):
                for row in self.rows(table):
                    if table == "tasks":
                        row = (*row, None)
                    db.execute(f"REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode = DELETE")
        finally:
            db.close()
        aside = self.folder / NAME
        for name in reversed(PARTS):
            if (self.folder / name).exists():
                aside = put_aside(self.folder / name) or aside
        made.rename(self.folder / NAME)
        return aside


class Payloads:
    """Decoders of entries whose payloads lie in files."""

    def __init__(self, blobs: BlobFiles) -> None:
        self._blobs = blobs
        self._task = msgspec.msgpack.Decoder(TaskKept, dec_hook=self._payload)
        self._end = msgspec.msgpack.Decoder(EndKept, dec_hook=self._payload)

    def task(self, entry: bytes) -> TaskKept | None:
        """Return the entry; None if it cannot be decoded."""
        try:
            return self._task.decode(entry)
        except (msgspec.MsgspecError, ValueError):
            return None

    def end(self, entry: bytes) -> EndKept | None:
        """Return the entry; None if it cannot be decoded."""
        try:
            return self._end.decode(entry)
        except (msgspec.MsgspecError, ValueError):
            return None

    def _payload(self, _kind: type, value: Any) -> Payload:
        if isinstance(value, str):
            return self._blobs.read(value)
        sizes, *buffers = value
        if not all(type(buffer) is bytes for buffer in buffers):
            return self._blobs.lying(buffers)
        return Payload(buffers, sizes)
