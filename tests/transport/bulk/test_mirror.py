"""The folder of a party: what has come once is there for all processes, and goes when nobody uses it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from nblb.shared_files.transfer import Folder
from nblb.transport.bulk import mirror as mirror_module
from nblb.transport.bulk.mirror import Mirror

NAME = "a" * 44


def fetched(mirror: Mirror, content: bytes) -> None:
    fd = mirror.begin(NAME)
    assert fd is not None
    os.write(fd, content)
    os.close(fd)
    mirror.finish(NAME, "")


def test_a_file_comes_once_for_all_processes(tmp_path: Path) -> None:
    one, two = Mirror(tmp_path), Mirror(tmp_path)
    fd = one.begin(NAME)
    assert fd is not None
    assert two.begin(NAME) is None, "another process fetches it"
    os.write(fd, b"content")
    os.close(fd)
    one.finish(NAME, "")
    assert two.has(NAME)
    part = two.expect(0, 7)
    two.link(NAME, part)
    assert bytes(part.read()) == b"content"
    one.close()
    assert two.is_there(part.name), "each connection has a folder of its own"


def test_nobody_begins_anew_between_the_last_byte_and_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Mirror(tmp_path), Mirror(tmp_path)
    fd = one.begin(NAME)
    assert fd is not None
    os.write(fd, b"content")
    os.close(fd)
    assert two.begin(NAME) is None, "it is all here, and only its name is missing"
    flock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        one.finish(NAME, "")
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)  # the other process has opened the file when it gets its name
    assert two.begin(NAME) is None
    assert (tmp_path / "shared" / NAME).read_bytes() == b"content"


def test_what_another_process_fetches_is_not_given_up(tmp_path: Path) -> None:
    one, two = Mirror(tmp_path), Mirror(tmp_path)
    fd = one.begin(NAME)
    assert fd is not None
    two.finish(NAME, "its transfer was given up")
    os.write(fd, b"content")
    os.close(fd)
    one.finish(NAME, "")
    assert (tmp_path / "shared" / NAME).read_bytes() == b"content"


def test_a_failed_transfer_leaves_nothing(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    fd = mirror.begin(NAME)
    assert fd is not None
    os.write(fd, b"half")
    os.close(fd)
    mirror.finish(NAME, "the file has been removed")
    assert not mirror.has(NAME)
    assert list((tmp_path / "shared").iterdir()) == []
    part = mirror.expect(0, 4)
    mirror.link(NAME, part)
    with pytest.raises(OSError, match="has been removed"):
        part.read()


def test_a_part_goes_with_its_last_user_and_then_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(tmp_path)
    fetched(mirror, b"content")
    part = mirror.expect(0, 7)
    mirror.link(NAME, part)
    monkeypatch.setattr(mirror_module, "UNUSED_S", -1.0)
    mirror.sweep(100.0)
    assert mirror.has(NAME), "a link of a process keeps it"
    own = part.name
    assert mirror.is_there(own)
    del part
    assert not mirror.is_there(own)
    mirror.sweep(200.0)
    assert not mirror.has(NAME)


def test_what_is_being_fetched_stays_however_long_the_cable_is_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Mirror(tmp_path), Mirror(tmp_path)
    fd = one.begin(NAME)
    assert fd is not None
    (tmp_path / "shared" / f"{'b' * 44}.part").write_bytes(b"of a process that was killed")
    monkeypatch.setattr(mirror_module, "UNUSED_S", -1.0)
    for mirror in (one, two):
        mirror.sweep(100.0)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == [f"{NAME}.part"]
    os.write(fd, b"content")
    os.close(fd)
    one.finish(NAME, "")
    assert (tmp_path / "shared" / NAME).read_bytes() == b"content"


def test_readers_take_it_for_the_cores_folder(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    mirror.write_token("token of the core")
    folder = Folder.seen(mirror.root, "token of the core")
    assert folder is not None
    (part,) = folder.write([b"x" * 100_000])
    assert mirror.is_own(part)
    fd = mirror.open(part.name)  # type: ignore[union-attr]
    assert os.fstat(fd).st_size >= 100_000
    os.close(fd)
    mirror.close()
    assert not Path(mirror.root).exists()


def test_what_a_dead_process_has_left_goes(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    name = Path(mirror.root).name
    dead = tmp_path / f"{name[:8]}{2**22 + 1:08x}{name[16:]}"  # a pid that no process can have
    other = tmp_path / f"{'0' * 8}{name[8:]}"  # of another computer, where it may still run
    for folder in (dead, other):
        (folder / "incoming").mkdir(parents=True)
    Mirror(tmp_path)
    assert not dead.exists()
    assert other.exists()
