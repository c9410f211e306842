"""Stored output has the lowest priority: bounds for all tasks together, and full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from nblb.hub.pool import output_store
from nblb.hub.pool.output_store import OutputStore
from nblb.shared_files.output_log import KeptOutput
from nblb.shared_files.transfer import BY_FILE, INCOMING, Folder
from tests.shared_files.test_output_log import handle, store


def text(folder: Path, record: str) -> str:
    return "".join(KeptOutput(str(folder), record, 0).text())


def test_nothing_is_kept_where_the_core_is_elsewhere_or_the_bound_is_zero(tmp_path: Path) -> None:
    hub, worker = store(tmp_path / "not here"), handle()
    hub.write(worker, ("r", 0, 1), 0, "stdout", b"x")
    OutputStore.none().write(worker, ("r", 0, 1), 0, "stdout", b"x")
    off = store(tmp_path, max_mb=0)
    off.write(worker, ("r", 0, 1), 0, "stdout", b"x")
    assert not worker.kept
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_nearly_full_gets_no_output_and_the_gap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, worker, key = store(tmp_path), handle(), ("r", 0, 1)
    now = [100.0]
    monkeypatch.setattr(output_store, "monotonic", lambda: now[0])
    hub.write(worker, key, 0, "stdout", b"before\n")
    hub._reserve = 1 << 62
    hub.write(worker, key, 0, "stdout", b"x" * 5000)
    hub._reserve = 0
    hub.write(worker, key, 0, "stdout", b"x" * 5000)  # it is not tried again at once
    now[0] += 2
    hub.write(worker, key, 0, "stdout", b"after\n")
    hub.end(worker)
    assert text(tmp_path, "r") == "before\n\n… 9.8 kB not kept …\nafter\n"


def test_a_write_that_fails_half_way_leaves_whole_chunks_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    hub = OutputStore(1, 1, False, lambda _, words: said.append(words))
    hub.open(str(tmp_path))
    hub._reserve = 0
    worker, key, real = handle(), ("r", 0, 1), os.writev
    now = [100.0]
    monkeypatch.setattr(output_store, "monotonic", lambda: now[0])
    hub.write(worker, key, 0, "stdout", b"before\n")
    monkeypatch.setattr(os, "writev", lambda fd, parts: os.write(fd, b"".join(parts)[:15]))
    hub.write(worker, key, 0, "stdout", b"half\n")

    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    now[0] += 2
    monkeypatch.setattr(os, "writev", refuse)
    hub.write(worker, key, 0, "stdout", b"none\n")
    now[0] += 2
    monkeypatch.setattr(os, "writev", real)
    hub.write(worker, key, 0, "stdout", b"after\n")
    hub.end(worker)
    assert text(tmp_path, "r") == "before\n\n… 34 B not kept …\nafter\n"
    assert len(said) == 1


def test_all_together_are_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    before, worker = store(tmp_path), handle()
    before.write(worker, ("old", 0, 1), 0, "stdout", b"x" * 500_000)
    before.end(worker)
    hub = store(tmp_path, total_mb=1)  # the hub that comes after it
    for number in range(4):
        hub.write(worker, (f"r{number}", 0, 1), 0, "stdout", b"x" * 200_000)
        hub.end(worker)
    assert [text(tmp_path, name) != "" for name in ("old", "r0", "r1", "r2", "r3")] == [False, True, True, True, True]
    (tmp_path / "r3" / "0-1.said.0").unlink()
    (tmp_path / "r3").rmdir()  # the core has forgotten it
    hub.write(worker, ("r4", 0, 1), 0, "stdout", b"x" * 400_000)
    hub.end(worker)
    assert [text(tmp_path, name) != "" for name in ("r0", "r1", "r2", "r4")] == [False, True, True, True]


def test_full_durability_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    hub, worker = OutputStore(1, 1, True, lambda *_: None), handle()
    hub.open(str(tmp_path))
    hub._reserve = 0
    hub.write(worker, ("r", 0, 1), 0, "stdout", b"x")
    assert not synced
    hub.end(worker)
    assert len(synced) == 3  # the file, its name, its folder's name


def test_a_hub_elsewhere_sends_the_output_of_a_slice_with_its_end(tmp_path: Path) -> None:
    """Small segments in the message, large ones as files, and nothing is left here."""
    own, core = tmp_path / "own", tmp_path / "core"
    own.mkdir()
    (core / INCOMING).mkdir(parents=True)
    folder = Folder(str(core))
    hub = OutputStore(4, 40, False, lambda *_: None)
    hub.open("/of/another/computer", lambda: str(own), folder)
    hub._reserve = 0
    worker, key = handle(), ("r", 3, 1)
    hub.write(worker, key, 0, "stdout", b"x" * BY_FILE)
    hub.write(worker, key, 0, "display", b"{}")
    said, shown = sorted(hub.end(worker), key=lambda message: message.kind)
    assert (said.task, said.first, said.attempt, said.numbers, shown.kind) == ("r", 3, 1, (0,), "shown")
    assert all(folder.refers(part) for part in said.payload.parts or ())
    assert said.payload.parts is not None
    assert shown.payload.parts is None
    assert list(own.iterdir()) == []
    read = KeptOutput.of_segments("r", 3, [(1, 3, 0)], said.payload.buffers)
    assert "".join(read.text()) == "x" * BY_FILE
    assert hub.end(worker) == []
    hub.open(str(tmp_path))  # a core here: its folder is written to, and nothing is sent
    hub.write(worker, ("s", 0, 1), 0, "stdout", b"x")
    assert hub.end(worker) == []
    assert text(tmp_path, "s") == "x"
