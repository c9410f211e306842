"""Gives waiting tasks to free workers, by the rules of DESIGN 4: whose turn, which task, where, how much at once."""

from __future__ import annotations

import difflib

from nblb.protocol.commands import Record, Send
from nblb.protocol.journal_entries import AttemptKept
from nblb.protocol.messages import TaskState
from nblb.scheduling import place_in_line
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.hubs import Assignment, GroupOfWorkers, Hub
from nblb.scheduling.intake import run_task
from nblb.scheduling.slice import Slice, given_at
from nblb.scheduling.state import State

MAX_A_TURN = 2000  # so that one turn of the shell stays short


class Dispatch:
    """Matches tasks and workers."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.held = False  # the disk is full: nothing new is started
        self.suspect_from = state.policy.most_ends - 1  # crashes
        self._estimates = state.placement.estimates
        self._now = 0.0
        self._step = given_at(0.0)

    def run(self, now: float) -> None:
        """Assign until no free worker has anybody waiting for it."""
        state = self.state
        if not state.dispatch_due or self.held:
            return
        state.dispatch_due = False
        if state.withheld and not self._runs_suspect():
            withheld, state.withheld = state.withheld, {}
            for task in withheld:
                state.enqueue(task)
            state.dispatch_due = False
        self._now, self._step = now, given_at(now)
        left = MAX_A_TURN
        for band in state.placement.bands:
            left -= self._serve(band, left)
        if left <= 0:
            state.dispatch_due = True

    def _serve(self, band: Band, most: int) -> int:
        """Serve the users whose turn it is in this band; how many slices were assigned."""
        placement, given = self.state.placement, 0
        room = placement.rooms[band]
        passed: list[UserQueue] = []  # users whose next task finds no room now
        entry = band.first() if room.open else None
        while entry is not None and given < most and room.open:  # (in vain, if only a hub under suspicion has room)
            _, _, _, user, task = entry
            if task.crashes >= self.suspect_from and task.items == 1 and self._runs_suspect():
                user.withhold(task, band)
                self.state.withheld[task] = None
                self.state.share.line_changed(user, task.record.spec.priority)
                entry = band.first()
                continue
            items = 1 if task.items == 1 else placement.slice_items(task, user, band)
            group = placement.choose(task, items)
            if group is None and placement.has_free(band):
                task, items, group = self._another(task, user, band)
            if group is None:
                band.pass_over(user)
                passed.append(user)
                entry = band.first()
                continue
            self._assign(task, items, user, band, group)
            given += 1
            band.put_right(user)
            entry = band.first()
        band.changed.update(dict.fromkeys(passed))
        return given

    def _runs_suspect(self) -> bool:
        """Some hub may be running a task that one more sudden end of its hub makes LOST: it must be the only one."""
        orphans = (task for orphan in self.state.orphans.values() for task in orphan.tasks())
        held = (task for hub in self.state.hubs.values() for held in hub.in_hand.values() for task in held.tasks)
        return any(task.crashes >= self.suspect_from for tasks in (held, orphans) for task in tasks)

    def _another(self, best: Slice, user: UserQueue, band: Band) -> tuple[Slice, int, GroupOfWorkers | None]:
        """No hub with room can run the user's best task: the next one of another kind that some hub can run."""
        placement = self.state.placement
        for task in user.others(band.low, band.high):
            if task.record.kind != best.record.kind:
                items = placement.slice_items(task, user, band)
                group = placement.choose(task, items)
                if group is not None:
                    return task, items, group
        return best, 0, None

    def _assign(self, task: Slice, items: int, user: UserQueue, band: Band, group: GroupOfWorkers) -> None:
        record, hub, out = task.record, group.hub, self.state.out
        if items < task.items:
            user.taken(task, items)
            task = record.take(task, items)
        else:
            user.drop(task, band)
        first = task.first
        task.attempt = attempt = task.attempt + 1
        estimate_s = self._estimates.slice_s(record, items) or 0.0
        fence = record.id, first, attempt
        held = Assignment(fence, record, first, items, attempt, [task], group, user, self._now, estimate_s)
        task.give(held, self._step)
        hub.in_hand[fence] = held
        group.given_one(estimate_s)
        user.occupied += 1
        out.append(Record(AttemptKept(record.id, first, items, attempt, hub.id)))
        if not record.alone or (task.code or record.spec.function) not in hub.holds:
            self._send_inputs(hub, task)
        out.append(Send(hub.address, run_task(task, record, group.number)))
        hub.said_at = self._now

    def _send_inputs(self, hub: Hub, task: Slice) -> None:
        """Say what the hub lacks of what the slice needs."""
        spec = task.record.spec
        for name in (task.function, *spec.constants, *spec.depends):
            if name:
                self.state.hold(hub, name)

    def why(self, task: Slice, item: int, now: float) -> str:
        """Why a call, which lies in this slice, still waits, in a sentence for its owner."""
        state, record = self.state, task.record
        if task.state is TaskState.BLOCKED:
            needs = (state.needed(name) for name in record.spec.depends)
            names = [needed for needed, item in needs if needed is not None and not needed.has_result(item)]
            if not names:
                return "waits for the result of the same call, which is being computed (cache=True)"
            return f"waits for the results of {len(names)} other task{'s' * (len(names) != 1)}"
        if task.state is TaskState.ASSIGNED and task.orphan is not None:
            return "waits for its hub, which may still be running it, to come back to the restarted core"
        if task.state is not TaskState.QUEUED:
            return f"does not wait: it is {task.state}"
        if task in state.withheld:
            return (
                f"waiting: it ran {task.crashes} times when its worker or hub ended; it runs again when no other task "
                "of which that is true does, so that the guilty one is found"
            )
        if self.held:
            return "waiting: the core's disk is full, and nothing is started before there is room"
        if not any(group.alive for hub in state.hubs.values() for group in hub.groups):
            return "waiting: no hub has a worker; start one with %lb_hub or `nblb hub`"
        takers = [group for group in state.placement.takers(record) if group.alive]
        if not takers:
            return self._no_taker(task)
        return place_in_line.describe(state, task, item, takers, now)

    def _no_taker(self, task: Slice) -> str:
        state, spec = self.state, task.record.spec
        bands = [band for band in state.placement.bands if state.placement.workers(band)]
        if not any(band.takes(spec.priority) for band in bands):
            known = ", ".join(f"{band.low:g} to {band.high:g}" for band in bands)
            return f"waiting: no worker takes priority {spec.priority:g} (those here take {known})"
        if not spec.function:
            names = {name for hub in state.hubs.values() for name in hub.functions} | set(state.published)
            close = difflib.get_close_matches(spec.name, sorted(names), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "addTask or publish it"
            return f"waiting: no hub knows a task named {spec.name!r} ({hint})"
        version = ".".join(map(str, spec.python))
        return f"waiting: no hub runs Python {version}, which its function needs"
