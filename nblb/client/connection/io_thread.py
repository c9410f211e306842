"""The I/O thread of a client: it owns the line to the core, and executes the commands of the Session.

It dials until it is stopped. Messages that the core has not acknowledged are sent again when it is back (session.py).

A single task need not wait for the thread to wake: its caller may send it itself while the thread sleeps
(fast_path.py).
"""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nblb.client import callbacks
from nblb.client.connection.fast_path import FastPath
from nblb.client.connection.ports import Owner
from nblb.client.session.open_tasks import Expect
from nblb.client.session.session import Session
from nblb.client.submit.batch import Batch
from nblb.client.submit.upload import Upload
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.commands import BlobReceived, Command, Deliver, Log, Reject, Send, Settle, Show
from nblb.protocol.messages import (
    Ask,
    FilesSeen,
    Hello,
    JobChanged,
    JobNamed,
    KnobOffered,
    Message,
    PutBlob,
    SubmitTask,
    TaskEmitted,
    TaskPrinted,
    TaskReopened,
    Welcome,
    client_to_core,
    core_to_client,
)
from nblb.transport.dialing import Dialled, dial
from nblb.transport.local_line import LocalLine

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection

log = logging.getLogger("nblb")

FAR_OFF = float("inf")
FIND_AGAIN_S = 0.25  # time between two searches for the core while it is away


# While more submissions than this are open, each turn waits PAUSE_MS for results to collect: with hundreds open, no
# caller needs the very next one at once, and many small turns would take CPU time from the tasks. Messages of callers
# still end the wait at once.
MANY_RECORDS = 500
PAUSE_MS = 4

# Queries about the cluster itself, which do not depend on earlier messages of this client. They overtake queued
# submissions: behind a million of them, the answer would come too late.
LOOKS = frozenset({"status", "hubs", "workers", "users", "queue", "stats"})
LONG_LINE = 1024 * 1024  # bytes waiting to be sent, from which queries overtake


