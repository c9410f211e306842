"""Disk space set aside for a full disk, so that the entries of running work can still be committed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_BYTES = 32 * 1024 * 1024
LEAST_BYTES = 64 * 1024  # a smaller reserve is not worth a file
SHARE = 100  # at most this fraction of the free space
STEPS = 8
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # errors of a full disk, and of a full quota


class Reserve:
    """A file beside the journal that only occupies disk space.

    It is freed step by step, because the program that has filled the disk goes on writing and would use all of it at
    once. It is restored once there is twice as much room.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "reserve"
        self._whole = self._left = 0
        try:
            self._whole = self._left = self.path.stat().st_size  # left by a killed core
        except OSError:
            pass

    @property
    def is_in_use(self) -> bool:
        """True if some of the reserve has been freed."""
        return self._left < self._whole

    def set_aside(self) -> None:
        """Make the file as large as it may be, if the disk is not full."""
        if self.is_in_use:
            return
        size = min(MOST_BYTES, (self._free_bytes() + self._left) // SHARE) // 4096 * 4096
        if size >= LEAST_BYTES and size > self._left and self._allocate(size):
            self._whole = self._left = size

    def release(self) -> bool:
        """Free some of the reserve; return False if none was left."""
        if not self._left:
            return False
        self._left = max(0, self._left - max(LEAST_BYTES, self._whole // STEPS))
        try:
            os.truncate(self.path, self._left)
        except OSError:
            self._left = 0  # the file has been removed by hand
        return True

    def restore(self, more_bytes: int = 0) -> bool:
        """Restore the reserve if there is room for it, for as much again, and for `more_bytes`; return True if so."""
        wanted = 2 * self._whole - self._left if self.is_in_use else 0
        if self._free_bytes() < wanted + more_bytes or (self.is_in_use and not self._allocate(self._whole)):
            return False
        self._left = self._whole
        self.set_aside()
        return True

    def remove(self) -> None:
        """Remove the reserve file, when the journal is closed."""
        self.path.unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        """Return how many bytes this account may write."""
        found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize

    def _allocate(self, size: int) -> bool:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
            else:  # macOS
                os.pwrite(file, bytes(size - self._left), self._left)
        except OSError:
            os.ftruncate(file, self._left)
            return False
        finally:
            os.close(file)
        return True
