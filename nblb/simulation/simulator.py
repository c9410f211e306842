"""The virtual clock and the heap of what is to come; all chance comes from one seed.

Nothing here knows of tasks. Two runs of one seed do the same things at the same virtual times, so a history that
failed can be had again with its trace.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

MAX_EVENTS = 60_000  # of one history: more is a loop that makes no headway
MOMENT_S = 1e-6  # a wake comes so much after its deadline: clocks differ by roundings
MAX_AT_ONCE = 3_000  # at one instant: time must go on


class Violation(Exception):
    """A promise was broken: `rule` is its name (I1 to I9 and so on), the text says by what."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Simulator:
    """Runs actions at virtual times, in the order of time, then of being asked for."""

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
        """Do this at that time; now, if the time has passed."""
        self._number += 1
        heappush(self._heap, (max(time, self.now), self._number, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._heap, (self.now + seconds, self._number, action, arguments))

    def chance(self, probability: float) -> bool:
        """True that often; asks nothing of the seed when it can't be."""
        return probability > 0.0 and self.random.random() < probability

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Let time pass to `until`, or to when `done` says so.

        Raises
        ------
        Violation
            When there is no end to the events.
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
        """A line of the trace; callers ask `trace is not None` first where building the text costs much."""
        if self.trace is not None:
            self.trace.append(f"{self.now:9.4f}  {who:<10} {what}")
