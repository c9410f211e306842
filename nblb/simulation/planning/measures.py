"""Figures of a forecast: percentiles of waits, and Jain's index of fairness over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

BUCKETS = 200  # time steps in which fairness is measured


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of values in ascending order (nearest rank); 0 for none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(percent / 100.0 * len(ordered)))]


def jain(values: Sequence[float]) -> float:
    """Return Jain's index: 1 if all are equal, 1/n if one has all; 1 for none."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


class Fairness:
    """Measures how equally worker time is divided among users who have calls waiting, in steps of time.

    Parameters
    ----------
    step_s
        The length of a step.
    shares
        The share of each user; 1 for others.
    """

    def __init__(self, step_s: float, shares: Mapping[str, float]) -> None:
        self._step_s, self._shares = max(step_s, 1e-6), shares
        self._used: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._waiting: dict[str, int] = defaultdict(int)
        self._since: dict[str, float] = {}
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def came(self, user: str, calls: int, now: float) -> None:
        """Note that calls of a user wait."""
        if not self._waiting[user]:
            self._since[user] = now
        self._waiting[user] += calls

    def ran(self, user: str, calls: int, now: float, seconds: float) -> None:
        """Note that a worker begins waiting calls, which take so long together."""
        self._waiting[user] -= calls
        if not self._waiting[user]:
            self._spans[user].append((self._since.pop(user), now))
        step, begin, end = self._step_s, now, now + seconds
        number = int(begin / step)
        while begin < end:
            until = min(end, (number + 1) * step)
            self._used[number][user] += until - begin
            begin, number = until, number + 1

    def index(self) -> float | None:
        """Return the mean of Jain's index of worker time by share, over the steps in which two users or more waited.

        Returns
        -------
        float or None
            From 0 to 1; None if no two users have waited at the same time for a whole step.
        """
        waited: dict[int, list[str]] = defaultdict(list)
        for user, spans in self._spans.items():
            for begin, end in spans:
                first = int(begin / self._step_s) + 1
                for number in range(first, int(end / self._step_s)):
                    waited[number].append(user)
        found = [
            jain([self._used[number][user] / self._shares.get(user, 1.0) for user in users])
            for number, users in waited.items()
            if len(users) > 1
        ]
        return sum(found) / len(found) if found else None
