"""Whether a caller whose answer is due within a moment looks for it without sleeping.

To wake a thread on a processor that has gone to rest takes as long as a tenth of a short task's whole way, at each of
the steps of that way; while somebody looks, no processor goes to rest. That is only good where nobody else wants that
processor: a look that has been interrupted for long, or was in vain, is followed by waits without any, and by more of
them each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

LONGEST_S = 0.0015  # of a look
GAP_S = 0.0001  # between two moments of it: others want this processor, or this interpreter
MOST_MISSED = 256  # waits after one look that was no good


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


class AdaptiveSpin:
    """Remembers how looks went."""

    def __init__(self, clock: Callable[[], float] = perf_counter, processors: int = processors()) -> None:
        self._clock = clock
        self._may_look = processors > 1
        self._missed = self._to_miss = 0

    def looks(self, poll: Callable[[int], Any]) -> bool:
        """Look for a moment, if that has been good so far; whether `poll(0)` has found something."""
        if not self._may_look:
            return False
        if self._to_miss:
            self._to_miss -= 1
            return False
        clock = self._clock
        now = clock()
        until = now + LONGEST_S
        while now < until:
            if poll(0):
                self._missed //= 2
                return True
            before, now = now, clock()
            if now - before > GAP_S:
                break
        self._missed = self._to_miss = min(MOST_MISSED, 2 * self._missed + 1)
        return False
