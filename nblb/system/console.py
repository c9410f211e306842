"""Lines on a process's console: coloured on a terminal, plain in a log file."""

from __future__ import annotations

import sys
from typing import TextIO

from nblb.parameters import Parameters

COLOURS = {"info": "\033[94m", "good": "\033[92m", "warning": "\033[93m", "error": "\033[91m"}
PLAIN = "\033[0m"


class Console:
    """The console of a process; a closed terminal or a full disk does not end the process."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def say(self, level: str, text: str) -> None:
        """Print a text, unless it is empty."""
        if not text:
            return
        stream = self._stream if self._stream is not None else sys.stdout
        try:
            colour = COLOURS.get(level, "") if stream.isatty() else ""
            print(f"{colour}{text}{PLAIN if colour else ''}", file=stream, flush=True)
        except (OSError, ValueError, AttributeError):  # AttributeError: no stdout at all
            pass

    def say_settings(self, parameters: Parameters, warning: str) -> None:
        """Print this core's settings, and warnings about them."""
        self.say("info", "Starting Load Balancer with the following settings:")
        for key, value in parameters.as_dict().items():
            if key.startswith("LB_"):
                self.say("info", f"    {key}: {value}")
        if warning:
            self.say("warning", f"LB - WARNING : {warning}")
