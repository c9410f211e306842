"""The jobs of a forecast: who submits how many calls when, by a pattern, for loads that no trace describes."""

from __future__ import annotations

import math
from random import Random
from typing import Literal, TypeAlias

import msgspec

Pattern: TypeAlias = Literal["at-once", "poisson", "daily"]
DAY_S = 86_400.0
NIGHT = 0.05  # the rate at night, where 1 is the rate at two in the afternoon


class Arrival(msgspec.Struct, frozen=True):
    """A job of one user: calls that are submitted together."""

    at: float
    user: str
    items: int
    seconds: float  # mean length of a call
    lengths: tuple[float, ...] = ()  # of each call, if they are known


class Trace(msgspec.Struct, frozen=True):
    """Recorded jobs, and the number of workers of the cluster that ran them, if that is known."""

    arrivals: tuple[Arrival, ...]
    workers: int = 0
    left_out: int = 0  # jobs without a run time, such as cancelled ones


def spread_out(
    each: list[tuple[str, int, float]], jobs: int, pattern: Pattern, span_s: float, seed: int
) -> list[Arrival]:
    """Return the jobs of users, whose calls are divided among equally many jobs, over a time.

    Parameters
    ----------
    each
        (user, number of calls, mean length of a call).
    jobs
        Number of jobs of each user, as far as there are calls.
    pattern
        "at-once": all at the start; "poisson": at random times; "daily": at random times, most in the afternoon.
    span_s
        The time over which they come, except all at once.
    seed
        Of the random times.

    Returns
    -------
    list of Arrival
        In the order of their times.
    """
    random, found = Random(seed), []
    for user, calls, seconds in each:
        number = max(1, min(jobs, calls))
        for n in range(number):
            items = calls // number + (n < calls % number)
            found.append(Arrival(_time(random, pattern, span_s), user, items, seconds))
    return sorted(found, key=lambda arrival: arrival.at)


def _time(random: Random, pattern: Pattern, span_s: float) -> float:
    if pattern == "at-once":
        return 0.0
    if pattern == "poisson":  # the times of a Poisson process of which the number is given are independent and uniform
        return random.uniform(0.0, span_s)
    days = max(DAY_S, span_s)
    while True:
        at = random.uniform(0.0, days)
        if random.random() <= daily_rate(at):
            return at


def daily_rate(at: float) -> float:
    """Return how often jobs come at a time after midnight, relative to two in the afternoon."""
    hour = at % DAY_S / 3600.0
    return max(NIGHT, math.sin(math.pi * (hour - 8.0) / 12.0)) if 8.0 <= hour <= 20.0 else NIGHT
