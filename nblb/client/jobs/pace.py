"""How fast a job goes, and how long it may still take: a range, and none before there is something to go by."""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
SAMPLE_S = 0.25  # one point of the curve this often at most
LEAST_ENDED = 3
LATELY_S = 3.0


class Pace:
    """The last seconds of a job's curve of ended items."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.first_at: float | None = None  # when the first item ended
        self._points: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, ended: int, now: float) -> None:
        """So many items have ended by now."""
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
        """Items a second over the last seconds; waiting since the last end counts."""
        points = self._points
        from_at, from_ended = next((point for point in points if now - point[0] <= within_s), points[-1])
        before = [point for point in points if now - point[0] > within_s]
        if before:
            from_at, from_ended = before[-1]
        span = now - from_at
        return (points[-1][1] - from_ended) / span if span > 0 else 0.0

    def eta_s(self, ended: int, left: int, now: float) -> tuple[float, float] | None:
        """(low, high) seconds: what the pace of the last seconds, of the window and of the whole job say."""
        if ended < LEAST_ENDED or left <= 0:
            return None
        whole = ended / max(now - self.began_at, 1e-6)
        rates = [rate for rate in (whole, self.rate_per_s(now), self.rate_per_s(now, LATELY_S)) if rate > 0]
        return 0.9 * left / max(rates), 1.1 * left / min(rates)
