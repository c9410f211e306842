"""Where front-ends put in their pictures of the client's objects; the client itself has plain text and a line of HTML.

`register(kind, function)`: kind "task" (a TaskFuture), "job", "jobs" (a list), "inbox" or "cluster" gives the object's
mime bundle;
"pump" is called by the main thread about twenty times a second while it waits, so that buttons work meanwhile;
"here" binds a callback to the cell that runs now, so that what it prints goes there (see `here`);
"superseded" when a job has taken over the name of another (see `superseded`);
"shown" when a task has displayed something (see `shown`);
"interrupted" when the stop button has ended a wait (see `interrupted`).
"""

from __future__ import annotations

import html
import importlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

FRONT_END = "nblb.notebook"  # known by its name alone: the client stands below it
log = logging.getLogger("nblb")

_pictures: dict[str, Callable[..., Any]] = {}
_front_end_wanted = True  # until it has been met, or %unload_ext has sent it away


def register(kind: str, function: Callable[..., Any] | None) -> None:
    """From now on `function` makes the picture of this kind; None takes it back."""
    if function is None:
        _pictures.pop(kind, None)
    else:
        _pictures[kind] = function


def meet_front_end() -> None:
    """In the kernel of a notebook the cards take over at the first cluster, also without %load_ext nblb.

    The module is loaded by name, and only where IPython runs already with a kernel behind it: a script, a worker and a
    terminal load nothing. Magics come with %load_ext alone.
    """
    global _front_end_wanted
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", lambda: None)()
    if not _front_end_wanted or getattr(shell, "kernel", None) is None:
        return
    _front_end_wanted = False
    try:
        importlib.import_module(FRONT_END).show_cards(shell)
    except ImportError as problem:
        log.info("no live cards: %s", problem)


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


def here(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The callback, bound by the front-end to the cell that gives it: a thread of ours will call it."""
    bind = _pictures.get("here")
    return bind(callback) if bind is not None else callback


def interrupted(thing: Any, fate: str, stop: KeyboardInterrupt) -> bool:
    """Tells the front-end that a wait for `thing` was stopped and what becomes of it; whether it has said so."""
    tell = _pictures.get("interrupted")
    return bool(tell(thing, fate, stop)) if tell is not None else False


def superseded(job: Any, said: str) -> bool:
    """Tells the front-end what has become of the job whose name this one took; whether it will see to it being read."""
    tell = _pictures.get("superseded")
    return bool(tell(job, said)) if tell is not None else False


def shown(owner: Any, picture: Any) -> None:
    """A task has displayed a picture (client/futures/live.py); `owner` is the TaskFuture or Job that was submitted.

    A front-end that has registered "shown" is called with both, in the connection's thread, and should only take note:
    `owner.displays` has the latest pictures, and the owner's listeners are called as well.
    """
    note = _pictures.get("shown")
    if note is not None:
        note(owner, picture)
