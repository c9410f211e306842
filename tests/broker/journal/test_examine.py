"""`nblb doctor --journal`: what a damaged journal still has is counted, exported, and made into a new journal."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from nblb.broker.journal.examine import Examination, Report
from nblb.broker.journal.journal import Journal
from nblb.errors import JournalError, JournalLocked
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import EndKept, TaskKept
from tests.broker.journal.test_damage import LARGE, damage_entry, flip, found, handed, killed, wal
from tests.broker.journals import ended, files, kept, write


def check(folder: Path) -> Report:
    with closing(Examination(folder)) as examination:
        return examination.check()


def test_a_sound_journal_is_left_as_it_is(tmp_path: Path) -> None:
    killed(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".sqlite", ".witness")}
    before[wal(tmp_path).name] = wal(tmp_path).read_bytes()
    report = check(tmp_path)
    assert report.is_sound
    assert (report.rows["tasks"], report.rows["ends"]) == (40, 40)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not (tmp_path / "journal.examined").exists()


def test_a_running_core_is_left_alone(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    with pytest.raises(JournalLocked):
        check(tmp_path)


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="There is no journal in"):
        check(tmp_path)


def test_damaged_rows_and_files_are_counted(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(f"t{n}", b"p" * 200) for n in range(4)), kept("large", b"x" * LARGE))
    write(journal, ended("t0"), ended("t1", b"r" * 200), ended("t2", b"y" * LARGE))
    handed(journal, tmp_path, "handed")
    journal.close()
    damage_entry(tmp_path, "tasks", "n = 4")
    damage_entry(tmp_path, "ends", "key / 2147483648 = 2")
    for path in files(tmp_path):
        flip(path, LARGE // 2)
    report = check(tmp_path)
    assert report.damaged == {"tasks": 1, "ends": 1}
    assert (report.files, len(report.bad_files)) == (3, 3)
    assert not report.is_sound


def test_a_damaged_wal_is_told(tmp_path: Path) -> None:
    flip(wal(killed(tmp_path)), 100_000)
    assert any("entries are lost" in problem for problem in check(tmp_path).problems)


def test_results_are_exported(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(f"t{n}") for n in range(3)))
    write(journal, ended("t0", b"small"), ended("t1", b"y" * LARGE), ended("t2", b"z" * LARGE))
    journal.close()
    os.truncate(next(path for path in files(tmp_path) if b"z" in path.read_bytes()), 5)
    target = tmp_path / "out"
    with closing(Examination(tmp_path)) as examination:
        assert examination.export(target) == 2
    lines = [json.loads(line) for line in (target / "items.jsonl").read_text().splitlines()]
    assert [(line["task"], line["name"], line["user"], line["state"]) for line in lines] == [
        (f"t{n}", "f", "u", "DONE") for n in range(3)
    ]
    assert bytes(Payload.frombytes((target / lines[0]["file"]).read_bytes()).buffers[0]) == b"small"
    assert lines[2]["file"] is None
    assert "cannot be read" in lines[2]["lost"]


def test_a_broken_database_is_repaired(tmp_path: Path, journal: Journal) -> None:
    for n in range(400):
        write(journal, kept(f"t{n}", b"x" * 500), ended(f"t{n}", b"r" * 500))
    journal.close()
    path = tmp_path / "journal.sqlite"
    with open(path, "r+b") as file:
        file.seek(4096 * 30)
        file.write(b"\xff" * 4096)
    with pytest.raises(JournalError, match="--repair"):
        Journal(tmp_path)
    with closing(Examination(tmp_path)) as examination:
        assert not examination.check().is_sound
        aside = examination.repair()
    assert aside == tmp_path / "journal.sqlite.damaged"
    entries, _ = found(tmp_path)
    tasks = sum(isinstance(entry, TaskKept) for entry in entries)
    ends = sum(isinstance(entry, EndKept) for entry in entries)
    assert 700 < tasks + ends < 800
    assert check(tmp_path).is_sound


def test_a_damaged_header_hides_nothing(tmp_path: Path, journal: Journal) -> None:
    for n in range(50):
        write(journal, kept(f"t{n}", b"x" * 500))
    journal.close()
    with open(tmp_path / "journal.sqlite", "r+b") as file:
        file.write(bytes(100))
    with pytest.raises(JournalError, match="nblb doctor"):
        Journal(tmp_path)
    with closing(Examination(tmp_path)) as examination:
        assert "the header of the database is damaged" in examination.check().problems
        examination.repair()
    assert len(found(tmp_path)[0]) == 50


def test_a_journal_of_which_nothing_is_left_stays(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    journal.close()
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with closing(Examination(tmp_path)) as examination, pytest.raises(JournalError, match="left as it is"):
        examination.repair()
    assert path.read_bytes()[:3] == b"\xff" * 3


def test_of_a_journal_that_was_cut_short_the_rest_is_kept(tmp_path: Path, journal: Journal) -> None:
    for n in range(300):
        write(journal, kept(f"t{n}", b"x" * 500), ended(f"t{n}", b"r" * 300))
    journal.close()
    path = tmp_path / "journal.sqlite"
    os.truncate(path, path.stat().st_size // 2)
    with closing(Examination(tmp_path)) as examination:
        assert "the database is cut short" in examination.check().problems
        examination.repair()
    assert sum(isinstance(entry, TaskKept) for entry in found(tmp_path)[0]) > 50
