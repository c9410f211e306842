"""A concurrent.futures.Future that is hardly anything while nobody waits for it: a kernel may hold a million.

The base class gives each its own condition, lock and lists; here all share one lock, which is held for moments only,
and the rest is made when somebody asks for it. Everything of concurrent.futures works on them as on any future.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

from nblb.client import front_end

_lock = threading.RLock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]

PENDING, CANCELLED, FINISHED = "PENDING", "CANCELLED", "FINISHED"  # the words of the base class
OVER = frozenset({CANCELLED, "CANCELLED_AND_NOTIFIED", FINISHED})


class SharedCondition:
    """A threading.Condition on the lock of all futures, nearly nothing until somebody waits."""

    __slots__ = ("_full",)

    def __init__(self) -> None:
        self._full: threading.Condition | None = None

    def __enter__(self) -> bool:
        return _lock.acquire()

    def __exit__(self, *exception: object) -> None:
        _lock.release()

    def acquire(self) -> bool:
        return _lock.acquire()

    def release(self) -> None:
        _lock.release()

    def _grown(self) -> threading.Condition:
        if self._full is None:
            self._full = threading.Condition(_lock)  # which is held
        return self._full

    def wait(self, timeout: float | None = None) -> bool:
        return self._grown().wait(timeout)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        return self._grown().wait_for(predicate, timeout)

    def notify_all(self) -> None:
        if self._full is not None:
            self._full.notify_all()


class LightFuture(concurrent.futures.Future[Any]):
    """What the base class keeps for each, kept only where it is used."""

    # Its attributes as defaults of the class, and its __init__ is not called.
    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _own_condition: SharedCondition | None = None
    _own_waiters: list[Any] | None = None
    _own_callbacks: list[Any] | None = None

    @property
    def _condition(self) -> SharedCondition:  # type: ignore[override]
        with _lock:
            if self._own_condition is None:
                self._own_condition = SharedCondition()
            return self._own_condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        with _lock:
            if self._own_waiters is None:
                self._own_waiters = []
            return self._own_waiters

    @property
    def _done_callbacks(self) -> list[Any]:
        with _lock:
            if self._own_callbacks is None:
                self._own_callbacks = []
            return self._own_callbacks

    def done(self) -> bool:
        """Tell if the task has ended, well or not, or was cancelled here.

        Returns
        -------
        bool
            True when `result()` and `exception()` do not wait.

        Examples
        --------
        >>> future.done()
        """
        return self._state in OVER

    def cancelled(self) -> bool:
        """Tell if the task was cancelled.

        Returns
        -------
        bool
            True from the moment of `cancel()`, while the worker may need a moment longer.

        Examples
        --------
        >>> future.cancelled()
        """
        return self._state in OVER and self._state != FINISHED

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have a function called with this future when it is done; at once if it is.

        Parameters
        ----------
        fn
            Takes the future. It is called in another thread, and bound to the notebook cell that gives it.

        Examples
        --------
        >>> future.add_done_callback(lambda future: print(future.result()))
        """
        fn = front_end.here(fn)
        with _lock:
            if self._state not in OVER:
                self._done_callbacks.append(fn)
                return
        super().add_done_callback(fn)  # which calls it

    def _finish_well(self) -> bool:
        """It has a result; False if it was over before."""
        with _lock:
            if self._state in OVER:
                return False
            self._state = FINISHED
            for waiter in self._own_waiters or ():
                waiter.add_result(self)
            if self._own_condition is not None:
                self._own_condition.notify_all()
        if self._own_callbacks:
            self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def _finish_badly(self, error: BaseException) -> None:
        """It has an error instead, unless it was over before."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self.set_exception(error)
