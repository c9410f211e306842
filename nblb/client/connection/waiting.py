"""Waiting on the calling thread: interruptible, with working buttons meanwhile, and without needless polling."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from nblb import task_api
from nblb.client import front_end
from nblb.client.connection import wait_display
from nblb.client.futures.light_future import SharedCondition

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection

log = logging.getLogger("nblb")

SOON_S = 0.001  # for this long, a task that waits for another keeps its worker's slot
PUMP_S = 0.05  # between two checks for clicks in the front-end, if there is one
MOST_S = 3600.0  # longest single wait for a condition

on_interrupt = "detach"  # LB_ON_INTERRUPT of the current cluster


class Cancellable(Protocol):
    def cancel(self, kill: bool = False) -> Any: ...


AGAIN_S = 3.0  # a second interrupt within this time cancels
_interrupted: tuple[weakref.ref[Any], float, str] | None = None  # the target of the last interrupt, its time and cell


def wait_on(
    condition: threading.Condition | SharedCondition,
    done: Callable[[], bool],
    timeout_s: float | None,
    subject: wait_display.Subject = lambda: None,
) -> bool:
    """Wait until `done()` is true, and return whether it came in time; a change notifies `condition`.

    `subject` returns the object that is shown if the wait lasts.
    """
    parent = task_api.parent
    if parent is not None and parent.is_waited_by:
        return _wait_in_task(parent, condition, done, timeout_s)
    if done():
        return True
    pump, display = front_end.pump(), wait_display.begin(subject)
    if pump is None and display is None:
        with condition:
            return condition.wait_for(done, timeout_s)
    try:
        return _wait_and_draw(condition, done, timeout_s, pump, display)
    finally:
        if display is not None:
            display.close()


def _wait_and_draw(
    condition: threading.Condition | SharedCondition,
    done: Callable[[], bool],
    timeout_s: float | None,
    pump: Callable[[], Any] | None,
    display: wait_display.WaitDisplay | None,
) -> bool:
    """Wait on the main thread, which meanwhile handles clicks and draws the display."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    now = time.monotonic()
    if display is not None:
        display.draw(now)  # the earlier waits of this cell may have been long enough already
    while True:
        left = PUMP_S if pump is not None or display is None else max(PUMP_S, display.due - now)
        if until is not None:
            left = min(left, max(0.0, until - now))
        with condition:
            if condition.wait_for(done, min(left, MOST_S)):
                return True
        now = time.monotonic()
        if until is not None and now >= until:
            return False
        if pump is not None:
            pump()
        if display is not None:
            display.draw(now)


def _wait_in_task(
    parent: task_api.Parent,
    condition: threading.Condition | SharedCondition,
    done: Callable[[], bool],
    timeout_s: float | None,
) -> bool:
    """The same inside a task, which gives up its worker's slot meanwhile, because the awaited task may need it."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    with condition:
        if condition.wait_for(done, SOON_S if timeout_s is None else min(SOON_S, timeout_s)):
            return True
    if until is not None and time.monotonic() >= until:
        return False

    def wake() -> None:
        with condition:
            condition.notify_all()

    parent.wait_begins(wake)  # an interrupt from here on ends the task, and needs no slot
    with condition:
        left_s = None if until is None else max(0.0, until - time.monotonic())
        condition.wait_for(lambda: done() or parent.is_refused, left_s)
    parent.wait_ends()
    if parent.is_refused and not done():
        raise parent.refusal()
    return done()


@contextlib.contextmanager
def interruptible(thing: Cancellable, connection: Connection) -> Iterator[None]:
    """Context of a wait for `thing`: the stop button ends it at once, and LB_ON_INTERRUPT decides about the thing.

    "detach" lets it run (a second stop within three seconds cancels it); "cancel" and "kill" end it. A front-end may
    offer the choice (front_end.register("interrupted", …)).
    """
    try:
        with connection.someone_waits():
            yield
    except KeyboardInterrupt as stop:
        if task_api.parent is None:  # inside a task, the task itself is stopped, and the core cancels what it submitted
            _stopped(thing, stop)
        raise


def _stopped(thing: Cancellable, stop: KeyboardInterrupt) -> None:
    global _interrupted
    if getattr(stop, "told", False):  # reported by an inner wait
        return
    stop.told = True  # type: ignore[attr-defined]
    before, now, cell = _interrupted, time.monotonic(), front_end.wait_shown()[1]
    _interrupted = weakref.ref(thing), now, cell
    again = before is not None and before[0]() is thing and now - before[1] < AGAIN_S and before[2] == cell
    fate = "cancel" if again and on_interrupt == "detach" else on_interrupt
    if fate != "detach":
        thing.cancel(kill=fate == "kill")
    if front_end.interrupted(thing, fate, stop):
        return
    if fate == "detach":
        log.warning("%r continues; its cancel() ends it, and so does a second stop of a wait for it within 3 s", thing)
    else:
        log.warning("%r is %s", thing, "killed" if fate == "kill" else "cancelled")
