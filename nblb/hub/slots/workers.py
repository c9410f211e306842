"""The workers of a hub as its slots see them: who is free, who can take one more, when a dead one comes back; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nblb.hub.slots.attempts import GroupOfSlots, WorkerSlot
from nblb.protocol.commands import Command, RetireWorker, StartWorker, TakeBack
from nblb.protocol.messages import Group

BACKOFF_S = (0.05, 10.0)  # before a worker that died at once is started again, at first and at last
AT_ONCE_S = 5.0
NO_MORE = 1e9  # as the planned work of a worker that shall get nothing ahead


class WorkerTable:
    """All workers, by group."""

    def __init__(self, groups: Sequence[Group], new_worker_id: Callable[[], str]) -> None:
        self.groups = [GroupOfSlots(number, spec) for number, spec in enumerate(groups)]
        self.workers: dict[str, WorkerSlot] = {}
        self.ahead: dict[WorkerSlot, None] = {}  # those with slices waiting in their sockets
        self.is_closing = False  # nobody is replaced any more
        self._new_worker_id = new_worker_id

    @property
    def is_busy(self) -> bool:
        return any(worker.given for worker in self.workers.values())

    def fill(self, group: GroupOfSlots, now: float, delay_s: float = 0.0) -> list[Command]:
        """Start the workers that the group lacks."""
        commands: list[Command] = []
        staying = sum(not worker.leaves for worker in group.workers.values())
        for _ in range(group.wanted - staying):
            worker = WorkerSlot(self._new_worker_id(), group, now + delay_s)
            self.workers[worker.id] = group.workers[worker.id] = worker
            commands.append(StartWorker(worker.id, group.number, now + delay_s if delay_s else 0.0))
        return commands

    def taker(self, group: GroupOfSlots, user: str, estimate_s: float | None, most_s: float) -> WorkerSlot | None:
        """The worker that takes a slice of this user and length now: a free one, or one with room for a short one."""
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
        """Replace idle workers of other users by fresh processes, as many as these slices' users lack.

        Workers that start already count: each takes one of the slices, whosever that is.
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
        """It is busy, and may have room for short slices."""
        if not worker.is_listed:
            worker.is_listed = True
            worker.group.open.append(worker)

    def has_run(self, worker: WorkerSlot, calls: int) -> bool:
        """Count its calls; True when it shall be given nothing more."""
        worker.done += 1
        worker.calls += calls
        most = worker.group.spec.max_tasks
        if most and worker.calls >= most:
            worker.is_spent = True
        return worker.is_spent

    def free(self, worker: WorkerSlot, now: float) -> list[Command]:
        """It has nothing in hand."""
        worker.planned_s = 0.0
        self.ahead.pop(worker, None)
        if worker.is_doomed:
            return []
        if worker.is_spent and not worker.leaves and not self.is_closing:
            worker.leaves, worker.planned_s = True, NO_MORE
            why = f"it is replaced after {worker.calls} tasks"
            return [RetireWorker(worker.id, why), *self.fill(worker.group, now)]
        if worker.leaves:
            worker.planned_s = NO_MORE  # it may still stand among its group's open ones
            return [RetireWorker(worker.id)]
        worker.group.idle.append(worker)
        return []

    def nothing_ahead(self, worker: WorkerSlot) -> Command:
        """Take back what waits behind its slice, and give it nothing more before that has ended."""
        self.ahead.pop(worker, None)
        worker.planned_s = NO_MORE
        return TakeBack(worker.id)

    def bury(self, worker: WorkerSlot) -> None:
        """It is dead: nobody looks for it any more."""
        group = worker.group
        del self.workers[worker.id], group.workers[worker.id]
        self.ahead.pop(worker, None)
        if worker in group.idle:
            group.idle.remove(worker)
        if worker in group.open:
            group.open.remove(worker)

    def delay_s(self, worker: WorkerSlot, ran: bool, killed: bool, now: float) -> float:
        """How long its place stays empty. A task that kills its worker must not cost others theirs for long."""
        group = worker.group
        at_once = now - worker.started_at < AT_ONCE_S
        if killed or not at_once or worker.done:
            group.deaths = 0
            return 0.0
        if ran:
            return BACKOFF_S[0]
        group.deaths += 1
        return min(BACKOFF_S[1], BACKOFF_S[0] * 2.0 ** (group.deaths - 1))

    def scale(self, group: GroupOfSlots, wanted: int, now: float) -> list[Command]:
        """The group shall have this many: start some, or let idle ones go, and busy ones when they are done."""
        group.wanted = wanted
        commands = self.fill(group, now)
        staying = [worker for worker in group.workers.values() if not worker.leaves]
        staying.sort(key=lambda worker: (worker.is_ready, len(worker.given)))
        for worker in staying[: len(staying) - wanted]:
            worker.leaves = True
            if worker in group.idle:
                group.idle.remove(worker)
                commands.append(RetireWorker(worker.id))
            elif worker.given:
                commands.append(self.nothing_ahead(worker))
        return commands
