"""A damaged journal says what it has lost and since when, costs nothing else, and keeps the evidence."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nblb.broker.journal import file_checks, witness
from nblb.broker.journal.file_checks import DamagedFile
from nblb.broker.journal.journal import Journal
from nblb.errors import JournalError, JournalFull
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AnyEntry, AttemptKept, BlobKept, EndKept, TaskKept
from nblb.protocol.messages import SubmitTask, TaskState
from nblb.shared_files.transfer import Folder
from tests.broker.journals import ended, files, kept, write

LARGE = 100_000

KILLED = """
import os, signal, sys
from pathlib import Path
from nblb.broker.journal.journal import Journal
from tests.broker.journals import ended, kept, write
journal = Journal(Path(sys.argv[1]))
list(journal.replay())
for n in range(40):
    write(journal, kept(f"t{n}"), ended(f"t{n}"))
if sys.argv[2:]:
    journal._checkpoint()
    write(journal, kept("late"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path, *more: str) -> Path:
    """The state folder of a core that was killed after 80 entries."""
    process = subprocess.run([sys.executable, "-c", KILLED, str(folder), *more], check=False)
    assert process.returncode == -signal.SIGKILL
    return folder


def found(folder: Path) -> tuple[list[AnyEntry], list[str]]:
    """What the next core finds, and what it says about the damage."""
    journal = Journal(folder)
    try:
        return list(journal.replay()), journal.damage.sentences
    finally:
        journal.close()


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def wal(folder: Path) -> Path:
    return folder / "journal.sqlite-wal"


def in_wal(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: change(wal(folder))


# ── a sound journal ──


@pytest.mark.parametrize("more", [(), ("checkpoint",)])
def test_a_killed_core_leaves_a_sound_journal(tmp_path: Path, more: tuple[str, ...]) -> None:
    entries, told = found(killed(tmp_path, *more))
    assert (len(entries), told) == (80 + len(more), [])
    assert found(tmp_path) == (entries, [])


def test_a_wal_that_is_newer_than_its_witness_is_this_journals(tmp_path: Path) -> None:
    """The core was killed before it could write the witness, or the power loss took that."""
    first = killed(tmp_path / "state")
    before = (first / "journal.witness").read_bytes()
    killed(first, "checkpoint")
    (first / "journal.witness").write_bytes(before)
    entries, told = found(first)
    assert told == []
    assert TaskKept in map(type, entries)
    assert any(isinstance(entry, TaskKept) and entry.spec.task == "late" for entry in entries)


def test_a_failed_commit_does_not_look_like_a_shorter_wal(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    db = journal._db
    db.execute("PRAGMA cache_spill = 1")
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO failed VALUES (?, ?)", ((n, bytes(4000)) for n in range(10**6, 10**6 + 3000)))
    journal._roll_back(sqlite3.OperationalError("no"))
    write(journal, kept("b"))
    whole = tmp_path / "copy"
    whole.mkdir()
    for name in ("journal.sqlite", "journal.sqlite-wal", "journal.witness"):
        shutil.copyfile(tmp_path / name, whole / name)
    entries, told = found(whole)
    assert (len(entries), told) == (2, [])


def test_without_a_witness_nothing_is_missed(tmp_path: Path) -> None:
    (killed(tmp_path) / "journal.witness").unlink()
    entries, told = found(tmp_path)
    assert (len(entries), told) == (80, [])
    (tmp_path / "journal.witness").write_bytes(b"no witness")
    assert found(tmp_path) == (entries, [])


# ── the WAL, and the journal as a whole ──


def older_copy(folder: Path) -> None:
    older = killed(folder.parent / "older", "checkpoint")
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        shutil.copyfile(older / name, folder / name)


def foreign_wal(folder: Path) -> None:
    other = killed(folder.parent / "other")
    shutil.copyfile(wal(other), wal(folder))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (in_wal(lambda path: flip(path, path.stat().st_size // 3)), "is damaged after"),
        (in_wal(lambda path: flip(path, path.stat().st_size - 2000)), "is damaged after"),
        (in_wal(lambda path: flip(path, 20)), "damaged, or older|missing or empty|another journal"),
        (in_wal(lambda path: flip(path, 60)), "entries are lost from|missing or empty"),
        (in_wal(lambda path: os.truncate(path, path.stat().st_size // 2)), "is damaged after"),
        (in_wal(lambda path: os.truncate(path, 0)), "entries are lost|missing or empty"),
        (in_wal(lambda path: path.write_bytes(bytes(path.stat().st_size))), "does not fit|damaged|another"),
        (in_wal(Path.unlink), "missing|entries are lost"),
        (lambda folder: (folder / "journal.sqlite").unlink(), "only its WAL is left"),
        (lambda folder: os.truncate(folder / "journal.sqlite", 0), "is missing or empty"),
        (foreign_wal, "belongs to another journal"),
        (older_copy, "another core's|another journal"),
    ],
)
@pytest.mark.parametrize("more", [(), ("checkpoint",)])
def test_lost_entries_are_told_and_the_rest_is_there(
    tmp_path: Path, damage: Callable[[Path], Any], said: str, more: tuple[str, ...]
) -> None:
    folder = killed(tmp_path / "state", *more)
    damage(folder)
    entries, told = found(folder)
    assert told
    assert len(entries) < 80 + len(more) or "another" in said
    assert any(word in " ".join(told) for word in ("lost", "not used"))
    assert [sentence for sentence in told if re.search(said, sentence)], told
    assert found(folder)[1] == []  # it is told once, and the new journal is sound
    Journal(folder).close()


def test_an_older_journal_of_the_same_core_is_noticed(tmp_path: Path) -> None:
    state, copy = killed(tmp_path / "state"), tmp_path / "copy"
    found(state)  # in good order
    shutil.copytree(state, copy)
    killed(state)
    found(state)
    shutil.copyfile(copy / "journal.sqlite", state / "journal.sqlite")
    _, (told,) = found(state)
    assert "is older than what was promised: entries are lost from 20" in told


def test_files_that_nothing_names_any_more_are_kept_as_evidence(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", b"x" * LARGE))
    (file,) = files(tmp_path)
    journal.close()
    (tmp_path / "journal.sqlite").unlink()
    entries, told = found(tmp_path)
    assert entries == []
    assert told
    assert (tmp_path / "blobs.damaged" / file.name).stat().st_size > LARGE


def test_a_broken_database_is_refused(tmp_path: Path, journal: Journal) -> None:
    for n in range(400):
        write(journal, kept(f"t{n}", b"x" * 500))
    journal.close()
    path = tmp_path / "journal.sqlite"
    with open(path, "r+b") as file:
        file.seek(4096 * 12)
        file.write(b"\xff" * 300)
    with pytest.raises(JournalError, match="nblb doctor --journal"):
        found(tmp_path)


# ── rows ──


def damage_entry(folder: Path, table: str, key: str) -> None:
    db = sqlite3.connect(folder / "journal.sqlite")
    with db:
        ((row,),) = db.execute(f"SELECT entry FROM {table} WHERE {key}").fetchall()
        middle = len(row) // 2
        row = row[:middle] + bytes([row[middle] ^ 4]) + row[middle + 1 :]
        db.execute(f"UPDATE {table} SET entry = ? WHERE {key}", (row,))
    db.close()


def test_a_damaged_row_loses_one_item(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(f"t{n}") for n in range(3)), *(ended(f"t{n}", b"r" * 200) for n in range(3)))
    journal.close()
    damage_entry(tmp_path, "ends", "key / 2147483648 = 2")
    entries, told = found(tmp_path)
    states = {entry.task: entry.state for entry in entries if isinstance(entry, EndKept)}
    assert states == {"t0": TaskState.DONE, "t1": TaskState.LOST, "t2": TaskState.DONE}
    assert told == ["a result of task t1 is lost: its row in the journal is damaged"]


def test_a_submission_with_damaged_arguments_stays(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(f"t{n}", b"p" * 300) for n in range(3)))
    journal.close()
    damage_entry(tmp_path, "tasks", "n = 2")
    entries, told = found(tmp_path)
    assert [entry.spec.task for entry in entries if isinstance(entry, TaskKept)] == ["t0", "t1", "t2"]
    assert told == ["the arguments of task f (t1) are lost"]
    assert isinstance(entries[1], TaskKept)
    with pytest.raises(JournalError, match="damaged"):
        entries[1].spec.payload.buffers  # noqa: B018


def test_running_attempts_that_are_lost_are_told(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(f"t{n}", items=2) for n in range(2)))
    write(journal, AttemptKept("t0", 0, 2, 1, "hub"), AttemptKept("t1", 0, 2, 1, "hub"))
    journal.close()
    damage_entry(tmp_path, "attempts", "turn > 0")
    journal = Journal(tmp_path)
    assert AttemptKept not in map(type, journal.replay())
    assert journal.damage.lost_orders
    journal.close()


# ── files ──


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 3),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
        Path.unlink,
    ],
)
def test_a_bad_file_loses_one_result(tmp_path: Path, journal: Journal, damage: Callable[[Path], Any]) -> None:
    write(journal, *(kept(f"t{n}") for n in range(3)))
    write(journal, *(ended(f"t{n}", bytes([n]) * LARGE) for n in range(3)))
    journal.close()
    damage(files(tmp_path)[1])
    entries, told = found(tmp_path)
    states = [entry.state for entry in entries if isinstance(entry, EndKept)]
    assert sorted(states) == [TaskState.DONE, TaskState.DONE, TaskState.LOST]
    assert len(told) == 1


def test_a_bad_function_is_left_out(tmp_path: Path, journal: Journal) -> None:
    write(journal, BlobKept("h", Payload((b"x" * LARGE,)), "simulate"), kept("a"))
    journal.close()
    os.truncate(files(tmp_path)[0], 10)
    entries, (told,) = found(tmp_path)
    assert entries == [kept("a")]
    assert "the function or constant" in told


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("size", [LARGE, 3_000_000])
def test_changed_bytes_are_noticed_when_they_are_read(
    tmp_path: Path, journal: Journal, size: int, restarted: bool
) -> None:
    entry = ended("a", b"x" * size)
    write(journal, kept("a"), entry)
    if restarted:
        journal.close()
        journal = Journal(tmp_path)
        (entry,) = [entry for entry in journal.replay() if isinstance(entry, EndKept)]
    assert entry.payload is not None
    assert bytes(entry.payload.buffers[0]) == b"x" * size
    flip(files(tmp_path)[0], size // 2)
    with pytest.raises(JournalError, match="not those that were written"):
        entry.payload.buffers  # noqa: B018
    journal.close()


def test_parts_of_a_changed_file_are_not_handed_out(tmp_path: Path, journal: Journal) -> None:
    payload = Payload((b"x" * LARGE,), [LARGE // 10] * 10)
    entry = TaskKept(SubmitTask(task="a", name="f", payload=payload, items=10, user="u"), 1.0)
    write(journal, entry)
    assert entry.spec.payload.slice(1, 1).nbytes == LARGE // 10
    flip(files(tmp_path)[0], LARGE - 50)
    with pytest.raises(JournalError):
        entry.spec.payload.slice(1, 1)


# ── files that were handed over ──


def handed(journal: Journal, folder: Path, name: str) -> EndKept:
    """An end whose payload lies in a file that a sender has handed over."""
    sender = Folder.seen(str(folder), journal.claims.token)
    assert sender is not None
    (part,) = sender.write([os.urandom(LARGE)])
    found = journal.claims.find(part.name, part.at, part.nbytes)  # type: ignore[union-attr]
    entry = EndKept(name, 0, 1, 1, TaskState.DONE, 2.0, payload=Payload.of([found]))
    write(journal, kept(name), entry)
    return entry


def ends(journal: Journal) -> list[EndKept]:
    return [entry for entry in journal.replay() if isinstance(entry, EndKept)]


def read(entry: EndKept) -> int:
    assert entry.payload is not None
    return len(entry.payload.buffers[0])


@pytest.mark.parametrize("closed", [True, False])
def test_handed_over_files_are_checked_after_a_restart(tmp_path: Path, journal: Journal, closed: bool) -> None:
    for name in "abc":
        handed(journal, tmp_path, name)
    if closed:
        journal.close()
    else:  # as after kill -9: without the checksums that closing computes
        journal._db.close()
        journal._is_closed = True
        journal._folder.close()
    paths = files(tmp_path)
    times = [path.stat() for path in paths]
    flip(paths[0], LARGE // 2)
    if closed:  # a bad disk does not change the time
        os.utime(paths[0], ns=(times[0].st_atime_ns, times[0].st_mtime_ns))
    swapped = tmp_path / "swapped"
    paths[1].rename(swapped)
    paths[2].rename(paths[1])
    swapped.rename(paths[2])
    again = Journal(tmp_path)
    for entry in ends(again):
        with pytest.raises(DamagedFile):
            read(entry)
        with pytest.raises(DamagedFile):
            again.claims.refers(entry.payload.parts[0])  # type: ignore[union-attr,index,arg-type]
    again.close()


def test_a_sound_handed_over_file_is_read_whatever_its_times(tmp_path: Path, journal: Journal) -> None:
    handed(journal, tmp_path, "a")
    journal.close()
    os.utime(files(tmp_path)[0], (1.0, 1.0))  # as restored from a backup
    again = Journal(tmp_path)
    assert read(ends(again)[0]) == LARGE
    again.close()


def test_checksums_are_computed_in_idle_moments(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "QUIET_S", 0.0)
    monkeypatch.setattr(file_checks, "PIECE", file_checks.READ)
    handed(journal, tmp_path, "a")
    assert journal.deadline() is not None
    while journal.deadline() is not None:
        journal.rest()
    ((name, crc),) = journal._db.execute("SELECT name, crc FROM files")
    assert (name, crc is not None) == (files(tmp_path)[0].name, True)


def test_a_file_that_was_changed_gets_no_checksum_that_hides_it(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "QUIET_S", 0.0)
    handed(journal, tmp_path, "a")
    flip(files(tmp_path)[0], 7)
    while journal.deadline() is not None:
        journal.rest()
    assert journal._db.execute("SELECT crc FROM files").fetchall() == [(None,)]


# ── a journal without a name ──


def test_a_removed_journal_accepts_nothing_and_still_records_ends(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    aside = tmp_path / "aside"
    journal.path.rename(aside)
    journal.append(kept("b"))
    with pytest.raises(JournalFull, match="has been removed or replaced"):
        journal.commit()
    assert journal.withdraw({"b"})
    write(journal, ended("a"))
    assert not journal.has_room()
    assert "has been removed" in journal.full_reason
    aside.rename(journal.path)
    assert journal.has_room()
    write(journal, kept("c"))


def test_the_witness_survives_a_disk_without_room(tmp_path: Path, journal: Journal, monkeypatch: Any) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    write(journal, kept("a"))
    monkeypatch.setattr(witness.os, "pwrite", full)
    write(journal, kept("b"))
    monkeypatch.undo()
    journal.close()
    entries, told = found(tmp_path)
    assert (len(entries), told) == (2, [])
