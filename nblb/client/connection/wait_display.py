"""Display of a wait that lasts: as a card in a notebook, as one line on stderr in a terminal, once for each cell.

A wait that ends within `shown_after_s` shows nothing. Waits of one cell for the same thing add up, so that a loop over
a job counts as one wait.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nblb.client import front_end
from nblb.errors import NblbError
from nblb.system.threads import start_thread

if TYPE_CHECKING:
    from nblb.client.connection.progress_line import ProgressLine

shown_after_s = 0.5  # LB_SHOW_WAIT_S of the current cluster; 0 shows nothing
LINE_S = 0.2  # between two updates of the line in a terminal

Subject = Callable[[], Any]
_group: contextvars.ContextVar[Subject | None] = contextvars.ContextVar("nblb_group", default=None)
_waited_s: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()  # in the present cell
_shown: weakref.WeakSet[Any] = weakref.WeakSet()  # in the present cell
_cell = ""


@contextlib.contextmanager
def waiting_for(subject: Subject) -> Iterator[None]:
    """Context in which waits show what `subject` returns, instead of the single future that they wait for."""
    token = _group.set(subject)
    try:
        yield
    finally:
        _group.reset(token)


class WaitDisplay:
    """The display of one wait; `draw` is called repeatedly while it lasts."""

    def __init__(self, subject: Any, show: Callable[[Any], None] | None) -> None:
        self._subject = subject
        self._show = show
        self._line: ProgressLine | None = None
        self._began = time.monotonic()
        self._before_s = _waited_s.get(subject, 0.0)
        least_s = LINE_S if show is None else 0.0  # a line for each short wait would flicker
        self.due = self._began + max(least_s, shown_after_s - self._before_s)

    def draw(self, now: float) -> None:
        """Show the card or draw the line, once it is due."""
        if now < self.due:
            return
        if self._show is not None:
            self.due = float("inf")
            if self._subject not in _shown:
                _shown.add(self._subject)
                self._show(self._subject)
            return
        self.due = now + LINE_S
        if self._line is None:
            from nblb.client.connection.progress_line import ProgressLine

            self._line = ProgressLine(sys.stderr)
        self._line.draw(self._subject.snapshot())

    def close(self) -> None:
        """Record how long the wait lasted, and remove the line."""
        _waited_s[self._subject] = self._before_s + time.monotonic() - self._began
        if self._line is not None:
            self._line.close()


def begin(subject: Subject) -> WaitDisplay | None:
    """The display for a new wait; None if this wait shows nothing.

    Parameters
    ----------
    subject
        A function that returns the awaited job, future or group; None to show nothing.
    """
    global _cell
    if shown_after_s <= 0 or threading.current_thread() is not threading.main_thread():
        return None
    show, cell = front_end.wait_shown()
    if show is None and not is_terminal(sys.stderr):
        return None
    if cell != _cell:
        _cell = cell
        _waited_s.clear()
        _shown.clear()
    thing = (_group.get() or subject)()
    return None if thing is None else WaitDisplay(thing, show)


class BackgroundDisplay:
    """The display for a wait in which the main thread runs foreign code, such as joblib's.

    Parameters
    ----------
    subject
        A function that returns the object to show; None while there is none yet.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._over = threading.Event()
        show, _ = front_end.wait_shown()
        wanted = shown_after_s > 0 and threading.current_thread() is threading.main_thread()
        if not wanted or (show is None and not is_terminal(sys.stderr)):
            return
        self._show = front_end.here(show) if show is not None else None  # in the current cell
        with contextlib.suppress(NblbError):  # no thread, no display
            start_thread(self._work, "nblb-wait")

    def _work(self) -> None:
        thing = None
        while thing is None:
            if self._over.wait(shown_after_s):
                return
            thing = self._subject()
        if self._show is not None:
            self._show(thing)
            return
        from nblb.client.connection.progress_line import ProgressLine

        line = ProgressLine(sys.stderr)
        while not self._over.wait(LINE_S):
            line.draw(thing.snapshot())
        line.close()

    def stop(self) -> None:
        """End the display; a card stays."""
        self._over.set()


def is_terminal(stream: Any) -> bool:
    """True if `stream` is a terminal that a person sees."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is no stream, or it is closed
        return False
