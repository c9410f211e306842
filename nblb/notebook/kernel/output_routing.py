"""Routing of a callback's output to the cell that registered the callback.

A thread has no cell. Its output goes to the cell that the kernel is running, or nowhere if the latest request was a
button press (ipykernel 7), or to the cell that started the thread (ipykernel 6). So nblb records the cell when a
callback is registered, and sets it on the thread's streams while the callback runs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import Any

from nblb.notebook.kernel.environment import kernel, shell

AnyCallback = Callable[..., Any]


def bind(callback: AnyCallback) -> AnyCallback:
    """The same callback; when another thread calls it, its output goes to the cell that runs now."""
    parent = _parent()
    if not parent:
        return callback

    @wraps(callback)
    def called(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return callback(*args, **kwargs)
        with speaking(parent):
            return callback(*args, **kwargs)

    return called


def _parent() -> dict[str, Any]:
    get_parent = getattr(kernel(), "get_parent", None)
    parent: dict[str, Any] = get_parent("shell") if get_parent is not None else {}
    return parent if parent.get("header") else {}


@contextlib.contextmanager
def speaking(parent: dict[str, Any]) -> Iterator[None]:
    """Sends the output of this thread to the cell of this request."""
    here = shell()
    set_parent = getattr(here, "set_thread_parent", None)
    if set_parent is not None:  # ipykernel 7.1 and later
        tokens = set_parent(parent)
        try:
            yield
        finally:
            here.reset_thread_parent(tokens)  # type: ignore[union-attr]
        return
    told = []
    for stream in (sys.stdout, sys.stderr):
        header = getattr(stream, "_parent_header", None)
        if isinstance(header, ContextVar):  # its value belongs to the thread
            told.append((header, header.set(parent["header"])))
    try:
        yield
    finally:
        for header, token in told:
            header.reset(token)
