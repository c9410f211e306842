"""Planted faults in FullDisk, Outgoing and PendingEntries, which the simulated core also runs."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from nblb.broker import outgoing
from nblb.broker.full_disk import FullDisk
from nblb.broker.journal.pending_entries import PendingEntries
from nblb.broker.outgoing import Outgoing
from tests.simulation.planting import Patches, nothing, swap


def full_disk_ignored() -> Patches:
    """What did not fit on the disk is promised all the same."""

    def make(original: Any) -> Any:
        def make_do(self: FullDisk, reason: str, now: float) -> bool:
            original(self, reason, now)
            return True

        return make_do

    return [swap(FullDisk, "_make_do", make)]


def full_disk_is_not_noticed() -> Patches:
    """A commit that failed counts as one that was made."""

    def make(original: Any) -> Any:
        def keep(self: FullDisk, now: float) -> bool:
            original(self, now)
            return True

        return keep

    return [swap(FullDisk, "keep", make)]


def refused_and_accepted() -> Patches:
    """What a turn has said of tasks that did not fit is sent all the same."""
    return [patch.object(Outgoing, "take_back", nothing)]


def room_is_never_found() -> Patches:
    """A core whose disk was full once never looks at it again."""
    return [patch.object(FullDisk, "deadline", lambda _self: None), patch.object(FullDisk, "_check_room", nothing)]


def promises_leave_a_full_disk() -> Patches:
    """While the disk is full, answers that tell of records leave with those that do not. (Found.)"""
    return [patch.object(outgoing, "is_unbound", lambda message: isinstance(message, outgoing.UNBOUND))]


def stopped_orders_leave() -> Patches:
    """An order that was held back by a full disk is sent though its task was cancelled meanwhile. (Found.)"""

    def keep_orders(self: Outgoing, is_meant: Any) -> None:
        for to, messages in self.sends.items():
            self.sends[to] = [m for m in messages if type(m) is not outgoing.RunTask or is_meant(to, m)]

    return [patch.object(Outgoing, "keep_orders", keep_orders)]


def forgotten_blobs_come_back() -> Patches:
    """A blob that waits for room is written behind the entry that drops it. (Found.)"""
    return [patch.object(PendingEntries, "_drop_withheld", nothing)]


FULL_DISK_MUTANTS = (
    full_disk_ignored,
    full_disk_is_not_noticed,
    refused_and_accepted,
    room_is_never_found,
    promises_leave_a_full_disk,
    stopped_orders_leave,
    forgotten_blobs_come_back,
)
