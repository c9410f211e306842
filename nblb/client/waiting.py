"""Waiting in the caller's thread: interruptible, with live buttons meanwhile, and never a poll without a reason."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from nblb.client import display
from nblb.client.connection import Connection

log = logging.getLogger("nblb")

PUMP_S = 0.05  # between two looks at the front-end's clicks, where there is a front-end

on_interrupt = "detach"  # LB_ON_INTERRUPT of the current cluster


class Cancellable(Protocol):
    def cancel(self, kill: bool = False) -> Any: ...


_interrupted: Cancellable | None = None  # what the last stop was for


class SmallCondition:
    """A threading.Condition that is hardly more than its lock until somebody waits: most futures see no waiter."""

    __slots__ = ("_full", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._full: threading.Condition | None = None

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def _grown(self) -> threading.Condition:
        if self._full is None:
            self._full = threading.Condition(self._lock)  # the lock is held
        return self._full

    def wait(self, timeout: float | None = None) -> bool:
        return self._grown().wait(timeout)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._grown().wait_for(predicate, timeout)

    def notify_all(self) -> None:
        if self._full is not None:
            self._full.notify_all()


def wait_on(condition: threading.Condition | SmallCondition, done: Callable[[], bool], timeout_s: float | None) -> bool:
    """Whether `done()` becomes true within the time; `condition` is notified when it may have."""
    pump = display.pump()
    if pump is None:
        with condition:
            return condition.wait_for(done, timeout_s)
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = PUMP_S if until is None else min(PUMP_S, max(0.0, until - time.monotonic()))
        with condition:
            if condition.wait_for(done, left):
                return True
        if until is not None and time.monotonic() >= until:
            return False
        pump()


@contextlib.contextmanager
def interruptible(thing: Cancellable, connection: Connection) -> Iterator[None]:
    """A wait for `thing`: the stop button frees the caller at once, and what becomes of the thing is a choice.

    "detach" lets it run (a second stop cancels it), "cancel" and "kill" end it; LB_ON_INTERRUPT says which.
    """
    global _interrupted
    try:
        with connection.someone_waits():
            yield
    except KeyboardInterrupt:
        again, _interrupted = _interrupted is thing, thing
        if on_interrupt == "detach" and not again:
            log.warning("%r goes on; its cancel() ends it, and so does a second stop while waiting for it", thing)
        else:
            thing.cancel(kill=on_interrupt == "kill")
            log.warning("%r is cancelled", thing)
        raise
