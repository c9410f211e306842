"""The callers' side of a connection to the core; the other side is its I/O thread (io_thread.py).

    caller ── say() ──► deque ── wake-up ──► thread: Session ──► Line ──► core
    caller ◄── futures, jobs, answers ◄───── thread: Session ◄── Line ◄── core

A caller only appends to a deque and, unless the thread is awake already, sends one byte to wake it: messages that
collect while a batch is sent form the next batch. A single task is sent at once by its caller while the thread sleeps.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from nblb import task_api
from nblb.access import connection_file
from nblb.client import callbacks, front_end
from nblb.client.connection.io_thread import IoThread
from nblb.client.connection.ports import LoneOwner, Owner, Pending, error_of
from nblb.client.session.open_tasks import Expect
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.commands import Deliver
from nblb.protocol.messages import (
    Ask,
    Hello,
    Message,
    PutBlob,
    SubmitTask,
)
from nblb.shared_files.transfer import close_folders
from nblb.system.threads import start_thread
from nblb.transport.dialing import Dialled

if TYPE_CHECKING:
    from nblb.client.submit.batch import Batch

log = logging.getLogger("nblb")

MOST_AT_ONCE = 2000  # most messages of callers in one turn, so that answers are received in between


# A message, a single task with its function, or a batch of single tasks.
Event: TypeAlias = "Message | tuple[SubmitTask, PutBlob] | Batch"


class Mailbox:
    """The queue of messages from callers to the I/O thread; it also wakes the thread."""

    def __init__(self) -> None:
        self._said: deque[Event] = deque()
        self._awake = False
        self.batch: Batch | None = None  # the latest batch in the queue, while calls may be added to it
        self.batching = threading.RLock()
        # Sockets, not a pipe: writing to a closed socket fails; a pipe's descriptor could be reused for a file by then.
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def __bool__(self) -> bool:
        return bool(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def waiting(self) -> list[Event]:
        """The messages that the thread has not taken."""
        return list(self._said)

    def fileno(self) -> int:
        return self._read.fileno()

    @property
    def is_awake(self) -> bool:
        """True if the thread was woken and has not taken the messages yet."""
        return self._awake

    def put(self, *said: Event) -> None:
        self.batch = None  # keeps the order: calls must not be added ahead of these messages
        self._said.extend(said)
        self.rouse()

    def rouse(self) -> None:
        """Wake the thread, unless it is awake."""
        if not self._awake:
            self._awake = True
            self.wake()

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full of wake-ups, or closed: no need to wake the thread
            self._write.send(b"x")

    def take(self) -> list[Event]:
        if self._awake:
            with contextlib.suppress(OSError):
                while self._read.recv(4096):
                    pass
            self._awake = False  # before the deque is read: callers that append from now on wake the thread again
        said = self._said
        with self.batching:
            self.batch = None
        taken = [said.popleft() for _ in range(min(len(said), MOST_AT_ONCE))]
        if said and not self._awake:
            self._awake = True
            self.wake()
        return taken

    def close(self) -> None:
        self._read.close()
        self._write.close()

    def mute(self) -> None:
        """Stop using the sockets in a child process, where they are still those of the parent."""
        self._awake = True


_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """A client's connection to one cluster; `find` returns the address of its core, and raises if there is none."""

    def __init__(self, find: Callable[[], str], hello: Hello, dial: Callable[[str], Dialled] | None = None) -> None:
        self.pid = os.getpid()
        self.warning = ""  # why the core is away
        self.owners: dict[str, Owner] = {}
        self.jobs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.watchers: list[Callable[[], None]] = []  # called when the core becomes reachable or unreachable
        self.inbox = Mailbox()
        self.close_by: float | None = None  # the deadline of close(); progress extends it
        self.flush_s = 0.0  # longest time without progress before close() gives up
        self._requests = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._waiting = 0
        self._warned = False
        self._notify_waiter: Callable[..., Any] = log.warning  # logs in the cell that waits
        self._tell = True
        self._greeted = threading.Event()  # set by a Welcome or a refusal
        self._is_closed = False
        self._io_thread = IoThread(self, find, hello, dial)
        self.session = self._io_thread.session
        _live.add(self)
        self._thread = start_thread(self._io_thread.run, "nblb-client")

    def send(self, *messages: Message) -> None:
        """Pass messages of the user's side to the I/O thread; returns at once."""
        self.inbox.put(*messages)

    def submit(self, spec: SubmitTask, blob: PutBlob, owner: Owner) -> None:
        """Submit a single task with its function; its owner receives its events."""
        self.owners[spec.task] = owner
        if not self._io_thread.fast_path.send(spec, blob):
            self.inbox.put((spec, blob))

    def receive_directly(self, task: str, owner: LoneOwner, timeout_s: float | None) -> None:
        """Receive the end of this task in the calling thread, which is about to wait for it, if it comes soon."""
        if task_api.parent is None:  # a task gives up its slot while it waits, so it must wait the usual way
            self._io_thread.fast_path.wait_for_end(task, owner, timeout_s)

    def request(self) -> int:
        """A new request id."""
        return next(self._requests)

    def question(self, message: Any, then: Callable[[Pending], None] | None = None) -> Pending:
        """Send a request (`message.request` is its id); `then` is called with the answer, on the I/O thread."""
        self.check_open()
        pending = self._pending[message.request] = Pending(then)
        self.send(message)
        return pending

    def ask(self, topic: str, about: dict[str, Any] | None = None, timeout_s: float = 10.0) -> Any:
        """Send a query (see broker/queries.py), and return the core's answer."""
        return self.wait_for(self.question(Ask(request=self.request(), topic=topic, about=about or {})), timeout_s)

    def wait_for(self, pending: Pending, timeout_s: float = 10.0) -> Any:
        """Wait for the answer to a request, and return it.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer within `timeout_s` seconds.
        """
        if not pending.ready.wait(timeout_s):
            raise LoadBalancerUnreachable(f"the core at {self.address} does not answer within {timeout_s:g} s")
        return pending.result()

    def carried_out(self, message: Any) -> None:
        """Send a request, and wait for its answer, except on the I/O thread.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer now; the request is sent again when it is back.
        """
        pending = self.question(message)
        if threading.current_thread() is not self._thread:
            self.wait_for(pending)

    def expect(self, task: str, items: int, job: str, owner: Owner, again: tuple[tuple[int, int], ...] = ()) -> None:
        """Expect the ends of an existing submission, perhaps made by an ended process (see session.Expect)."""
        self.owners[task] = owner
        self.send(Expect(task=task, items=items, job=job, again=again))

    def expect_again(self, task: str, items: int, job: str, owner: Owner, again: tuple[tuple[int, int], ...]) -> None:
        """The same at once, for some items of a known submission; only on the I/O thread."""
        self.owners[task] = owner
        self.session.handle("user", Expect(task=task, items=items, job=job, again=again), time.monotonic())

    def check_open(self) -> None:
        """Raise LoadBalancerUnreachable if the connection is closed."""
        if self.pid != os.getpid():
            raise LoadBalancerUnreachable("this connection belongs to the parent process; lb.connect() makes a new one")
        if self.close_by is not None or self._is_closed:
            raise LoadBalancerUnreachable(
                "the connection to the cluster is closed (its tasks go on); lb.connect() makes a new one"
            )

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def address(self) -> str:
        plain, _ = connection_file.split(self._io_thread.address)
        return plain or "an address that is not known yet"

    @property
    def is_remote(self) -> bool:
        """True if the core is reached with a connection file: its folders are not on this computer."""
        return connection_file.split(self._io_thread.address)[1] is not None

    @property
    def connected(self) -> bool:
        return self.session.open

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for the core's Welcome, and return whether it came in time; raise its refusal."""
        self._greeted.wait(timeout_s)
        refusal = self.session.refusal
        if refusal is not None:
            raise error_of(refusal.kind, refusal.reason)
        return self.session.open

    @contextlib.contextmanager
    def someone_waits(self) -> Iterator[None]:
        """Context of a wait, in which the caller's cell gets one warning if the core is away."""
        self._waiting += 1
        self._notify_waiter = front_end.here(log.warning)
        try:
            if self.warning:
                self._warn()
            yield
        finally:
            self._waiting -= 1

    def close(self, flush_s: float = 2.0, tell: bool = True) -> None:
        """Stop the I/O thread once the core has accepted everything, or has accepted nothing for `flush_s` seconds.

        Calls that still wait for a result raise an error, unless `tell` is False (at the end of the program).
        """
        if self.pid != os.getpid() or self.close_by is not None:
            return
        self._tell, self.flush_s = tell, flush_s
        self.close_by = time.monotonic() + flush_s
        self.inbox.wake()
        if threading.current_thread() is self._thread:
            return
        while self._thread.is_alive() and time.monotonic() < self.close_by + 1.0:
            self._thread.join(0.2)

    # ── called by the I/O thread ──

    def deliver(self, answer: Deliver) -> None:
        pending = self._pending.pop(answer.request, None)
        if pending is None:
            return
        pending.value, pending.error, pending.kind = answer.value, answer.error, answer.kind
        pending.ready.set()
        if pending.then is not None:
            pending.then(pending)

    def closed(self) -> None:
        """End all waits with an error, because the thread stops."""
        self.close_by = self.close_by or 0.0
        self._is_closed = True
        for request in list(self._pending):
            text = "the connection was closed before the core answered"
            self.deliver(Deliver(request, error=text, kind="LoadBalancerUnreachable"))
        self.inbox.close()
        lost = self._io_thread.unacknowledged()
        if lost:
            log.warning("%d calls may be lost: the core had not acknowledged them when the connection was closed; "
                        "submit them again", sum(lost.values()))  # fmt: skip
        if self._tell:
            self._notify_owners(lost)

    def _notify_owners(self, lost: Collection[str]) -> None:
        """End the owners of open tasks with an error that says whether the core has the task."""
        unsure = {id(self.owners[task]) for task in lost if task in self.owners}
        for owner in {id(owner): owner for owner in self.owners.values()}.values():
            text = "the connection was closed before the task ended; the task continues while the core runs"
            if id(owner) in unsure:
                text = "the connection was closed before the core had acknowledged all of it; submit it again"
            owner._port.connection_closed(owner, LoadBalancerUnreachable(text))

    def is_here(self) -> None:
        if self._warned:
            self._notify_waiter("the core at %s is back", self.address)
        self.warning, self._warned = "", False
        self._greeted.set()
        for job in list(self.jobs.values()):
            job._port.reconnected(job)
        self._look_up()

    def is_away(self, why: str, for_good: bool = False) -> None:
        if self.warning == why:
            return
        self.warning = why
        if for_good:
            self._greeted.set()
        if self._waiting:
            self._warn()
        self._look_up()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            self._notify_waiter("%s; submitted tasks wait for its return", self.warning)

    def _look_up(self) -> None:
        """Call the watchers, which show the state of the connection."""
        told: list[Callable[[], None]] = [partial(job._port.turned, job) for job in list(self.jobs.values())]
        for watcher in [*self.watchers, *told]:
            try:
                watcher()
            except BaseException as error:
                callbacks.has_failed(error, "a listener")

    def forked(self) -> None:
        """Close the connection in a child process: its thread and sockets belong to the parent."""
        self.close_by, self._is_closed = 0.0, True
        self.inbox.mute()
        self.warning = "this connection belongs to the parent process"
        _left_alone.append(self._io_thread)


_left_alone: list[Any] = []  # connections of the parent, kept since closing their sockets here would disturb it


def _after_fork() -> None:
    for connection in list(_live):
        connection.forked()


def close_all() -> None:
    """Close all connections at the end of the program, after their messages were sent."""
    for connection in list(_live):
        connection.close(tell=False)
    close_folders()


os.register_at_fork(after_in_child=_after_fork)
