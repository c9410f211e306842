"""The journal on its disk: large payloads, no space, size, time, other versions, another core."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nblb.broker.journal import journal as journal_module
from nblb.broker.journal import schema
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.journal.reserve import Reserve
from nblb.broker.journal.rows import INLINE
from nblb.broker.journal.state_folder import StateFolder
from nblb.errors import JournalError, JournalFull, JournalLocked
from nblb.host import network_file_system
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    SCHEMA,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    EndKept,
    JobKept,
    TaskForgotten,
    TaskKept,
)
from nblb.protocol.messages import OpenJob, SubmitTask, TaskState
from nblb.system.core_file import read_lock_file
from tests.broker.journals import MIB, ended, files, kept, reopened, write

# ── payloads ──


@pytest.mark.parametrize("size", [0, 1, INLINE - 1, INLINE, 2 * MIB])
@pytest.mark.parametrize("durability", ["process", "full"])
def test_payloads_of_any_size(tmp_path: Path, size: int, durability: str) -> None:
    journal = Journal(tmp_path, durability)
    out_of_band = Payload((b"p", bytearray(size), memoryview(bytes(8 * 4)).cast("d")))  # type: ignore[arg-type]
    entry = TaskKept(SubmitTask(task="a", name="f", payload=out_of_band, user="u"), 1.0)
    split = Payload((b"abc" * (size // 3),), [3] * (size // 3))
    write(journal, entry, EndKept("a", 0, 1, 1, TaskState.DONE, 1.0, payload=split))
    assert [bytes(b) for b in out_of_band.buffers] == [b"p", bytes(size), bytes(32)]
    journal.close()
    task, end = reopened(tmp_path)
    assert isinstance(task, TaskKept)
    assert isinstance(end, EndKept)
    assert [bytes(b) for b in task.spec.payload.buffers] == [b"p", bytes(size), bytes(32)]
    assert end.payload == split


def test_equal_payloads_are_kept_once_until_nobody_needs_them(tmp_path: Path, journal: Journal) -> None:
    large = b"x" * MIB
    write(journal, kept("a", large), kept("b", large), ended("a", large))
    write(journal, BlobKept("h", Payload((large,))))
    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    for forgotten in (TaskForgotten("a"), BlobForgotten("h")):
        write(journal, forgotten)
        assert files(tmp_path) == [file]
    journal.close()
    journal = Journal(tmp_path)
    assert list(journal.replay()) == [kept("b", large)]
    write(journal, TaskForgotten("b"))
    assert files(tmp_path) == []
    journal.close()


def test_a_large_payload_is_not_kept_in_memory_twice(tmp_path: Path, journal: Journal) -> None:
    entry = kept("a", b"x" * (2 * MIB))
    write(journal, entry)
    (view,) = entry.spec.payload.buffers
    assert isinstance(view, memoryview)
    write(journal, TaskForgotten("a"))
    assert bytes(view) == b"x" * (2 * MIB)  # whoever still holds it may still read it


def test_files_without_a_row_are_swept_at_the_start(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", b"x" * INLINE))
    journal.close()
    (needed,) = files(tmp_path)
    (tmp_path / "blobs" / "tmp-3").write_bytes(b"half")
    (tmp_path / "blobs" / ("f" * 40)).write_bytes(b"renamed, not committed")
    assert reopened(tmp_path) == [kept("a", b"x" * INLINE)]
    assert files(tmp_path) == [needed]


def test_a_missing_file_is_said_by_name(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", b"x" * INLINE))
    journal.close()
    (file,) = files(tmp_path)
    file.unlink()
    (entry,) = reopened(tmp_path)
    assert isinstance(entry, TaskKept)
    with pytest.raises(JournalError, match=str(file)):
        entry.spec.payload.buffers  # noqa: B018


# ── no room ──


class FullDisk:
    """A connection whose disk has no room while `full`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.full = db, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if self.full and (sql == "COMMIT" or sql.startswith("REPLACE")):
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(sql, *values)


