"""Assigns waiting slices to free workers by the rules of docs/scheduling.md: whose turn, which, where, how much."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from itertools import islice

from nblb.protocol.commands import Record, Send
from nblb.protocol.journal_entries import AttemptKept
from nblb.protocol.messages import TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.hubs import Assignment, GroupOfWorkers, Hub
from nblb.scheduling.intake import run_task
from nblb.scheduling.nesting import waits
from nblb.scheduling.placement import MOST_COMPARED
from nblb.scheduling.reporting import at_hub, compatible, place_in_line, quotas
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State
from nblb.scheduling.submission import Kind, Submission

MAX_A_TURN = 2000  # slices, so that one turn of the shell stays short


class Dispatch:
    """Assigns slices to groups of workers."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.sent_ahead: list[Assignment] = []  # in the last run, for invariants.py
        self.waiting: list[tuple[UserQueue, Slice, Band]] = []  # users who wait for the next slot, for recall.py
        self.held = False  # the disk is full: nothing new is started
        self.suspect_from = state.policy.most_ends - 1  # crashes
        self._estimates = state.placement.estimates
        self._now = self._wall = 0.0  # the current time by both clocks

    def run(self, now: float) -> None:
        """Assign until no slice waits that a free worker could run, then send short slices ahead."""
        state = self.state
        if not state.dispatch_due or self.held:
            return
        state.dispatch_due = False
        if state.withheld and not self._runs_suspect():
            withheld, state.withheld = state.withheld, {}
            for task in withheld:
                state.enqueue(task)
            state.dispatch_due = False
        self._now, self._wall = now, state.wall(now)
        state.placement.now = now
        self.sent_ahead, self.waiting = [], []
        left = MAX_A_TURN
        for band in state.placement.bands:
            left -= self._serve(band, left)
        for band in state.placement.bands:
            left -= self._send_ahead(band, left)
        if left <= 0:
            state.dispatch_due = True

    def _serve(self, band: Band, most: int) -> int:
        """Assign the free workers of this band to users in turn; return the number of slices assigned.

        Workers that have waited for nested tasks resume first where their turn has come.
        """
        placement, resumable, given = self.state.placement, self.state.resumable, 0
        free = placement.rooms[band].free.groups
        passed: list[UserQueue] = []  # users whose next slice no free worker can run
        entry = band.first() if free else None
        while given < most and free:  # (none is assigned if only a suspect hub has room)
            if resumable and waits.resume_next(self.state, band, entry, self._now):
                entry = band.first()
                continue
            if entry is None:
                break
            _, _, _, user, task = entry
            if task.crashes >= self.suspect_from and self._withhold(task, user, band):
                entry = band.first()
                continue
            group = placement.choose_free(task.record)
            if group is not None and group.band is not band and not _is_next(user, task, group.band):
                group = placement.choose_free(task.record, band)
            if group is None:
                task, group = self._another(task, user, band)
            if group is None:
                band.pass_over(user)
                passed.append(user)
                entry = band.first()
                continue
            items = 1 if task.items == 1 else placement.slice_items(task, user, band)
            self._assign(task, items, user, band, group)
            given += 1
            band.correct(user)
            entry = band.first()
        for user in passed:
            band.mark(user)
        return given

    def _runs_suspect(self) -> bool:
        """Return whether a hub may be running a slice that one more sudden end of its hub makes LOST.

        Such a slice must be the only one of its sort that runs. One that waits for nested tasks does not count: it runs
        nothing, and may be waiting for another such slice.
        """
        orphans = (task for orphan in self.state.orphans.values() for task in orphan.tasks())
        held = (task for held in self._running() for task in held.tasks)
        return any(task.crashes >= self.suspect_from for tasks in (held, orphans) for task in tasks)

    def _withhold(self, task: Slice, user: UserQueue, band: Band) -> bool:
        """Take such a slice out of the line while another one may be running; return whether it was taken out."""
        if task.items > 1 or not self._runs_suspect():
            return False
        user.withhold(task, band)
        self.state.withheld[task] = None
        self.state.share.line_changed(user, task.record.spec.priority)
        return True

    def _running(self) -> Iterator[Assignment]:
        """Yield the attempts that hubs have, without those that wait for nested tasks."""
        return (held for hub in self.state.hubs.values() for held in hub.in_flight.values() if not held.wait)

    def _another(self, best: Slice, user: UserQueue, band: Band) -> tuple[Slice, GroupOfWorkers | None]:
        """Return the user's next slice of another kind, and a group with a free worker that can run it."""
        for task in user.others(band.low, band.high, band.has):
            if task.record.kind != best.record.kind:
                group = self.state.placement.choose_free(task.record, band)
                if group is not None:
                    return task, group
        return best, None

    def _send_ahead(self, band: Band, most: int) -> int:
        """Send short slices ahead to the busy workers of this band; return the number of slices assigned.

        A user whose turn it is, and whose next slice finds no capacity now, gets the next slot that becomes free. So
        no later user's work is sent ahead to where that slice could run: it would take this slot again and again.
        """
        placement, given = self.state.placement, 0
        room = placement.rooms[band]
        if not (room.ahead.groups or room.full):
            return 0
        if any(held.group.band is band for held in self.state.resumable):
            return 0  # a worker whose wait is over gets the next free slot
        passed: list[UserQueue] = []
        closed: list[Kind] = []  # kinds of the slices that wait for the next slot
        compared: object = None  # the level whose users have been compared, and with what sort of group
        entry = band.first()
        while entry is not None and given < most:
            level, _, _, user, best = entry
            if best.crashes >= self.suspect_from and self._withhold(best, user, band):
                entry = band.first()
                continue
            task, items, group = self._next_ahead(best, user, band, closed)
            own = user.level if not band.worker_class else user.of_class(band.worker_class).level
            key = group and (level, own, user.group, group.alive, group.way_s)  # equal: the same are too long
            if group is not None and compared != key:
                compared = key
                closed += (kinds := self._too_long_of_equals(band, group))
                if kinds:
                    continue
            if task is not None and group is not None:
                self.sent_ahead.append(self._assign(task, items, user, band, group))
                given += 1
                band.correct(user)
            else:
                if task is not None:
                    self.waiting.append((user, task, band))
                    closed += _kinds(task, user, band)
                    if placement.is_closed(band, closed):
                        break
                band.pass_over(user)
                passed.append(user)
            entry = band.first()
        for user in passed:
            band.mark(user)
        return given

    def _next_ahead(
        self, best: Slice, user: UserQueue, band: Band, closed: list[Kind]
    ) -> tuple[Slice | None, int, GroupOfWorkers | None]:
        """Return the user's next slice that a hub of this band can run, how many items, and the group to send to."""
        placement = self.state.placement
        items = 1 if best.items == 1 else placement.slice_items(best, user, band)
        group = placement.choose_ahead(best.record, items, band, closed)
        if group is not None or placement.can_run(best.record.kind, band):
            return best, items, group
        for task in user.others(band.low, band.high, band.has):
            if placement.can_run(task.record.kind, band):
                items = placement.slice_items(task, user, band)
                return task, items, placement.choose_ahead(task.record, items, band, closed)
        return None, 0, None

    def _too_long_of_equals(self, band: Band, group: GroupOfWorkers) -> list[Kind]:
        """Return the kinds of next slices, too long to be sent ahead, of users at the same level as the first.

        If one of their slots becomes free next, it is their turn again: work sent ahead must not delay them.
        """
        is_short = self.state.placement.is_short
        return [task.record.kind for task in band.equals(MOST_COMPARED) if not is_short(task, group)]

    def _assign(self, task: Slice, items: int, user: UserQueue, band: Band, group: GroupOfWorkers) -> Assignment:
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
        task.held = held
        task.move("RunTask", self._now)
        hub.in_flight[fence] = held
        group.work_changed(1, estimate_s)
        user.occupy(1, group.band.worker_class)
        if user.is_special:
            self.state.share.assigned(user)
        out.append(Record(AttemptKept(record.id, first, items, attempt, hub.id, self._wall)))
        if not record.alone or (task.code or record.spec.function) not in hub.holds:
            self._send_inputs(hub, task)
        out.append(Send(hub.address, run_task(task, record, group.number)))
        hub.said_at = self._now
        return held

    def _send_inputs(self, hub: Hub, task: Slice) -> None:
        """Send the hub those inputs of the slice that it does not have."""
        spec = task.record.spec
        for name in (task.function, *spec.constants, *spec.depends):
            if name:
                self.state.supply(hub, name)

    def why(self, task: Slice, item: int, now: float) -> str:
        """Return a sentence for the owner about why a call in this slice still waits."""
        state, record = self.state, task.record
        if nested := waits.why(state, task):
            return nested
        if task.state is TaskState.BLOCKED:
            needs = (state.needed(name) for name in record.spec.depends)
            names = [needed for needed, item in needs if needed is not None and not needed.has_result(item)]
            if not names:
                return "waits for the result of the same call, which is being computed (cache=True)"
            return f"waits for the results of {len(names)} other task{'s' * (len(names) != 1)}"
        if task.state is not TaskState.QUEUED:
            return at_hub.describe(state, task, item, now)
        if task in state.delayed:
            return state.delayed.why(task, now)
        if task in state.withheld:
            return (
                f"waiting: it ran {task.crashes} times when its worker or hub ended; it runs again when no other such "
                "task runs, so that the guilty one is found"
            )
        if self.held:
            return "waiting: the core's disk is full, and nothing is started before there is room"
        takers = [group for group in state.placement.takers(record) if group.alive]
        if not takers:
            return f"waiting: {self.no_taker(record)}"
        if all(group.hub.suspect for group in takers):
            return at_hub.silent(takers, now)
        if held := quotas.holds_back(state, task, now):
            return held
        takers = [group for group in takers if not group.hub.suspect]
        state.placement.now = now
        spec_s = record.spec.time_s
        in_time = [group for group in takers if state.placement.is_in_time(record, group.hub)]
        if not in_time:
            return at_hub.too_late(takers, spec_s or state.placement.estimates.item_s(record), now)
        return place_in_line.describe(state, task, item, in_time, now)

    def no_taker(self, record: Submission) -> str:
        """Return a sentence about why no connected worker can ever run the submission; "" if one can."""
        state, spec = self.state, record.spec
        takers = list(state.placement.takers(record))
        if any(group.alive for group in takers):
            return ""
        starting = next((group.hub for group in takers if group.wanted), None)
        if starting is not None:
            if others := compatible.used_by_others(starting):
                return others
            return f"the workers of hub {starting.name} that take it are starting"
        bands = [band for band in state.placement.bands if state.placement.workers(band)]
        if not bands:
            return "no hub has a worker; start one with %lb_hub or `nblb hub`"
        if not any(band.takes(spec.priority) for band in bands):
            known = ", ".join(f"{band.low:g} to {band.high:g}" for band in bands)
            return f"no worker takes priority {spec.priority:g} (those here take {known})"
        if not (open_to := [band for band in bands if band.takes(spec.priority) and band.admits(record.user)]):
            return self._not_admitted(record, [band for band in bands if band.takes(spec.priority)])
        groups = [group for band in open_to for group in state.placement.by_band[band]]
        if missing := compatible.lacks_equipment([group for group in groups if group.alive], record.kind):
            return missing
        groups = [group for group in groups if group.has_needs(record.kind)]
        staying = [group.hub for group in groups if group.alive and not group.hub.leaves]
        working = [hub for hub in staying if not hub.draining]
        if staying and not working:
            return f"hub {staying[0].name} is drained, and no other takes it"
        if not staying:
            leaving = next(group.hub for group in groups if group.alive)
            return f"hub {leaving.name} is being stopped, and no other takes it"
        if not spec.function:
            names = {name for hub in state.hubs.values() for name in hub.functions} | set(state.published)
            close = difflib.get_close_matches(spec.name, sorted(names), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "addTask or publish it"
            if any(spec.name in hub.functions for hub in state.hubs.values()):
                hint = f"a hub that knows it takes no priority {spec.priority:g}"
            return f"no hub knows a task named {spec.name!r} ({hint})"
        return compatible.lacks(state, spec)

    def _not_admitted(self, record: Submission, bands: list[Band]) -> str:
        """Return a sentence about hubs whose owners do not let tasks of this user run there."""
        groups = [group for band in bands for group in self.state.placement.by_band[band] if group.alive]
        known = {group.hub.name: ", ".join(sorted(group.band.only)) for group in groups[:MOST_COMPARED]}
        only = "; ".join(f"{hub} runs only those of {users}" for hub, users in known.items())
        return f"no hub here runs tasks of {record.user} ({only}); ask a hub's owner to add the name to its --only"


def _kinds(task: Slice, user: UserQueue, band: Band) -> dict[Kind, None]:
    """Return the kinds of the tasks of a user who waits: a hub that cannot run the next one may run another."""
    others = islice(user.others(band.low, band.high, band.has), MOST_COMPARED)
    return dict.fromkeys([task.record.kind, *(other.record.kind for other in others)])


def _is_next(user: UserQueue, task: Slice, band: Band) -> bool:
    """Return whether it is this user's turn in the band, with this slice."""
    entry = band.first()
    return entry is not None and entry[3] is user and entry[4] is task
