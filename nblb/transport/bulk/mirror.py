"""A party's folder with the layout of the core's state folder, for a party that does not see that one.

    BASE/shared/NAME            what has come, once for all processes of this account on this computer
    BASE/PROCESS…/incoming/…    the files of one connection: own ones, and links to shared ones that it uses

So whatever reads and writes files in the core's folder does the same here. A file that no process links to is removed
after a while, and the folder of a process that has ended with the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

from nblb.shared_files.transfer import (
    BLOBS,
    INCOMING,
    TOKEN,
    FilePart,
    Folder,
    has_ended,
    is_handed_over,
    open_file,
    owner,
)

SHARED = "shared"
ROUGH = ".part"  # ends the name of a file that is being fetched, and locked
UNUSED_S = 60.0  # after which a shared file that nobody links to is removed
SWEEP_S = 30.0


class Mirror:
    """The folder of one connection of this process, below that of its cluster."""

    def __init__(self, base: Path) -> None:
        self._shared = base / SHARED
        root = base / f"{owner()}{os.urandom(8).hex()}"  # of one connection: a process may have several
        for folder in (self._shared, root / INCOMING, root / BLOBS):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = str(root.absolute())
        self._folder = Folder(self.root)
        self._sweep_at = 0.0
        self._locks: dict[str, int] = {}  # name of a file that this process fetches -> a descriptor that keeps its lock
        for other in base.iterdir():
            if is_handed_over(other.name) and has_ended(other.name):
                shutil.rmtree(other, ignore_errors=True)

    def write_token(self, token: str) -> None:
        """Put the core's token into the folder: its readers then use it as they would the core's."""
        path = f"{self.root}/{INCOMING}/{TOKEN}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(token)

    def expect(self, at: int, nbytes: int) -> FilePart:
        """Return the part of a file that is to come, under a name of this process."""
        name, keeper = self._folder.reserve()
        return FilePart(self.root, name, at, nbytes, keeper)

    def has(self, name: str) -> bool:
        """Return True if the shared file is here."""
        return (self._shared / name).exists()

    def begin(self, name: str) -> int | None:
        """Return a descriptor to fetch a shared file into; None while another process fetches it, or just has.

        The lock lasts until `finish`, also if the descriptor is closed before.
        """
        rough = self._shared / f"{name}{ROUGH}"
        fd = os.open(rough, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino != rough.stat().st_ino:  # it was finished, or given up, before it was locked here
                raise FileExistsError
            os.ftruncate(fd, 0)
            self._locks[name] = os.dup(fd)
        except OSError:
            os.close(fd)
            return None
        return fd

    def finish(self, name: str, problem: str) -> None:
        """Give a fetched file its name, or remove what has come of it."""
        rough, lock = self._shared / f"{name}{ROUGH}", self._locks.pop(name, None)
        if lock is None:  # another process fetches it
            return
        with contextlib.suppress(OSError):
            if problem:
                rough.unlink()
            else:
                rough.rename(self._shared / name)
        os.close(lock)

    def link(self, name: str, part: FilePart) -> None:
        """Give this process its own link to a shared file, if that is here."""
        with contextlib.suppress(OSError):
            os.link(self._shared / name, f"{self.root}/{INCOMING}/{part.name}")

    def is_own(self, part: object) -> bool:
        """Return True if the part lies in this folder."""
        return isinstance(part, FilePart) and part.root == self.root

    def open(self, name: str) -> int:
        """Open a file of this process to read it."""
        return open_file(self.root, name, 0)

    def is_there(self, name: str) -> bool:
        """Return True if this process still has the file."""
        return os.path.exists(f"{self.root}/{INCOMING}/{name}")  # noqa: PTH110

    def sweep(self, now: float) -> None:
        """Remove, now and then, the shared files that nobody uses."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        until = time.time() - UNUSED_S
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._shared):
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    is_old = found.st_nlink == 1 and max(found.st_mtime, found.st_ctime) < until
                    if is_old and not (entry.name.endswith(ROUGH) and _is_locked(entry.path)):
                        Path(entry.path).unlink()

    def close(self) -> None:
        """Remove the folder of this process."""
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()
        self._folder.close()
        shutil.rmtree(self.root, ignore_errors=True)


def _is_locked(path: str) -> bool:
    """Return True if a process fetches this file, however long its connection has been cut."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