def test_a_full_disk_and_then_room(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"), AttemptKept("a", 0, 1, 1, "hub"))
    disk = FullDisk(journal._db)
    journal._db = disk  # type: ignore[assignment]
    for entry in (kept("b", b"x" * INLINE), AttemptKept("b", 0, 1, 1, "hub"), ended("a"), kept("c")):
        journal.append(entry)
    for _ in range(2):
        with pytest.raises(JournalFull, match=str(tmp_path)):
            journal.commit()
        assert files(tmp_path) == []
    assert journal.pending_tasks() == ["b", "c"]
    journal.withdraw({"b"})
    disk.full = False
    journal.commit()
    journal.close()
    found = reopened(tmp_path)
    assert found == [kept("a"), kept("c"), ended("a")]


def test_no_room_for_a_file(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal.append(kept("a", b"x" * INLINE))
    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", no_room)
        with pytest.raises(JournalFull):
            journal.commit()
    assert files(tmp_path) == []
    journal.commit()
    journal.close()
    assert reopened(tmp_path) == [kept("a", b"x" * INLINE)]


def until_full(journal: Journal) -> int:
    """Write until there is no room; how many tasks were accepted."""
    accepted = 0
    while True:
        try:
            write(journal, *(kept(f"{accepted + n}", b"x" * 500) for n in range(10)))
        except JournalFull:
            return accepted
        accepted += 10


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "nblb-test", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        journal = Journal(tmp_path)
        accepted = until_full(journal)
        assert accepted > 0
        journal.withdraw(set(journal.pending_tasks()))
        write(journal)
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path)], check=True)
        write(journal, kept("more"))
        journal.close()
        assert [entry.spec.task for entry in reopened(tmp_path) if isinstance(entry, TaskKept)] == [
            *map(str, range(accepted)),
            "more",
        ]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_another_error_of_the_disk_is_not_taken_for_want_of_room(journal: Journal) -> None:
    journal._db.execute("DROP TABLE tasks")
    journal.append(kept("a"))
    with pytest.raises(JournalError, match="no such table") as caught:
        journal.commit()
    assert not isinstance(caught.value, JournalFull)


def test_an_entry_that_cannot_be_kept_does_not_hold_up_the_rest(tmp_path: Path, journal: Journal) -> None:
    bad = JobKept(OpenJob(job="j", name="n", items=2**70), "u", 1.0)
    write(journal, bad, kept("a"))
    assert [entry for entry, _ in journal.unkept] == [bad]
    journal.close()
    assert reopened(tmp_path) == [kept("a")]


# ── the folder ──


def test_the_core_keeps_its_name_and_counts_its_lives(tmp_path: Path) -> None:
    lives = []
    for _ in range(3):
        journal = Journal(tmp_path)
        lives.append((journal.core, journal.epoch))
        journal.close()
    assert [epoch for _, epoch in lives] == [1, 2, 3]
    assert len({core for core, _ in lives}) == 1


@pytest.mark.parametrize("make", [Journal, MemoryJournal], ids=["process", "none"])
def test_a_second_core_is_refused_by_name_and_pid(tmp_path: Path, make: Any) -> None:
    first = make(tmp_path, name="lab") if make is MemoryJournal else make(tmp_path, "process", "lab")
    for second in (Journal, MemoryJournal):
        with pytest.raises(JournalLocked, match=rf"the core 'lab' \(pid {os.getpid()}\)"):
            second(tmp_path)
    first.close()
    Journal(tmp_path).close()


def test_a_journal_of_a_newer_nblb_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    for _ in range(2):  # and the folder is free again afterwards
        with pytest.raises(JournalError, match=r"newer nblb .*upgrade nblb"):
            Journal(tmp_path)


def test_an_older_journal_is_upgraded_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(tmp_path).close()
    steps: list[int] = []
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 2)
    monkeypatch.setattr(schema, "UPGRADES", {n: lambda _db, n=n: steps.append(n) for n in (SCHEMA, SCHEMA + 1)})
    for _ in range(2):
        Journal(tmp_path).close()
    assert steps == [SCHEMA, SCHEMA + 1]


def test_a_damaged_journal_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match="nblb doctor --journal"):
        Journal(tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="LB_STATE_DIR"):
        Journal(tmp_path / "file" / "state")


