"""Lines for whoever watches the process: coloured on a terminal, plain in a log file."""

from __future__ import annotations

import sys
from typing import TextIO

COLOURS = {"info": "\033[94m", "good": "\033[92m", "warning": "\033[93m", "error": "\033[91m"}
PLAIN = "\033[0m"


class Console:
    """Where a process says what it does; a closed terminal or a full disk must not end it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def say(self, level: str, text: str) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        try:
            colour = COLOURS.get(level, "") if stream.isatty() else ""
            print(f"{colour}{text}{PLAIN if colour else ''}", file=stream, flush=True)
        except (OSError, ValueError, AttributeError):  # AttributeError: no stdout at all
            pass
