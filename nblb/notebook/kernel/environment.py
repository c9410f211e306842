"""Detection of the kernel and its front-end, and the choice of the display mode that fits them."""

from __future__ import annotations

import os
import sys
from enum import Enum
from importlib.util import find_spec
from typing import Any

from nblb.errors import ParametersError


class Mode(str, Enum):
    """Display modes, best first."""

    LIVE = "live"  # static HTML that a widget without its own view makes live in the page
    VIEW = "view"  # an ordinary widget view, for front-ends that isolate outputs (VS Code, Colab)
    ALONE = "alone"  # a widget view that no static picture replaces, for marimo
    HTML = "html"  # static HTML, redrawn by display_id
    TEXT = "text"  # the same as plain text
    OFF = "off"  # the object's one-line repr


APART = (  # set in kernels whose front-end isolates outputs; a false match only selects VIEW instead of LIVE
    "COLAB_RELEASE_TAG",  # Colab
    "VSCODE_PID",  # a kernel started by VS Code here
    "VSCODE_CWD",  # or through its server: in WSL, in a container, on another host
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
    """The id of the request that the kernel is running."""
    parent = getattr(kernel(), "get_parent", None)
    return str(parent("shell").get("header", {}).get("msg_id", "")) if parent is not None else ""


def cell_id() -> str:
    """The id of the running cell in its notebook, the same when it runs again; "" if the front-end sends none."""
    parent = getattr(kernel(), "get_parent", None)
    return str(parent("shell").get("metadata", {}).get("cellId", "")) if parent is not None else ""


def mode() -> Mode:
    """The display mode set by NBLB_UI (widget, html, text or off); by default the best that works here."""
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
    """True for front-ends that load widgets only for a requested view, each in its own frame."""
    if "google.colab" in sys.modules or any(name in os.environ for name in APART):
        return True
    return "__vsc_ipynb_file__" in getattr(shell(), "user_ns", {})  # VS Code sets it in kernels that it uses
