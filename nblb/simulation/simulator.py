"""The virtual clock and the heap of future events; all randomness comes from one seed.

This module knows nothing of tasks. Two runs of one seed do the same things at the same virtual times, so a failed
history can be played again with its trace.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

MAX_EVENTS = 60_000  # of one history: more is a loop without progress
MOMENT_S = 1e-6  # a wake comes this much after its deadline, because rounding makes clocks differ
MAX_AT_ONCE = 3_000  # at one instant: time must go on


class Violation(Exception):
    """A broken promise: `rule` is its name (I1 to I9 and so on), the text says what broke it."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Simulator:
    """Runs actions in the order of their virtual times, then of their scheduling."""

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self.events = 0
        self.max_events = MAX_EVENTS
        self.trace: list[str] | None = [] if tracing else None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Schedules an action at `time`, or now if the time has passed."""
        self._number += 1
        heappush(self._heap, (max(time, self.now), self._number, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._heap, (self.now + seconds, self._number, action, arguments))

    def chance(self, probability: float) -> bool:
        """True with this probability; draws nothing if the probability is 0."""
        return probability > 0.0 and self.random.random() < probability

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Runs events until the time `until`, or until `done` returns True.

        Raises
        ------
        Violation
            If the events do not end.
        """
        heap, at_once = self._heap, 0
        while heap and heap[0][0] <= until:
            time, _, action, arguments = heappop(heap)
            at_once = at_once + 1 if time <= self.now else 0
            self.now = time
            self.events += 1
            action(*arguments)
            if at_once > MAX_AT_ONCE or self.events > self.max_events:
                raise Violation("livelock", f"{self.events} events by {self.now:.3f} s, {at_once} at that instant")
            if done is not None and done():
                return
        self.now = max(self.now, until)

    def note(self, who: str, what: str) -> None:
        """Adds a line to the trace; callers check `trace is not None` first where the text is expensive."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {who:<10} {what}")
