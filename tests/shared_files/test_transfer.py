"""Files that are handed over: their owners, their readers, and their removal."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nblb.protocol.framing import IN_MEMORY, Payload
from nblb.shared_files import transfer
from nblb.shared_files.memory_map import are_equal
from nblb.shared_files.transfer import IN_FILE, FilePart, Folder, has_ended, owner

PAGE = 4096


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("incoming", "blobs"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "incoming" / "token").write_text("the token")
    return tmp_path


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    found = Folder.seen(str(root), "the token")
    assert found is not None
    yield found
    found.close()


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "incoming").iterdir() if path.name != "token")


def parts_of(placed: Any) -> list[FilePart]:
    return [part for part in placed if isinstance(part, FilePart)]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.sampled_from([0, 1, IN_FILE - 1, IN_FILE, PAGE * 9, PAGE * 9 + 1, 100_003]), max_size=6))
def test_buffers_come_back_from_where_they_lie(folder: Folder, sizes: list[int]) -> None:
    buffers = [os.urandom(size) for size in sizes]
    placed = folder.write(buffers)
    assert [isinstance(part, FilePart) for part in placed] == [size >= IN_FILE for size in sizes]
    assert [bytes(b) for b in Payload.of(placed).buffers] == buffers
    assert all(part.at % PAGE == 0 for part in parts_of(placed))  # arrays that lie there are aligned
    assert Payload.of(placed).nbytes == sum(sizes)


def test_what_a_reader_writes_nobody_sees(folder: Folder) -> None:
    (part,) = parts_of(folder.write([bytearray(b"a" * IN_FILE)]))
    mine, other = memoryview(part.read()), memoryview(part.read())
    mine[0] = ord("b")
    assert other[0] == ord("a")
    assert bytes(part.read()) == b"a" * IN_FILE
    assert not are_equal(mine, other)
    assert are_equal(other, b"a" * IN_FILE)


def test_a_name_goes_with_the_last_that_speaks_of_it_and_what_is_mapped_stays(root: Path, folder: Folder) -> None:
    first, second = parts_of(folder.write([b"x" * IN_FILE, b"y" * IN_FILE]))
    assert len(names(root)) == 1
    held = first.read()
    del first
    assert len(names(root)) == 1
    gone = FilePart(second.root, second.name, second.at, second.nbytes)
    del second
    assert names(root) == []
    assert bytes(held) == b"x" * IN_FILE
    with pytest.raises(FileNotFoundError, match="has been removed, and its contents are lost"):
        gone.read()


def test_a_forked_child_takes_no_name_with_it(root: Path, folder: Folder) -> None:
    placed = folder.write([b"x" * IN_FILE])
    pid = os.fork()
    if pid == 0:
        placed.clear()
        gc.collect()
        transfer.close_folders()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(names(root)) == 1


def test_a_write_that_fails_leaves_nothing(root: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space"):
        folder.write([b"x" * IN_FILE])
    assert names(root) == []


def test_a_short_write_goes_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, queue: writev(fd, [queue[0][: max(1, len(queue[0]) // 2)]]))
    buffers = [os.urandom(IN_FILE + 7), os.urandom(IN_FILE)]
    assert [bytes(b) for b in Payload.of(folder.write(buffers)).buffers] == buffers


def test_another_name_keeps_what_the_core_lets_go_of(root: Path, folder: Folder) -> None:
    (sent,) = parts_of(folder.write([b"x" * IN_FILE]))
    os.link(root / "incoming" / sent.name, root / "blobs" / sent.name)
    heard = folder.find(sent.name, 0, IN_FILE)
    kept = folder.link(heard)
    (root / "blobs" / sent.name).unlink()
    del sent
    assert bytes(kept.read()) == b"x" * IN_FILE
    assert folder.link(kept) is kept  # it is ours already
    with pytest.raises(FileNotFoundError):
        folder.link(heard)


# ── what is not to be trusted ──


@given(name=st.text(max_size=60) | st.from_regex(r"[0-9a-f/.]{44}", fullmatch=True) | st.just("../" + "a" * 41))
def test_only_names_of_files_are_names(name: str) -> None:
    folder = Folder("/nonexistent")
    if transfer.is_handed_over(name):
        assert folder.find(name, 0, 1).name == name
    else:
        with pytest.raises(ValueError, match="cannot be the name of a file"):
            folder.find(name, 0, 1)


def test_what_is_not_a_file_of_ours_is_not_read(root: Path) -> None:
    here = root / "incoming" / ("a" * 44)
    part = FilePart(str(root), here.name, 0, 10)
    (root / "secret").write_bytes(b"s" * 100)
    here.symlink_to(root / "secret")
    with pytest.raises(OSError):
        part.read()
    here.unlink()
    here.write_bytes(b"short")
    with pytest.raises(OSError, match="cut short"):
        part.read()
    here.unlink()
    os.mkfifo(here)
    with pytest.raises(OSError, match="not one that nblb has written"):
        part.read()
    here.unlink()
    here.mkdir()
    with pytest.raises(OSError, match="not one that nblb has written"):
        part.read()


def test_a_folder_is_shared_by_those_who_see_the_same_one(root: Path) -> None:
    assert Folder.seen(str(root), "another token") is None
    assert Folder.seen(str(root), "") is None
    assert Folder.seen(str(root / "nowhere"), "the token") is None
    (root / "incoming").chmod(0o755)
    assert Folder.seen(str(root), "the token") is None


# ── whose a name is ──


def test_names_of_the_dead_are_told_from_those_of_the_living() -> None:
    ours = owner() + "0" * 16
    assert not has_ended(ours)
    script = "from nblb.shared_files.transfer import owner; print(owner())"
    theirs = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert has_ended(theirs + "0" * 16)
    assert not has_ended("f" * 8 + theirs[8:] + "0" * 16)  # another machine's: nothing is known
    assert not has_ended("token")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells when a process began")
def test_a_pid_that_was_given_away_again_is_not_its_first_holder() -> None:
    ours = owner()
    assert has_ended(f"{ours[:16]}{int(ours[16:], 16) - 1:012x}" + "0" * 16)


def test_what_a_dead_worker_has_left_is_swept(root: Path, folder: Folder) -> None:
    worker = Folder(str(root), folder.prefix, tag=77)
    told, untold = (parts_of(worker.write([b"x" * IN_FILE], owned=False))[0] for _ in range(2))
    other = parts_of(Folder(str(root), folder.prefix, tag=78).write([b"y" * IN_FILE], owned=False))[0]
    ours = folder.adopt(told.name, 0, IN_FILE)
    folder.sweep(77)
    assert names(root) == sorted([ours.name, other.name])
    assert untold.name not in names(root)
    assert not any(isinstance(part, IN_MEMORY) for part in (told, untold))


# ── what is handed on ──


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="only Linux tells whether a page was written to")
def test_what_was_mapped_and_not_changed_is_not_written_again(root: Path, folder: Folder) -> None:
    content = os.urandom(IN_FILE * 4)
    (part,) = parts_of(folder.write([content]))
    memory = memoryview(part.read())
    assert bytes(memory) == content  # each page was looked at
    again, head, fresh = parts_of(folder.write([memory, memory[: IN_FILE + 1], b"f" * IN_FILE]))
    inode = (root / "incoming" / part.name).stat().st_ino
    assert [(root / "incoming" / p.name).stat().st_ino == inode for p in (again, head, fresh)] == [True, True, False]
    assert len({part.name, again.name, head.name, fresh.name}) == 4
    del part
    assert bytes(again.read()) == content
    assert bytes(head.read()) == content[: IN_FILE + 1]
    memory[-1] ^= 1
    (changed,) = parts_of(folder.write([memory]))
    assert (root / "incoming" / changed.name).stat().st_ino != inode
    assert bytes(changed.read()) == bytes(memory) != content
    memory[-1] ^= 1  # the same bytes, in memory that was written to: taken as it is
    assert [bytes(b) for b in Payload.of(folder.write([memory])).buffers] == [content]


def test_what_was_mapped_from_a_file_that_is_gone_is_written_anew(root: Path, folder: Folder) -> None:
    (part,) = parts_of(folder.write([b"x" * IN_FILE]))
    memory = part.read()
    (root / "incoming" / part.name).unlink()
    assert [bytes(b) for b in Payload.of(folder.write([memory])).buffers] == [b"x" * IN_FILE]


def test_the_folder_of_a_mirror_makes_its_parts_copies(tmp_path: Path) -> None:
    name = transfer.process_name()
    assert transfer.FilePart(f"/state/mirrors/core/{name}", name, 0, 1).is_copied
    assert not transfer.FilePart(str(tmp_path), name, 0, 1).is_copied
