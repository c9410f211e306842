"""core.json: what a core writes about itself, and the check that this core can still exist."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nblb.parameters import load
from nblb.shared_files import transfer
from nblb.system.core_file import LOCK, find_core_file, is_free, read_core_file


def written(folder: Path, **about: Any) -> Any:
    path = folder / "core.json"
    path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), **about}))
    return read_core_file(path)


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_core_that_lives(tmp_path: Path) -> None:
    core = written(tmp_path, process=transfer.process_name(), addresses={"clients": "ipc:///x"})
    assert (core.pid, core.addresses, core.stale) == (os.getpid(), {"clients": "ipc:///x"}, "")


def test_a_core_whose_process_is_gone(tmp_path: Path) -> None:
    pid = dead_pid()
    assert written(tmp_path, pid=pid).stale == f"core pid {pid} on this host is gone"


def test_nothing_is_known_of_a_core_on_another_host(tmp_path: Path) -> None:
    assert written(tmp_path, pid=dead_pid(), host="elsewhere").stale == ""


def test_a_pid_that_is_another_programs_now(tmp_path: Path) -> None:
    """The file is of another boot, or of an older nblb: the lock on the state folder decides."""
    lock = tmp_path / LOCK
    lock.touch()
    core = written(tmp_path, state_dir=str(tmp_path))
    assert core.stale
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert core.stale == ""
    assert not is_free(tmp_path / "missing")  # it cannot be seen


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '"text"'])
def test_what_no_core_has_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "core.json"
    assert read_core_file(path) is None
    path.write_text(text)
    assert read_core_file(path) is None


def test_a_pid_that_is_no_number(tmp_path: Path) -> None:
    core = written(tmp_path, pid="1")
    assert core.pid == 0
    assert core.stale


def test_a_core_of_an_older_nblb_is_found_by_the_environment_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote only a sentence into the lock's file, and its runtime folder followed from its XDG_RUNTIME_DIR."""
    monkeypatch.delenv("NBLB_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    parameters = load({"LB_NAME": "old", "LB_STATE_DIR": str(tmp_path / "state")})
    parameters.state_dir.mkdir()
    mark = hashlib.blake2b(os.fsencode(parameters.state_dir), digest_size=4).hexdigest()
    folder = tmp_path / "session" / "nblb" / f"old-{mark}"
    folder.mkdir(parents=True)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "session")}
    with subprocess.Popen(["sleep", "60"], env=environment) as core, (parameters.state_dir / LOCK).open("w") as lock:
        lock.write(f"the core 'old' (pid {core.pid})\n")
        lock.flush()
        written(folder, pid=core.pid, state_dir=str(parameters.state_dir), addresses={"clients": "ipc:///x"})
        assert find_core_file(parameters) is None, "nobody has locked the folder"
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find_core_file(parameters)
        assert found is not None
        assert (found.pid, found.runtime_dir, found.stale) == (core.pid, folder, "")
        core.kill()


def test_a_core_of_another_computer_with_the_same_name_and_home(tmp_path: Path) -> None:
    """Its pid means nothing here, and its files must not be taken away: the lock on the state folder decides."""
    lock = tmp_path / LOCK
    lock.touch()
    here = transfer.process_name()
    there = f"{int(here[:8], 16) ^ 1:08x}{here[8:]}"
    core = written(tmp_path, pid=dead_pid(), process=there, state_dir=str(tmp_path))
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert core.stale == ""
        assert core.is_on_another_computer
    assert core.stale, "it ran here before the computer was started again, or has ended there"
    assert not core.is_on_another_computer
    assert not written(tmp_path, process=here, state_dir=str(tmp_path)).is_on_another_computer
