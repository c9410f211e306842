"""Throughput: the rate at which items end, and the time that the rest will take."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
SAMPLE_S = 0.25  # least time between two points of the curve
LEAST_ENDED = 3
LATELY_S = 3.0
LEAST_S = 0.5  # an earlier estimate from progress alone would be too rough


class Pace:
    """The recent curve of ended items, for their rate and the time left."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.first_at: float | None = None  # when the first item ended
        self._points: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, ended: int, now: float) -> None:
        """Record that `ended` items have ended by now."""
        points = self._points
        if self.first_at is None:
            self.first_at = now
        if len(points) > 1 and now - points[-2][0] < SAMPLE_S:
            points[-1] = now, ended
        else:
            points.append((now, ended))
        while len(points) > 2 and now - points[1][0] > WINDOW_S:
            points.popleft()

    def rate_per_s(self, now: float, within_s: float = WINDOW_S) -> float:
        """Items a second over the last seconds, including the time since the last end."""
        points = self._points
        from_at, from_ended = next((point for point in points if now - point[0] <= within_s), points[-1])
        before = [point for point in points if now - point[0] > within_s]
        if before:
            from_at, from_ended = before[-1]
        span = now - from_at
        return (points[-1][1] - from_ended) / span if span > 0 else 0.0

    def eta_s(self, ended: int, left: int, now: float, part: float = 0.0) -> tuple[float, float] | None:
        """(low, high) seconds left, by the pace of the last seconds, of the window and of the whole job.

        `part` is how much of the running items is done, in items: an estimate is possible before the first one ends.
        """
        if left <= 0:
            return None
        whole = (ended + part) / max(now - self.began_at, 1e-6)
        if ended < LEAST_ENDED:
            if part <= 0 or now - self.began_at < LEAST_S:
                return None
            return 0.8 * (left - part) / whole, 1.3 * (left - part) / whole
        rates = [rate for rate in (whole, self.rate_per_s(now), self.rate_per_s(now, LATELY_S)) if rate > 0]
        return 0.9 * (left - part) / max(rates), 1.1 * (left - part) / min(rates)
