"""Lines on a process's console: coloured on a terminal, plain in a log file."""

from __future__ import annotations

import sys
from typing import TextIO

from nblb.host import account
from nblb.parameters import Parameters
from nblb.user_text import clean

COLOURS = {"info": "\033[94m", "good": "\033[92m", "warning": "\033[93m", "error": "\033[91m"}
PLAIN = "\033[0m"


LONGEST = 20_000  # characters of one text, which may be a traceback
NO_SECURITY = (
    'LB_SECURITY is "none": every account of this computer can run code as {account}, by the ports on {ip}; leave the '
    "key out unless nobody else can log in here"
)


def printable(text: str) -> str:
    """Return the text without control characters for terminals and of a bounded length: names of users may have both.

    Parameters
    ----------
    text
        A text for a terminal or a log; its line feeds stay.
    """
    return clean(text, LONGEST)


def no_security(parameters: Parameters) -> str:
    """Return the warning for each start with LB_SECURITY "none"; "" with "on"."""
    return "" if parameters.LB_SECURITY == "on" else NO_SECURITY.format(account=account(), ip=parameters.LB_IP)


class Console:
    """The console of a process; a closed terminal or a full disk does not end the process."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def write(self, level: str, text: str) -> None:
        """Print a text, unless it is empty."""
        if not text:
            return
        text = printable(text)
        stream = self._stream if self._stream is not None else sys.stdout
        try:
            colour = COLOURS.get(level, "") if stream.isatty() else ""
            print(f"{colour}{text}{PLAIN if colour else ''}", file=stream, flush=True)
        except (OSError, ValueError, AttributeError):  # AttributeError: no stdout at all
            pass

    def write_settings(self, parameters: Parameters, warning: str) -> None:
        """Print this core's settings, and warnings about them."""
        self.write("info", "Starting Load Balancer with the following settings:")
        for key, value in parameters.as_dict().items():
            if key.startswith("LB_"):
                self.write("info", f"    {key}: {value}")
        for sentence in filter(None, (warning, no_security(parameters))):
            self.write("warning", f"LB - WARNING : {sentence}")
