"""The living processes of a cluster on this machine, found from lock files.

The process of each role locks a file in the runtime folder while it lives; the kernel releases the lock however the
process ends. So a locked file means a living process (a pid alone may belong to another program by now), and an
unlocked one is removed. core.json has the core's addresses (system/core_file.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb.host import pid_space
from nblb.system.core_file import LOCK, is_free

if TYPE_CHECKING:
    from nblb.parameters import Parameters

SUFFIX = ".here"


@dataclass(frozen=True)
class RunningRole:
    """A living process of a cluster: its role ("core", "hub", "health", "monitor" or "ssh") and its recorded data."""

    role: str
    pid: int
    about: dict[str, Any]
    path: Path


class RoleLock:
    """The lock of a role's process, held while it lives. `alone`: one process of this role per cluster.

    A starter takes the lock and passes it to the process that it starts, so that a process is visible from its first
    moment.
    """

    def __init__(self, runtime_dir: Path, role: str, alone: bool = False) -> None:
        self.is_alone = alone
        self.path = runtime_dir / f"{role if alone else f'{role}-{os.urandom(6).hex()}'}{SUFFIX}"
        self.file = -1
        self._keeping = threading.Lock()  # `keep` runs in a thread of its own
        self._about: dict[str, Any] = {
            "role": role,
            "pid": os.getpid(),
            "started_at": time.time(),
            "computer": pid_space(),
        }

    def take(self, for_child: bool = False) -> bool:
        """Takes the lock; returns False if another process of this role has it.

        With `for_child` this process is only the starter, which a stop of the cluster must not end.
        """
        file = lock_file(self.path)
        if file is None:
            return False
        self.file = file
        self.say(pid=0 if for_child else os.getpid())
        return True

    def hand_over(self, pid: int) -> None:
        """Gives the lock to the process `pid`, which has inherited it."""
        self.say(pid=pid)
        os.close(self.file)
        self.file = -1

    def adopt(self, file: int, path: Path) -> None:
        """Takes over the lock from a starter."""
        os.set_inheritable(file, False)  # the lock must end with this process, not with a child of it
        self.file, self.path = file, path

    def say(self, **about: Any) -> None:
        """Adds to the recorded data of this process (the Monitor's address, for example)."""
        with self._keeping:
            self._about.update(about)
            self._write()

    def _write(self) -> None:
        text = json.dumps(self._about).encode()
        os.pwrite(self.file, text.ljust(os.fstat(self.file).st_size), 0)  # the file is never shorter than its content

    def is_at(self, runtime_dir: Path) -> bool:
        """Returns True if the file is in this folder, as it was made."""
        with self._keeping:
            return self.file < 0 or (self.path.parent == runtime_dir and self._is_there())

    def keep(self, runtime_dir: Path) -> bool:
        """Makes the file again if somebody has removed it; returns False if another process has this role by now."""
        path = runtime_dir / self.path.name
        with self._keeping:
            if self.file < 0 or (path == self.path and self._is_there()):
                return True
            try:
                file = lock_file(path)
            except OSError:  # no folder, or a full disk: the next call tries again
                return True
            if file is None:
                return False
            os.close(self.file)
            self.file, self.path = file, path
            self._write()
        return True

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self.file))
        except OSError:
            return False

    def leave(self) -> None:
        with self._keeping:
            if self.file >= 0:
                if self._is_there():
                    with contextlib.suppress(OSError):
                        self.path.unlink()
                os.close(self.file)
                self.file = -1


def lock_file(path: Path) -> int | None:
    """A descriptor with the lock on the file at `path`; None while another process has the lock."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        os.close(file)  # it was removed between opening and locking: try again


def present(runtime_dir: Path, role: str = "") -> list[RunningRole]:
    """Returns the living processes of the cluster on this machine; removes the files of dead ones."""
    found = []
    for path in sorted(runtime_dir.glob(f"{role}*{SUFFIX}")):
        one = _read(path)
        if one is not None and (not role or one.role == role):
            found.append(one)
    return found


def _read(path: Path) -> RunningRole | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            about = json.loads(os.pread(file, 65536, 0) or b"{}")
            if about.get("computer", pid_space()) != pid_space():
                return None  # of another computer or container, which has the same folder
            pid = int(about["pid"])
            return RunningRole(about["role"], pid, about, path) if pid else None  # None: about to be started
        path.unlink(missing_ok=True)  # the lock was free: the process has ended
    except (OSError, ValueError, KeyError):  # being written right now, or not an nblb file
        pass
    finally:
        os.close(file)
    return None


def await_end_of_stray_core(parameters: Parameters, most_s: float) -> None:
    """Waits for the end of a core whose state folder was removed: it takes nothing more, and ends by itself."""
    until, lock = time.monotonic() + most_s, parameters.state_dir / LOCK
    while (is_free(lock) or not lock.exists()) and present(parameters.runtime_dir, "core"):
        if time.monotonic() > until:
            return
        time.sleep(0.1)
