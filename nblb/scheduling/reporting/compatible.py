"""Sentences about tasks that no hub can run, because all have another Python or an older NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nblb.protocol.messages import SubmitTask
    from nblb.scheduling.hubs import Hub
    from nblb.scheduling.state import State

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
