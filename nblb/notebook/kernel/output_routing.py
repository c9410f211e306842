"""What a callback prints in a thread of ours goes to the cell that asked for the callback.

A thread has no cell. What it prints lands where the kernel happens to be, or nowhere when the latest request was a
press on a button (ipykernel 7), or in the cell that started the thread (6). So the cell is noted when a callback is
given, and told to the streams of the thread for as long as it speaks.
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
    """The same callback, which speaks to the cell that runs now when another thread calls it."""
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
    """This thread speaks to the cell of this request."""
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
