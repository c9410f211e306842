"""The reserve of disk space: its size, its release in steps, and its restoration."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nblb.broker.journal.journal import Journal
from nblb.broker.journal.reserve import LEAST_BYTES, MOST_BYTES, STEPS, Reserve
from nblb.errors import JournalFull
from nblb.protocol.journal_entries import AttemptKept, BlobKept, Published
from tests.broker.journals import MIB, ended, files, kept, reopened, write


class Room:
    """How much is free on the disk, as far as the reserve is told."""

    def __init__(self, free: int) -> None:
        self.free = free

    def look(self, _path: Any) -> Any:
        return SimpleNamespace(f_bavail=self.free // 4096, f_frsize=4096)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    room = Room(200 * MIB)
    monkeypatch.setattr(os, "statvfs", room.look)
    return room


@pytest.mark.parametrize(
    ("free", "size"),
    [(10**15, MOST_BYTES), (200 * MIB, 2 * MIB), (100 * LEAST_BYTES, LEAST_BYTES), (99 * LEAST_BYTES, 0), (0, 0)],
)
def test_it_is_a_small_part_of_what_is_free(tmp_path: Path, room: Room, free: int, size: int) -> None:
    room.free = free
    reserve = Reserve(tmp_path)
    reserve.set_aside()
    assert (reserve.path.stat().st_size if reserve.path.exists() else 0) == size
    if size:
        assert reserve.path.stat().st_blocks * 512 >= size  # room, not only a number
    assert not reserve.is_in_use


def test_it_goes_by_steps_and_comes_back_when_there_is_twice_the_room(tmp_path: Path, room: Room) -> None:
    reserve = Reserve(tmp_path)
    reserve.set_aside()
    sizes = []
    while reserve.release():
        sizes.append(reserve.path.stat().st_size)
    assert sizes == [2 * MIB * step // STEPS for step in range(STEPS - 1, -1, -1)]
    assert reserve.is_in_use
    room.free = 4 * MIB - 4096
    assert not reserve.restore()
    assert reserve.is_in_use
    room.free = 5 * MIB
    assert not reserve.restore(2 * MIB)
    assert reserve.restore(MIB)
    assert reserve.path.stat().st_size == 2 * MIB
    assert not reserve.is_in_use


def test_a_disk_that_has_none_has_room_as_soon_as_there_is_any(tmp_path: Path, room: Room) -> None:
    room.free = MIB
    reserve = Reserve(tmp_path)
    reserve.set_aside()
    assert not reserve.release()
    assert reserve.restore()
    assert not reserve.restore(2 * MIB)
    room.free = 400 * MIB
    assert reserve.restore()
    assert reserve.path.stat().st_size == 4 * MIB  # now it can have one


def test_what_a_killed_core_has_left_serves_the_next(tmp_path: Path, room: Room) -> None:
    before = Reserve(tmp_path)
    before.set_aside()
    before.release()
    room.free = 0
    after = Reserve(tmp_path)
    after.set_aside()
    assert after.release()
    assert after.path.stat().st_size < 2 * MIB * 7 // 8


def test_somebody_has_removed_it(tmp_path: Path, room: Room) -> None:
    reserve = Reserve(tmp_path)
    reserve.set_aside()
    reserve.path.unlink()
    assert reserve.release()
    assert not reserve.release()
    assert reserve.restore()
    assert reserve.path.exists()


# ── in the journal ──


class TightDisk:
    """A connection that can write once the reserve has shrunk to `limit`."""

    def __init__(self, journal: Journal, limit: float) -> None:
        self.db, self.reserve, self.limit = journal._db, journal._reserve.path, limit
        journal._db = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if (sql == "COMMIT" or sql.startswith("REPLACE")) and self.reserve.stat().st_size > self.limit:
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(sql, *values)


def test_what_goes_on_has_the_reserve_and_what_is_new_has_not(tmp_path: Path, room: Room) -> None:
    journal = Journal(tmp_path)
    write(journal, kept("a"), kept("b"))
    disk = TightDisk(journal, MIB)
    journal.append(kept("c"))
    journal.append(AttemptKept("a", 0, 1, 1, "hub"))
    with pytest.raises(JournalFull):
        journal.commit()
    assert not journal.is_tight
    assert journal.withdraw({"c"})
    write(journal)
    assert journal.is_tight
    assert disk.reserve.stat().st_size == MIB  # no more than was needed
    write(journal, ended("a"))
    disk.limit = 0
    room.free = 0
    write(journal, ended("b"))
    assert not journal.has_room()
    disk.limit = -1
    journal.append(ended("b"))
    with pytest.raises(JournalFull):  # all of it is used up
        journal.commit()
    disk.limit, room.free = 4 * MIB, 200 * MIB
    assert journal.has_room()
    assert not journal.is_tight
    write(journal, kept("d"))
    journal.close()
    assert not disk.reserve.exists()  # one that is closed needs none
    found = reopened(tmp_path)
    assert [entry for entry in found if entry in (kept("c"), kept("d"))] == [kept("d")]
    assert ended("a") in found


def test_blobs_wait_for_room_and_hold_up_nobody(tmp_path: Path, room: Room) -> None:
    journal = Journal(tmp_path)
    write(journal, kept("a"))
    disk = TightDisk(journal, MIB)
    blob = BlobKept("h", kept("x", bytes(MIB)).spec.payload, "f")
    for entry in (blob, Published("f", "h"), ended("a")):
        journal.append(entry)
    with pytest.raises(JournalFull):
        journal.commit()
    assert journal.withdraw(set())
    write(journal)
    assert not journal.withdraw(set())
    assert files(tmp_path) == []
    room.free = 4 * MIB
    assert not journal.has_room()  # for the blob there is none
    room.free, disk.limit = 200 * MIB, 4 * MIB
    assert journal.has_room()
    write(journal)
    journal.close()
    assert reopened(tmp_path) == [blob, Published("f", "h"), kept("a"), ended("a")]


def test_a_start_on_a_full_disk_has_the_reserve(tmp_path: Path, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    write(journal, kept("a"), AttemptKept("a", 0, 1, 1, "hub"))
    journal._db.close()  # as a kill would
    journal._folder.close()
    reserve, connect = tmp_path / "reserve", sqlite3.connect

    class Full(sqlite3.Connection):
        def executemany(self, sql: str, *values: Any) -> Any:
            if sql.startswith("REPLACE INTO meta") and reserve.stat().st_size > MIB:
                raise sqlite3.OperationalError("database or disk is full")
            return super().executemany(sql, *values)

        def execute(self, sql: str, *values: Any) -> Any:
            if sql.startswith("DELETE FROM attempts") and reserve.stat().st_size > MIB // 2:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, factory=Full, **more))
    room.free = 0
    journal = Journal(tmp_path)
    assert reserve.stat().st_size == MIB
    assert list(journal.replay()) == [kept("a"), AttemptKept("a", 0, 1, 1, "hub", 1.5)]
    assert reserve.stat().st_size == MIB // 2
    assert journal.is_tight
    journal.close()
