"""Workers that wait for nested tasks, and their stand-ins; a part of slots.py; pure.

A task that waits for tasks it has submitted uses no CPU, and the nested tasks need a slot. So its worker gives up its
slot, and another worker, a *stand-in*, uses it meanwhile: a parked one or a new one. When the wait is over, the worker
asks the core for a slot and resumes when the core grants it; the stand-in is then parked, and ends after some seconds
without use. So a group never runs more tasks at once than it has slots.

At most `most_waits` workers may have given up their slots. One more keeps its slot while it waits, unless no other
worker of its group runs anything: then nothing could run the nested tasks, and the wait fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nblb.hub.slots.attempts import Attempt, AttemptState, WorkerSlot
from nblb.hub.slots.in_flight import InFlight
from nblb.hub.slots.workers import NO_MORE, WorkerTable
from nblb.protocol.commands import RefuseWait, ResumeWorker
from nblb.protocol.messages import LendSlot, Message, ResumeTask, WaitBegan, WaitEnded

MOST_MEMORY = 0.95  # part of the machine's memory in use, above which no more stand-ins are started


class Waits:
    """Lends the slots of waiting workers to stand-ins, and returns them."""

    def __init__(
        self,
        in_flight: InFlight,
        worker_table: WorkerTable,
        say: Callable[[Message], None],
        announce: Callable[[Attempt], None],
        memory: Callable[[], float],
        most: int,
    ) -> None:
        self._in_flight, self._workers_table, self._send, self._announce = in_flight, worker_table, say, announce
        self._memory, self._most = memory, most
        self._holders: dict[WorkerSlot, WaitBegan] = {}  # waiting workers that keep their slots
        self.from_core: dict[type, Callable[[Any, float], None]] = {
            ResumeTask: self._resume,
            LendSlot: self._lend_asked,
        }
        self.from_worker: dict[type, Callable[[WorkerSlot, Any, float], None]] = {
            WaitBegan: self._began,
            WaitEnded: self._ended,
        }

    def report(self, slice_: Attempt) -> None:
        """Report to the core the wait that the slice is in."""
        run = slice_.run
        if slice_.wait:
            wait, lent = slice_.wait, slice_.lent
            self._send(WaitBegan(task=run.task, attempt=run.attempt, first=run.first, wait=wait, lent=lent))
            if slice_.wait_ended:
                self._send(WaitEnded(task=run.task, attempt=run.attempt, first=run.first, wait=slice_.wait))

    def _began(self, worker: WorkerSlot, message: WaitBegan, now: float) -> None:
        slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
        if slice_ is None or slice_.state is not AttemptState.RUNNING or slice_.stop or worker.is_doomed:
            return  # it is being stopped
        if slice_.wait:
            return  # its slot is lent already
        if self._may_lend():
            self._lend(worker, slice_, message.wait, now)
        else:
            worker.holds_slot = True
            self._holders[worker] = message
            self.tick(now)

    def tick(self, now: float) -> None:
        """Check the waiting workers that keep their slots: another worker must be left to run the nested tasks."""
        for worker, message in list(self._holders.items()):
            slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
            if not worker.holds_slot or slice_ is None or slice_.stop:
                del self._holders[worker]
            elif self._may_lend():
                worker.holds_slot = False
                del self._holders[worker]
                self._lend(worker, slice_, message.wait, now)
            elif not self._others_run(worker):
                worker.holds_slot = False
                del self._holders[worker]
                self._in_flight.out.append(RefuseWait(worker.id))

    def _lend_asked(self, message: LendSlot, now: float) -> None:
        """Lend the slot of a worker that, as the core concludes, waits without having reported it."""
        slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
        if slice_ is None or slice_.state is not AttemptState.RUNNING or slice_.stop or slice_.wait:
            return
        worker = self._workers_table.workers[slice_.worker]
        if not (worker.is_doomed or worker.holds_slot) and self._may_lend():
            self._lend(worker, slice_, 0, now)

    def _may_lend(self) -> bool:
        waiting = sum(worker.waits for worker in self._workers_table.workers.values())
        return waiting < self._most and self._memory() < MOST_MEMORY

    @staticmethod
    def _others_run(worker: WorkerSlot) -> bool:
        """Return whether another worker of its group uses a slot, and so can run the nested tasks."""
        return any(
            not (other is worker or other.waits or other.parked_at or other.leaves or other.holds_slot)
            for other in worker.group.workers.values()
        )

    def _lend(self, worker: WorkerSlot, slice_: Attempt, wait: int, now: float) -> None:
        """Lend the worker's slot until the core grants it one again."""
        in_flight = self._in_flight
        if slice_ in in_flight.unannounced:
            del in_flight.unannounced[slice_]
            self._announce(slice_)
        if len(worker.given) > 1:
            in_flight.out.append(self._workers_table.nothing_ahead(worker))
        worker.planned_s, worker.waits = NO_MORE, True
        slice_.waits += 1
        slice_.wait, slice_.worker_wait, slice_.lent, slice_.wait_ended = slice_.waits, wait, wait == 0, False
        self.report(slice_)
        in_flight.out += self._workers_table.fill(worker.group, now)
        in_flight.deal(worker.group, now)

    def _ended(self, worker: WorkerSlot, message: WaitEnded, _now: float) -> None:
        slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
        worker.holds_slot = False
        if slice_ is None or not slice_.wait or slice_.worker_wait != message.wait:
            self._in_flight.out.append(ResumeWorker(worker.id))  # it has kept its slot
            return
        slice_.wait_ended = True
        run = slice_.run
        self._send(WaitEnded(task=run.task, attempt=run.attempt, first=run.first, wait=slice_.wait))

    def _resume(self, message: ResumeTask, now: float) -> None:
        slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
        if slice_ is None or slice_.wait != message.wait or not (slice_.wait_ended or slice_.lent):
            return  # it has ended, or has resumed already
        worker = self._workers_table.workers[slice_.worker]
        if not slice_.lent:
            self._in_flight.out.append(ResumeWorker(worker.id))
        slice_.wait, slice_.wait_ended, slice_.lent, worker.waits = 0, False, False, False
        self._workers_table.park_surplus(worker.group, now)
