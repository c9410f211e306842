"""The audit log of a core: who joined, was refused, submitted, cancelled and administered; append-only and bounded.

One JSON object a line, in `access/audit.log` of the state folder. When the file is full it becomes `audit.log.1`, and
the one before that is removed, so both together stay below twice MOST_BYTES.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from nblb.user_text import clean

MOST_BYTES = 16 * 1024 * 1024
LONGEST = 300  # characters of a value
REPEATED_S = 10.0  # equal refusals within it are counted, not written


class AuditLog:
    """The log of one state folder; a full disk loses lines, and never stops the core."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = folder / "audit.log"
        self._most = most_bytes
        self._file = -1
        self._size = 0
        self._refused: dict[tuple[str, ...], tuple[float, int]] = {}
        self.lost = 0  # lines that could not be written

    def note(self, event: str, **about: Any) -> None:
        """Append a line: the time, the event, and what it is about."""
        line = {"at": round(time.time(), 3), "event": event}
        line |= {key: clean(value, LONGEST) if isinstance(value, str) else value for key, value in about.items()}
        data = f"{json.dumps(line, ensure_ascii=False, default=str)}\n".encode("utf-8", "replace")
        try:
            if self._file < 0:
                self._open()
            if self._size + len(data) > self._most:
                self._rotate()
            self._size += os.write(self._file, data)
        except OSError:
            self.lost += 1

    def refused(self, now: float, *what: str, **about: Any) -> None:
        """Append a refusal, unless the same one was written within REPEATED_S; it is counted then."""
        last, more = self._refused.get(what, (-REPEATED_S, 0))
        if now - last < REPEATED_S:
            self._refused[what] = last, more + 1
            return
        if len(self._refused) > 1000:
            self._refused.clear()
        self._refused[what] = now, 0
        self.note("refuse", what=" ".join(what), **({"more": more} if more else {}), **about)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        self.close()
        self.path.replace(self.path.with_name("audit.log.1"))
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
