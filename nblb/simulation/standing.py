"""Shares, groups and limits of the users of a history, drawn from the seed, and what follows from them.

The checks count with these figures, not with those of the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

import msgspec

from nblb.access.limits import Limits
from nblb.scheduling.slice import Slice

SHARES = (1.0, 1.0, 2.0, 2.0, 3.0, 0.5)
AGEING_S = (0.2, 1.0, 5.0, 300.0)


def draw_limits(random: Random, users: Iterable[str], crowded: bool) -> tuple[Limits, ...]:
    """Draws shares, and in some histories groups and limits."""
    users = list(dict.fromkeys(users))
    grouped, limited = random.random() < 0.4, random.random() < 0.5
    drawn = [
        Limits(
            name,
            share=random.choice(SHARES),
            group=random.choice(("g", "g", "h", "")) if grouped else "",
            max_running=random.choice((0, 1, 2, 3)) if limited and not crowded else 0,
            max_queued=random.choice((0, 2, 5)) if limited else 0,
            max_bytes=random.choice((0, 60, 200)) if limited and not crowded else 0,
        )
        for name in users
    ]
    if grouped:
        most = random.choice((0, 0, 1, 2)) if limited and not crowded else 0
        drawn.append(Limits("g", "group", share=random.choice(SHARES), max_running=most))
        if limited and not crowded:
            drawn.append(Limits("h", "group", max_bytes=random.choice((0, 150))))
    return tuple(drawn)


def change_limits(random: Random, limits: Iterable[Limits]) -> tuple[Limits, ...]:
    """Draws another share for one user or group, or ends its limit on workers."""
    limits = list(limits)
    place = random.randrange(len(limits))
    change = {"share": random.choice(SHARES)} if random.random() < 0.6 else {"max_running": random.choice((0, 1, 2))}
    limits[place] = msgspec.structs.replace(limits[place], **change)
    return tuple(limits)


class Standing:
    """The users' shares, groups and limits, and who is to get the next worker."""

    def __init__(self, limits: Iterable[Limits] = (), ageing_s: float = 0.0) -> None:
        self.ages = 1.0 / ageing_s if ageing_s > 0.0 else 0.0
        self.limit(limits)

    def limit(self, limits: Iterable[Limits]) -> None:
        """Replaces the shares and limits."""
        limits = tuple(limits)
        self._users = {each.name: each for each in limits if each.of == "user"}
        self._groups = {each.name: each for each in limits if each.of == "group"}
        self._unit = min(1.0, *(each.share for each in limits)) if limits else 1.0

    def of(self, user: str) -> Limits:
        return self._users.get(user) or Limits(user)

    def group(self, user: str) -> str:
        """The group of the user; "" for none."""
        return self.of(user).group

    def of_group(self, group: str) -> Limits:
        return self._groups.get(group) or Limits(group, "group")

    def lead(self, counts: Mapping[str, int], one: str, other: str) -> int:
        """How many rounds of workers one user is ahead of the other, given the workers of each."""
        if self.group(one) == self.group(other):
            return self._level(counts.get(one, 0), self.of(one)) - self._level(counts.get(other, 0), self.of(other))
        return self._taking(counts, one) - self._taking(counts, other)

    def _taking(self, counts: Mapping[str, int], user: str) -> int:
        group = self.group(user)
        if not group:
            return self._level(counts.get(user, 0), self.of(user))
        return self._level(self.in_group(counts, group), self.of_group(group))

    def _level(self, count: int, limits: Limits) -> int:
        return int(count / (limits.share / self._unit))

    def in_group(self, counts: Mapping[str, int], group: str) -> int:
        """The sum over the users of a group."""
        return sum(number for name, number in counts.items() if self.group(name) == group)

    def is_held(self, counts: Mapping[str, int], user: str, more: int = 0) -> bool:
        """True if a limit allows the user no worker beyond those in `counts`, of which `more` do not count."""
        own, group = self.of(user).max_running, self.group(user)
        if 0 < own <= counts.get(user, 0) - more:
            return True
        most = self.of_group(group).max_running if group else 0
        return 0 < most <= self.in_group(counts, group) - more

    def rank(self, task: Slice) -> float:
        """The priority with what it has gained by waiting, compared with other tasks of the same user."""
        return task.record.spec.priority - task.record.since * self.ages

    def most_bytes(self, user: str) -> list[tuple[Limits, set[str]]]:
        """The limits of stored bytes that concern a user, each with the users whose bytes it counts."""
        own, group = self.of(user), self.group(user)
        found: list[tuple[Limits, set[str]]] = [(own, {user})] if own.max_bytes else []
        if group and self.of_group(group).max_bytes:
            found.append((self.of_group(group), {name for name in self._users if self.group(name) == group}))
        return found
