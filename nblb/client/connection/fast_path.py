"""The fast path of a single task: while the I/O thread sleeps, the caller sends the task and receives its end itself.

A single call then needs no thread to wake, in either direction. The I/O thread does everything else: if a caller
receives other messages than the end that it waits for, it leaves them to the thread.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from nblb.client import callbacks
from nblb.client.connection.ports import LoneOwner
from nblb.client.session.session import Session
from nblb.protocol.commands import Send, Settle
from nblb.protocol.messages import Message, PutBlob, SubmitTask, TaskAccepted, TaskEnded
from nblb.transport.dialing import Dialled
from nblb.transport.local_line import LocalLine

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection

WHOLE = ((0, 1),)  # the one item of a single task
LONGEST_S = 0.05  # longest wait of a caller on the line: for a longer task, one more wake-up does not matter


class _Asleep:
    """A context in which the I/O thread sleeps, so that a caller with `turns` may use the session and the line."""

    def __init__(self, turns: threading.Lock) -> None:
        self._turns = turns
        self.now = False  # readable without the lock, so that callers do not block on a busy thread

    def __enter__(self) -> None:
        self.now = True
        self._turns.release()

    def __exit__(self, *_: object) -> None:
        self._turns.acquire()
        self.now = False


class ReceivedEnd(NamedTuple):
    """The task whose end a caller receives, and its owner."""

    task: str
    owner: LoneOwner


class FastPath:
    """The path by which callers bypass the I/O thread of one connection; they use the thread where it is not free."""

    def __init__(self, connection: Connection, session: Session) -> None:
        self.turns = threading.Lock()
        self.asleep = _Asleep(self.turns)
        self.line: Dialled | None = None
        self.is_inconsistent = False  # a caller was interrupted while it sent or received something
        self.set_aside: list[Message] = []  # messages that a caller received and the thread must handle
        self._connection, self._session = connection, session
        self._spin = AdaptiveSpin()
        self._received_end: ReceivedEnd | None = None  # while a caller receives it
        self._listens_until = 0.0

    def _is_free(self) -> bool:
        """True if no message would be overtaken and none is under way."""
        connection = self._connection
        inbox = connection.inbox
        return not (inbox or inbox.is_awake or self.is_inconsistent) and connection.close_by is None

    def _usable_line(self) -> LocalLine | None:
        """The line, if callers can send and receive on it now; the caller holds `turns`."""
        line = self.line
        if isinstance(line, LocalLine) and line.connected and self._session.open and self._is_free():
            return line
        return None

    # ── sending ──

    def send(self, spec: SubmitTask, blob: PutBlob) -> bool:
        """Send this task on the calling thread without waking the I/O thread; False if it has to go through that.

        It is sent only if nothing else is under way, so that it overtakes nothing and a loop of calls still forms
        batches.
        """
        if not self.asleep.now or self._session.records or not self._is_free():
            return False
        with self.turns:  # a plain lock, because no interrupt can come between its acquisition and the block
            line = self._usable_line()
            if line is None or self._session.records:
                return False
            self.is_inconsistent = True
            try:
                now = monotonic()
                commands = [*self._session.handle("user", blob, now), *self._session.handle("user", spec, now)]
                line.send([command.message for command in commands if type(command) is Send])
            except BaseException:
                self._connection.inbox.rouse()
                raise
            self.is_inconsistent = False
            if line.is_behind:
                self._connection.inbox.rouse()
        return True

    # ── receiving ──

    def wait_for_end(self, task: str, owner: LoneOwner, timeout_s: float | None) -> None:
        """Wait briefly, on the calling thread, for the end of a single task and settle it, or do nothing."""
        if not self.asleep.now or len(self._session.records) != 1 or not self._is_free():
            return
        until = monotonic() + (LONGEST_S if timeout_s is None else min(timeout_s, LONGEST_S))
        with self.turns:
            line = self._usable_line()
            if line is None or self._listens_until or not self._is_alone(task, owner, line) or not line.lend():
                return
            # The thread ends the loan after this time if an interrupt prevents the return of the line below.
            self._listens_until, self._received_end = until, ReceivedEnd(task, owner)
        try:
            try:
                ended = self._listen(line, task, until)
            finally:
                with self.turns:
                    self._give_back(line)
            if ended is not None:
                self._settle(ended, owner)
        except BaseException:
            if task not in self._session.records and not owner.done():
                self.is_inconsistent = True  # the end was read from the socket, and then lost
                self._connection.inbox.rouse()
            raise

    def _is_alone(self, task: str, owner: LoneOwner, line: LocalLine) -> bool:
        """True if this task is the only one about which messages can arrive."""
        records = self._session.records
        known = len(records) == 1 and task in records and self._connection.owners.get(task) is owner
        return known and not self.set_aside and not line.has_more

    def _listen(self, line: LocalLine, task: str, until: float) -> TaskEnded | None:
        """The end of the task; None if another message comes first or the time is over."""
        poll = select.poll()
        poll.register(line.fileno(), select.POLLIN)
        ended: TaskEnded | None = None
        goes_on = True
        while goes_on and ended is None and (left_s := until - monotonic()) > 0:
            if self._spin.looks(poll.poll) or poll.poll(left_s * 1000):
                with self.turns:
                    goes_on = line is self.line and self._is_free()
                    if goes_on:
                        ended, goes_on = self._take(line, task)
        return ended

    def _take(self, line: LocalLine, task: str) -> tuple[TaskEnded | None, bool]:
        """The end, if it has arrived, and whether the caller may receive more."""
        ended: TaskEnded | None = None
        self.is_inconsistent = True
        try:
            arrived = line.receive_lent()
            if not all(_is_expected(message, task) for message in arrived):
                self.set_aside += arrived
            else:
                for message in arrived:
                    for command in self._session.handle("core", message, monotonic()):
                        if type(command) is Settle:
                            ended = command.ended
        except BaseException:
            self._connection.inbox.rouse()
            raise
        self.is_inconsistent = False
        goes_on = line.connected and not line.has_more and not self.set_aside
        if not goes_on:
            self._connection.inbox.rouse()
        return ended, goes_on

    def _settle(self, ended: TaskEnded, owner: LoneOwner) -> None:
        try:
            if owner._port.settle(owner, ended, WHOLE):
                owner._port.turned(owner)
        except BaseException as error:
            callbacks.has_failed(error)
        self._connection.owners.pop(ended.task, None)

    # ── called by the I/O thread ──

    def look_after(self) -> None:
        """Take the line back if a caller has not returned it in time."""
        if self._listens_until and monotonic() > self._listens_until and isinstance(self.line, LocalLine):
            self._give_back(self.line)

    def _give_back(self, line: LocalLine) -> None:
        self._listens_until = 0.0
        line.take_back()

    def mend(self) -> ReceivedEnd | None:
        """Reset after a torn message, since the connection is replaced; return the end that may be lost with it."""
        self.is_inconsistent = False
        self._listens_until = 0.0
        received, self._received_end = self._received_end, None
        return received


def _is_expected(message: Message, task: str) -> bool:
    """True for a message that a caller can handle by itself."""
    kind = type(message)
    return (kind is TaskEnded and message.task == task) or (kind is TaskAccepted and not message.items)  # type: ignore[attr-defined]


SPIN_S = 0.0015  # longest time of one busy-wait
GAP_S = 0.0001  # longest time between two polls; a longer gap means that other threads need this CPU
MOST_MISSED = 256  # most waits without spinning after failed attempts


def processors() -> int:
    """The number of CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


class AdaptiveSpin:
    """A busy-wait that spins less often after it has failed, and not at all on a single CPU."""

    def __init__(self, clock: Callable[[], float] = perf_counter, processors: int = processors()) -> None:
        self._clock = clock
        self._may_look = processors > 1
        self._missed = self._to_miss = 0

    def looks(self, poll: Callable[[int], Any]) -> bool:
        """Spin for a moment if that has worked lately; return whether `poll(0)` found something."""
        if not self._may_look:
            return False
        if self._to_miss:
            self._to_miss -= 1
            return False
        clock = self._clock
        now = clock()
        until = now + SPIN_S
        while now < until:
            if poll(0):
                self._missed //= 2
                return True
            before, now = now, clock()
            if now - before > GAP_S:
                break
        self._missed = self._to_miss = min(MOST_MISSED, 2 * self._missed + 1)
        return False
