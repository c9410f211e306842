"""A process counts as present for as long as it holds its lock, however it ends."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nblb.launch.presence import RoleLock, present


@pytest.fixture
def core(tmp_path: Path) -> RoleLock:
    lock = RoleLock(tmp_path, "core", alone=True)
    assert lock.take()
    return lock


def test_who_holds_a_lock_is_there_with_what_it_says(tmp_path: Path, core: RoleLock) -> None:
    core.say(address="127.0.0.1:1")
    (found,) = present(tmp_path)
    assert (found.role, found.pid, found.about["address"]) == ("core", os.getpid(), "127.0.0.1:1")
    core.say(address="")  # shorter than before
    assert present(tmp_path)[0].about["address"] == ""
    core.leave()
    assert present(tmp_path) == []


def test_one_core_alone_and_any_number_of_hubs(tmp_path: Path, core: RoleLock) -> None:
    assert not RoleLock(tmp_path, "core", alone=True).take()
    hubs = [RoleLock(tmp_path, "hub") for _ in range(2)]
    assert all(hub.take() for hub in hubs)
    assert [one.role for one in present(tmp_path)] == ["core", "hub", "hub"]
    assert len(present(tmp_path, "hub")) == 2
    for lock in (core, *hubs):
        lock.leave()


def test_the_file_of_a_process_that_was_killed_is_removed(tmp_path: Path, core: RoleLock) -> None:
    os.close(core.file)  # as the kernel does
    core.file = -1
    assert core.path.exists()
    assert present(tmp_path) == []
    assert not core.path.exists()
    assert core.take()
    core.leave()


def test_nobody_ends_a_starter_for_what_it_is_about_to_start(tmp_path: Path) -> None:
    lock = RoleLock(tmp_path, "core", alone=True)
    assert lock.take(for_child=True)
    assert present(tmp_path) == []
    assert not RoleLock(tmp_path, "core", alone=True).take()  # and nobody starts another
    child = RoleLock(tmp_path, "core", alone=True)
    child.adopt(os.dup(lock.file), lock.path)
    lock.hand_over(os.getpid())
    assert [one.pid for one in present(tmp_path)] == [os.getpid()]
    child.leave()


def test_files_of_others_are_passed_over(tmp_path: Path) -> None:
    stray = RoleLock(tmp_path, "core", alone=True)
    assert stray.take()
    os.ftruncate(stray.file, 0)
    assert present(tmp_path) == []
    assert present(tmp_path / "missing") == []
    stray.leave()


def test_a_file_that_is_removed_is_made_again(tmp_path: Path, core: RoleLock) -> None:
    core.say(address="here")
    assert core.keep(tmp_path)
    for remove in (core.path.unlink, lambda: shutil.rmtree(tmp_path)):
        remove()
        assert present(tmp_path) == []
        assert core.keep(tmp_path)  # without a folder there is nothing to do
        tmp_path.mkdir(exist_ok=True)
        assert core.keep(tmp_path)
        [one] = present(tmp_path)
        assert (one.pid, one.about["address"]) == (os.getpid(), "here")
    core.path.unlink()
    other = RoleLock(tmp_path, "core", alone=True)
    assert other.take()
    assert not core.keep(tmp_path), "another process has taken over"
    core.leave()
    assert other.path.exists()
    other.leave()
    assert core.keep(tmp_path)
    assert not other.path.exists()


def test_a_process_of_another_computer_is_not_listed(tmp_path: Path, core: RoleLock) -> None:
    """Its pid would be another program's here; its lock shows that it lives."""
    core.say(computer="00000000")
    assert present(tmp_path) == []
    assert core.path.exists()
    core.leave()
