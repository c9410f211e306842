"""The Monitor's key: a file of its cluster's state folder, with which links and logins of the Monitor are signed."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from nblb.access.key_file import FOLDER
from nblb.access.private_file import make_private_folder, read_private, write_private

NAME, BYTES = "monitor.key", 32


def monitor_key(state_dir: Path) -> bytes:
    """Return the key of this cluster; it is made if it is missing.

    Raises
    ------
    NblbError
        It cannot be made, belongs to another account, or can be read by others.
    """
    path = make_private_folder(state_dir / FOLDER) / NAME
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            key = read_private(path, "The Monitor's key", "remove it")
            if len(key) == BYTES:
                return key
            path.unlink()  # cut by a full disk
        _make(path)
    return read_private(path, "The Monitor's key", "remove it")


def _make(path: Path) -> None:
    """Make the key, unless another process is faster."""
    rough = path.with_name(f".{NAME}.{uuid.uuid4().hex}")  # threads of one process may meet here
    write_private(rough, os.urandom(BYTES))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(rough, path)
    finally:
        rough.unlink()


def renew_monitor_key(state_dir: Path) -> None:
    """Make a new key: all links and logins end.

    Raises
    ------
    NblbError
        The folder belongs to another account.
    """
    write_private(make_private_folder(state_dir / FOLDER) / NAME, os.urandom(BYTES))