class IoThread:
    """The loop of the thread: receive until the next deadline, read the clock once, handle, perform."""

    def __init__(
        self, connection: Connection, find: Callable[[], str], hello: Hello, dialled: Callable[[str], Dialled] | None
    ) -> None:
        self.session = Session(hello)
        self.address = ""
        self._connection = connection
        self._find, self._dial = find, dialled or _dial
        self._line: Dialled | None = None
        self._connections = 0  # number of the line's connections that the session knows of
        self._find_at = 0.0
        self._welcome: Welcome | None = None  # the latest one that was applied
        self._sending: Upload | None = None
        self.fast_path = FastPath(connection, self.session)
        self._least_left, self._unsent = FAR_OFF, 0  # during close(): what the core has yet to acknowledge
        self._pauses = False  # results are arriving
        self._pause = select.poll()
        self._pause.register(connection.inbox.fileno(), select.POLLIN)
        self._touched: dict[int, Owner] = {}  # owners that received something in this turn
        self._concerned: list[str] = []  # submissions that received something in this turn
        self._perform_one: dict[type, Callable[[Any], None]] = {
            Settle: self._settle,
            Show: self._show,
            Reject: self._reject,
            BlobReceived: self._told,
            Deliver: connection.deliver,
            Log: self._log,
        }

    def run(self) -> None:
        with self.fast_path.turns:
            self._run()

    def _run(self) -> None:
        try:
            while not self._may_go():
                self._turn()
            self._perform(self.session.flush(time.monotonic()))
        except Exception:
            log.exception("the client's I/O thread has failed; tasks continue; lb.connect() makes a new connection")
        finally:
            if self._line is not None:
                self._line.close()
            if self._sending is not None:
                self._sending.close()
            self._connection.closed()

    def _begin_anew(self) -> None:
        """Replace the connection after an interrupt that may have torn a message; unanswered ones are sent again."""
        received = self.fast_path.mend()
        if received is not None and not received.owner.done():
            self._connection.owners[received.task] = received.owner
            self.session.handle("user", Expect(task=received.task), time.monotonic())
        if isinstance(self._line, LocalLine):
            self._line.break_off()
            self._line = self.fast_path.line = None
            self._find_at = 0.0
            self._perform(self.session.line_down(time.monotonic()))

    def _may_go(self) -> bool:
        """True if the connection is closing, and the core has acknowledged everything or makes no more progress."""
        connection, session = self._connection, self.session
        if connection.close_by is None:
            return False
        left = len(connection.inbox) + len(session.unaccepted) + len(session.questions)
        unsent = self._line.unsent_bytes if self._line is not None else 0
        now = time.monotonic()
        if left < self._least_left or unsent < self._unsent:  # any progress extends the deadline
            self._least_left = min(left, self._least_left)
            connection.close_by = max(connection.close_by, now + connection.flush_s)
        self._unsent = unsent
        return not left or now >= connection.close_by

    def unacknowledged(self) -> dict[str, int]:
        """The submissions that the core has not acknowledged, with their numbers of calls."""
        found = {spec.task: spec.items for spec in self.session.unaccepted.values()}
        for said in self._connection.inbox.waiting():
            if isinstance(said, Batch):
                found[said.task] = len(said.futures)
            elif isinstance(said, (tuple, SubmitTask)):
                spec = said[0] if isinstance(said, tuple) else said
                found[spec.task] = spec.items
        return found

    def _turn(self) -> None:
        fast_path = self.fast_path
        if fast_path.is_inconsistent:
            self._begin_anew()
        fast_path.look_after()
        if self._line is None or not self._line.connected:
            self._connect_to_core()
        line, inbox = self._line, self._connection.inbox
        arrived: list[Any] = []
        if self._pauses and len(self.session.records) >= MANY_RECORDS:
            self._pause.poll(PAUSE_MS)
        if line is not None:
            arrived = line.receive(self._timeout_s(), (inbox.fileno(),))
        else:
            poll = select.poll()
            poll.register(inbox.fileno(), select.POLLIN)
            poll.poll((self._timeout_s() or 0.0) * 1000 + 1)
        if fast_path.set_aside:
            arrived, fast_path.set_aside = fast_path.set_aside + arrived, []
        now = time.monotonic()
        commands = self._line_changed(now)
        session = self.session
        for taken in inbox.take():
            for message in _messages(taken):
                commands += session.handle("user", message, now)
        for message in arrived:
            commands += session.handle("core", message, now)
        if session.welcome is not self._welcome and line is not None:
            self._share_files(session.welcome, line)
        self._pauses = bool(arrived)
        commands += session.tick(now)
        self._perform(commands)

    def _share_files(self, welcome: Welcome | None, line: Dialled) -> None:
        """Set up the exchange of large buffers by files after a Welcome, if this process can see the core's folder."""
        self._welcome = welcome
        if welcome is None or not welcome.files:
            return
        self._sending = Upload.to(welcome.files, welcome.token, self._sending)
        if self._sending is None:
            line.share(None, None)
            return
        line.share(self._sending.folder.read, self._sending.folder.refers)
        line.send([FilesSeen(token=welcome.token)])

    def _timeout_s(self) -> float | None:
        now = time.monotonic()
        due, close_by = self.session.next_deadline(), self._connection.close_by
        at = FAR_OFF if due is None else due
        if close_by is not None:
            at = min(at, close_by, now + 0.02)  # to check whether everything was accepted
        if self._line is None or not self._line.connected:
            at = min(at, self._find_at)
        return max(0.0, at - now) if at < FAR_OFF else None

    # ── the line ──

    def _connect_to_core(self) -> None:
        """Dial the core's current address, which may have changed."""
        now = time.monotonic()
        if now < self._find_at:
            return
        self._find_at = now + FIND_AGAIN_S
        try:
            address = self._find()
        except LoadBalancerUnreachable as error:
            if not self.session.open:
                self._connection.is_away(str(error))
            return
        if self._line is not None and self._line.address == address:
            return
        if self._line is not None:
            self._line.close()
            self._perform(self.session.line_down(now))
        self._connections = 0
        self._line = self.fast_path.line = self._dial(address)
        if isinstance(self._line, LocalLine):
            self._line.asleep = self.fast_path.asleep
        self.address = address

    def _line_changed(self, now: float) -> list[Command]:
        line = self._line
        if line is None:
            return []
        if line.connections != self._connections:
            self._connections = line.connections
            if line.connected:
                return self.session.line_up(now)
        if not line.connected and self.session.open:
            return self.session.line_down(now)
        return []

    # ── commands ──

    def _perform(self, commands: list[Command]) -> None:
        if self._line is not None:
            self._say(self._line, commands)  # first, because callbacks of futures may take long
        for command in commands:
            perform = self._perform_one.get(type(command))
            if perform is None:
                continue
            try:
                perform(command)
            except BaseException as error:  # the user's; the next future still needs its result
                callbacks.has_failed(error)
        for task in self._concerned:
            if task not in self.session.records:  # it is closed
                self._connection.owners.pop(task, None)
        self._concerned.clear()
        touched, self._touched = self._touched, {}
        for owner in touched.values():
            try:
                owner._port.turned(owner)
            except BaseException as error:
                callbacks.has_failed(error, "a listener")

    @staticmethod
    def _say(line: Dialled, commands: list[Command]) -> None:
        """Send the messages in order; queries about the cluster overtake a long queue of other messages."""
        sends: list[Message] = []
        looks: list[Message] = []
        for command in commands:
            if type(command) is Send:
                message = command.message
                (looks if type(message) is Ask and message.topic in LOOKS else sends).append(message)
        if sends:
            line.send(sends)
        for message in looks:
            if line.unsent_bytes > LONG_LINE:
                line.send_ahead(message)
            else:
                line.send((message,))

    def _settle(self, command: Settle) -> None:
        owner = self._owner(command.ended.task)
        if owner is not None:
            owner._port.settle(owner, command.ended, command.fresh)

    def _show(self, command: Show) -> None:
        owner = self._owner(command.changed.task)
        if owner is not None:
            owner._port.show(owner, command.changed)

    def _reject(self, command: Reject) -> None:
        owner = self._owner(command.task)
        if owner is not None:
            owner._port.reject(owner, command.task, command.failure, command.spec, command.first)

    def _told(self, command: BlobReceived) -> None:
        message = command.message
        if isinstance(message, (TaskPrinted, TaskEmitted, KnobOffered)):
            owner = self._connection.owners.get(message.task)
            if owner is not None:
                self._touched[id(owner)] = owner
                if isinstance(message, TaskPrinted) and message.stream != "display":
                    owner._port.printed(owner, message)
                else:
                    owner._port.received(owner, message)
        elif isinstance(message, (JobChanged, JobNamed, TaskReopened)):
            job = self._connection.jobs.get(message.job)
            if job is not None:
                self._touched[id(job)] = job
                if isinstance(message, JobChanged):
                    job._port.counted(job, message.counts)
                elif isinstance(message, JobNamed):
                    job.name = message.name
                else:
                    self._connection.owners[message.task] = job
                    job._port.reopened(job, message)

    def _owner(self, task: str) -> Owner | None:
        """The owner of a submission, noted as having received something in this turn."""
        owner = self._connection.owners.get(task)
        if owner is not None:
            self._concerned.append(task)
            self._touched[id(owner)] = owner
        return owner

    def _log(self, command: Log) -> None:
        if command.level == "good":
            self._connection.is_here()
        else:
            self._connection.is_away(command.text, for_good=command.level == "error")


def _messages(taken: Message | tuple[SubmitTask, PutBlob] | Batch) -> Sequence[Message]:
    """The messages that stand for an entry of the inbox; the function comes before its call."""
    if isinstance(taken, tuple):
        spec, blob = taken
        return blob, spec
    return (taken.blob, taken.spec()) if isinstance(taken, Batch) else (taken,)


def _dial(address: str) -> Dialled:
    return dial(address, client_to_core, core_to_client)
