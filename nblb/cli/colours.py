"""Colours of the command line: only where stdout is a terminal, and never with NO_COLOR (https://no-color.org)."""

from __future__ import annotations

import os
import re
import sys

from nblb.user_text import clean

PLAIN = "\x1b[0m"
BOLD, RED, GREEN, YELLOW, BLUE, GREY = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[90m"
OF_STATE = {
    "running": BLUE,
    "busy": BLUE,
    "cancelling": YELLOW,
    "assigned": BLUE,
    "done": GREEN,
    "up": GREEN,
    "ok": GREEN,
    "failed": RED,
    "lost": RED,
    "not ok": RED,
    "suspect": YELLOW,
    "draining": YELLOW,
    "cancelled": GREY,
    "idle": GREY,
    "queued": GREY,
    "blocked": GREY,
}
_ours = re.compile("(" + "|".join(map(re.escape, (PLAIN, BOLD, RED, GREEN, YELLOW, BLUE, GREY))) + ")")


def are_wanted() -> bool:
    """Returns whether the output is coloured: it is a terminal that can, and NO_COLOR is not set or empty."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()


def painted(text: str, colour: str) -> str:
    """Returns the text in a colour, if colours are wanted; the text has no control characters of its own then."""
    if not colour or not are_wanted():
        return text
    return f"{colour}{clean(text, len(text))}{PLAIN}"


def of_state(text: str) -> str:
    """Returns the colour of a cell that names a state such as "done", or counts such as "3 FAILED, 5 DONE"."""
    words = {re.sub(r"^[\d,]+ ", "", part).lower() for part in text.split(", ")}
    found = [colour for word, colour in OF_STATE.items() if word in words]
    return next((colour for colour in (RED, YELLOW, BLUE, GREEN) if colour in found), found[0] if found else "")


def cleaned(text: str) -> str:
    """Returns the text with control characters escaped, but for the colours of this module where they are wanted."""
    if not are_wanted():
        return clean(text, len(text))
    return "".join(part if _ours.fullmatch(part) else clean(part, len(part)) for part in split(text))


def split(text: str) -> list[str]:
    """Returns the parts of a text: the colours of this module, and what stands between them."""
    return _ours.split(text)
