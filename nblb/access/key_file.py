"""The key store's file in the state folder, and the core's own key pair beside it.

The core alone writes them. The bulk door, a process of its own, reads the file again when it has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from nblb.access.key_store import FORMAT, Keys, KeyStore
from nblb.access.private_file import make_private_folder, read_private, write_private
from nblb.access.secret import Secret
from nblb.errors import NblbError

FOLDER, KEYS, SERVER, TICKETS = "access", "keys.json", "server.key", "tickets.key"


class KeyFile:
    """The key store of one state folder, read again by `refresh` when another process has changed it."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = make_private_folder(state_dir / FOLDER)
        self.path = self.folder / KEYS
        self._seen: tuple[int, int, int] | None = None
        self.store = KeyStore()
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it has changed; return True then.

        Raises
        ------
        NblbError
            It cannot be read, or an nblb with another format has written it.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        seen = found.st_mtime_ns, found.st_ino, found.st_size
        if seen == self._seen:
            return False
        text = read_private(self.path, "The key store", "revoke the keys in it")
        try:
            keys = msgspec.json.decode(text, type=Keys)
        except msgspec.MsgspecError as error:
            raise NblbError(f"The key store {self.path} is damaged: {error}.") from None
        if keys.version != FORMAT:
            raise NblbError(f"The key store {self.path} has format {keys.version}; this nblb reads format {FORMAT}.")
        self.store, self._seen = KeyStore(keys), seen
        return True

    def save(self) -> None:
        """Write the store, so that a crash leaves the old one or the new one."""
        write_private(self.path, msgspec.json.format(msgspec.json.encode(self.store.contents())))
        found = self.path.stat()
        self._seen = found.st_mtime_ns, found.st_ino, found.st_size

    def server_pair(self, make: Callable[[], tuple[str, str]] | None = None) -> tuple[str, Secret]:
        """Return the core's public and secret key; `make()` makes the pair if there is none yet."""
        path = self.folder / SERVER
        if not path.exists():
            if make is None:
                raise NblbError(f"This core has no keys yet: {path} is missing; 'nblb start --listen' makes them.")
            write_private(path, "\n".join([*make(), ""]).encode())
        remedy = f"remove it, restart the core, and invite everybody anew ({self.path} then knows old keys only)"
        words = read_private(path, "The core's key", remedy).decode("ascii", "replace").split()
        if len(words) != 2 or any(len(word) != 40 for word in words):
            raise NblbError(f"The core's key {path} is damaged; restore it from a backup, or remove it.")
        return words[0], Secret(words[1])

    def ticket_key(self) -> bytes:
        """Return the secret with which the core signs tickets for the bulk door; it is made if it is missing."""
        path = self.folder / TICKETS
        if not path.exists():
            write_private(path, os.urandom(32))
        return read_private(path, "The core's key for tickets", "remove it and restart the core")
