"""Checks of the files that senders have handed over: their names do not follow from their content, as those of the
core's own files do (blob_files.py), so the journal has a row for each.

A checksum of a large file costs as much processor time as writing it. The core therefore computes it in idle moments,
for files that are still needed after QUIET_S, and for the rest when it closes; until then the row has the file's size
and time of change only. A file is checked when it is first named after a start, when it has been changed since, and
when its last check is older than TRUST_S.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple
from zlib import crc32

QUIET_S = 90.0  # longer than LB_RESULT_TTL_S, so that a collected result costs nothing
TRUST_S = 60.0
PIECE = 1024 * 1024  # checked in one go, in an idle moment
READ = 256 * 1024
CLOSE_S = 1.0  # for the checksums that are missing when the core closes


class DamagedFile(OSError):
    """The content of a file is not what was written."""


class FileRow(NamedTuple):
    """A row of the table `files`."""

    size: int
    changed_ns: int  # the file's time of change when it was handed over
    crc: int | None


class Checked(NamedTuple):
    """A file as it was at its last check."""

    changed_ns: int
    inode: int
    at: float

    @classmethod
    def now(cls, found: os.stat_result) -> Checked:
        """Return the mark of a file that has just been written or checked."""
        return cls(found.st_mtime_ns, found.st_ino, monotonic())

    def is_valid(self, found: os.stat_result) -> bool:
        """Return True if the file need not be checked again."""
        same = self.changed_ns == found.st_mtime_ns and self.inode == found.st_ino
        return same and monotonic() - self.at < TRUST_S


class FileChecks:
    """The checksums of the handed-over files in `folder` that rows of the journal need."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rows: dict[str, FileRow] = {}
        self._checked: dict[str, Checked] = {}
        self._unsummed: dict[str, float] = {}  # the time from which its checksum may be computed
        self._current: tuple[str, int, int] | None = None  # file, bytes read, checksum of them
        self.gone: list[str] = []  # dropped, and still in the journal

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def restore(self, name: str, row: FileRow) -> None:
        """Take over a row that the journal has."""
        self._rows[name] = row
        if row.crc is None:
            self._unsummed[name] = monotonic() + QUIET_S

    def added(self, names: Iterable[str]) -> list[tuple[str, int, int]]:
        """Return name, size and time of change of the files that are new; their content is trusted as it is now."""
        rows = list[tuple[str, int, int]]()
        for name in dict.fromkeys(names):
            if name in self._rows:
                continue
            try:
                found = os.stat(f"{self._folder}/{name}")  # noqa: PTH116  # one for each large payload
            except OSError:
                continue  # the next reader reports it
            self._rows[name] = FileRow(found.st_size, found.st_mtime_ns, None)
            self._checked[name] = Checked.now(found)
            self._unsummed[name] = monotonic() + QUIET_S
            rows.append((name, found.st_size, found.st_mtime_ns))
        return rows

    def forget(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """Undo `added`, because the commit with these rows has failed."""
        for name, _, _ in rows:
            del self._rows[name], self._checked[name], self._unsummed[name]

    def drop(self, name: str) -> None:
        """Drop a file that is no longer needed."""
        if self._rows.pop(name, None) is not None:
            self._checked.pop(name, None)
            self._unsummed.pop(name, None)
            self.gone.append(name)

    def drop_others(self, is_needed: Callable[[str], bool]) -> None:
        """Drop the restored rows of files that nothing needs."""
        for name in [name for name in self._rows if not is_needed(name)]:
            self.drop(name)

    def check(self, name: str) -> None:
        """Raise DamagedFile if the content of this file is not what was handed over."""
        row = self._rows.get(name)
        if row is None:
            return
        try:
            found = os.stat(f"{self._folder}/{name}")  # noqa: PTH116  # for each message that names the file
        except OSError as error:
            raise DamagedFile(f"the file {name} in {self._folder} has been removed: {error.strerror}") from None
        if found.st_size != row.size:
            raise DamagedFile(_differs(self._folder, name, f"it has {found.st_size:,} bytes, not {row.size:,}"))
        known = self._checked.get(name)
        if known is not None and known.is_valid(found):
            return
        if row.crc is None:
            if found.st_mtime_ns != row.changed_ns:
                raise DamagedFile(_differs(self._folder, name, "it was changed later"))
        elif self._sum(name, row.size) != row.crc:
            raise DamagedFile(_differs(self._folder, name, "its checksum differs"))
        self._checked[name] = Checked.now(found)

    def _sum(self, name: str, size: int) -> int:
        crc = at = 0
        try:
            with open(f"{self._folder}/{name}", "rb", buffering=0) as file:
                while at < size:
                    piece = file.read(min(READ, size - at))
                    if not piece:
                        break
                    at, crc = at + len(piece), crc32(piece, crc)
        except OSError as error:
            raise DamagedFile(_differs(self._folder, name, f"it cannot be read: {error.strerror}")) from None
        return crc

    # ── checksums that are missing ──

    def rest(self) -> list[tuple[int, str]]:
        """Compute a bit of a missing checksum; return the (checksum, file) to write to the journal, if one is ready."""
        if self._current is None:
            if not self._unsummed:
                return []
            name, due = next(iter(self._unsummed.items()))
            if due > monotonic():
                return []
            del self._unsummed[name]
            self._current = name, 0, 0
        name, at, crc = self._current
        row = self._rows.get(name)
        if row is None or self._was_changed(name, row):
            self._current = None
            return []
        crc, done = self._add_piece(name, at, crc)
        at += done
        if at < row.size and done:
            self._current = name, at, crc
            return []
        self._current = None
        if at != row.size:
            return []
        self._rows[name] = row._replace(crc=crc)
        return [(crc, name)]

    def deadline(self) -> float | None:
        """Return when `rest` has something to do, or None."""
        if self._current is not None:
            return 0.0
        return next(iter(self._unsummed.values()), None)

    def complete(self) -> list[tuple[int, str]]:
        """Compute the missing checksums, as many as CLOSE_S allows; return them."""
        until, ready = monotonic() + CLOSE_S, list[tuple[int, str]]()
        self._unsummed = dict.fromkeys(self._unsummed, 0.0)
        while monotonic() < until and (self._unsummed or self._current):
            ready += self.rest()
        return ready

    def _was_changed(self, name: str, row: FileRow) -> bool:
        """Return True if the file is not as it was handed over, so that a checksum would hide the damage."""
        try:
            found = os.stat(f"{self._folder}/{name}")  # noqa: PTH116
        except OSError:
            return True
        return found.st_size != row.size or found.st_mtime_ns != row.changed_ns

    def _add_piece(self, name: str, at: int, crc: int) -> tuple[int, int]:
        try:
            with open(f"{self._folder}/{name}", "rb", buffering=0) as file:
                file.seek(at)
                done = 0
                while done < PIECE and (piece := file.read(READ)):
                    crc, done = crc32(piece, crc), done + len(piece)
                return crc, done
        except OSError:
            return crc, 0


def _differs(folder: str, name: str, how: str) -> str:
    return f"the file {name} in {folder} is not as it was written: {how}"
