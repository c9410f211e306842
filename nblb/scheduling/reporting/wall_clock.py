"""What the core's monotonic times are by the wall clock; pure, its shell tells it what both clocks say.

All that is decided depends on the monotonic clock. The wall clock is for people and for the journal, and it is set
while a core runs: by hand, by a time server after a boot without one. From then on earlier times are told by the
clock as it is now, so that ages and orders stay right. A machine that sleeps is another thing: its monotonic clock
stands still, the time that has passed is real, and what was before keeps its time.
"""

from __future__ import annotations

STEP_S = 1.0  # a smaller difference is two clocks that run apart
MOST_STEPS = 100  # that are remembered


class WallClock:
    """Monotonic times by the wall clock of now, and back."""

    def __init__(self) -> None:
        self.offset = 0.0  # wall clock = monotonic clock + offset, now
        self._now = 0.0  # when that was seen
        self._slept_s = 0.0  # in all, since the machine was started
        self._sleeps: list[tuple[float, float]] = []  # (until when, for how long)
        self._settings: list[tuple[float, float]] = []  # (until when, the offset that stamps were made with)

    def begin(self, offset: float, slept_s: float = 0.0) -> None:
        """As the clocks stand when the core starts."""
        self.offset, self._slept_s = offset, slept_s

    def look(self, now: float, wall: float, slept_s: float) -> None:
        """The clocks say this now; `slept_s` is how long the machine has slept since it was started."""
        before, self.offset, self._now = self.offset, wall - now, now
        if abs(self.offset - before) < STEP_S:
            return
        self._settings = [*self._settings[1 - MOST_STEPS :], (now, before)]
        slept, self._slept_s = slept_s - self._slept_s, slept_s
        if slept >= STEP_S:
            self._sleeps = [*self._sleeps[1 - MOST_STEPS :], (now, slept)]

    def wall(self, at: float) -> float:
        """A monotonic time by the wall clock."""
        if not self._sleeps:
            return at + self.offset
        return at + self.offset - sum(slept_s for until, slept_s in self._sleeps if at < until)

    def passed_s(self, since: float, now: float) -> float:
        """How long ago that was, with the time that the machine has slept."""
        return max(0.0, self.wall(now) - self.wall(since))

    def restamped(self, stamp: float) -> float:
        """A time that was written down by the wall clock as it was then, by the clock as it is now.

        Where a clock was set back, a time that it has shown twice is taken for the later one.
        """
        if not self._settings or not stamp:
            return stamp
        until, offset = self._now, self.offset
        for begin, earlier in reversed(self._settings):
            if begin <= stamp - offset <= until:
                break
            until, offset = begin, earlier
        return self.wall(stamp - offset)
