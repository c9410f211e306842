"""Functions on several futures (as_completed, wait, gather), and put for values that are sent once."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nblb import payload
from nblb.client.connection import wait_display
from nblb.client.connection.waiting import interruptible, wait_on
from nblb.client.futures.group import FutureGroup
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job import Job
from nblb.errors import NblbError
from nblb.protocol.messages import PutBlob
from nblb.shared_files.transfer import are_there


class Held:
    """A value that hubs keep: pass it to any number of tasks; it is sent once to each hub.

    Later changes to the object that you put have no effect.
    """

    def __init__(self, value: Any) -> None:
        name, dumped = payload.dump_constant(value)
        self.hash = name
        self.nbytes = dumped.nbytes
        self._blob = PutBlob(hash=name, payload=dumped, name=f"a {type(value).__name__}")
        self._shown = type(value).__name__

    @property
    def blob(self) -> PutBlob:
        """The message that carries the value; raises NblbError if its file went with the folder of a cluster."""
        if not are_there(self._blob.payload):
            raise NblbError(f"{self!r} was in the state folder of a cluster that is gone; put the value again")
        return self._blob

    @functools.cached_property
    def content(self) -> str:
        """The hash of its content, which also serves as its name unless the value is too large to be hashed at once."""
        return payload.content_hash(self.blob.payload.buffers)

    @property
    def value(self) -> Any:
        """Load a copy of the value as it was put."""
        return payload.load_constant(self.blob.payload)

    def __nblb_argument__(self) -> payload.Constant:
        return payload.Constant(self.hash, self)

    def __repr__(self) -> str:
        return f"<Held {self._shown}, {self.nbytes:,} bytes, {self.hash[:8]}>"


def put(value: Any) -> Held:
    """Send a value once per hub, however many tasks use it: pass the returned object in its place.

    Parameters
    ----------
    value
        Anything that can be pickled, such as a large array.

    Returns
    -------
    Held
        A stand-in for the value, to pass as an argument.

    Examples
    --------
    >>> big = lb.put(array)
    >>> job = fit.map(range(100), data=big)
    """
    return value if isinstance(value, Held) else Held(value)


def _futures(things: Iterable[Any]) -> list[concurrent.futures.Future[Any]]:
    """The futures given, and those of the items of jobs."""
    found: list[concurrent.futures.Future[Any]] = []
    for thing in [things] if isinstance(things, Job) else things:
        if isinstance(thing, Job):
            found += [thing[item] for item in range(len(thing))]
        elif isinstance(thing, concurrent.futures.Future):
            found.append(thing)
        else:
            raise TypeError(f"{thing!r} is neither a future nor a job")
    return found


def _only_job(things: Sequence[Any]) -> Job | None:
    """The awaited job, if nothing else is awaited."""
    return things[0] if len(things) == 1 and isinstance(things[0], Job) else None


class _Several:
    """A group of futures to wait for together."""

    def __init__(self, futures: Sequence[concurrent.futures.Future[Any]], job: Job | None = None) -> None:
        self.job = job  # the job that all of them belong to, if there is just one
        self.futures = list(dict.fromkeys(futures))
        self.ended: deque[concurrent.futures.Future[Any]] = deque()
        self.condition = threading.Condition()
        self._group: FutureGroup | None = None
        for future in self.futures:
            future.add_done_callback(self._note)

    def _note(self, future: concurrent.futures.Future[Any]) -> None:
        with self.condition:
            self.ended.append(future)
            self.condition.notify_all()

    def wait(self, enough: Callable[[], bool], timeout: float | None) -> bool:
        ours = next((future for future in self.futures if isinstance(future, TaskFuture)), None)
        if ours is None:
            return wait_on(self.condition, enough, timeout, self._shown)
        with interruptible(self, ours._connection):
            return wait_on(self.condition, enough, timeout, self._shown)

    def _shown(self) -> Any:
        """The object to show during the wait: the job whose items these are, or the futures as a group."""
        if self.job is not None:
            return self.job
        if self._group is None:
            self._group = FutureGroup(futures=self.futures)
        return self._group

    def done(self) -> bool:
        return all(future.done() for future in self.futures)

    def cancel(self, kill: bool = False) -> None:
        for future in self.futures:
            if isinstance(future, TaskFuture):
                future.cancel(kill)

    def __repr__(self) -> str:
        return f"<{len(self.futures):,} futures, {len(self.futures) - len(self.ended):,} of them open>"


def as_completed(things: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
    """Yield futures in the order in which they end.

    Parameters
    ----------
    things
        Futures, and jobs, which stand for the futures of their items; or one job.
    timeout
        Seconds from now within which all must end; None waits without a limit.

    Returns
    -------
    iterator of Future
        Each future once.

    Raises
    ------
    TimeoutError
        Some have not ended after `timeout` seconds.
    TypeError
        One of the things is neither a future nor a job.

    Examples
    --------
    >>> for future in lb.as_completed([simulate.submit(n) for n in range(3)]):
    ...     print(future.result())
    """
    if isinstance(things, Job):
        return things.as_completed(timeout)
    return _as_completed(_Several(_futures(things)), timeout)


def _as_completed(several: _Several, timeout: float | None) -> Iterator[Any]:
    until = None if timeout is None else time.monotonic() + timeout
    for left in range(len(several.futures), 0, -1):
        left_s = None if until is None else max(0.0, until - time.monotonic())
        if not several.wait(lambda: bool(several.ended), left_s):
            raise concurrent.futures.TimeoutError(
                f"{left:,} of {len(several.futures):,} futures have not ended after {timeout} s"
            )
        yield several.ended.popleft()


def wait(
    things: Iterable[Any], timeout: float | None = None, return_when: str = concurrent.futures.ALL_COMPLETED
) -> DoneAndNotDone:
    """Wait for futures and jobs, as concurrent.futures.wait does.

    Parameters
    ----------
    things
        Futures, and jobs, which stand for the futures of their items; or one job.
    timeout
        Seconds to wait at most; None waits without a limit.
    return_when
        FIRST_COMPLETED, FIRST_EXCEPTION or ALL_COMPLETED of concurrent.futures.

    Returns
    -------
    DoneAndNotDone
        The sets `done` and `not_done` of futures.

    Raises
    ------
    TypeError
        One of the things is neither a future nor a job.
    ValueError
        `return_when` is not one of the three.

    Examples
    --------
    >>> done, not_done = lb.wait([f, g], timeout=10)
    """
    things = [things] if isinstance(things, Job) else list(things)
    several = _Several(_futures(things), _only_job(things))

    def enough() -> bool:
        ended = list(several.ended)
        if return_when == concurrent.futures.FIRST_COMPLETED and ended:
            return True
        if return_when == concurrent.futures.FIRST_EXCEPTION and any(map(_is_bad, ended)):
            return True
        return len(ended) == len(several.futures)

    if return_when not in (
        concurrent.futures.FIRST_COMPLETED,
        concurrent.futures.FIRST_EXCEPTION,
        concurrent.futures.ALL_COMPLETED,
    ):
        raise ValueError(f"return_when is {return_when!r}; it must be one of the constants of concurrent.futures.wait")
    several.wait(enough, timeout)
    done = set(several.ended)
    return DoneAndNotDone(done, set(several.futures) - done)


class DoneAndNotDone(NamedTuple):
    done: set[Any]
    not_done: set[Any]


def _is_bad(future: concurrent.futures.Future[Any]) -> bool:
    return not future.cancelled() and future.exception() is not None


def gather(*things: Any) -> list[Any]:
    """Wait for futures and jobs, and return their results in this order.

    Parameters
    ----------
    *things
        Futures and jobs, or one list (or other iterable) of them.

    Returns
    -------
    list
        One result for each future, and a list of results for each job.

    Raises
    ------
    TypeError
        One of the things is neither a future nor a job.

    Examples
    --------
    >>> lb.gather(simulate.submit(1), simulate.submit(2))
    """
    if len(things) == 1 and not isinstance(things[0], (Job, concurrent.futures.Future)):
        if isinstance(things[0], (str, bytes)) or not isinstance(things[0], Iterable):
            raise TypeError(f"{things[0]!r} is neither a future nor a job")
        things = tuple(things[0])
    for thing in things:
        if not isinstance(thing, (Job, concurrent.futures.Future)):
            raise TypeError(f"{thing!r} is neither a future nor a job")
    if len(things) <= 1:
        return [_result(thing) for thing in things]
    group = FutureGroup(futures=[thing for thing in things if not isinstance(thing, Job)])

    found = []
    for thing in things:
        shown = thing if isinstance(thing, Job) else group
        with wait_display.waiting_for(lambda: shown):  # noqa: B023
            found.append(_result(thing))
    return found


def _result(thing: Any) -> Any:
    return thing.results() if isinstance(thing, Job) else thing.result()
