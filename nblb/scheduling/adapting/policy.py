"""The rule by which a cluster that adapts chooses its number of workers.

Needed are the busy workers, and as many more as finish the waiting calls within TARGET_S by their measured run time.
Calls of a function that was never measured need a worker each, but at most as many as there are workers already (at
least FIRST), so that the number doubles until there is a measurement.

The cluster grows to the need at once. It shrinks to the largest need of the last `idle_s` seconds, so a load that comes
and goes within that time starts and ends no worker, and a slower one starts and ends each worker once per cycle.
"""

from __future__ import annotations

from collections import deque
from math import ceil

import msgspec

TARGET_S = 2.0  # in which the waiting calls should end
FIRST = 8  # workers for calls that were never measured, at first
IDLE_S = 30.0  # for which fewer workers must have been enough before some end
MOST_WORKERS = 1_000_000


class Adapting(msgspec.Struct, frozen=True):
    """The limits between which the number of workers follows the load."""

    minimum: int
    maximum: int
    idle_s: float = IDLE_S


class Demand(msgspec.Struct, frozen=True):
    """The load at one moment."""

    workers: int = 0  # that there are
    busy: int = 0
    soon: int = 0  # busy ones that will be free within TARGET_S
    measured: int = 0  # waiting calls that may start and whose functions have been measured …
    seconds: float = 0.0  # … and their run time in all
    unmeasured: int = 0  # the other waiting calls that may start

    @property
    def calls(self) -> int:
        """Number of waiting calls that may start."""
        return self.measured + self.unmeasured


def refusal(limits: Adapting) -> str:
    """Return why the limits cannot be, in a sentence; "" if they can."""
    if not 0 <= limits.minimum <= limits.maximum <= MOST_WORKERS:
        return (
            f"a cluster cannot adapt between {limits.minimum} and {limits.maximum} workers; the two must be whole "
            f"numbers from 0 to {MOST_WORKERS:,}, the smaller one first"
        )
    if not 0.0 <= limits.idle_s < float("inf"):
        return f"idle_s is {limits.idle_s}; it must be a number of seconds, 0 or more"
    return ""


def need(demand: Demand) -> int:
    """Return how many workers the load needs, whatever the limits."""
    by_time = min(demand.measured, max(1, ceil(demand.seconds / TARGET_S)) if demand.measured else 0)
    unknown = min(demand.unmeasured, max(FIRST, demand.workers))
    return demand.busy + max(0, by_time + unknown - demand.soon)


class AdaptPolicy:
    """Chooses the number of workers from the load; the caller asks regularly.

    Parameters
    ----------
    limits
        The smallest and the largest number, and the time before it shrinks.

    Examples
    --------
    >>> policy = AdaptPolicy(Adapting(0, 8))
    >>> policy.choose(Demand(unmeasured=3), now=0.0)
    3
    """

    def __init__(self, limits: Adapting) -> None:
        self.limits = limits
        self.wanted = limits.minimum
        self.why = "nothing waits"
        self._needs: deque[tuple[float, int]] = deque()  # (time, need), the needs falling: the first is the largest

    def choose(self, demand: Demand, now: float) -> int:
        """Return how many workers there should be.

        Parameters
        ----------
        demand
            The load.
        now
            The time, which never decreases.

        Returns
        -------
        int
            From `limits.minimum` to `limits.maximum`.
        """
        limits, needs, needed = self.limits, self._needs, need(demand)
        while needs and needs[-1][1] <= needed:
            needs.pop()
        needs.append((now, needed))
        while needs[0][0] < now - limits.idle_s:
            needs.popleft()
        largest = needs[0][1]
        self.wanted = min(max(largest, limits.minimum), limits.maximum)
        self.why = self._reason(demand, needed, largest)
        return self.wanted

    @property
    def is_settled(self) -> bool:
        """True if the number of workers stays as it is until something is submitted."""
        return len(self._needs) == 1 and self._needs[0][1] == 0

    def _reason(self, demand: Demand, needed: int, largest: int) -> str:
        limits = self.limits
        found = []
        if demand.busy:
            found.append(f"{demand.busy:,} {'is' if demand.busy == 1 else 'are'} busy")
        if demand.calls:
            work = f" (about {demand.seconds:,.0f} s of work)" if demand.seconds >= 1.0 else ""
            found.append(f"{demand.calls:,} {'call waits' if demand.calls == 1 else 'calls wait'}{work}")
        load = " and ".join(found) or "nothing waits"
        if min(largest, limits.maximum) > max(needed, limits.minimum):
            return f"so many were needed within the last {limits.idle_s:g} s; now {load}"
        if largest > limits.maximum:
            return f"{load}, and that is the maximum"
        if largest < limits.minimum:
            return f"{load}, and that is the minimum"
        return load


def sentence(limits: Adapting, wanted: int, why: str) -> str:
    """Return what people read about it: "adapts between 0 and 8 workers: 3 wanted, because …"."""
    return f"adapts between {limits.minimum:,} and {limits.maximum:,} workers: {wanted:,} wanted, because {why}"
