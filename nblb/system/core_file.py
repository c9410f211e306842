"""Finds the core of a cluster on this computer, and checks whether it can still be running.

A core writes what others need to reach it into two files: core.json in its runtime folder, and the file in its state
folder that it locks. The second is found whatever the environment of the caller is and whatever a cleaner has removed;
the first is there also while no core runs, and says which one has ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nblb.host import BESIDE, is_alive, short_folder
from nblb.parameters import Parameters
from nblb.shared_files import transfer

LOCK = "lock"  # the file in the state folder that a core locks (broker/journal/state_folder.py)
LOCK_BYTES = 65_536  # more than its content has
TRIES, AGAIN_S = 3, 0.005  # a record may be read while it is being written
RESTORED_S, LOOK_S = 5.0, 0.05  # for a core to make its files again (broker/discovery.py)


@dataclass(frozen=True)
class CoreFile:
    """What a core has written about itself; `stale` is a sentence if that core cannot be running any more."""

    path: Path
    about: dict[str, Any]

    @property
    def pid(self) -> int:
        pid = self.about.get("pid", 0)
        return pid if isinstance(pid, int) else 0

    @property
    def runtime_dir(self) -> Path:
        """The folder with the sockets of this core and the locks of its cluster's processes."""
        return self.path.parent

    @property
    def is_on_another_computer(self) -> bool:
        """True for a core of a computer that shares this folder; its name may be the same as this one's."""
        if self.about.get("host") not in {None, socket.gethostname()}:
            return True
        process = str(self.about.get("process", ""))
        if not transfer.is_handed_over(process) or transfer.is_of_this_boot(process):
            return False
        return not self._has_unlocked()  # else it ran here before this computer was started again

    @property
    def addresses(self) -> dict[str, str]:
        addresses: dict[str, str] = self.about.get("addresses", {})
        return addresses

    @property
    def has_state_folder(self) -> bool:
        """False for a core whose state folder was removed, which ends soon; True if that is on another computer."""
        state_dir = str(self.about.get("state_dir") or "")
        return self.is_on_another_computer or not state_dir or Path(state_dir).is_dir()

    @property
    def stale(self) -> str:
        if self.is_on_another_computer:
            return f"core pid {self.pid} on another host is gone" if self._has_unlocked() else ""
        if self._has_ended():
            return f"core pid {self.pid} on this host is gone"
        return ""

    def _has_ended(self) -> bool:
        """Return True if the core's process is known to have ended; its pid may be another program's by now."""
        process = str(self.about.get("process", ""))
        if transfer.is_of_this_boot(process):
            return transfer.has_ended(process)
        # The computer or container has been restarted since, or it is another one of the same name, or an older nblb
        # has written the file: pids mean nothing, but a core locks its state folder as long as it runs.
        is_older = not transfer.is_handed_over(process)
        return (is_older and not (self.pid > 0 and is_alive(self.pid))) or self._has_unlocked()

    def _has_unlocked(self) -> bool:
        return is_free(Path(str(self.about.get("state_dir") or "/nowhere")) / LOCK)


def find_core_file(parameters: Parameters) -> CoreFile | None:
    """Return what the core of this cluster has written about itself, or a stale file of its last core; else None."""
    written = read_core_file(parameters.connection_file)
    if written is not None and not written.stale and written.has_state_folder:
        return written
    return _by_the_lock(parameters) or written


def read_core_file(path: Path) -> CoreFile | None:
    """Read core.json; return None if there is none, or if no core has written it."""
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return CoreFile(path, about) if isinstance(about, dict) else None


def _await_lock_file(lock: Path) -> None:
    """Wait for a living core to make the lock's file again, if somebody has just removed it."""
    until = time.monotonic() + RESTORED_S
    while not lock.exists() and _is_locked(lock.parent) and time.monotonic() < until:
        time.sleep(LOOK_S)


