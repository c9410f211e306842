"""The slots' table of workers: the free ones, those open to one more slice, and restarts of dead ones; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from nblb.hub.slots.attempts import GroupOfSlots, WorkerSlot
from nblb.protocol.commands import Command, RetireWorker, StartWorker, TakeBack
from nblb.protocol.messages import Group, Message, WorkerStarted

BACKOFF_S = (0.05, 10.0)  # first and longest delay before a worker that died at once is started again
AT_ONCE_S = 5.0
PARKED_S = 5.0  # how long a worker beyond the slots is kept
INFINITY = float("inf")
NO_MORE = 1e9  # as planned work: the worker gets nothing ahead


class WorkerTable:
    """All workers of a hub, by group."""

    def __init__(self, groups: Sequence[Group], new_worker_id: Callable[[], str]) -> None:
        self.groups = [GroupOfSlots(number, spec) for number, spec in enumerate(groups)]
        self.workers: dict[str, WorkerSlot] = {}
        self.ahead: dict[WorkerSlot, None] = {}  # workers with slices waiting in their sockets
        self.is_closing = False  # no worker is replaced any more
        self.report: Callable[[Message], None] = lambda _message: None  # to the core
        self._new_worker_id = new_worker_id

    @property
    def is_busy(self) -> bool:
        return any(worker.given for worker in self.workers.values())

    def fill(self, group: GroupOfSlots, now: float, delay_s: float = 0.0) -> list[Command]:
        """Start the workers that the group lacks, including stand-ins for waiting workers."""
        staying = sum(not (worker.leaves or worker.is_stand_in) for worker in group.workers.values())
        commands = [
            self._start(group, now, delay_s)
            for _ in range(group.wanted - staying)
            if not group.stand_ins or not self._promote(group)
        ]
        if group.stand_ins or group.parked or any(worker.waits for worker in group.workers.values()):
            for _ in range(-self.surplus(group)):
                if group.parked:
                    worker = group.parked.pop()
                    worker.parked_at = worker.planned_s = 0.0
                    group.idle.append(worker)
                else:
                    commands.append(self._start(group, now, delay_s, stand_in=True))
        return commands

    def _start(self, group: GroupOfSlots, now: float, delay_s: float, stand_in: bool = False) -> Command:
        worker = WorkerSlot(self._new_worker_id(), group, now + delay_s)
        worker.is_stand_in = stand_in
        group.stand_ins += stand_in
        self.workers[worker.id] = group.workers[worker.id] = worker
        return StartWorker(worker.id, group.number, now + delay_s if delay_s else 0.0)

    def _promote(self, group: GroupOfSlots) -> bool:
        """Make a stand-in take the place of a worker that has gone or leaves; return False if there is none."""
        for worker in group.workers.values():
            if worker.is_stand_in and not (worker.leaves or worker.parked_at):
                leaving = next((w for w in group.workers.values() if w.leaves and not w.is_stand_in), None)
                if leaving is not None:  # until it has ended it would be one slot too many
                    self._demote(leaving)
                worker.is_stand_in = False
                group.stand_ins -= 1
                if worker.is_ready:
                    self.report(WorkerStarted(worker=worker.id, group=group.number, pid=worker.pid))
                return True
        return False

    def _demote(self, worker: WorkerSlot) -> None:
        """Make a worker that must go a stand-in, so that another stand-in can take its place."""
        worker.is_stand_in = True
        worker.group.stand_ins += 1
        if worker.is_ready:
            self.report(WorkerStarted(worker=worker.id, group=worker.group.number, pid=worker.pid, stand_in=True))

    @staticmethod
    def surplus(group: GroupOfSlots) -> int:
        """Return how many more workers use a slot, or will when ready, than the group has slots; negative: too few.

        Each worker that is not a stand-in is one slot, also while it is about to leave.
        """
        workers = group.workers.values()
        active = sum(not (worker.waits or worker.parked_at) for worker in workers)
        return active - (len(workers) - group.stand_ins)

    def park_surplus(self, group: GroupOfSlots, now: float) -> None:
        """Park an idle worker, since one that has waited resumes."""
        while group.idle and self.surplus(group) > 0:
            self._park(group.idle.pop(), now)

    @staticmethod
    def _park(worker: WorkerSlot, now: float) -> None:
        worker.parked_at = now
        worker.planned_s = NO_MORE  # it may still be in its group's `open`
        worker.group.parked.append(worker)

    def retire_parked(self, now: float) -> list[Command]:
        """End the parked workers that have not been used for long."""
        commands: list[Command] = []
        for group in self.groups:
            while group.parked and group.parked[0].parked_at + PARKED_S <= now:
                worker = group.parked.popleft()
                if not worker.is_stand_in and group.stand_ins:
                    self._demote(worker)  # first, so that there is never one slot too many
                    self._promote(group)
                worker.leaves = True
                commands.append(RetireWorker(worker.id))
        return commands

    def next_to_retire(self) -> float:
        """Return when `retire_parked` has something to do."""
        return min((group.parked[0].parked_at + PARKED_S for group in self.groups if group.parked), default=INFINITY)

    def taker(self, group: GroupOfSlots, user: str, estimate_s: float | None, most_s: float) -> WorkerSlot | None:
        """Return the worker for a slice of this user and length: a free one, or a busy one if the slice is short."""
        if group.idle:
            if group.idle[0].serves(user):  # nearly always
                return group.idle.popleft()
            return self._own_idle(group, user)
        if estimate_s is None or estimate_s > most_s:
            return None
        candidates, others = group.open, 0
        while others < len(candidates):
            worker = candidates[0]
            most = group.spec.max_tasks
            if worker.user != user:
                others += 1
                candidates.rotate(-1)
            elif worker.takes(estimate_s, most_s) and (not most or worker.calls + len(worker.given) <= most):
                candidates.rotate(-1)
                return worker
            else:
                candidates.popleft().is_listed = False
        return None

    @staticmethod
    def _own_idle(group: GroupOfSlots, user: str) -> WorkerSlot | None:
        found = next((worker for worker in group.idle if worker.serves(user)), None)
        if found is not None:
            group.idle.remove(found)
        return found

    def replace_for(self, group: GroupOfSlots, users: Iterable[str], now: float) -> list[Command]:
        """Replace idle workers of other users by fresh processes, as many as the slices of these users need.

        Workers that are starting count: each takes one of the slices, whichever user it belongs to.
        """
        if self.is_closing:
            return []
        idle, commands = list(group.idle), list[Command]()
        fresh = sum(not (worker.is_ready or worker.leaves) and worker.started_at <= now
                    for worker in group.workers.values())  # fmt: skip
        for user in users:
            if not idle:
                break
            own = next((worker for worker in idle if worker.serves(user)), None)
            if own is not None:
                idle.remove(own)
            elif fresh:
                fresh -= 1
            else:
                worker = idle.pop(0)
                group.idle.remove(worker)
                worker.leaves, worker.planned_s = True, NO_MORE
                commands.append(RetireWorker(worker.id, "a fresh process takes its place, for another user"))
        return [*commands, *self.fill(group, now)] if commands else []

    def list_open(self, worker: WorkerSlot) -> None:
        """List a busy worker that may take short slices."""
        if not worker.is_listed:
            worker.is_listed = True
            worker.group.open.append(worker)

    def has_run(self, worker: WorkerSlot, calls: int) -> bool:
        """Count its calls; return True when it must get no more slices."""
        worker.done += 1
        worker.calls += calls
        most = worker.group.spec.max_tasks
        if most and worker.calls >= most:
            worker.is_spent = True
        return worker.is_spent

    def free(self, worker: WorkerSlot, now: float) -> list[Command]:
        """Make a worker without slices idle, or replace or retire it."""
        worker.planned_s, worker.waits, worker.holds_slot = 0.0, False, False
        self.ahead.pop(worker, None)
        if worker.is_doomed:
            return []
        if worker.is_spent and not worker.leaves and not self.is_closing:
            worker.leaves, worker.planned_s = True, NO_MORE
            why = f"it is replaced after {worker.calls} tasks"
            return [RetireWorker(worker.id, why), *self.fill(worker.group, now)]
        if worker.leaves:
            worker.planned_s = NO_MORE  # it may still be in its group's `open`
            return [RetireWorker(worker.id)]
        if worker.group.stand_ins and self.surplus(worker.group) > 0:
            self._park(worker, now)
        else:
            worker.group.idle.append(worker)
        return []

    def nothing_ahead(self, worker: WorkerSlot) -> Command:
        """Take back the slices behind the running one, and send no more before that has ended."""
        self.ahead.pop(worker, None)
        worker.planned_s = NO_MORE
        return TakeBack(worker.id)

    def bury(self, worker: WorkerSlot) -> None:
        """Remove a dead worker."""
        group = worker.group
        del self.workers[worker.id], group.workers[worker.id]
        self.ahead.pop(worker, None)
        group.stand_ins -= worker.is_stand_in
        if worker in group.idle:
            group.idle.remove(worker)
        if worker in group.parked:
            group.parked.remove(worker)
        if worker in group.open:
            group.open.remove(worker)

    def delay_s(self, worker: WorkerSlot, ran: bool, killed: bool, now: float) -> float:
        """Return the delay before its restart. A task that kills its worker must not take the place for long."""
        group = worker.group
        at_once = now - worker.started_at < AT_ONCE_S
        if killed or not at_once or worker.done:
            group.deaths = 0
            return 0.0
        if ran:
            return BACKOFF_S[0]
        group.deaths += 1
        return min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** (group.deaths - 1))

    def scale(self, group: GroupOfSlots, wanted: int, now: float, first: Collection[str] = ()) -> list[Command]:
        """Change the number of workers: start some, or end idle ones, and busy ones when their work is done.

        Those of `first` end before others.
        """
        group.wanted = wanted
        commands = self.fill(group, now)
        staying = [worker for worker in group.workers.values() if not (worker.leaves or worker.is_stand_in)]
        staying.sort(key=lambda worker: (worker.id not in first, worker.is_ready, len(worker.given)))
        for worker in staying[: len(staying) - wanted]:
            worker.leaves = True
            if worker in group.idle or worker in group.parked:
                (group.parked if worker.parked_at else group.idle).remove(worker)
                commands.append(RetireWorker(worker.id))
            elif worker.given:
                commands.append(self.nothing_ahead(worker))
        self.park_surplus(group, now)
        return commands
