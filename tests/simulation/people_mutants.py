"""Faults of shares, groups, limits and ageing."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band, FairShare
from nblb.scheduling.nesting.stalled import StalledGroups
from nblb.scheduling.reporting import quotas
from nblb.scheduling.slice import Slice
from tests.simulation.planting import Patches, nothing, swap


def shares_are_ignored() -> Patches:
    """Every user counts as if the share were 1."""

    def make(original: Any) -> Any:
        def apply(self: FairShare, user: UserQueue) -> None:
            original(self, user)
            user.weight, user.level, user.is_special = 1.0, user.occupied, user.group is not None

        return apply

    return [swap(FairShare, "_apply", make)]


def groups_are_ignored() -> Patches:
    """Users of a group take turns as if each were alone."""

    def make(original: Any) -> Any:
        def apply(self: FairShare, user: UserQueue) -> None:
            original(self, user)
            user.group = None

        return apply

    return [swap(FairShare, "_apply", make)]


def users_of_a_group_are_not_equal() -> Patches:
    """In a group, the next worker goes to the user with the most."""

    def make(original: Any) -> Any:
        def first(self: Band) -> Any:
            true = original(self)
            if true is None or not self.is_inner:
                return true
            turns = [turn for user in self.entries if (turn := user.turn(self)) is not None]
            return max(turns, key=lambda turn: (turn[0], -turn[2]), default=true)

        return first

    return [swap(Band, "first", make)]


def workers_beyond_the_limit() -> Patches:
    """A limit on workers does not hold tasks back."""

    def make(original: Any) -> Any:
        def apply(self: FairShare, user: UserQueue) -> None:
            original(self, user)
            user.most = 0
            if user.group is not None:
                user.group.most = 0

        return apply

    return [swap(FairShare, "_apply", make)]


def held_back_for_ever() -> Patches:
    """Who was held back by a limit is not looked at when a worker comes back."""

    def make(original: Any) -> Any:
        def mark_bands(self: FairShare) -> None:
            self.has_absent = False
            original(self)

        return mark_bands

    return [swap(FairShare, "mark_bands", make)]


def bytes_without_limit() -> Patches:
    """A submission is accepted, however many bytes are stored."""
    return [patch.object(quotas, "refusal", nothing)]


def results_are_not_counted() -> Patches:
    """Only arguments count as stored."""

    def refusal(state: Any, spec: Any, now: float) -> Any:
        for user in state.share.users.values():
            user.stored = sum(r.spec.payload.nbytes for r in state.records.values() if r.owner is user)
        return original(state, spec, now)

    original = quotas.refusal
    return [patch.object(quotas, "refusal", refusal)]


def low_priorities_starve() -> Patches:
    """Waiting gains no priority."""

    def rank(_self: UserQueue, task: Slice) -> float:
        return task.record.spec.priority

    return [patch.object(UserQueue, "rank", rank)]


def nested_tasks_wait_for_the_limit() -> Patches:
    """A limit counts the tasks that wait for the nested tasks that it holds back."""
    return [patch.object(StalledGroups, "_look_at_limit", nothing)]


PEOPLE_MUTANTS = (
    shares_are_ignored,
    groups_are_ignored,
    users_of_a_group_are_not_equal,
    workers_beyond_the_limit,
    held_back_for_ever,
    bytes_without_limit,
    results_are_not_counted,
    low_priorities_starve,
    nested_tasks_wait_for_the_limit,
)
