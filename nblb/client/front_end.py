"""Registration of front-ends, which display the client's objects; the client itself has plain text and a line of HTML.

`register(kind, function)`: kind "task" (a TaskFuture), "job", "jobs" (a list), "inbox" or "cluster" returns the
object's mime bundle;
"pump" is called by the main thread about twenty times a second while it waits, so that buttons work meanwhile;
"here" binds a callback to the cell that runs now, so that what it prints goes there (see `here`);
"waits" shows what the main thread waits for (see `wait_shown`);
"superseded" when a job has taken over the name of another (see `superseded`);
"shown" when a task has displayed something (see `shown`);
"interrupted" when the stop button has ended a wait (see `interrupted`);
"mistake" when a call of the user is wrong (see `mistake`).
"""

from __future__ import annotations

import html
import importlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

FRONT_END = "nblb.notebook"  # imported by name only, because the client is a lower layer
log = logging.getLogger("nblb")

_pictures: dict[str, Callable[..., Any]] = {}
_front_end_wanted = True  # until it was loaded, or %unload_ext removed it


def register(kind: str, function: Callable[..., Any] | None) -> None:
    """Register the function for a kind; None removes it."""
    if function is None:
        _pictures.pop(kind, None)
    else:
        _pictures[kind] = function


def meet_front_end() -> None:
    """Enable the cards in a notebook's kernel when the first cluster is used, even without %load_ext nblb.

    The front-end is imported by name, and only if IPython already runs with a kernel or in a marimo notebook: a script,
    a worker and a terminal load nothing. Magics are loaded only by %load_ext.
    """
    global _front_end_wanted
    if _front_end_wanted and _in_marimo():
        _front_end_wanted = False
        importlib.import_module(f"{FRONT_END}.marimo_cards").install()
        return
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    if not _front_end_wanted or getattr(shell, "kernel", None) is None:
        return
    _front_end_wanted = False
    try:
        importlib.import_module(FRONT_END).show_cards(shell)
    except ImportError as problem:
        log.info("no live cards: %s", problem)


def _in_marimo() -> bool:
    """True in a cell of a marimo notebook."""
    marimo = sys.modules.get("marimo")
    try:
        return marimo is not None and bool(marimo.running_in_notebook())
    except Exception:  # marimo is being imported, or has no such function
        return False


def bundle(kind: str, thing: Any) -> dict[str, Any]:
    """Make the mime bundle of an object, for its `_repr_mimebundle_`."""
    picture = _pictures.get(kind)
    if picture is not None:
        made: dict[str, Any] = picture(thing)
        return made
    text = repr(thing)
    return {"text/plain": text, "text/html": f"<code>{html.escape(text)}</code>"}


def pump() -> Callable[[], Any] | None:
    """The function that this thread must call repeatedly while it waits; None if there is none."""
    if not _pictures or threading.current_thread() is not threading.main_thread():
        return None
    return _pictures.get("pump")


def here(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Bind a callback to the current cell, so that its output goes there when another thread calls it."""
    bind = _pictures.get("here")
    return bind(callback) if bind is not None else callback


def wait_shown() -> tuple[Callable[[Any], None] | None, str]:
    """The function that shows the object of a long wait (None without a front-end), and the id of the current cell."""
    found = _pictures.get("waits")
    if found is None:
        return None, ""
    shown: tuple[Callable[[Any], None] | None, str] = found()
    return shown


def interrupted(thing: Any, fate: str, stop: KeyboardInterrupt) -> bool:
    """Report to the front-end that a wait for `thing` was stopped, and its fate; True if the front-end shows it."""
    tell = _pictures.get("interrupted")
    return bool(tell(thing, fate, stop)) if tell is not None else False


def mistake(error: Exception) -> None:
    """Have the front-end show an error that nblb itself raises at the line of the user's call, without inner frames."""
    show = _pictures.get("mistake")
    if show is not None:
        show(error)


def superseded(job: Any, said: str) -> bool:
    """Report to the front-end what happens to the job whose name this one took; True if the front-end shows it."""
    tell = _pictures.get("superseded")
    return bool(tell(job, said)) if tell is not None else False


def shown(owner: Any, picture: Any) -> None:
    """Report to the front-end a picture that a task displayed (see client/futures/live.py).

    The function registered as "shown" gets the owner (a TaskFuture or Job) and the picture. It runs on the I/O thread
    and should only note the event: `owner.displays` has the latest pictures, and the owner's listeners run as well.
    """
    note = _pictures.get("shown")
    if note is not None:
        note(owner, picture)
