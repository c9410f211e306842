"""TaskFuture: the future of one task, or of one item of a job."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import msgspec

from nblb import payload
from nblb.client import front_end
from nblb.client.connection.waiting import interruptible, wait_on
from nblb.client.futures.future_port import FuturePort
from nblb.client.futures.group import FutureGroup
from nblb.client.futures.light_future import CANCELLED, FINISHED, PENDING, LightFuture
from nblb.client.futures.live import MimeBundle, SteeredTask
from nblb.client.futures.output_access import TaskOutputAccess
from nblb.client.futures.states import has_reached, named, wait_for_confirmation, wait_for_state
from nblb.client.snapshots import FailureGroup, TaskSnapshot
from nblb.errors import LoadBalancerUnreachable, NblbError, TaskCancelled, TaskFailed
from nblb.protocol.messages import CancelTask, Failure, TaskChanged, TaskEnded, TaskState

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection

MAKERS = frozenset({"set_result", "set_exception", "set_running_or_notify_cancel"})


class TaskFuture(LightFuture, TaskOutputAccess, SteeredTask):
    """The future of a task: a concurrent.futures.Future that can be awaited, and cancelled while the task runs.

    `result()` raises TaskFailed with the remote traceback if the task raised (its `__cause__` is the original
    exception), TaskTimeout, TaskLost, DependencyFailed or TaskCancelled. The first call of `result()` unpickles the
    result, in the calling thread.

    Examples
    --------
    >>> future = simulate.submit(3)
    >>> future.result(timeout=60)
    >>> await future
    """

    # Class defaults, because most futures never need their own: this keeps a pending future small and quick to make.
    _port = FuturePort()
    _item = 0
    _of_job = False
    _group: FutureGroup | None = None  # for a call of an executor: all calls of the executor
    _changed: TaskChanged | None = None
    _ended: TaskEnded | None = None
    _load: Callable[[], Any] | None = None  # unpickles the result, if it is not in `_ended`
    _failure: Failure | None = None
    _listeners: list[Callable[[], Any]] | None = None
    _function = ""  # hash of its function as it was sent, if this process sent it
    _raises_original = False  # True for the futures of an Executor

    def __init__(self, connection: Connection, record: str, name: str, item: int = 0, task_id: str = "") -> None:
        self.task_id = task_id or record
        self.name = name
        self._connection = connection
        self._record = record
        if item:
            self._item = item

    def __dir__(self) -> list[str]:
        """The public names, without those of concurrent.futures that set a result: the core settles this future."""
        return [name for name in super().__dir__() if name not in MAKERS]

    # ── results ──

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task, and return its result.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without a limit.

        Returns
        -------
        Any
            The value that the task returned, unpickled at the first call.

        Raises
        ------
        TaskFailed
            The task raised an exception; the message is the remote traceback, `__cause__` the original exception.
        TaskTimeout, TaskLost, DependencyFailed, TaskCancelled
            The task ended without a result.
        TimeoutError
            The task has not ended after `timeout` seconds.

        Examples
        --------
        >>> simulate.submit(3).result(timeout=60)
        """
        if self._state != FINISHED:
            self._wait(timeout)
            if self.cancelled():
                raise self._as_cancelled()
        if self._exception is not None:
            raise self._error().with_traceback(None)  # without the frames of earlier calls of result()
        return self._value()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the task, and return the error that `result()` would raise, or None if the task succeeded.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without a limit.

        Returns
        -------
        BaseException or None
            The error of the task.

        Raises
        ------
        TaskCancelled
            The task was cancelled.
        TimeoutError
            The task has not ended after `timeout` seconds.

        Examples
        --------
        >>> future.exception()
        """
        self._wait(timeout)
        if self.cancelled():
            raise self._as_cancelled()
        return None if self._exception is None else self._error()

    def wait(self, state: TaskState | str | None = None, timeout: float | None = None) -> bool:
        """Wait until the task has ended, or until it is in a given state.

        Parameters
        ----------
        state
            The name of a state, such as "running"; None waits for the end. A task that has started has been RUNNING,
            even if it has ended since. CANCELLED waits until the worker has stopped the task.
        timeout
            Seconds to wait at most; None waits without a limit.

        Returns
        -------
        bool
            False if the timeout expires first, or if the task ends without having been in the state.

        Raises
        ------
        ValueError
            There is no such state.
        LoadBalancerUnreachable
            The connection is closed.

        Examples
        --------
        >>> future.wait("running", timeout=60)
        """
        wanted = named(state) if state is not None else None
        if not has_reached(self, wanted) and self._ended is None:
            self._connection.check_open()
            return wait_for_state(self, wanted, timeout)
        return has_reached(self, wanted)

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        if self._connection.is_closed:
            self._connection.check_open()
        with interruptible(self, self._connection):
            if not self._of_job:
                self._connection.receive_directly(self._record, self, timeout)
            if not wait_on(self._condition, self.done, timeout, self._shown_for):
                raise concurrent.futures.TimeoutError(f"task {self.task_id} is still {self.state} after {timeout:g} s")

    def _shown_for(self) -> Any:
        """The object to show during a wait for this future: its job, or all open single tasks."""
        from nblb.client.futures.waited import shown_for

        return shown_for(self, self._connection.owners)

    def _value(self) -> Any:
        load, ended = self._load, self._ended
        whole = ended.payload if ended is not None else None
        if load is None and whole is None:
            return self._result
        try:
            value = load() if load is not None else payload.unpack_results(whole)[0]  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's class may raise anything when it is loaded
            raise payload.not_loaded(self.name, self.task_id, error) from error
        self._result, self._load = value, None
        if ended is not None and whole is not None:
            self._ended = msgspec.structs.replace(ended, payload=None)
        return value

    def _error(self) -> BaseException:
        """The error, with the original exception as its cause (for an Executor, the other way round)."""
        error, failure = self._exception, self._failure
        assert error is not None
        if failure is not None:
            self._failure = None
            original = payload.original_exception(failure) if isinstance(error, TaskFailed) else None
            if original is not None and self._raises_original:
                original.__cause__ = error
                self._exception = error = original
            else:
                error.__cause__ = original
        return error

    def _as_cancelled(self) -> TaskCancelled:
        failure = self._failure
        return TaskCancelled(failure.message if failure is not None else f"{self.name} was cancelled", self.task_id)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._exception is not None:
            self._exception.__traceback__ = None
        # Shielded, so that cancelling a waiting coroutine does not cancel the task.
        return asyncio.shield(asyncio.wrap_future(self)).__await__()

    # ── cancel ──

    def cancel(self, kill: bool = False, wait: bool | float = False) -> bool:
        """Cancel the task, even a running one: its code gets KeyboardInterrupt, and a kill follows after a grace time.

        Returns at once: from then on the future is cancelled and done, as in concurrent.futures. The worker may need
        a moment longer: `snapshot().state` is CANCELLING until its hub has confirmed that the task has stopped, which
        `wait` waits for.

        Parameters
        ----------
        kill
            True kills the worker process at once.
        wait
            True waits until the task has stopped, so that its worker is free; a number waits so many seconds at most.

        Returns
        -------
        bool
            False if the task has ended already.

        Examples
        --------
        >>> future.cancel()
        """
        if not self._cancel_here():
            if wait is not False and self.cancelled():
                wait_for_confirmation(self, None if wait is True else wait)
            return self.cancelled()
        request = self._connection.request()
        self._connection.send(CancelTask(request=request, task=self._record, first=self._item, items=1, kill=kill))
        if wait is not False:
            wait_for_confirmation(self, None if wait is True else wait)
        return True

    def _cancel_here(self) -> bool:
        """Mark the future as cancelled; False if it was done already."""
        with self._condition:
            if self._state != PENDING:
                return False
            self._state = CANCELLED
            self._condition.notify_all()
        self.set_running_or_notify_cancel()  # wakes concurrent.futures.wait and as_completed
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def running(self) -> bool:
        """Return whether a worker runs the task now.

        Returns
        -------
        bool
            True while its state is RUNNING.

        Examples
        --------
        >>> future.running()
        """
        return self.state is TaskState.RUNNING

    # ── what is known ──

    @property
    def state(self) -> TaskState:
        """The state of the task, as the core last reported it.

        It is an ended state exactly if the future is done. The exception is a future whose connection was closed: it
        is done with an error while the task continues.
        """
        if self.cancelled():
            return TaskState.CANCELLED
        if self._ended is not None:
            return self._ended.state
        return self._changed.state if self._changed is not None else TaskState.QUEUED

    @property
    def progress(self) -> float:
        """The progress in percent, 0 to 100, as the task reports it; 100 when it is done."""
        if self._ended is not None and self._ended.state is TaskState.DONE:
            return 100.0
        return self._changed.progress if self._changed is not None else 0.0

    @property
    def note(self) -> str:
        """The text of the task's last progress report, or the reason why it waits."""
        return self._changed.note if self._changed is not None else ""

    @property
    def worker(self) -> str:
        """The id of the worker that runs the task or ran it last; "" before."""
        return str(self._last("worker") or "")

    @property
    def host(self) -> str:
        """The computer that runs the task or ran it last; "" before."""
        return str(self._last("host") or "")

    @property
    def kept(self) -> bool:
        """True if the task was stopped early (`stop_and_keep`), so that its result is what it last emitted."""
        return self._ended is not None and bool(self._ended.kept)

    @property
    def attempt(self) -> int:
        """The number of the current or last attempt, from 1; 0 before the first."""
        return int(self._last("attempt") or 0)

    @property
    def duration_s(self) -> float:
        """The run time of the last attempt in seconds; 0 before its end, or if its result is that of another task."""
        return self._ended.duration_s if self._ended is not None else 0.0

    @property
    def peak_mb(self) -> float:
        """The most memory in MB of the worker while it ran the task or its slice; 0 until the end, or unknown."""
        return self._ended.peak_bytes / 1e6 if self._ended is not None else 0.0

    @property
    def ended_at(self) -> float:
        """The time at which the task ended, by the core's wall clock, in seconds as time.time(); 0 until then."""
        return self._ended.ended_at if self._ended is not None else 0.0

    def _last(self, name: str) -> Any:
        return getattr(self._ended, name, None) or getattr(self._changed, name, None)

    def _about(self) -> dict[str, Any] | None:
        about: dict[str, Any] | None = self._connection.ask("task", {"task": self._record, "first": self._item})
        return about

    def story(self) -> list[tuple[float, str, str, str]]:
        """Return the history of the task: each step from its acceptance to its end.

        Returns
        -------
        list of tuple
            One (time in seconds as time.time(), cause, state before, state after) for each step.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> [step[1] for step in future.story()]
        """
        about = self._about()
        return [tuple(step) for step in about["story"]] if about else []

    def why(self) -> str:
        """Explain why the task still waits.

        Returns
        -------
        str
            A sentence with its place in the queue, the users who share the hubs, and the worker that it needs.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> future.why()
        """
        return str(self._connection.ask("why", {"task": self._record, "first": self._item}))

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames of your own code in which the task failed, the outermost first; empty if it did not fail.

        Each is a dict with the source lines and the reprs of the variables; `lb.debug(future)` walks through them.
        """
        return self._exception.frames if isinstance(self._exception, TaskFailed) else []

    def rerun_here(self) -> Any:
        """Make the same call in this process, with the function and the arguments that the worker received.

        Returns
        -------
        Any
            The value of the call.

        Raises
        ------
        Exception
            Whatever the function raises.
        UnknownTask
            The core has dropped the task.

        Examples
        --------
        >>> future.rerun_here()
        """
        from nblb.client.debug.fetch_call import fetch_call

        function, args, kwargs = fetch_call(self._connection, self._record, self._item)
        return function(*args, **kwargs)

    def snapshot(self) -> TaskSnapshot:
        """Take a snapshot of the task, as its card shows it.

        Returns
        -------
        TaskSnapshot
            A frozen object: state, progress (0 to 100), note, duration_s (seconds), failure, …

        Examples
        --------
        >>> future.snapshot().state
        """
        ended, changed, failure = self._ended, self._changed, None
        if ended is not None and ended.failure is not None and ended.state is not TaskState.CANCELLED:
            said = ended.failure
            failure = FailureGroup(said.kind, said.message, said.where, 1, (self._item,), said.traceback)
        waits = changed is not None and changed.state in (TaskState.QUEUED, TaskState.BLOCKED) and ended is None
        return TaskSnapshot(
            task=self.task_id,
            name=self.name,
            state=(TaskState.CANCELLING if ended is None and self.cancelled() else self.state).value,
            progress=self.progress,
            note="" if waits else self.note,
            worker=self.worker,
            host=self.host,
            attempt=self.attempt,
            duration_s=ended.duration_s if ended is not None else 0.0,
            failure=failure,
            waiting=self.note if waits else "",
            stdout_tail=self._printed.both()[-4096:] if self._printed is not None else "",
            output_bytes=self._printed.nbytes if self._printed is not None else 0,
            function=self._function,
            kept=self.kept,
            connected=self._connection.connected,
            peak_mb=self.peak_mb,
        )

    @property
    def displays(self) -> list[MimeBundle]:
        """The latest 50 displays of the task (display(), plt.show(), figures), as mime bundles.

        For a task that this process attached to, they are read once: from its hub's files, or else from the core.
        """
        said = self._port.live_state(self)
        if not said.pictures and not said.asked:
            said.asked = True
            self._port.recall(self)
            if not said.pictures:
                for text in self._asked_displays():
                    said.displayed(text)
        return list(said.pictures)

    def _asked_displays(self) -> list[str]:
        try:
            about = self._connection.ask("task", {"task": self._record, "first": self._item})
        except (NblbError, LoadBalancerUnreachable):
            return []
        return list(about["displays"]) if about else []

    # ── as an argument, and on the screen ──

    def __nblb_argument__(self) -> payload.Input | payload.Given:
        # The core drops the result of a single task soon after the client collected it; then the value itself is sent.
        if not self._of_job and self._ended is not None and self._ended.state is TaskState.DONE:
            return payload.Given(self.result())
        return payload.Input(self.task_id)  # only this item of its submission, so that no task waits for the others

    def __repr__(self) -> str:
        progress = f" {self.progress:.0f} %" if 0 < self.progress < 100 and not self.done() else ""
        place = f" on {self.host}" if self.host else ""
        early = ", stopped early" if self.kept else ""
        return f"<TaskFuture {self.name} {self.task_id[-8:]}: {self.state}{early}{progress}{place}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("task", self)