def test_files_of_the_journal_are_private(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    for path in tmp_path.iterdir():
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path


def test_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"disk / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\nnothing\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mounts)
    assert network_file_system(tmp_path / "x") == "nfs4"
    assert network_file_system(Path("/")) == ""
    monkeypatch.setattr(journal_module, "network_file_system", lambda _: "nfs4")
    journal = Journal(tmp_path / "state")
    assert "network file system (nfs4)" in journal.warning
    journal.close()


def test_a_start_on_a_full_disk_uses_the_reserve_for_the_record_of_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core before was killed on a full disk, and the file of its lock removed."""
    (tmp_path / "reserve").write_bytes(bytes(8 * 1024 * 1024))
    write = os.pwrite

    def pwrite(file: int, data: bytes, at: int) -> int:
        if (tmp_path / "reserve").stat().st_size > 6 * 1024 * 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    folder = StateFolder(tmp_path, "lab")
    assert "lab" in (tmp_path / "lock").read_text()
    folder.close()
    monkeypatch.setattr(Reserve, "release", lambda _: False)
    (tmp_path / "reserve").write_bytes(bytes(8 * 1024 * 1024))
    with pytest.raises(JournalError, match="No space left"):
        StateFolder(tmp_path, "lab")


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        folder.close()
        StateFolder(tmp_path).close()
        child.kill()


def test_a_removed_lock_lets_no_other_core_in(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, "first")
    folder.record({"addresses": {"clients": "ipc:///x"}})
    (tmp_path / "lock").unlink()
    with pytest.raises(JournalLocked):
        StateFolder(tmp_path, "second")
    assert folder.keep()
    assert not (tmp_path / "lock").exists(), "perhaps somebody is removing the folder"
    assert folder.keep()
    holder, record = read_lock_file(tmp_path / "lock")
    assert holder == f"the core 'first' (pid {os.getpid()})"
    assert record is not None
    assert record["addresses"] == {"clients": "ipc:///x"}
    with pytest.raises(JournalLocked, match="in use by the core 'first'"):
        StateFolder(tmp_path, "second")
    folder.close()
    assert read_lock_file(tmp_path / "lock") == ("", None)
    StateFolder(tmp_path, "second").close()


def test_a_state_folder_that_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "state"
    folder = StateFolder(place)
    place.rename(tmp_path / "moved")
    assert not folder.keep()
    place.mkdir()
    assert not folder.keep()
    place.rmdir()
    (tmp_path / "moved").rename(place)
    assert folder.keep()
    folder.close()


# ── size and time ──


def test_the_wal_is_bounded(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "WAL_BYTES", MIB)
    largest = 0
    for turn in range(60):
        write(journal, *(kept(f"{turn}-{n}", b"x" * 1000) for n in range(100)))
        largest = max(largest, (tmp_path / "journal.sqlite-wal").stat().st_size)
    assert largest < 4 * MIB
    monkeypatch.setattr(journal_module, "CHECKPOINT_BYTES", 0)
    journal.rest()
    size = (tmp_path / "journal.sqlite-wal").stat().st_size
    write(journal, kept("after"))
    assert (tmp_path / "journal.sqlite-wal").stat().st_size <= max(size, 64 * 1024)


def test_the_file_does_not_grow_with_what_is_forgotten(tmp_path: Path, journal: Journal) -> None:
    sizes = []
    for turn in range(8):
        names = [f"{turn}-{n}" for n in range(300)]
        write(journal, *(kept(name, b"x" * 1000) for name in names), *(ended(name) for name in names))
        write(journal, *(TaskForgotten(name) for name in names))
        journal._checkpoint()
        sizes.append((tmp_path / "journal.sqlite").stat().st_size)
    assert sizes[-1] <= sizes[1] + 4096, "a page for the rounding of key ranges"
    assert journal._numbers.of_task == {}


def test_a_hundred_thousand_tasks_are_back_in_time(tmp_path: Path, journal: Journal) -> None:
    for turn in range(100):
        names = [f"{turn:05d}-{n:026d}" for n in range(1000)]
        write(journal, *(kept(name, b"x" * 200) for name in names), *(AttemptKept(n, 0, 1, 1, "h" * 32) for n in names))
        if turn % 2:
            write(journal, *(ended(name) for name in names))
    journal.close()
    begin = time.process_time()  # a busy machine takes longer, and is not to blame
    found = reopened(tmp_path)
    assert time.process_time() - begin < 5
    assert len(found) == 100_000 + 50_000 + 50_000
