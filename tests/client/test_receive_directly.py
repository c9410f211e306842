"""A caller that waits for a single task receives its end without the I/O thread, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from nblb import payload
from nblb.client.connection.connection import Connection
from nblb.client.connection.locate import hello
from nblb.client.futures.future_port import FuturePort
from nblb.client.futures.task_future import TaskFuture
from nblb.client.session.session import Session
from nblb.errors import TaskFailed
from nblb.parameters import Parameters
from nblb.protocol.blob_names import blob_name
from nblb.protocol.commands import Command
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Failure,
    Group,
    HubHello,
    Message,
    PutBlob,
    RunTask,
    SubmitTask,
    TaskChanged,
    TaskEnded,
    TaskFinished,
    TaskState,
    WorkerStarted,
    core_to_hub,
    hub_to_core,
)
from nblb.transport.local_line import HAS_EPOLL, LocalLine
from tests.broker.running import Running
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not HAS_EPOLL, reason="without epoll the thread hears of everything")

CODE = Payload((b"code",))
BLOB = PutBlob(hash=blob_name(CODE.buffers), payload=CODE)
GREETING = HubHello(
    hub="h", name="hub", host="here", pid=1, python=(3, 11), cloudpickle="3", groups=(Group(workers=1),)
)


class Hub:
    """Ends each task that it is given, as soon as `ready()`."""

    def __init__(self, address: str, ready: Callable[[], bool]) -> None:
        self.failure: Failure | None = None
        self.first: tuple[Message, ...] = ()  # said before the end
        self._line = LocalLine(address, hub_to_core, core_to_hub)
        self._ready = ready
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        line = self._line
        while not line.connected:
            line.receive(0.01)
        line.send([GREETING, WorkerStarted(worker="w", group=0, pid=7)])
        while not self._over:
            for message in line.receive(0.01):
                if isinstance(message, RunTask):
                    wait_until(self._ready)
                    line.send([*self.first, self._end(message)])
        line.close()

    def _end(self, run: RunTask) -> TaskFinished:
        failures = (self.failure,) if self.failure is not None else ()
        results = None if failures else payload.pack_results([42])
        return TaskFinished(task=run.task, attempt=run.attempt, payload=results, failures=failures, worker="w")

    def close(self) -> None:
        self._over = True
        self._thread.join()


@pytest.fixture
def core(parameters: Parameters) -> Iterator[Running]:
    running = Running(parameters)
    yield running
    running.end()


@pytest.fixture
def connection(core: Running) -> Iterator[Connection]:
    connection = Connection(lambda: core.balancer.doors.addresses["clients_local"], hello("me"))
    assert connection.wait_connected(10)
    wait_until(lambda: connection._io_thread.fast_path.asleep.now)
    yield connection
    connection.close(0.5)


@pytest.fixture
def hub(core: Running, connection: Connection) -> Iterator[Hub]:
    fast_path = connection._io_thread.fast_path
    hub = Hub(core.balancer.doors.addresses["hubs_local"], lambda: fast_path._listens_until > 0)
    yield hub
    hub._ready = lambda: True
    hub.close()


@pytest.fixture
def settlers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that have settled a future."""
    threads: list[threading.Thread] = []
    settle = FuturePort.settle

    def noting(port: FuturePort, future: TaskFuture, ended: TaskEnded, fresh: tuple[tuple[int, int], ...]) -> bool:
        threads.append(threading.current_thread())
        return settle(port, future, ended, fresh)

    monkeypatch.setattr(FuturePort, "settle", noting)
    return threads


def submit(connection: Connection, task: str) -> TaskFuture:
    wait_until(lambda: connection._io_thread.fast_path.asleep.now and not connection.inbox.is_awake)
    future = TaskFuture(connection, task, "f")
    connection.submit(SubmitTask(task=task, name="f", function=BLOB.hash, payload=Payload((b"x",))), BLOB, future)
    return future


