"""A state folder is nblb's before anything in it is changed, and is closed to other accounts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nblb.broker.journal.journal import Journal
from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.output_folder import OutputFolder
from nblb.errors import JournalError
from nblb.system.state_mark import MARK, claim, close_to_others, is_marked, is_ours
from tests.broker.journal import schemas

MINE = b"an hour's work\n"


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MINE)


def open_to_others(folder: Path) -> list[str]:
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & 0o077]


def test_a_new_and_an_empty_folder_are_marked(tmp_path: Path) -> None:
    assert not is_ours(tmp_path / "new")
    assert is_marked(claim(tmp_path / "a" / "new"))
    assert is_marked(claim(tmp_path / "a" / "new"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not is_ours(empty)
    (empty / "lost+found").mkdir()  # the root of a disk
    assert is_marked(claim(empty))


@pytest.mark.parametrize(
    "name",
    [
        "notebook.ipynb",
        "lock",
        "reserve",
        "output/run1/results.csv",
        "output/figure.png",
        "blobs/cells.csv",
        "incoming/y.csv",
        "memory/m.csv",
        "logs/z.txt",
        MARK + "/x",
    ],
)
def test_a_folder_with_files_of_the_user_is_refused_by_name_and_unchanged(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o755)
    write(tmp_path / name)
    for open_it in (claim, Journal, MemoryJournal):
        with pytest.raises(JournalError, match=rf"state folder {tmp_path} contains files .*LB_STATE_DIR"):
            open_it(tmp_path)
    assert (tmp_path / name).read_bytes() == MINE
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert not is_ours(tmp_path)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    db.execute("CREATE TABLE entries (day TEXT, text TEXT)")
    db.close()
    before = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(JournalError, match=r"journal\.sqlite"):
        Journal(tmp_path)
    assert (tmp_path / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("schema", ["1", "2", "3", "4"])
@pytest.mark.parametrize("beside", [None, "notes.txt"])
def test_a_journal_of_an_older_nblb_is_taken(tmp_path: Path, schema: str, beside: str | None) -> None:
    folder = Path(shutil.copytree(schemas.HERE / schema / "state", tmp_path / "state"))
    if beside:
        write(folder / beside)
    journal = Journal(folder)
    assert list(journal.replay())
    journal.close()
    assert is_marked(folder)
    assert not beside or (folder / beside).read_bytes() == MINE


def test_a_folder_of_an_older_nblb_without_a_journal_is_taken(tmp_path: Path) -> None:
    """One with LB_DURABILITY "none", after a core that was killed."""
    MemoryJournal(tmp_path).close()
    OutputFolder(tmp_path, "0" * 32)
    write(tmp_path / "logs" / "core.log", tmp_path / "memory" / "blobs" / ("a" * 40))
    (tmp_path / "lock").write_text("the core 'lab' (pid 7)\n")
    (tmp_path / MARK).unlink()
    assert is_ours(tmp_path)
    MemoryJournal(tmp_path).close()
    assert is_marked(tmp_path)


def test_files_of_the_user_in_a_marked_folder_stay(tmp_path: Path) -> None:
    claim(tmp_path)
    mine = [
        tmp_path / "output" / "run1" / "results.csv",
        tmp_path / "output" / ("0" * 32) / "record" / "figure.png",
        tmp_path / "blobs" / "cells.csv",
        tmp_path / "incoming" / "y.csv",
        tmp_path / "memory" / "blobs" / "z.csv",
    ]
    write(*mine)
    for opened in (Journal(tmp_path), MemoryJournal):
        journal = opened if isinstance(opened, Journal) else opened(tmp_path)
        list(journal.replay())
        outputs = OutputFolder(tmp_path, journal.core)
        outputs.sweep([])
        outputs.make_room()
        journal.close()
    assert [path for path in mine if not path.exists()] == []


@pytest.mark.parametrize("name", ["output", "blobs", "incoming", "memory", "logs", "reserve", "lock", "journal.sqlite"])
def test_a_link_in_place_of_a_folder_or_file_of_nblb_is_refused(tmp_path: Path, name: str) -> None:
    target, folder = tmp_path / "thesis", tmp_path / "state"
    write(target / ("f" * 40))
    claim(folder)
    (folder / name).symlink_to(target if "." not in name else target / ("f" * 40))
    for open_it in (Journal, MemoryJournal):
        with pytest.raises(JournalError, match=rf"{folder / name} is a link"):
            open_it(folder)
    assert (target / ("f" * 40)).read_bytes() == MINE


def test_links_below_are_not_followed(tmp_path: Path) -> None:
    target, folder = tmp_path / "thesis", claim(tmp_path / "state")
    write(target / "0-1.said.0", target / "record" / "0-1.said.0")
    outputs = OutputFolder(folder, "0" * 32)
    (outputs.path / "record").symlink_to(target)
    (folder / "output" / ("1" * 32)).symlink_to(target)
    outputs.sweep([])
    outputs.drop("record")
    outputs.make_room()
    target.chmod(0o755)
    close_to_others(folder)
    assert (target / "0-1.said.0").exists()
    assert (target / "record" / "0-1.said.0").exists()
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", [Journal, MemoryJournal])
def test_everything_is_closed_to_others(tmp_path: Path, umask: None, kind: type[Journal | MemoryJournal]) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o777)
    journal = kind(folder)
    OutputFolder(folder, journal.core)
    assert open_to_others(folder) == []
    journal.close()
    for path in (folder / "output", *folder.glob("output/*"), folder / "lock"):
        path.chmod(0o777)  # by a cleaner, a copy, or a group's habit
    journal = kind(folder)
    assert open_to_others(folder) == []
    journal.close()


def test_a_folder_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = stat.S_IMODE(tmp_path.stat().st_mode)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(JournalError, match="belongs to another account"):
        claim(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == []
