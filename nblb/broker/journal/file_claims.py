"""Claims on files that senders hand over: the core makes a hard link to each as soon as a message names it.

From then on the end of the sender does no harm. A claim lasts while an object in memory refers to it. Once rows
count the file (blob_files.py), they own it; a claim that no row has taken over removes its link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from collections.abc import Container
from itertools import count
from pathlib import Path
from time import monotonic

from nblb.broker.journal.file_checks import FileChecks
from nblb.host import network_file_system
from nblb.protocol.framing import Buffer, Part, Payload
from nblb.shared_files.memory_map import private_memory
from nblb.shared_files.transfer import (
    BLOBS,
    INCOMING,
    TOKEN,
    FilePart,
    checked,
    has_ended,
    is_whole,
    open_file,
    owner,
    swept_names,
)
from nblb.system.private_folder import private_folder

OFFERED = "ffffffff"  # in the names of files that the core offers by itself
SWEEP_S = 60.0
GRACE_S = 60.0  # a dead sender's last messages may still be on their way
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class _Claim:
    """A file in `blobs` that no row counts yet."""

    __slots__ = ("__weakref__", "_counted", "_path", "name")

    def __init__(self, root: str, name: str, counted: Container[str]) -> None:
        self.name, self._path, self._counted = name, f"{root}/{BLOBS}/{name}", counted

    def __del__(self) -> None:
        if self.name not in self._counted:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108  # runs while the interpreter ends, too


class StoredPart(FilePart):
    """A buffer in a file that a sender has handed over; it is checked before the core reads or names it."""

    __slots__ = ("_checks",)

    def __init__(self, checks: FileChecks, root: str, name: str, at: int, nbytes: int) -> None:
        super().__init__(root, name, at, nbytes)
        self._checks = checks

    def check(self) -> None:
        """Raise DamagedFile if the content is not what was handed over."""
        self._checks.check(self.name)

    def read(self) -> Buffer:
        """Return the bytes; raise DamagedFile if they are not those that were handed over."""
        self.check()
        return super().read()


class FileClaims:
    """The claimed files of one state folder; `counted` are the files that rows need."""

    def __init__(self, root: Path, counted: Container[str], checks: FileChecks) -> None:
        self.root = str(root.absolute())
        # The folder announced to parties; none on a network file system, where each write would wait for a server.
        self.offered = "" if network_file_system(root) else self.root
        self.has_lost = False  # a message of this turn has named a file that is gone
        self._counted = counted
        self._checks = checks
        self._sweep_at = 0.0
        self._left: dict[str, float] = {}  # files of dead senders, and since when they are known to be
        self._offers = count(1)
        self._claims: weakref.WeakValueDictionary[str, _Claim] = weakref.WeakValueDictionary()
        private_folder(root / INCOMING)
        self.token = self._token(root / INCOMING / TOKEN)
        self.sweep(0.0)

    @staticmethod
    def _token(path: Path) -> str:
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(os.urandom(16).hex())
        return path.read_text()

    def __contains__(self, name: str) -> bool:
        return name in self._claims

    def refers(self, part: Part) -> bool:
        """Return True if this part is in the folder, so that parties that see the folder can get it by name.

        Raises
        ------
        DamagedFile
            It does, and its content is not what was handed over.
        """
        if not isinstance(part, FilePart) or part.root != self.root:
            return False
        if isinstance(part, StoredPart):
            part.check()
        return True

    def find(self, name: str, at: int, nbytes: int) -> Part | Buffer:
        """Claim a file that a sender has handed over; a file that is gone raises when it is read."""
        part, fd = StoredPart(self._checks, self.root, checked(name), at, nbytes), -1
        try:
            fd = open_file(self.root, name, at + nbytes)
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR or not is_whole(self.root, name, at + nbytes):
                self.has_lost = True
                return part
        try:
            part.keeper = self._claim(name)
        except OSError:  # the file system has no links, or no room for one
            if fd >= 0:
                return private_memory(fd, at, nbytes)
            self.has_lost = True
        finally:
            if fd >= 0:
                os.close(fd)
        return part

    def offer(self, path: str) -> FilePart:
        """Return a whole file of this file system as a part that parties can get by name, as long as it is referenced.

        Raises
        ------
        OSError
            The file is gone, or the file system has no links.
        """
        name = f"{owner()}{OFFERED}{next(self._offers):08x}"
        ours = f"{self.root}/{BLOBS}/{name}"
        os.link(path, ours, follow_symlinks=False)
        claim = self._claims[name] = _Claim(self.root, name, self._counted)
        return FilePart(self.root, name, 0, Path(ours).stat().st_size, claim)

    def _claim(self, name: str) -> _Claim:
        claim = self._claims.get(name)
        if claim is None:
            ours = f"{self.root}/{BLOBS}/{name}"
            try:
                os.link(f"{self.root}/{INCOMING}/{name}", ours, follow_symlinks=False)
            except FileExistsError:
                pass  # a row needs it already
            except FileNotFoundError:
                if not Path(ours).exists():
                    raise
            claim = self._claims[name] = _Claim(self.root, name, self._counted)
        return claim

    def end_turn(self) -> None:
        """Reset `has_lost`, which is about the messages of one turn."""
        self.has_lost = False

    def rest(self, now: float) -> None:
        """Sweep the files of dead senders now and then."""
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self.sweep()

    def sweep(self, grace_s: float = GRACE_S) -> None:
        """Remove the files that dead senders have left."""
        now, left = monotonic(), self._left  # not the time of the file, since the wall clock may be set
        self._left = {}
        for name in swept_names(self.root):
            if not has_ended(name):
                continue
            since = left.get(name, now)
            if since <= now - grace_s:
                with contextlib.suppress(OSError):
                    Path(f"{self.root}/{INCOMING}/{name}").unlink()
            else:
                self._left[name] = since


def is_lost(payload: Payload | None) -> bool:
    """Return True if a part of the payload was in a file that did not exist any more when the message arrived."""
    parts = payload.parts if payload is not None else None
    return any(isinstance(part, FilePart) and part.keeper is None for part in parts or ())


def settled(payload: Payload) -> None:
    """Mark the files of this payload as counted by rows."""
    for part in payload.parts or ():
        if isinstance(part, FilePart):
            part.keeper = None