def core_files(parameters: Parameters) -> Iterator[Path]:
    """Yield the core.json of each cluster of this account, as far as their state folders are where this one's is."""
    state_dirs = parameters.state_dir.parent
    for pattern in (f"{BESIDE}*/core.json", "*/run-*/core.json"):
        yield from state_dirs.glob(pattern)
    yield from parameters.runtime_dir.parent.glob("*/core.json")
    yield from short_folder().glob("*/core.json")


def _by_the_lock(parameters: Parameters) -> CoreFile | None:
    """Return the record of the core that has locked the state folder; None if there is none, or it is still starting.

    A core of an older nblb has written no record: its core.json is where that nblb had its runtime folder.
    """
    lock = parameters.state_dir / LOCK
    _await_lock_file(lock)
    holder, record = read_lock_file(lock)
    if not holder or is_free(lock):
        return None
    if record is None:
        found = (read_core_file(path / "core.json") for path in former_runtime_folders(parameters))
        return next((core for core in found if core is not None and not core.stale), None)
    core = CoreFile(Path(str(record.get("runtime_dir", ""))) / "core.json", record)
    return core if record.get("name") == parameters.name and core.addresses and not core.stale else None


def other_core(parameters: Parameters) -> str:
    """Return a sentence about a core that has locked the state folder and cannot be reached; "" if there is none."""
    holder, record = read_lock_file(parameters.state_dir / LOCK)
    if not holder or is_free(parameters.state_dir / LOCK):
        return ""
    if record is not None and record.get("name") != parameters.name:
        return f"no core '{parameters.name}' runs here: its state folder {parameters.state_dir} is in use by {holder}"
    return f"{holder} is starting or ending, and cannot be reached at the moment"


def read_lock_file(lock: Path) -> tuple[str, dict[str, Any] | None]:
    """Return the name of the core that has locked a state folder, and its record; ("", None) if there is none."""
    for _ in range(TRIES):
        try:
            with open(os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                holder, _, record = file.read(LOCK_BYTES).partition(b"\n")
        except OSError:
            break
        said = holder.decode("utf-8", "replace").strip()
        if not record:
            return said, None
        try:
            about = json.loads(record)
            return said, about if isinstance(about, dict) else None
        except ValueError:
            time.sleep(AGAIN_S)
    return "", None


def former_runtime_folders(parameters: Parameters) -> Iterator[Path]:
    """Yield the places where nblb 0.1 had the runtime folder of this cluster, which followed from the environment.

    The environment of the process that has locked the state folder comes first.
    """
    mark = hashlib.blake2b(os.fsencode(parameters.state_dir.absolute()), digest_size=4).hexdigest()
    uid = os.getuid()
    for environment in (_environment_of_holder(parameters.state_dir / LOCK), os.environ):
        given, session, temporary = map(environment.get, ("NBLB_RUNTIME_DIR", "XDG_RUNTIME_DIR", "TMPDIR"))
        bases = [given, session and f"{session}/nblb", temporary and f"{temporary}/nblb-{uid}"]
        yield from (Path(base) / f"{parameters.name[:24]}-{mark}" for base in bases if base)
    for base in (f"/run/user/{uid}/nblb", f"/tmp/nblb-{uid}"):
        yield Path(base) / f"{parameters.name[:24]}-{mark}"


def _environment_of_holder(lock: Path) -> dict[str, str]:
    """Return the environment of the process that an older nblb has named in the lock's file (Linux)."""
    holder, record = read_lock_file(lock)
    pid = re.search(r"\(pid (\d+)\)$", holder)
    if pid is None or record is not None:
        return {}
    try:
        words = Path(f"/proc/{pid[1]}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(word).split("=", 1) for word in words if b"=" in word)


def is_free(lock: Path) -> bool:
    """Return True if no process has locked this file; False if that is unknown."""
    return _is_locked(lock) is False


def _is_locked(path: Path) -> bool | None:
    """Return True if a process has locked this file or folder; None if that is unknown."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False
