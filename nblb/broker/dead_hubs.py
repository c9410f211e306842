"""Detects, after a restart of the core, the hubs of this machine whose process has ended and will not reconnect.

The scheduler waits for a hub that had attempts in hand, because it may still be running them. Once the process of
that hub is gone, waiting is useless.
"""

from __future__ import annotations

from collections.abc import Callable

from nblb.protocol.commands import Command
from nblb.scheduling.scheduler import Scheduler
from nblb.system.processes import has_ended

LOOK_S = 0.5


class DeadHubs:
    """Checks every LOOK_S, while any attempt waits for its hub, whether the hub's process `has_ended`."""

    def __init__(self, scheduler: Scheduler, has_ended: Callable[[str], bool] = has_ended) -> None:
        self._scheduler, self._has_ended = scheduler, has_ended
        self._look_at = 0.0

    def check(self, now: float) -> list[Command]:
        """Return the commands that follow from the hubs that are dead."""
        state = self._scheduler.state
        if not state.orphans or now < self._look_at:
            return []
        self._look_at = now + LOOK_S
        here = {hub.id for hub in state.hubs.values()}  # connected hubs report their own attempts
        names = {orphan.hub: None for orphan in state.orphans.values() if orphan.hub not in here}
        return [command for name in names if self._has_ended(name) for command in self._scheduler.hub_dead(name, now)]

    def deadline(self) -> float | None:
        return self._look_at if self._scheduler.state.orphans else None
