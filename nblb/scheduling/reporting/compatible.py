"""Sentences about tasks that no hub can run: all have another Python, an older NumPy, or lack what a task needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nblb.protocol.equipment import NOTHING, Needs
from nblb.scheduling.submission import needs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nblb.protocol.messages import SubmitTask
    from nblb.scheduling.hubs import GroupOfWorkers, Hub
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Kind

MOST_NAMED = 3


def lacks(state: State, spec: SubmitTask) -> str:
    """Return why no connected hub can run this task, whose function it brings."""
    if any(spec.python in ((0, 0), hub.hello.python) for hub in state.hubs.values()):
        return lacks_numpy(state, spec)
    version = ".".join(map(str, spec.python))
    return f"no hub runs Python {version}, which its function needs"


def lacks_numpy(state: State, spec: SubmitTask) -> str:
    """Return the sentence about the NumPy that the hubs with the task's Python have."""
    hubs = [hub for hub in state.hubs.values() if spec.python in ((0, 0), hub.hello.python)]
    has = sorted({_has(hub) for hub in hubs})
    more = f" and {len(has) - MOST_NAMED} more" if len(has) > MOST_NAMED else ""
    remedy = f"install NumPy {spec.numpy} in the Python of a hub and start it again"
    return f"its arrays need NumPy {spec.numpy}, and {', '.join(has[:MOST_NAMED])}{more}; {remedy}"


def _has(hub: Hub) -> str:
    return f"{hub.name} has NumPy {hub.hello.numpy}" if hub.hello.numpy else f"{hub.name} has no NumPy"


def used_by_others(hub: Hub) -> str:
    """Return why a hub whose GPUs are in use outside the queue has no worker for them; "" if they are not."""
    accounts = sorted({account for card in hub.cards for account in card.outside})
    if not accounts:
        return ""
    return f"the GPUs of hub {hub.name} are in use outside the queue, by {', '.join(accounts[:MOST_NAMED])}"


def lacks_equipment(groups: Sequence[GroupOfWorkers], kind: Kind) -> str:
    """Return what no worker of these groups has, and slices of this kind need; "" if some have all of it."""
    if not groups or any(group.has_needs(kind) for group in groups):
        return ""
    needs = needs_of(kind)
    if needs is None:
        return (
            f"all connected workers are kept for tasks that need what they have ({_named(groups)}); start others, "
            'or set "reserved": false in their group'
        )
    for one, text in _single(needs):
        if not any(_offers(group, one) for group in groups):
            return f"no connected worker has {text}; {_named(groups)}"
    if any(_offers(group, needs) for group in groups):
        return f"the workers that have {needs} are kept for tasks that need a GPU or another feature; {_named(groups)}"
    return f"no connected worker has all of {needs} at once; {_named(groups)}"


def _single(needs: Needs) -> list[tuple[Needs, str]]:
    """Return each of the needs by itself, with words for it."""
    found = [(Needs(features=(name,)), f"feature {name!r}") for name in needs.features]
    if needs.gpus:
        found.append((Needs(gpus=needs.gpus), f"{needs.gpus:g} GPU{'s' * (needs.gpus > 1)}"))
    if needs.memory_mb:
        found.append((Needs(memory_mb=needs.memory_mb), f"{needs.memory_mb:,} MB of memory"))
    return [each for each in found if each[0] != NOTHING]


def _offers(group: GroupOfWorkers, needs: Needs) -> bool:
    """Return whether workers of the group have this, whatever they are kept for."""
    has, share_mb = group.spec.has, group.spec.share_mb
    if not has.memory_mb and share_mb:
        has = msgspec.structs.replace(has, memory_mb=share_mb)
    return msgspec.structs.replace(has, reserved=False).takes(needs)


def _named(groups: Sequence[GroupOfWorkers]) -> str:
    """Return what the workers of the first hubs have: "hub lab has 1 GPU, avx512"."""
    found = dict.fromkeys(f"hub {group.hub.name} has {_equipment(group)}" for group in groups)
    more = f", and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return "; ".join(list(found)[:MOST_NAMED]) + more


def _equipment(group: GroupOfWorkers) -> str:
    has, share_mb = group.spec.has, group.spec.share_mb
    if not has.memory_mb and share_mb:
        has = msgspec.structs.replace(has, memory_mb=share_mb)
    return str(has) or "none of that"
