"""The end of the logs of processes on this computer, for the Monitor."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nblb.launch import logs

LINES = 40


def tail_of(hub: Mapping[str, Any], folder: Path | None) -> str:
    """Return the last lines of a hub's log; "" if it is not on this computer, or cannot be told which log is its own.

    The name of a hub's log is not part of the cluster's state; the log of a process is the file that it has open.
    """
    if folder is None or hub.get("host") != socket.gethostname():
        return ""
    try:
        path = Path(f"/proc/{int(hub.get('pid') or 0)}/fd/1").readlink()
        if path.parent != folder:
            return ""
        return logs.last_lines(path, LINES)
    except (OSError, ValueError):
        return ""
