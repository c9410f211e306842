"""Converts the core's monotonic times to wall-clock times; pure, its shell passes in the readings of both clocks.

All decisions depend on the monotonic clock. The wall clock is for people and for the journal, and it may be set while
a core runs: by hand, or by a time server after a boot without one. After that, earlier times are shown by the clock
as it is now, so that ages and orders stay right. A sleeping machine is a different case: its monotonic clock stands
still, the elapsed time is real, and earlier times stay as they were.
"""

from __future__ import annotations

STEP_S = 1.0  # a smaller difference is drift between the clocks
MOST_STEPS = 100  # remembered


class WallClock:
    """The current relation between monotonic and wall-clock time, and its past changes."""

    def __init__(self) -> None:
        self.offset = 0.0  # wall clock = monotonic clock + offset, now
        self._now = 0.0  # when that was measured
        self._slept_s = 0.0  # in total, since boot
        self._sleeps: list[tuple[float, float]] = []  # (end, length)
        self._settings: list[tuple[float, float]] = []  # (end, offset that was in use until then)

    def begin(self, offset: float, slept_s: float = 0.0) -> None:
        """Set the relation of the clocks when the core starts."""
        self.offset, self._slept_s = offset, slept_s

    def update(self, now: float, wall: float, slept_s: float) -> None:
        """Take new readings of the clocks; `slept_s` is the machine's total sleep time since boot."""
        before, self.offset, self._now = self.offset, wall - now, now
        if abs(self.offset - before) < STEP_S:
            return
        self._settings = [*self._settings[1 - MOST_STEPS :], (now, before)]
        slept, self._slept_s = slept_s - self._slept_s, slept_s
        if slept >= STEP_S:
            self._sleeps = [*self._sleeps[1 - MOST_STEPS :], (now, slept)]

    def wall(self, at: float) -> float:
        """Return the wall-clock time of a monotonic time."""
        if not self._sleeps:
            return at + self.offset
        return at + self.offset - sum(slept_s for until, slept_s in self._sleeps if at < until)

    def passed_s(self, since: float, now: float) -> float:
        """Return the time that has passed since then, including the machine's sleep."""
        return max(0.0, self.wall(now) - self.wall(since))

    def restamped(self, stamp: float) -> float:
        """Convert a time stamp made with an earlier setting of the wall clock to the current setting.

        A time that the clock has shown twice, because it was set back, is taken as the later one.
        """
        if not self._settings or not stamp:
            return stamp
        until, offset = self._now, self.offset
        for begin, earlier in reversed(self._settings):
            if begin <= stamp - offset <= until:
                break
            until, offset = begin, earlier
        return self.wall(stamp - offset)
