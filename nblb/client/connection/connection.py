"""The callers' side of a connection to the core; its thread (io_thread.py) is the other.

    caller ── say() ──► deque ── wake-up ──► thread: Session ──► Line ──► core
    caller ◄── futures, jobs, answers ◄───── thread: Session ◄── Line ◄── core

A caller only appends and, if the thread is not awake already, sends it one byte: what piles up while a batch is on
its way makes the next batch. A lone task leaves at once, sent by its caller while the thread sleeps.
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
from nblb.transport.dialing import Dialled

if TYPE_CHECKING:
    from nblb.client.submit.batch import Batch

log = logging.getLogger("nblb")

MOST_AT_ONCE = 2000  # messages of callers taken in one turn, so that answers are heard meanwhile


# A message, a task of one call with its function, or several such tasks that go together.
Event: TypeAlias = "Message | tuple[SubmitTask, PutBlob] | Batch"


class Mailbox:
    """What callers have said and the thread has not taken; wakes it."""

    def __init__(self) -> None:
        self._said: deque[Event] = deque()
        self._awake = False
        self.batch: Batch | None = None  # the latest that was said, while calls may be added to it
        self.batching = threading.RLock()
        # Sockets, not a pipe: writing to a closed one is an error, and never a byte in somebody else's file.
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def __bool__(self) -> bool:
        return bool(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def waiting(self) -> list[Event]:
        """What the thread has not taken."""
        return list(self._said)

    def fileno(self) -> int:
        return self._read.fileno()

    @property
    def is_awake(self) -> bool:
        """The thread has been woken and has not come round yet."""
        return self._awake

    def put(self, *said: Event) -> None:
        self.batch = None  # what is said now stays behind what was said before
        self._said.extend(said)
        self.rouse()

    def rouse(self) -> None:
        """Have the thread come round, unless it will anyway."""
        if not self._awake:
            self._awake = True
            self.wake()

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full of wake-ups, or closed: either way there is nobody to wake
            self._write.send(b"x")

    def take(self) -> list[Event]:
        if self._awake:
            with contextlib.suppress(OSError):
                while self._read.recv(4096):
                    pass
            self._awake = False  # before the look at the deque: whoever appends from now on wakes again
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
        """In a child process, where the sockets are still those of the parent."""
        self._awake = True


_live: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """A client's connection to one cluster; `find` says where its core listens, and raises while there is none."""

    def __init__(self, find: Callable[[], str], hello: Hello, dial: Callable[[str], Dialled] | None = None) -> None:
        self.pid = os.getpid()
        self.warning = ""  # why the core is not there
        self.owners: dict[str, Owner] = {}
        self.jobs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.watchers: list[Callable[[], None]] = []  # called when the core comes or goes
        self.inbox = Mailbox()
        self.close_by: float | None = None  # moved on by the thread while the core takes what is left
        self.flush_s = 0.0  # how long the core may take nothing of it
        self._requests = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._waiting = 0
        self._warned = False
        self._tell_waiter: Callable[..., Any] = log.warning  # speaks to the cell that waits
        self._tell = True
        self._greeted = threading.Event()  # welcomed or refused
        self._is_closed = False
        self._io_thread = IoThread(self, find, hello, dial)
        self.session = self._io_thread.session
        _live.add(self)
        self._thread = threading.Thread(target=self._io_thread.run, name="nblb-client", daemon=True)
        self._thread.start()

    def say(self, *messages: Message) -> None:
        """Hand messages of the user's side over; returns at once."""
        self.inbox.put(*messages)

    def submit(self, spec: SubmitTask, blob: PutBlob, owner: Owner) -> None:
        """Hand over a task of one call, with its function; its owner will hear of its fate."""
        self.owners[spec.task] = owner
        if not self._io_thread.at_once.say(spec, blob):
            self.inbox.put((spec, blob))

    def hear_at_once(self, task: str, owner: LoneOwner, timeout_s: float | None) -> None:
        """In a thread that is about to wait for this task: be the first to hear of its end, if that is near."""
        if task_api.parent is None:  # a task gives up its slot while it waits
            self._io_thread.at_once.hear(task, owner, timeout_s)

    def request(self) -> int:
        """A number for a question."""
        return next(self._requests)

    def question(self, message: Any, then: Callable[[Pending], None] | None = None) -> Pending:
        """Say something that is answered (`message.request` is its number); `then` is called in the thread."""
        self.check_open()
        pending = self._pending[message.request] = Pending(then)
        self.say(message)
        return pending

    def ask(self, topic: str, about: dict[str, Any] | None = None, timeout_s: float = 10.0) -> Any:
        """The core's answer to a question of broker/queries.py."""
        return self.wait_for(self.question(Ask(request=self.request(), topic=topic, about=about or {})), timeout_s)

    def wait_for(self, pending: Pending, timeout_s: float = 10.0) -> Any:
        """The answer to a question.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer within the time.
        """
        if not pending.ready.wait(timeout_s):
            raise LoadBalancerUnreachable(f"the core at {self.address} does not answer within {timeout_s:g} s")
        return pending.result()

    def carried_out(self, message: Any) -> None:
        """Say something that is answered, and wait for that, except in the connection's own thread.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer for now; it is told once more when it is back.
        """
        pending = self.question(message)
        if threading.current_thread() is not self._thread:
            self.wait_for(pending)

    def expect(self, task: str, items: int, job: str, owner: Owner, again: tuple[tuple[int, int], ...] = ()) -> None:
        """Hear of a record that was submitted before, perhaps by a process that is gone (see session.Expect)."""
        self.owners[task] = owner
        self.say(Expect(task=task, items=items, job=job, again=again))

    def expect_again(self, task: str, items: int, job: str, owner: Owner, again: tuple[tuple[int, int], ...]) -> None:
        """The same of a record that was known, for some of its items; in the connection's own thread, and at once."""
        self.owners[task] = owner
        self.session.handle("user", Expect(task=task, items=items, job=job, again=again), time.monotonic())

    def check_open(self) -> None:
        """Raises where nothing can be said or heard any more."""
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
        return self._io_thread.address or "an address that is not known yet"

    @property
    def connected(self) -> bool:
        return self.session.open

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether the core has greeted us within the time; raises what it refused us with."""
        self._greeted.wait(timeout_s)
        refusal = self.session.refusal
        if refusal is not None:
            raise error_of(refusal.kind, refusal.reason)
        return self.session.open

    @contextlib.contextmanager
    def someone_waits(self) -> Iterator[None]:
        """While a caller waits it is told, once, that the core is away."""
        self._waiting += 1
        self._tell_waiter = front_end.here(log.warning)
        try:
            if self.warning:
                self._warn()
            yield
        finally:
            self._waiting -= 1

    def close(self, flush_s: float = 2.0, tell: bool = True) -> None:
        """End the thread, after the core has accepted what was submitted; it may accept nothing for `flush_s`.

        Who still waits for a result is told so by an error, unless `tell` is False (at the end of the program).
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

    # ── from the thread ──

    def deliver(self, answer: Deliver) -> None:
        pending = self._pending.pop(answer.request, None)
        if pending is None:
            return
        pending.value, pending.error, pending.kind = answer.value, answer.error, answer.kind
        pending.ready.set()
        if pending.then is not None:
            pending.then(pending)

    def closed(self) -> None:
        """The thread ends: nothing will be answered any more."""
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
            self._tell_owners(lost)

    def _tell_owners(self, lost: Collection[str]) -> None:
        """Whoever waits for a result hears that none will come, and whether the core has the task."""
        unsure = {id(self.owners[task]) for task in lost if task in self.owners}
        for owner in {id(owner): owner for owner in self.owners.values()}.values():
            text = "the connection was closed before the task ended; it goes on where the core does"
            if id(owner) in unsure:
                text = "the connection was closed before the core had acknowledged all of it; submit it again"
            owner._port.hung_up(owner, LoadBalancerUnreachable(text))

    def is_here(self) -> None:
        if self._warned:
            self._tell_waiter("the core at %s is back", self.address)
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
            self._tell_waiter("%s; what was submitted waits for its return", self.warning)

    def _look_up(self) -> None:
        """All who show the state of the connection."""
        told: list[Callable[[], None]] = [partial(job._port.turned, job) for job in list(self.jobs.values())]
        for watcher in [*self.watchers, *told]:
            try:
                watcher()
            except BaseException as error:
                callbacks.has_failed(error, "a listener")

    def forked(self) -> None:
        """In a child process: the thread stayed with the parent, and so do its sockets."""
        self.close_by, self._is_closed = 0.0, True
        self.inbox.mute()
        self.warning = "this connection belongs to the parent process"
        _left_alone.append(self._io_thread)


_left_alone: list[Any] = []  # what is the parent's: closing its sockets here would disturb it


def _after_fork() -> None:
    for connection in list(_live):
        connection.forked()


def close_all() -> None:
    """At the end of the program: what was submitted leaves, and no thread is left."""
    for connection in list(_live):
        connection.close(tell=False)
    close_folders()


os.register_at_fork(after_in_child=_after_fork)
