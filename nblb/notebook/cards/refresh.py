"""The thread that refreshes all displayed cards a few times a second."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable

MESSAGES_PER_S = 25.0  # of all cards together
Tick = Callable[[float], float | None]  # now -> seconds until the next tick, None to sleep until woken
log = logging.getLogger("nblb.notebook")


class Refresher:
    """Calls each `tick` when it is due; drops a tick that raises, and goes on with the others."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Tick]] = []  # a heap
        self._when: dict[Tick, float] = {}  # the valid heap entry of each tick
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def wake(self, tick: Tick, delay_s: float = 0.0) -> None:
        """Makes `tick` due after `delay_s`, or earlier if it already was. Also adds new ticks."""
        with self._changed:
            self._put(tick, time.monotonic() + delay_s)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nblb-sampler", daemon=True)
                self._thread.start()
            self._changed.notify()

    def settle(self, ticks: Iterable[Tick], most_s: float) -> None:
        """Makes these due now; returns when they were called, or after `most_s`."""
        seen = threading.Event()
        for tick in (*ticks, lambda _now: seen.set()):
            self.wake(tick)
        seen.wait(most_s)

    def _put(self, tick: Tick, when: float) -> None:
        if when < self._when.get(tick, float("inf")):
            self._when[tick] = when
            heapq.heappush(self._due, (when, next(self._order), tick))

    def _next(self) -> Tick:
        """Waits for the next due tick and returns it."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    when, _, tick = heapq.heappop(self._due)
                    if self._when.get(tick) == when:
                        del self._when[tick]
                        return tick
                    continue  # outdated: the tick was woken earlier
                self._changed.wait(self._due[0][0] - now if self._due else None)

    def _work(self) -> None:
        while True:
            tick = self._next()
            try:
                delay_s = tick(time.monotonic())
            except Exception:
                log.exception("a card could not be drawn and stays as it is")
                continue
            if delay_s is not None:
                with self._changed:
                    busy_s = (len(self._when) + 1) / MESSAGES_PER_S
                    self._put(tick, time.monotonic() + max(delay_s, busy_s))


sampler = Refresher()
