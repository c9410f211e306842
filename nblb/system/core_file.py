"""Reads the connection file of a core (core.json), and checks whether that core can still be running."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nblb.host import is_alive
from nblb.shared_files import transfer

LOCK = "lock"  # the file in the state folder that a core locks (broker/journal/state_folder.py)


@dataclass(frozen=True)
class CoreFile:
    """The contents of core.json; `stale` is a sentence if that core cannot be running any more."""

    path: Path
    about: dict[str, Any]

    @property
    def pid(self) -> int:
        pid = self.about.get("pid", 0)
        return pid if isinstance(pid, int) else 0

    @property
    def addresses(self) -> dict[str, str]:
        addresses: dict[str, str] = self.about.get("addresses", {})
        return addresses

    @property
    def stale(self) -> str:
        if self.about.get("host") not in {None, socket.gethostname()}:
            return ""
        if self._has_ended():
            return f"core pid {self.pid} on this host is gone"
        return ""

    def _has_ended(self) -> bool:
        """Return True if the core's process is known to have ended; its pid may be another program's by now."""
        process = str(self.about.get("process", ""))
        if not (self.pid > 0 and is_alive(self.pid)) or transfer.has_ended(process):
            return True
        if transfer.is_of_this_boot(process):
            return False
        # The computer or container has been restarted since, or an older nblb has written the file: pids mean
        # nothing, but a core locks its state folder as long as it runs.
        return is_free(Path(str(self.about.get("state_dir", ""))) / LOCK)


def read_core_file(path: Path) -> CoreFile | None:
    """Read core.json; return None if there is none, or if no core has written it."""
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return CoreFile(path, about) if isinstance(about, dict) else None


def is_free(lock: Path) -> bool:
    """Return True if no process has locked this file; False if that is unknown."""
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
