"""Resolves stalled groups, where every worker runs a task whose nested tasks wait in line: one worker lends its slot.

A worker notifies its hub when its task waits through nblb's own functions. A task that waits in another way (a loop
over `done()`, concurrent.futures.wait, another thread) sends no notice and keeps its slot. When all slots of a group
have been used for STALLED_S by tasks with open nested tasks, some of them in line, the core asks the hub for a stand-in
for the longest running task. That task may continue at any time, and uses a slot again when the tasks it submitted are
over. So for a moment one more task may run than there are slots, but no task waits for ever.

Likewise, where a limit (max-running) holds back nested tasks although workers are free, and all the tasks that it
counts have waited for such tasks for STALLED_S, these no longer count.
"""

from __future__ import annotations

from collections.abc import Iterator

from nblb.protocol.messages import ENDED, LendSlot, TaskState
from nblb.scheduling.fair_share import Sharer
from nblb.scheduling.hubs import Assignment, Fence, GroupOfWorkers
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

STALLED_S = 2.0
IN_LINE = (TaskState.QUEUED, TaskState.ASSIGNED)


class StalledGroups:
    """Checks all groups for stalls while there are open nested tasks."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._at: float | None = None
        self._since: dict[tuple[Fence, ...], float] = {}  # by the attempts that use all slots of a group

    def next_deadline(self) -> float | None:
        return self._at

    def tick(self, now: float) -> None:
        if self.state.nested == 0:
            self._at = None
            self._since.clear()
            return
        if self._at is not None and now < self._at:
            return
        self._at = now + STALLED_S / 2
        before, self._since = self._since, {}
        for hub in self.state.hubs.values():
            for group in hub.groups:
                if group.given >= group.alive > 0 and (using := self._stalled(group)):
                    those = tuple(held.fence for held in using)
                    since = self._since[those] = before.get(those, now)
                    if now >= since + STALLED_S:
                        self._lend(using[0])
                        self._since[those] = now
        for sharer in self.state.share.limited():
            self._look_at_limit(sharer, before, now)

    def _look_at_limit(self, sharer: Sharer, before: dict[tuple[Fence, ...], float], now: float) -> None:
        """Count the tasks that wait for nested ones no longer against a limit that holds these back."""
        most = sharer.limits.max_running
        using = [
            held
            for hub in self.state.hubs.values()
            for held in hub.in_flight.values()
            if not held.wait and sharer in (held.user, held.user.group)
        ]
        nested = [list(self._awaited(held)) if held.started_at else [] for held in using]
        more = min(sharer.most - most, sum(map(bool, nested)))
        if sharer.is_held and nested and all(nested) and any(self._is_held_back(t) for n in nested for t in n):
            those = tuple(held.fence for held in using)
            since = self._since[those] = before.get(those, now)
            if now >= since + STALLED_S:
                more = len(using)
        if sharer.most != most + more:
            sharer.most = most + more
            self.state.share.limit_changed(sharer)
            self.state.dispatch_due = True

    def _is_held_back(self, task: Slice) -> bool:
        """Return whether a nested task waits to begin, or to go on after a wait, or for one for which that is true."""
        held = task.held
        if (task.state is TaskState.QUEUED and task not in self.state.delayed) or held in self.state.resumable:
            return True
        return held is not None and held.wait > 0 and any(map(self._is_held_back, self._awaited(held)))

    def _stalled(self, group: GroupOfWorkers) -> list[Assignment]:
        """Return the attempts that use the slots, longest first, if all have open nested tasks, some in line."""
        using = [held for held in group.hub.in_flight.values() if held.group is group and not held.wait]
        started = [held for held in using if held.started_at]
        nested = [list(self._awaited(held)) for held in started]
        if len(started) < group.alive or not all(nested):
            return []
        return (
            started
            if any(task.state in IN_LINE and task not in self.state.delayed for tasks in nested for task in tasks)
            else []
        )

    def _awaited(self, held: Assignment) -> Iterator[Slice]:
        """Yield the open slices that this attempt has submitted, or those that these have returned and follow."""
        for task in _open_nested(held):
            yield from self._followed(task)

    def _followed(self, task: Slice) -> Iterator[Slice]:
        record = self.state.records.get(task.follows) if task.follows else None
        if record is None:
            yield task
            return
        for other in record.slices:
            if other.state not in ENDED:
                yield from self._followed(other)

    def _lend(self, held: Assignment) -> None:
        order = LendSlot(task=held.record.id, attempt=held.attempt, first=held.first)
        self.state.send(held.group.hub.address, order)


def _open_nested(held: Assignment) -> Iterator[Slice]:
    """Yield the open slices that this attempt has submitted."""
    for child in held.record.children or ():
        spec = child.spec
        if spec.parent_attempt == held.attempt and held.first <= spec.parent_item < held.first + held.items:
            yield from (task for task in child.slices if task.state not in ENDED)