def listening(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, the caller listens until the end."""
    monkeypatch.setattr("nblb.client.connection.fast_path.LONGEST_S", 30.0)


def test_a_lone_end_is_heard_by_who_waits_for_it(
    connection: Connection, hub: Hub, settlers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(connection, monkeypatch)
    for task in "abc":
        assert submit(connection, task).result(60) == 42
    assert settlers == [threading.current_thread()] * 3
    assert not connection.owners
    assert not connection.session.records
    assert not connection.session.unaccepted


def test_a_failure_is_heard_so_too(connection: Connection, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(connection, monkeypatch)
    hub.failure = Failure(kind="ValueError", message="no")
    with pytest.raises(TaskFailed, match="no"):
        submit(connection, "a").result(60)


def test_what_else_comes_is_left_to_the_thread(
    connection: Connection, hub: Hub, settlers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(connection, monkeypatch)
    shown: list[tuple[threading.Thread, float]] = []
    hear = LocalLine.receive_lent
    progress = TaskChanged(task="a", state=TaskState.RUNNING, progress=50.0)
    monkeypatch.setattr(LocalLine, "receive_lent", lambda line: [progress, *hear(line)])
    show = lambda port, future, changed: shown.append((threading.current_thread(), changed.progress))  # noqa: E731
    monkeypatch.setattr(FuturePort, "show", show)
    assert submit(connection, "a").result(60) == 42
    assert shown == [(connection._thread, 50.0)]
    assert settlers == [connection._thread]


def test_a_caller_who_goes_gives_the_line_back(
    connection: Connection, hub: Hub, settlers: list[threading.Thread]
) -> None:
    may_end = threading.Event()
    hub._ready = may_end.is_set
    future = submit(connection, "a")
    with pytest.raises(TimeoutError):
        future.result(0.001)
    may_end.set()
    wait_until(future.done)
    assert settlers == [connection._thread]


def test_a_callback_may_submit_and_wait(connection: Connection, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(connection, monkeypatch)
    seen: list[int] = []
    future = submit(connection, "a")
    future.add_done_callback(lambda _: seen.append(submit(connection, "b").result(60)))
    assert future.result(60) == 42
    wait_until(lambda: seen == [42])


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_in_the_midst_loses_no_end(
    connection: Connection, hub: Hub, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    listening(connection, monkeypatch)
    caller, handle = threading.current_thread(), Session.handle

    def interrupted(session: Session, sender: str, message: Message, now: float) -> list[Command]:
        is_end = isinstance(message, TaskEnded)
        commands = handle(session, sender, message, now) if late or not is_end else []
        if is_end and threading.current_thread() is caller:
            raise KeyboardInterrupt  # the end was read, and nobody knows it
        return commands or handle(session, sender, message, now)

    monkeypatch.setattr(Session, "handle", interrupted)
    future = submit(connection, "a")
    with pytest.raises(KeyboardInterrupt):
        future.result(60)
    monkeypatch.setattr(Session, "handle", handle)
    wait_until(future.done)  # told again, on another connection
    assert future.result() == 42
    wait_until(lambda: connection.connected)
    assert submit(connection, "b").result(60) == 42


def test_an_interrupt_while_it_settles_loses_no_end(
    connection: Connection, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(connection, monkeypatch)
    caller, settle = threading.current_thread(), FuturePort.settle

    def interrupted(port: FuturePort, future: TaskFuture, ended: TaskEnded, fresh: tuple[tuple[int, int], ...]) -> bool:
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        return settle(port, future, ended, fresh)

    monkeypatch.setattr(FuturePort, "settle", interrupted)
    future = submit(connection, "a")
    with pytest.raises(KeyboardInterrupt):
        future.result(60)
    wait_until(future.done)
    assert future.result() == 42


def test_a_line_that_was_not_given_back_is_taken_back(connection: Connection, hub: Hub) -> None:
    """An interrupt came between lending it and what gives it back: the thread sees to it with its next turn."""
    may_end, fast_path = threading.Event(), connection._io_thread.fast_path
    hub._ready = may_end.is_set
    future = submit(connection, "a")
    with fast_path.turns:
        assert isinstance(fast_path.line, LocalLine)
        assert fast_path.line.lend()
        fast_path._listens_until = 0.001
    may_end.set()
    connection.inbox.rouse()
    wait_until(future.done)
