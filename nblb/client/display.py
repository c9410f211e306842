"""Where front-ends put in their pictures of the client's objects; the client itself has plain text and a line of HTML.

`register(kind, function)`: kind "task" (a TaskFuture), "job" or "cluster" gives the mime bundle of the object;
"pump" is called by the main thread about twenty times a second while it waits, so that buttons work meanwhile.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import Any

_pictures: dict[str, Callable[..., Any]] = {}


def register(kind: str, function: Callable[..., Any] | None) -> None:
    """From now on `function` makes the picture of this kind; None takes it back."""
    if function is None:
        _pictures.pop(kind, None)
    else:
        _pictures[kind] = function


def bundle(kind: str, thing: Any) -> dict[str, Any]:
    """The mime bundle of an object, for its `_repr_mimebundle_`."""
    picture = _pictures.get(kind)
    if picture is not None:
        made: dict[str, Any] = picture(thing)
        return made
    text = repr(thing)
    return {"text/plain": text, "text/html": f"<code>{html.escape(text)}</code>"}


def pump() -> Callable[[], Any] | None:
    """What this thread is to call again and again while it waits; None for a quiet wait."""
    if not _pictures or threading.current_thread() is not threading.main_thread():
        return None
    return _pictures.get("pump")
