"""Measures the load of a cluster that adapts: busy workers, and the waiting calls that a new worker could start."""

from __future__ import annotations

from itertools import islice

from nblb.scheduling.adapting.policy import TARGET_S, Demand
from nblb.scheduling.backlog import SliceQueue, UserQueue
from nblb.scheduling.fair_share import UserGroup
from nblb.scheduling.placement import Estimates
from nblb.scheduling.reporting.calls import in_flight
from nblb.scheduling.state import State

SAMPLE = 32  # slices of a line that stand for all of it


class _Sum:
    """Waiting calls, added up by whether their functions have been measured."""

    def __init__(self) -> None:
        self.measured = self.unmeasured = 0
        self.seconds = 0.0

    def add(self, calls: int, one_s: float | None) -> None:
        if one_s is None:
            self.unmeasured += calls
        else:
            self.measured += calls
            self.seconds += calls * one_s

    def cut(self, most: int) -> None:
        """Keep at most so many calls, and the part of the time that they take."""
        if self.measured > most:
            self.seconds *= most / self.measured
            self.measured = most
        self.unmeasured = min(self.unmeasured, most - self.measured)


def demand(state: State, now: float) -> Demand:
    """Return the load: calls that depend on others, or that a limit of their user holds back, do not count."""
    whole, estimates = _Sum(), state.placement.estimates
    busy = soon = 0
    for held, running, waiting in in_flight(state):
        one_s = estimates.item_s(held.record)
        whole.add(waiting, one_s)
        if running and not held.wait:
            busy += 1
            began = held.started_at or held.given_at
            soon += bool(held.estimate_s) and began + held.estimate_s <= now + TARGET_S
    room = {group: group.most - group.occupied for group in state.share.groups.values() if group.most}
    for user in state.share.users.values():
        if user.waiting and not user.is_held:
            _add(whole, _of_user(user, estimates), user, room)
    workers = sum(hub.slots for hub in state.hubs.values())
    return Demand(workers, busy, soon, whole.measured, whole.seconds, whole.unmeasured)


def _of_user(user: UserQueue, estimates: Estimates) -> _Sum:
    found = _Sum()
    for level in user.levels.values():
        for line in level.values():
            _add_line(found, line, estimates)
    return found


def _add(whole: _Sum, found: _Sum, user: UserQueue, room: dict[UserGroup, int]) -> None:
    """Add a user's waiting calls, as far as limits let them start."""
    if user.most:
        found.cut(max(0, user.most - user.occupied))
    if user.group in room:
        found.cut(max(0, room[user.group]))
        room[user.group] -= found.measured + found.unmeasured
    whole.measured += found.measured
    whole.unmeasured += found.unmeasured
    whole.seconds += found.seconds


def _add_line(found: _Sum, line: SliceQueue, estimates: Estimates) -> None:
    """Add the calls of a line; its first slices stand for their namesakes, and all of them for other names."""
    known: dict[str, float | None] = {}
    for task in islice(line.waiting(), SAMPLE):
        known.setdefault(task.record.spec.name, estimates.item_s(task.record))
    times = [one_s for one_s in known.values() if one_s is not None]
    other = sum(times) / len(times) if times else None
    for name, calls in line.items.items():
        found.add(calls, known.get(name, other))
