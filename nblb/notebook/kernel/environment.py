"""What can be shown where: which of the pictures fits this kernel and its front-end."""

from __future__ import annotations

import os
import sys
from enum import Enum
from importlib.util import find_spec
from typing import Any

from nblb.errors import ParametersError


class Mode(str, Enum):
    """The pictures, best first."""

    LIVE = "live"  # an HTML picture that a widget without a view of its own brings to life in the page
    VIEW = "view"  # an ordinary widget view, where outputs are apart from each other (VS Code, Colab)
    HTML = "html"  # an HTML picture, redrawn by display_id
    TEXT = "text"  # the same in plain text
    OFF = "off"  # the object's one-line repr


APART = (  # set in kernels whose front-end keeps outputs apart; elsewhere at worst a view where a picture would do
    "COLAB_RELEASE_TAG",  # a Colab machine
    "VSCODE_PID",  # a kernel that VS Code has started here
    "VSCODE_CWD",  # or through its server: in WSL, a container, on another host
)
CHOICES = {"widget": (Mode.LIVE, Mode.VIEW), "html": (Mode.HTML,), "text": (Mode.TEXT,), "off": (Mode.OFF,)}


def shell() -> Any | None:
    """The IPython that runs here, or None."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def kernel() -> Any | None:
    """The kernel behind the IPython that runs here, or None (a terminal, a script)."""
    return getattr(shell(), "kernel", None)


def cell() -> str:
    """What tells the request that the kernel runs now from all others."""
    parent = getattr(kernel(), "get_parent", None)
    return str(parent("shell").get("header", {}).get("msg_id", "")) if parent is not None else ""


def mode() -> Mode:
    """NBLB_UI decides (widget, html, text or off); without it the best that works here."""
    wish = os.environ.get("NBLB_UI", "").strip().lower()
    if wish and wish not in CHOICES:
        raise ParametersError(f"NBLB_UI is {wish!r}; it can be {', '.join(CHOICES)}, or be left out")
    if kernel() is None:
        return Mode.OFF
    if wish in ("html", "text", "off"):
        return CHOICES[wish][0]
    if not (find_spec("anywidget") and find_spec("ipywidgets")):
        return Mode.HTML
    return Mode.VIEW if _outputs_apart() else Mode.LIVE


def _outputs_apart() -> bool:
    """Front-ends that load widgets only where a view is asked for, each in a frame of its own."""
    if "google.colab" in sys.modules or any(name in os.environ for name in APART):
        return True
    return "__vsc_ipynb_file__" in getattr(shell(), "user_ns", {})  # VS Code says so to any kernel it is joined to
