"""What a core writes of itself (core.json), and whether that core can still be there."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nblb.system.processes import is_process_alive


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
        if self.about.get("host") in {None, socket.gethostname()} and not (self.pid > 0 and is_process_alive(self.pid)):
            return f"core pid {self.pid} on this host is gone"
        return ""


def read_core_file(path: Path) -> CoreFile | None:
    """core.json, or None where there is none (or one that no core has written)."""
    try:
        about = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return CoreFile(path, about) if isinstance(about, dict) else None
