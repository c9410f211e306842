"""The core's part of stored output: created, cleaned, dropped with its task, removed if a result needs the space."""

from __future__ import annotations

import os
from pathlib import Path

from nblb.broker.output_folder import OutputFolder


def put(folder: OutputFolder, record: str, size: int = 10, age_s: float = 0.0) -> Path:
    place = folder.path / record
    place.mkdir()
    (place / "0-1.said.0").write_bytes(b"x" * size)
    at = place.stat().st_mtime - age_s
    os.utime(place, (at, at))
    return place


def test_what_is_nobodys_goes_at_the_start(tmp_path: Path) -> None:
    before = OutputFolder(tmp_path, "another core")
    put(before, "r")
    folder = OutputFolder(tmp_path, "core")
    mine, nobodys = put(folder, "mine"), put(folder, "forgotten")
    folder.sweep(["mine", "never printed"])
    assert (mine.exists(), nobodys.exists(), before.path.exists()) == (True, False, False)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.drop("mine")
    folder.drop("never printed")
    assert list(folder.path.iterdir()) == []


def test_the_oldest_output_makes_room(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path, "core")
    assert not folder.make_room()
    old, new = put(folder, "old", 70 << 20, age_s=100), put(folder, "new")
    assert folder.make_room()
    assert (old.exists(), new.exists()) == (False, True)
    assert folder.make_room()
    assert not folder.make_room()


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    folder = OutputFolder(tmp_path, "core")
    folder.sweep([])
    folder.drop("r")
    assert not folder.make_room()
