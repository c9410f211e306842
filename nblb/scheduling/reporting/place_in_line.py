"""The sentence of `why()` about a waiting call: its place among its user's calls, and the time until it starts.

All counts are calls, the unit of users: a map, or a loop of `submit`, is sent as a few submissions of many calls.
Only calls that the same workers take count as being in front.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from nblb.quantities import duration, ordinal
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.hubs import GroupOfWorkers
from nblb.scheduling.reporting import quotas
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

MOST_SLICES = 10_000  # visited per question, so that it does not delay the core


class Ahead(NamedTuple):
    """The same user's calls that run before the call."""

    calls: int  # number of calls in front of it
    seconds: float | None  # of worker time for these; None if a function was never measured
    exact: bool  # False: there are more, which were not counted


def describe(state: State, task: Slice, item: int, takers: Collection[GroupOfWorkers], now: float) -> str:
    """Describe the place of `item`, in the QUEUED slice `task`, in the line for the workers of `takers`."""
    user, name = state.share.user(task.record.user), task.record.user
    ahead = in_front(state, task, item, takers)
    workers = sum(group.alive for group in takers)
    line = f"in line for {workers} worker{'s' * (workers != 1)}"
    if ahead.exact:
        text = f"{ordinal(ahead.calls + 1)} of {name}'s tasks {line}"
    else:
        text = f"behind more than {ahead.calls:,} of {name}'s tasks {line}"
    limit, which = quotas.most_queued(state, task.record.owner)
    if 0 < limit <= ahead.calls:
        text += f", behind the {limit:,} {which}"
    others: dict[str, int] = {}
    for group in takers:
        for held in group.hub.in_flight.values():
            if held.group is group and held.user is not user and not held.wait:
                others[held.user.name] = others.get(held.user.name, 0) + 1
    text += "".join(f"; {n} of {other}'s run there" for other, n in sorted(others.items()))
    waiting = sum(held.wait > 0 for group in takers for held in group.hub.in_flight.values() if held.group is group)
    if waiting:
        text += f"; {waiting} task{'s wait' if waiting > 1 else ' waits'} there for tasks of their own"
    rivals = {other.name for other in _waiting(state, takers) if other is not user}
    running_s = _running_s(state, takers, now)
    if ahead.seconds is None or running_s is None:
        return text
    wait_s = (running_s + ahead.seconds * (1 + len(rivals | others.keys()))) / max(1, workers)
    return f"{text}; about {duration(wait_s)}{'' if ahead.exact else ' or more'}" if wait_s > 0 else text


def in_front(state: State, task: Slice, item: int, takers: Collection[GroupOfWorkers]) -> Ahead:
    """Return the user's waiting calls that these workers take before this one."""
    estimates = state.placement.estimates
    bands = list(dict.fromkeys(group.band for group in takers))
    calls, seconds, exact = 0, 0.0, True
    known = True
    for number, other in enumerate(state.share.user(task.record.user).tasks()):
        items = item - task.first if other is task else other.items
        record = other.record
        if other is task or (
            any(band.takes(record.spec.priority) and band.fits(record.kind) for band in bands)
            and any(group.runs(record.kind) for group in takers)
        ):
            calls += items
            one = estimates.item_s(record)
            known = known and (one is not None or not items)
            seconds += (one or 0.0) * items
        if other is task:
            break
        if number >= MOST_SLICES:
            exact = False
            break
    return Ahead(calls, seconds if known else None, exact)


def _waiting(state: State, takers: Iterable[GroupOfWorkers]) -> Iterable[UserQueue]:
    """Return the users with a slice for one of these workers."""
    bands: list[Band] = list(dict.fromkeys(group.band for group in takers))
    return [
        user
        for user in state.share.users.values()
        if any(band.admits(user.name) and user.best(band.low, band.high, band.has) for band in bands)
    ]


def _running_s(state: State, takers: Iterable[GroupOfWorkers], now: float) -> float | None:
    """Return the remaining worker time of what these workers have; None if a function was never measured."""
    left = 0.0
    for group in takers:
        for held in group.hub.in_flight.values():
            if held.group is group and not held.wait:
                one = state.placement.estimates.item_s(held.record)
                if one is None:
                    return None
                begun = now - held.started_at if held.started_at else 0.0
                left += max(0.0, one * sum(task.items for task in held.tasks) - begun)
    return left
