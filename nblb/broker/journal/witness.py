"""The witness: a small file beside the journal that says how far the journal must reach.

SQLite reads its WAL up to the first damaged frame and takes that for the end; it begins a new database where the file
is missing, and replays any WAL whose checksums are right. None of that is an error to it, and each loses entries that
were promised. So the journal writes a record of fixed length, at once or, in a core,
within MAINTENANCE_S (load_balancer.py) after each commit:

    core     the core's id
    mark     a number that the first commit of each WAL raises, in the table `meta`
    size     of the WAL behind the last commit; 0: unknown, so the WAL may be shorter
    header   the first bytes of the WAL, which distinguish it from others
    closed   whether the core ended in good order, so that there is no WAL

The file's time of change is that of the last commit.

The record is not synchronised with the disk. After a power loss it may be older than the journal, which is harmless;
with LB_DURABILITY "process" it may be newer, and then it says how much the power loss has cost.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from nblb.broker.journal.damage import Damage, put_aside, when

TRIAL = "journal.trial-"
HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_record = struct.Struct(">8s32sQQ32s?")
_changing = struct.Struct(">Q")
_SIZE_AT, _HEADER_AT = 48, 56
_MAGIC = b"nblbwit1"


@dataclass(frozen=True)
class Promise:
    """The content of a witness: how far the journal must reach."""

    core: str
    mark: int
    size: int = 0
    header: bytes = b""
    at: float = 0.0
    closed: bool = False


class JournalWitness:
    """The witness file of one journal; `promise` is what an earlier core wrote there."""

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name("journal.witness")
        self._wal_path = journal.with_name(journal.name + "-wal")
        self.promise = read(self.path)
        self._file = self._wal = -1
        self._record = bytearray()  # as in the file, without its checksum
        self._bounds_wal = False

    def begin(self, core: str, mark: int) -> None:
        """Promise what the journal contains now, with the first commit of a new WAL as its last one."""
        self._open_wal()
        record = _record.pack(_MAGIC, core.encode(), mark, 0, _header(self._wal_path), False)
        self._record, self._bounds_wal = bytearray(record), self._wal >= 0
        self.committed()

    def committed(self) -> None:
        """Promise what was committed until now."""
        if self._bounds_wal:
            _changing.pack_into(self._record, _SIZE_AT, os.fstat(self._wal).st_size)
            self._write()

    def loosen(self, closed: bool = False) -> None:
        """Promise no length of the WAL, because it is about to be moved into the database."""
        if not self._record:
            return
        self._bounds_wal = False
        _changing.pack_into(self._record, _SIZE_AT, 0)
        if closed:
            self._record[_HEADER_AT : _HEADER_AT + HEADER_BYTES] = bytes(HEADER_BYTES)
            self._record[-1] = 1
        self._write()

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._wal):
            if file >= 0:
                os.close(file)
        self._file = self._wal = -1
        self._bounds_wal = False

    def _open_wal(self) -> None:
        if self._wal < 0:
            try:
                self._wal = os.open(self._wal_path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass  # then no length is promised

    def _write(self) -> None:
        record = self._record + crc32(self._record).to_bytes(4, "big")
        try:
            if self._file < 0:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._file, record, 0)
        except OSError:
            self.close()  # without it, the next start cannot check; the journal itself is not harmed


def read(path: Path) -> Promise | None:
    """Return what a witness file says; None if there is none, or an unreadable one."""
    try:
        stored, at = path.read_bytes(), path.stat().st_mtime
    except OSError:
        return None
    record, seal = stored[: _record.size], stored[_record.size : _record.size + 4]
    if len(seal) != 4 or crc32(record).to_bytes(4, "big") != seal or not record.startswith(_MAGIC):
        return None
    _, core, mark, size, header, closed = _record.unpack(record)
    return Promise(core.rstrip(b"\0").decode("ascii", "replace"), mark, size, header.rstrip(b"\0"), at, closed)


def before_opening(journal: Path, promise: Promise | None, damage: Damage) -> None:
    """Put aside what SQLite would replay or remove without a word: a WAL that is not this journal's."""
    for left in journal.parent.glob(f"{TRIAL}*"):  # by a core that was killed while it tried
        shutil.rmtree(left, ignore_errors=True)
    wal = journal.with_name(journal.name + "-wal")
    found = _header(wal)
    if not found:
        return
    if not journal.exists():
        aside = put_aside(wal)
        damage.entries(f"the journal {journal} is missing, and only its WAL is left{_kept(aside)}")
    elif promise is not None and found != promise.header.ljust(HEADER_BYTES, b"\0"):
        reason = _refusal(journal, promise)
        if reason:
            damage.entries(f"the WAL of the journal {journal} {reason}, and was not used{_kept(put_aside(wal))}")


