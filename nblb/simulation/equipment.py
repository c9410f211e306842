"""What the workers of a history have, and what its tasks need, drawn from the seed."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import msgspec

from nblb.protocol.equipment import Equipment, Needs
from nblb.protocol.messages import Group, SubmitTask
from nblb.simulation.workload import Act

EQUIPPED = 0.2  # share of the histories whose workers differ
NEEDS = (
    Needs(gpus=1.0),
    Needs(gpus=1.0),
    Needs(gpus=0.5),
    Needs(features=("a",)),
    Needs(memory_mb=500),
    Needs(gpus=0.5, memory_mb=500, features=("a", "b")),
)
SOME = (
    Equipment(gpus=1.0, reserved=True),
    Equipment(gpus=0.5, reserved=True),
    Equipment(gpus=1.0),
    Equipment(features=("a",)),
    Equipment(features=("a",), reserved=True),
    Equipment(memory_mb=400),
    Equipment(gpus=1.0, memory_mb=400, features=("a", "b"), reserved=True),
)
ALL = Equipment(gpus=1.0, memory_mb=1000, features=("a", "b"))  # any of the tasks can run there


def equip(random: Random, groups: list[list[Group]], any_priority: tuple[float, float]) -> None:
    """Gives some groups GPUs, features or limits of memory, and adds a hub that can run every task."""
    for place, of_hub in enumerate(groups):
        if place:
            groups[place] = [
                msgspec.structs.replace(group, has=random.choice(SOME), share_mb=random.choice((0, 0, 300)))
                if random.random() < 0.6
                else group
                for group in of_hub
            ]
    low, high = any_priority
    groups.append([Group(workers=random.choice((1, 2)), minP=low, maxP=high, has=ALL)])


def demand(random: Random, acts: Iterable[Act]) -> list[Act]:
    """Returns the actions, with needs for some of the submissions of functions that each hub can run."""
    return [
        msgspec.structs.replace(
            act,
            message=msgspec.structs.replace(
                act.message, needs=random.choice(NEEDS), memory_retry=random.choice((0.0, 1.5))
            ),
        )
        if isinstance(act.message, SubmitTask) and act.message.function and random.random() < 0.5
        else act
        for act in acts
    ]
