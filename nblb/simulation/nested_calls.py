"""Calls that submit tasks of their own and wait for them, in the simulation.

A worker connects as a client of its task's user when a call first submits something, as a real one does
(client/nested.py). The call submits its children when it begins and waits for them halfway through, in some cases with
a time limit; it goes on when its hub allows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, Message, RunTask, SubmitTask, TaskEnded, TaskReopened, WaitBegan, WaitEnded
from nblb.simulation.simulated_client import Observer, SimulatedClient
from nblb.simulation.workload import FUNCTIONS, Conduct

if TYPE_CHECKING:
    from nblb.simulation.simulated_pool import SimulatedWorker

IMPATIENT = 0.15  # share of the waits that have a time limit
RETURNS = 0.2  # share of the calls that return a child instead of waiting


def child_of(run: RunTask, item: int, number: int, conduct: Conduct) -> tuple[SubmitTask, Conduct]:
    """Returns a child that a call submits, and its conduct; the result is the same for the same attempt."""
    task = f"{run.task}i{item}a{run.attempt}k{number}"
    spec = SubmitTask(
        task=task,
        name="child",
        function=FUNCTIONS[number % 2],
        payload=Payload((b"\0",)),
        user="somebody else" if number else "",
        parent=run.task,
        parent_item=item,
        parent_attempt=run.attempt,
    )
    return spec, Conduct(conduct.seconds, nests=conduct.nests - 1)


class NestedCalls:
    """The nested calls of one worker."""

    def __init__(self, worker: SimulatedWorker) -> None:
        self.worker = worker
        self.waits = False  # from WaitBegan until it may go on
        self.silent_run: RunTask | None = None  # a call of it waits, or has waited, without WaitBegan
        self._wait = 0
        self._asks = self._is_silent = False
        self._turn = 0
        self._offset = 0
        self._left_s = 0.0
        self._open: set[str] = set()
        self._client: SimulatedClient | None = None

    @property
    def uses_no_slot(self) -> bool:
        """True while it waits, or runs a slice of which a call has waited silently: others may use its slot."""
        return self.waits or (self.silent_run is not None and self.silent_run is self.worker.run)

    @property
    def goes_on_unasked(self) -> bool:
        """True if its slice has waited silently and runs again, so that it will never ask for a slot."""
        return not self.waits and self.silent_run is not None and self.silent_run is self.worker.run

    def begin(self, turn: int, run: RunTask, offset: int, conduct: Conduct, seconds: float) -> None:
        """Begins a call, which submits its children."""
        pool = self.worker.pool
        self.waits = self._asks = self._is_silent = False
        self._turn, self._offset, self._left_s, self._open = turn, offset, seconds / 2, set()
        client = self._client_of(run.user)
        for number in range(conduct.nests):
            spec, its = child_of(run, run.first + offset, number, conduct)
            pool.bystander.nests(spec, its)
            self._open.add(spec.task)
            client.say(spec)
        pool.simulator.after(seconds / 2, self._begin_wait, turn, run)

    def _client_of(self, user: str) -> SimulatedClient:
        if self._client is None or self._client.user != user:
            self.crash()
            assert self.worker.pool.connect is not None
            self._client = self.worker.pool.connect(user, _Watch(self, self.worker.pool.bystander))
        return self._client

    def _is_at(self, turn: int) -> bool:
        worker = self.worker
        return turn == worker.turn == self._turn and worker.alive and not worker.stopped

    def _begin_wait(self, turn: int, run: RunTask) -> None:
        if not self._is_at(turn):
            return
        if not self._open:
            self._go_on(turn)
            return
        simulator = self.worker.pool.simulator
        if simulator.chance(RETURNS) and self._return(turn):
            return
        self.waits = True
        if simulator.chance(self.worker.pool.silent_share):
            self._is_silent, self.silent_run = True, run
            return
        self._wait += 1
        self._tell(WaitBegan(task=run.task, attempt=run.attempt, first=run.first, wait=self._wait))
        if simulator.chance(IMPATIENT):
            simulator.after(simulator.random.random() * 2.0, self._end_wait, turn)

    def _return(self, turn: int) -> bool:
        """Returns from the call with the first open, accepted child; False if there is none."""
        assert self._client is not None
        open_ = [task for task in sorted(self._open) if task not in self._client.session.unaccepted]
        if open_:
            self.worker.returns(turn, self._offset, open_[0])
        return bool(open_)

    def _tell(self, message: Message) -> None:
        self.worker.pool.says(self.worker, message)

    def ended(self, task: str) -> None:
        """Handles the end of a child."""
        self._open.discard(task)
        if self._open or not self.waits:
            return
        if self._is_silent:
            self.waits = False
            if self._is_at(self._turn):
                self._go_on(self._turn)
        else:
            self._end_wait(self._turn)

    def _end_wait(self, turn: int) -> None:
        run = self.worker.run
        if self._is_at(turn) and self.waits and not self._asks and run is not None:
            self._asks = True
            self._tell(WaitEnded(task=run.task, attempt=run.attempt, first=run.first, wait=self._wait))

    def resume(self) -> None:
        """Lets the call go on, by order of the hub."""
        if self._is_at(self._turn) and self.waits and self._asks:
            self.waits = False
            self.worker.pool.bystander.goes_on(self.worker)
            self._go_on(self._turn)

    def refuse(self) -> None:
        """Fails the wait, and the call with it."""
        run = self.worker.run
        if self._is_at(self._turn) and self.waits and run is not None:
            self.waits = False
            self.worker.pool.bystander.refused(run)
            self.worker.raises(self._turn, self._offset)

    def _go_on(self, turn: int) -> None:
        self.worker.pool.simulator.after(self._left_s, self.worker.item_over, turn, self._offset, False)

    def crash(self) -> None:
        """Drops the calls and the connection: the process ends, or serves another user from now on."""
        if self._client is not None:
            self._client.crash()
            self._client = None


class _Watch:
    """An observer that forwards a worker's client events to the referee, and awaited ends to the call."""

    def __init__(self, calls: NestedCalls, observer: Observer) -> None:
        self._calls, self._observer = calls, observer

    def submitted(self, client: SimulatedClient, spec: SubmitTask) -> None:
        self._observer.submitted(client, spec)

    def asked(self, client: SimulatedClient, message: Message) -> None:
        self._observer.asked(client, message)

    def saw_end(self, client: SimulatedClient, ended: TaskEnded, fresh: tuple[tuple[int, int], ...]) -> None:
        self._observer.saw_end(client, ended, fresh)
        self._calls.ended(ended.task)

    def saw_reopened(self, client: SimulatedClient, message: TaskReopened) -> None:
        self._observer.saw_reopened(client, message)

    def saw_rejection(self, client: SimulatedClient, task: str, failure: Failure, first: int) -> None:
        self._observer.saw_rejection(client, task, failure, first)
        self._calls.ended(task)