def after_opening(db: sqlite3.Connection, journal: Path, promise: Promise | None, damage: Damage) -> None:
    """Compare the opened journal with what its witness promises."""
    known = _meta(db)
    if promise is None:
        return
    core, mark = known.get("core"), int(known.get("mark", 0) or 0)
    since = f"until {when(promise.at)}"
    if not core:
        damage.entries(f"the journal {journal} is missing or empty: all that it had {since} is lost")
    elif core != promise.core:
        damage.entries(f"the journal {journal} is another core's: all that this folder's had {since} is lost")
    elif mark < promise.mark:
        damage.entries(
            f"the journal {journal} is older than what was promised: entries are lost from {_last(db)} {since}"
            f"{_copy_wal(journal)}"
        )
    elif mark == promise.mark and promise.size:
        _check_length(db, journal, promise, damage)


def _check_length(db: sqlite3.Connection, journal: Path, promise: Promise, damage: Damage) -> None:
    page = db.execute("PRAGMA page_size").fetchone()[0]
    frame = page + FRAME_HEADER_BYTES
    _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    promised = (promise.size - HEADER_BYTES) // frame
    if frames >= promised:
        return
    copy = _copy_wal(journal)
    what = f"is damaged after {max(0, frames):,} of {promised:,} pages" if copy else "is missing"
    damage.entries(
        f"the WAL of the journal {journal} {what}: entries are lost from {_last(db)} until {when(promise.at)}{copy}"
    )


def _copy_wal(journal: Path) -> str:
    """Keep a copy of the WAL; return the clause that says where, or "" without a WAL."""
    wal = journal.with_name(journal.name + "-wal")
    aside = wal.with_name(f"{wal.name}.damaged")
    try:
        if not wal.stat().st_size:
            return ""
        shutil.copyfile(wal, aside)
    except OSError:
        return ""
    return f"; a copy of its WAL is {aside}"


def _refusal(journal: Path, promise: Promise) -> str:
    """Return why a WAL with an unexpected header must not be replayed; "" if it belongs to this journal.

    It does if a core was killed between the first commit of a WAL and the witness's note of it, or lost the note with
    the power. That is seen in a copy, where the WAL does no harm.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=TRIAL, dir=_roomy(journal)) as folder:
            trial = Path(folder)
            for name in (journal.name, f"{journal.name}-wal"):
                shutil.copyfile(journal.with_name(name), trial / name)
            db = sqlite3.connect(trial / journal.name, isolation_level=None)
            try:
                known = _meta(db)
                sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            finally:
                db.close()
            mark = int(known.get("mark", 0) or 0)
    except (sqlite3.OperationalError, OSError):
        return ""  # it cannot be tried, for lack of room or rights: that says nothing about the WAL
    except (sqlite3.Error, ValueError) as error:
        return f"does not fit it ({error})"
    if not sound or known.get("core") != promise.core:
        return "belongs to another journal"
    return (
        "is damaged, or older than what was promised"
        if mark < promise.mark or (mark == promise.mark and promise.closed)
        else ""
    )


def _roomy(journal: Path) -> Path:
    """Return a folder with room for a copy of the journal: its own, or that of temporary files."""
    needed = 2 * sum(path.stat().st_size for path in journal.parent.glob(f"{journal.name}*"))
    return journal.parent if shutil.disk_usage(journal.parent).free > needed else Path(tempfile.gettempdir())


def _meta(db: sqlite3.Connection) -> dict[str, Any]:
    try:
        return dict(db.execute("SELECT key, value FROM meta"))
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return {}
        raise


def _last(db: sqlite3.Connection) -> str:
    """Return the time of the last commit that is there, as far as `meta` tells."""
    value = _meta(db).get("at")
    return when(float(value)) if isinstance(value, (int, float)) else "an unknown time"


def _header(wal: Path) -> bytes:
    try:
        with open(wal, "rb") as file:
            return file.read(HEADER_BYTES)
    except OSError:
        return b""


def _kept(aside: Path | None) -> str:
    return f"; it is {aside} now" if aside is not None else ""
