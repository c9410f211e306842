"""The folder for data that must survive a core: locked by it, marked as nblb's, and closed to other accounts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nblb.broker.journal.reserve import NO_ROOM, Reserve
from nblb.errors import JournalError, JournalLocked
from nblb.host import network_file_system
from nblb.shared_files import transfer
from nblb.system.core_file import LOCK, read_lock_file
from nblb.system.state_mark import claim, close_to_others

__all__ = ["StateFolder", "network_file_system"]

TRIES, AGAIN_S = 10, 0.01
NEAR = 2  # levels of the folder whose permissions each start checks


class StateFolder:
    """The state folder, locked by this process until `close`.

    Two locks protect it: one on a file, which also contains the record of the core, and one on the folder itself,
    which holds when somebody removes that file.

    Raises
    ------
    JournalLocked
        Another core uses it; the message names its process.
    JournalError
        The folder cannot be used, or belongs to the user or to another account (system/state_mark.py).
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = claim(path)
        self._record: dict[str, Any] = {"name": name, "pid": os.getpid(), "process": transfer.process_name()}
        self._reserve = Reserve(path)  # left by a core that was killed: its end may have been that of a full disk
        self._lock = self._folder = -1
        self._is_missed = False  # the file, when `keep` looked last
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not _take(self._folder, or_none=True):
                raise self._in_use()
            self._open_lock()
        except OSError as error:
            self.close()
            raise JournalError(
                f"The state folder {path} cannot be used: {error.strerror or error}; name another with LB_STATE_DIR."
            ) from None
        except BaseException:
            self._leave()
            raise
        close_to_others(path, NEAR)

    def _open_lock(self) -> None:
        """Open and lock the file, and write the record into it; raise JournalLocked if another core has locked it."""
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _take(lock):
            os.close(lock)
            raise self._in_use()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = lock
        while True:
            try:
                self.record()
                return
            except OSError as error:
                if error.errno not in NO_ROOM or not self._reserve.release():
                    raise

    def _in_use(self) -> JournalLocked:
        holder = read_lock_file(self.path / LOCK)[0] or "another process"
        return JournalLocked(
            f"The state folder {self.path} is in use by {holder}; stop that core, or name another folder "
            "with LB_STATE_DIR."
        )

    def record(self, about: Mapping[str, Any] | None = None) -> None:
        """Write into the lock's file by which process it is locked, and how to reach it: the data of core.json."""
        self._record.update(about or {})
        line = f"the core {self._record['name']!r} (pid {self._record['pid']})\n"
        whole = f"{line}{json.dumps(self._record)}\n".encode()
        os.pwrite(self._lock, whole, 0)
        os.ftruncate(self._lock, len(whole))

    def keep(self) -> bool:
        """Make the lock's file again if it is missing a second time; return False if the folder itself is gone.

        Raises
        ------
        JournalLocked
            Another core has locked the folder meanwhile, where the system cannot lock a folder itself.
        """
        try:
            if not os.path.samestat(self.path.stat(), os.fstat(self._folder)):
                return False
        except OSError:
            return False
        try:
            if os.path.samestat((self.path / LOCK).lstat(), os.fstat(self._lock)):
                self._is_missed = False
                return True
        except OSError:
            pass
        if not self._is_missed:  # perhaps somebody is removing the whole folder
            self._is_missed = True
            return True
        with contextlib.suppress(OSError):  # a full disk: the next call tries again
            self._open_lock()
        return True

    def close(self) -> None:
        """Release the folder."""
        if self._lock >= 0:
            os.ftruncate(self._lock, 0)
        self._leave()

    def _leave(self) -> None:
        for fd in (self._lock, self._folder):
            if fd >= 0:
                os.close(fd)
        self._lock = self._folder = -1


def _take(fd: int, or_none: bool = False) -> bool:
    """Lock an open file; try again for a moment, since a mere check (system/core_file.py) locks it briefly, too.

    With `or_none`, return True as well if the file system has no such locks.
    """
    for _ in range(TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(AGAIN_S)
        except OSError:
            if or_none:
                return True
            time.sleep(AGAIN_S)
        else:
            return True
    return False
