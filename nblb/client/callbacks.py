"""Handling of errors in the user's callbacks and listeners, which must not end the thread that calls them."""

from __future__ import annotations

import logging
import threading

from nblb.user_text import kind_of

log = logging.getLogger("nblb")


def has_failed(error: BaseException, what: str = "a callback") -> None:
    """Log the error of a callback, including SystemExit; only an interrupt of the program itself is raised again.

    Parameters
    ----------
    error
        The exception that it raised.
    what
        A description of the callback, for the log.
    """
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
    try:
        log.error("%s has failed", what, exc_info=error)
    except BaseException:  # its __str__ or __notes__ raises an error too
        log.error("%s has failed with %s", what, kind_of(error))
