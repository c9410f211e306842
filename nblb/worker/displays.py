"""display(), clear_output() and plt.show() inside a task: their displays are sent to the user who submitted it."""

from __future__ import annotations

import builtins
import linecache
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from nblb.payload import cell_label
from nblb.worker import mime_bundles

MOST_FIGURES = 10  # shown automatically when a task ends

_show: Callable[[str], None] | None = None


def install(show: Callable[[str], None]) -> None:
    """Send displays to `show` from now on; make `display` a builtin, as in a notebook."""
    global _show
    _show = show
    builtins.display = display  # type: ignore[attr-defined]
    warnings.formatwarning = _warning


_plain_warning = warnings.formatwarning
_warned = False  # since the last `forget_warnings`


def forget_warnings() -> None:
    """Make lines that have warned in one task warn again in the next one."""
    global _warned
    if _warned:
        _warned = False
        with warnings.catch_warnings():
            pass  # its end makes the interpreter reset which lines have warned


def _warning(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Format a warning so that one from a cell names the cell, as tracebacks do."""
    global _warned
    _warned = True
    label = cell_label(filename)
    if label:
        line = line or linecache.getline(filename, lineno).strip()
    return _plain_warning(message, category, label or filename, lineno, line)


def _say(text: str) -> None:
    if _show is not None:
        _show(text)


class Handle:
    """The result of display(..., display_id=), which replaces what is displayed."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = display_id or uuid.uuid4().hex

    def display(self, thing: Any, **kwargs: Any) -> None:
        display(thing, display_id=self.display_id, **kwargs)

    def update(self, thing: Any, **kwargs: Any) -> None:
        display(thing, display_id=self.display_id, update=True, **kwargs)


def display(
    *things: Any,
    metadata: Mapping[str, Any] | None = None,
    display_id: bool | str | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: Any,
) -> Any:
    """Do the same as IPython.display.display."""
    if clear:
        clear_output(wait=True)
    name = uuid.uuid4().hex if display_id is True else str(display_id or "")
    for thing in things:
        own = getattr(type(thing), "_ipython_display_", None)
        more: dict[str, Any] = {}
        if raw:
            data = dict(thing)
        elif own is not None:
            thing._ipython_display_()
            continue
        else:
            data, more = mime_bundles.bundle_of(thing)
        _say(mime_bundles.encode(data, {**more, **(metadata or {})}, name, update))
    return Handle(name) if name else None


def publish_display_data(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *_: Any,
    transient: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> None:
    """Do the same as IPython.display.publish_display_data."""
    name = str((transient or {}).get("display_id") or "")
    _say(mime_bundles.encode(data, metadata or {}, name, bool(kwargs.get("update"))))


def clear_output(wait: bool = False) -> None:
    """Do the same as IPython.display.clear_output."""
    _say(mime_bundles.clear(wait))


def patch_ipython(module: Any) -> None:
    """Patch IPython.core.display_functions, from which IPython.display takes its functions."""
    module.display = display
    module.publish_display_data = publish_display_data
    module.clear_output = clear_output


def patch_matplotlib(module: Any) -> None:
    """Make plt.show() display its figures, unless the group's `env` or a task chooses another backend."""
    if os.environ.get("MPLBACKEND", "agg") == "agg":
        module.rcParams["backend"] = "module://nblb.worker.figures"


def show_figures() -> None:
    """Show and close the figures that pyplot has open, as a notebook does at the end of a cell."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    managers = helpers.Gcf.get_all_fig_managers() if helpers is not None else []
    try:
        for manager in managers[:MOST_FIGURES]:
            display(manager.canvas.figure)
    finally:
        if helpers is not None and managers:
            helpers.Gcf.destroy_all()
