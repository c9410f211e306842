"""The memory that the workers of a hub have."""

from __future__ import annotations

from nblb.hub import equipment
from nblb.protocol.equipment import Equipment
from nblb.protocol.messages import Group


def test_workers_without_a_limit_share_what_the_limits_of_others_leave() -> None:
    groups = [Group(4, has=Equipment(memory_mb=2000)), Group(2), Group(6)]
    limited, *others = equipment.with_shares(groups, 16_000)
    assert limited is groups[0]
    assert [group.share_mb for group in others] == [1000, 1000]


def test_a_computer_whose_memory_is_unknown_states_none() -> None:
    assert equipment.with_shares([Group(4)], 0)[0].share_mb == 0


def test_limits_above_the_memory_leave_something() -> None:
    assert equipment.with_shares([Group(4, has=Equipment(memory_mb=9000)), Group(1)], 16_000)[1].share_mb == 1


def test_the_memory_of_this_computer_is_known() -> None:
    assert equipment.total_memory_mb() > 0
