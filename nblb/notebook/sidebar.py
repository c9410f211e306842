"""Clusters and jobs in JupyterLab's right sidebar, by the prebuilt extension of the package sidecar."""

from __future__ import annotations

from typing import Any

from nblb.errors import NblbError

TITLE = "nblb"
MISSING = (
    "the sidebar needs the package sidecar: run 'pip install sidecar', reload the page, and restart the kernel; "
    "%lb_jobs shows the same list in a cell"
)
_panel: Any = None  # the latest; a second one takes its place


def show(*things: Any) -> None:
    """Shows these objects as live cards in a panel of the sidebar, instead of those that it had.

    Raises
    ------
    NblbError
        sidecar is not installed.
    """
    global _panel
    try:
        from sidecar import Sidecar
    except ImportError:
        raise NblbError(MISSING) from None
    from IPython.display import display

    if _panel is not None:
        _panel.close()
    _panel = Sidecar(title=TITLE, anchor="right")
    with _panel:
        for thing in things:
            display(thing)
