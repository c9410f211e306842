"""What senders hand over in files: the core takes a name of its own for each, as soon as a message speaks of it.

From then on it does not matter what becomes of the sender. A claim lasts while something in memory holds it; once
rows count the file (blob_files.py) it is theirs, and a claim that came to nothing takes its name away.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Container
from pathlib import Path

from nblb.broker.journal.state_folder import network_file_system
from nblb.protocol.framing import Buffer, Part, Payload
from nblb.shared_files.memory_map import private_memory
from nblb.shared_files.transfer import BLOBS, INCOMING, TOKEN, FilePart, checked, has_ended, open_file, swept_names

SWEEP_S = 60.0
GRACE_S = 60.0  # the last words of a sender that has died may still be on their way


class _Claim:
    """A name in `blobs` that no row counts yet."""

    __slots__ = ("__weakref__", "_counted", "_path", "name")

    def __init__(self, root: str, name: str, counted: Container[str]) -> None:
        self.name, self._path, self._counted = name, f"{root}/{BLOBS}/{name}", counted

    def __del__(self) -> None:
        if self.name not in self._counted:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108  # runs while the interpreter ends, too


class FileClaims:
    """The files of one state folder; `counted` are those that rows need."""

    def __init__(self, root: Path, counted: Container[str]) -> None:
        self.root = str(root.absolute())
        # What parties are told of; nothing where each write would wait for a server.
        self.offered = "" if network_file_system(root) else self.root
        self.has_lost = False  # a message has named a file that is gone, until somebody has seen to it
        self._counted = counted
        self._sweep_at = 0.0
        self._claims: weakref.WeakValueDictionary[str, _Claim] = weakref.WeakValueDictionary()
        (root / INCOMING).mkdir(mode=0o700, exist_ok=True)
        (root / INCOMING).chmod(0o700)
        self.token = self._token(root / INCOMING / TOKEN)
        self.sweep(0.0)

    @staticmethod
    def _token(path: Path) -> str:
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(os.urandom(16).hex())
        return path.read_text()

    def __contains__(self, name: str) -> bool:
        return name in self._claims

    def refers(self, part: Part) -> bool:
        """Whether this part lies in the folder, so that it can be named to those who see it."""
        return isinstance(part, FilePart) and part.root == self.root

    def find(self, name: str, at: int, nbytes: int) -> Part | Buffer:
        """What a sender has handed over, as the core's own; one that is gone says so when it is read."""
        part = FilePart(self.root, checked(name), at, nbytes)
        try:
            fd = open_file(self.root, name, at + nbytes)
        except OSError:
            self.has_lost = True
            return part
        try:
            part.keeper = self._claim(name)
        except OSError:  # no links here, or no room for one
            return private_memory(fd, at, nbytes)
        finally:
            os.close(fd)
        return part

    def _claim(self, name: str) -> _Claim:
        claim = self._claims.get(name)
        if claim is None:
            ours = f"{self.root}/{BLOBS}/{name}"
            try:
                os.link(f"{self.root}/{INCOMING}/{name}", ours, follow_symlinks=False)
            except FileExistsError:
                pass  # rows need it already
            except FileNotFoundError:
                if not Path(ours).exists():
                    raise
            claim = self._claims[name] = _Claim(self.root, name, self._counted)
        return claim

    def rest(self, now: float) -> None:
        """A turn is over: what was lost has been seen to; now and then look for what the dead have left."""
        self.has_lost = False
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_S
            self.sweep()

    def sweep(self, grace_s: float = GRACE_S) -> None:
        """Remove what senders have left that are dead."""
        until = time.time() - grace_s
        for name in swept_names(self.root):
            path = Path(f"{self.root}/{INCOMING}/{name}")
            with contextlib.suppress(OSError):
                if has_ended(name) and path.stat().st_mtime <= until:
                    path.unlink()


def is_lost(payload: Payload | None) -> bool:
    """Whether a part of it lies in a file that was gone when the message came."""
    parts = payload.parts if payload is not None else None
    return any(isinstance(part, FilePart) and part.keeper is None for part in parts or ())


def settled(payload: Payload) -> None:
    """Rows count the files of this payload from here on."""
    for part in payload.parts or ():
        if isinstance(part, FilePart):
            part.keeper = None
