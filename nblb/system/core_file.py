"""What a core writes of itself (core.json), and whether that core can still be there."""

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

LOCK = "lock"  # the file in the state folder on which a core holds a lock (broker/journal/state_folder.py)


@dataclass(frozen=True)
class CoreFile:
    """What core.json says; `stale` is a sentence when that core cannot be there any more."""

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
        """Its process is known to have ended; its pid may be another program's by now."""
        process = str(self.about.get("process", ""))
        if not (self.pid > 0 and is_alive(self.pid)) or transfer.has_ended(process):
            return True
        if transfer.is_of_this_boot(process):
            return False
        # The computer or container has been started anew since, or an older nblb has written the file: pids tell
        # nothing, but a core holds its state folder for as long as it lives.
        return is_free(Path(str(self.about.get("state_dir", ""))) / LOCK)


def read_core_file(path: Path) -> CoreFile | None:
    """core.json, or None where there is none (or one that no core has written)."""
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return CoreFile(path, about) if isinstance(about, dict) else None


def is_free(lock: Path) -> bool:
    """Whether nobody holds the lock on this file; False where that cannot be seen."""
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
