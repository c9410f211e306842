"""Which processes of a cluster live on this machine, known from files that cannot go stale unnoticed.

Each role's process holds a lock on a file of its own in the runtime folder for as long as it lives; the kernel
drops the lock however the process ends. So a held lock is a living process (a pid alone may be somebody else's by
now), and a free one is a file to remove. Where the core listens says core.json (system/core_file.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIX = ".here"


@dataclass(frozen=True)
class RunningRole:
    """A living process of a cluster: its role ("core", "hub", "health", "monitor") and what it said of itself."""

    role: str
    pid: int
    about: dict[str, Any]
    path: Path


class RoleLock:
    """Held for a role's process while it lives. `alone`: one process of this role per cluster.

    A starter takes it and hands it to the process that it starts, so that there is no moment at which a process is
    there and cannot be seen.
    """

    def __init__(self, runtime_dir: Path, role: str, alone: bool = False) -> None:
        self.path = runtime_dir / f"{role if alone else f'{role}-{os.urandom(6).hex()}'}{SUFFIX}"
        self.file = -1
        self._about: dict[str, Any] = {"role": role, "pid": os.getpid(), "started_at": time.time()}

    def take(self, for_child: bool = False) -> bool:
        """False when another process of this role is there already.

        With `for_child` this process is only the starter, which nobody who ends the cluster just now may end.
        """
        file = lock_file(self.path)
        if file is None:
            return False
        self.file = file
        self.say(pid=0 if for_child else os.getpid())
        return True

    def hand_over(self, pid: int) -> None:
        """The process `pid` has inherited the lock; from now on it is its."""
        self.say(pid=pid)
        os.close(self.file)
        self.file = -1

    def adopt(self, file: int, path: Path) -> None:
        """Takes over what a starter has handed over."""
        os.set_inheritable(file, False)  # it must end with this process, not with a child of it
        self.file, self.path = file, path

    def say(self, **about: Any) -> None:
        """Adds to what others can read of this process (the Monitor's address, for example)."""
        self._about.update(about)
        text = json.dumps(self._about).encode()
        os.pwrite(self.file, text.ljust(os.fstat(self.file).st_size), 0)  # at no moment is it cut short

    def leave(self) -> None:
        if self.file >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self.file)
            self.file = -1


def lock_file(path: Path) -> int | None:
    """A descriptor that holds the lock on the file at `path`, or None while another process holds it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        os.close(file)  # it was removed between opening and locking: once more


def present(runtime_dir: Path, role: str = "") -> list[RunningRole]:
    """The living processes of the cluster on this machine; files of dead ones are removed on the way."""
    found = []
    for path in sorted(runtime_dir.glob(f"{role}*{SUFFIX}")):
        one = _read(path)
        if one is not None and (not role or one.role == role):
            found.append(one)
    return found


def _read(path: Path) -> RunningRole | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            about = json.loads(os.pread(file, 65536, 0) or b"{}")
            pid = int(about["pid"])
            return RunningRole(about["role"], pid, about, path) if pid else None  # about to be started
        path.unlink(missing_ok=True)  # the lock was free: nobody lives here
    except (OSError, ValueError, KeyError):  # written this very moment, or not by us
        pass
    finally:
        os.close(file)
    return None
