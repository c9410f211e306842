"""The file of a bound Unix socket, which somebody may remove while the socket is still open."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class SocketFile:
    """The file that a socket was bound to, identified by its inode; only its owner may connect.

    Raises
    ------
    OSError
        The file has gone already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.chmod(0o600)
        self._bound = path.lstat()

    def is_at(self, path: Path) -> bool:
        """Return True if this file still exists, and has this path."""
        try:
            return path == self.path and os.path.samestat(self._bound, path.lstat())
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, but not one that another socket has made in its place."""
        if self.is_at(self.path):
            with contextlib.suppress(OSError):
                self.path.unlink()
