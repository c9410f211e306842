"""The cards in marimo: the same widgets as in Jupyter, shown by marimo's own display protocol and kept up to date."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

from nblb.notebook import display_hooks
from nblb.notebook.cards.card import Card
from nblb.notebook.kernel.environment import Mode

_run: tuple[Any, int] = (None, 0)  # the latest run of a cell, and its number


def install() -> None:
    """Shows the client's objects as live cards in this marimo notebook from now on."""
    from nblb.client import front_end

    for kind, (module, name, _) in display_hooks.KINDS.items():
        found = getattr(import_module(module), name)
        found._display_ = _display(kind)  # marimo looks for this name
        front_end.register(kind, lambda thing, kind=kind: display_hooks.picture(kind, thing))
    front_end.register("waits", waits)


def remove() -> None:
    """Undoes `install`; displayed cards stay live."""
    from nblb.client import front_end

    for module, name, _ in display_hooks.KINDS.values():
        with contextlib.suppress(AttributeError):  # it was not there
            del getattr(import_module(module), name)._display_
    for kind in (*display_hooks.KINDS, "waits"):
        front_end.register(kind, None)


def _display(kind: str) -> Callable[[Any], Any]:
    return lambda thing: widget(kind, thing)


def widget(kind: str, thing: Any) -> Any:
    """The live widget of an object; one whose cell has run again, which closes it, is made anew."""
    card: Card = display_hooks.card_of(kind, thing, Mode.ALONE)
    comm = getattr(card.widget, "comm", None)
    if card.widget is not None and (comm is None or getattr(comm, "_closed", False)):
        card.widget = None
    card.bring()
    card.changed()
    return card.widget


def waits() -> tuple[Callable[[Any], None] | None, str]:
    """The function that shows what the main thread waits for, and the run of a cell in which it does."""
    return show_awaited, cell_run()


def cell_run() -> str:
    """A text that identifies the run of the cell that runs now; "" outside of one."""
    global _run
    from marimo._runtime.context import safe_get_context

    context = safe_get_context()
    execution = context.execution_context if context is not None else None
    if execution is None:
        return ""
    if execution is not _run[0]:
        _run = execution, _run[1] + 1
    return f"{execution.cell_id} {_run[1]}"


def show_awaited(thing: Any) -> None:
    """Displays the card of an awaited object in the running cell."""
    import marimo

    marimo.output.append(widget(display_hooks.kind_of(thing), thing))
