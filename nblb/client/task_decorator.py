"""@task: makes a function that can also be submitted to a cluster."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload

from nblb import payload
from nblb.client import current, front_end, redefined
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.arguments import grid, kept
from nblb.client.jobs.attach import open_or_attach
from nblb.client.jobs.job import Job
from nblb.client.jobs.reuse import CHOICES
from nblb.client.submit.definition import TaskDefinition
from nblb.client.submit.function_cache import shelf
from nblb.client.submit.preflight import Preflight, preflight
from nblb.client.submit.short_call import short
from nblb.client.submit.submit import Options, pack_many, submit
from nblb.errors import NblbError
from nblb.protocol.messages import Publish
from nblb.user_text import clean_name

_Method = TypeVar("_Method", bound=Callable[..., Any])
_unnamed = itertools.count(1)
_STEADY = (list, tuple, range, itertools.repeat)  # iterating over these runs no code of the caller


def _explained(method: _Method) -> _Method:
    """Show a mistake in a call of this method at the user's line, where a front-end can."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (TypeError, ValueError) as error:
            front_end.mistake(error)
            raise

    return call  # type: ignore[return-value]


class Task(TaskDefinition):
    """A function with options for running it on the cluster. Calling a task runs the function in this process.

    `submit` runs one call on the cluster, and `map` runs many; `options` makes the same task with other options.

    Parameters
    ----------
    function
        The function.
    options
        The options of `lb.task`.

    Examples
    --------
    >>> @lb.task(retries=3)
    ... def simulate(seed, n=1000):
    ...     return seed * n
    >>> simulate(3), simulate.submit(3).result()
    """

    @_explained
    def options(self, **changes: Any) -> Task:
        """Make the same task with other options.

        Parameters
        ----------
        changes
            Options of `lb.task` by name, and `user`.

        Returns
        -------
        Task
            A new task; this one does not change.

        Raises
        ------
        TypeError
            An option does not exist, or does not accept the value.

        Examples
        --------
        >>> simulate.options(priority=100, timeout=60).submit(3)
        """
        return Task(self.function, self._options.changed(changes))

    def submit(self, /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run one call on the cluster; returns at once.

        Futures and jobs among the arguments (also inside lists and dicts) are dependencies: the call runs once they
        are done, and receives their results in their place.

        Parameters
        ----------
        *args, **kwargs
            The arguments of the call.

        Returns
        -------
        TaskFuture
            The future of the call.

        Raises
        ------
        NotSerializable
            The function or an argument cannot be pickled; the message names the part.

        Examples
        --------
        >>> simulate.submit(3, n=10).result()
        """
        try:
            return submit(current.get(), self.function, self._options, (args, kwargs), self._name)
        except (TypeError, ValueError) as error:
            front_end.mistake(error)
            raise

    @_explained
    def map(
        self,
        iterable: Iterable[Any],
        /,
        *more: Iterable[Any],
        job: str = "",
        chunksize: int | str = "auto",
        supersede: str = "ask",
        fresh: bool = False,
        max_failures: int | None = None,
        **kwargs: Any,
    ) -> Job:
        """Run one call for each item as one job; with several iterables, one call for each tuple of items.

        Parameters
        ----------
        iterable
            The first argument of each call.
        *more
            The second, third, … argument of each call; the shortest iterable ends the job.
        job
            A name by which to find the job. If a job of this name with the same function and arguments exists
            already, it is returned, and nothing is computed twice. If the arguments have changed, the results of
            finished items with equal arguments are reused; if the code has changed, none are.
        chunksize
            "auto" lets the core group items by their run time; a number keeps that many items together.
        supersede
            What to do with an unfinished earlier job of this name that has other code or arguments: "ask" (it
            continues; the new job's card offers to cancel it, as does `job.earlier.cancel()`), "cancel" or "keep".
        fresh
            True computes every call again: no existing job, earlier result or result cached by `cache=True` is used.
            The new results can be reused by later maps and calls.
        max_failures
            After so many failed or lost calls the others are cancelled, the running ones, too; None means no limit.
            `job.retry_failed()` runs all of them again. An existing job that is returned keeps its own limit.
        **kwargs
            Keyword arguments of every call.

        Returns
        -------
        Job
            The ordered futures of the calls; as the last line of a cell, it displays a live card.

        Raises
        ------
        NotSerializable
            The function or an argument cannot be pickled; the message names the part.

        Examples
        --------
        >>> job = simulate.map(range(1000), job="sweep")
        >>> job.results()
        """
        if not isinstance(fresh, bool):
            raise TypeError(f"fresh is {fresh!r}; it must be True or False")
        _check_limit(max_failures)
        if supersede not in CHOICES:
            raise ValueError(f"supersede is {supersede!r}; it must be one of {', '.join(map(repr, CHOICES))}")
        cluster = current.get()
        options = self._options
        if not isinstance(job, str):
            raise TypeError(f"job is {job!r}; it must be the name of a job")
        job = clean_name(job)
        arguments, said = self._checked([iter(each) for each in (iterable, *more)], kwargs)
        named = job or options.job
        steady = all(type(each) in _STEADY for each in (iterable, *more))
        many = pack_many(self.function, arguments, kwargs, options, chunksize, bool(named), steady)
        many.fresh, many.arguments = fresh, said
        name = named or f"{self.name}-{next(_unnamed)}"
        opened = open_or_attach(cluster, many, options, self.name, name, bool(named), supersede, max_failures or 0)
        opened._arguments = kept(self.function, many.records)
        return opened

    @_explained
    def starmap(self, iterable: Iterable[Iterable[Any]], /, **options: Any) -> Job:
        """Run the function on the cluster for each tuple of arguments, as itertools.starmap does.

        Parameters
        ----------
        iterable
            Tuples of equal length; each has the positional arguments of one call.
        **options
            As for `map`: job, chunksize, supersede, fresh, max_failures, and keyword arguments of every call.

        Returns
        -------
        Job
            The ordered futures of the calls.

        Raises
        ------
        TypeError
            The tuples differ in length, or an item is not a tuple of arguments.

        Examples
        --------
        >>> job = simulate.starmap([(1, 100), (2, 200)])
        """
        rows = [tuple(row) for row in iterable]
        for number, row in enumerate(rows):
            if len(row) != len(rows[0]):
                raise TypeError(
                    f"call {number} has {len(row)} arguments and call 0 has {len(rows[0])}; starmap() takes tuples of "
                    "one length"
                )
        columns = [list(column) for column in zip(*rows, strict=True)]
        return self.map(*(columns or [[]]), **options)

    @_explained
    def product(
        self,
        *choices: Iterable[Any],
        job: str = "",
        chunksize: int | str = "auto",
        supersede: str = "ask",
        fresh: bool = False,
        max_failures: int | None = None,
        **named: Iterable[Any],
    ) -> Job:
        """Run the function on the cluster for all combinations of these choices; the last one changes fastest.

        Parameters
        ----------
        *choices
            The values of the first, second, … parameter.
        job, chunksize, supersede, fresh, max_failures
            As for `map`.
        **named
            The values of a parameter by its name; parameters between that are left out keep their defaults.

        Returns
        -------
        Job
            The ordered futures of the calls; `dataframe()` has a column for each parameter.

        Raises
        ------
        TypeError
            A name is not a parameter, or a parameter without a default has no values.

        Examples
        --------
        >>> job = simulate.product(range(3), n=[100, 1000], job="grid")
        >>> len(job)
        6
        """
        columns = grid(inspect.signature(self.function), choices, named)
        return self.map(
            *(columns or [[]]),
            job=job,
            chunksize=chunksize,
            supersede=supersede,
            fresh=fresh,
            max_failures=max_failures,
        )

    def _checked(self, arguments: list[Iterator[Any]], kwargs: dict[str, Any]) -> tuple[list[Iterator[Any]], str]:
        """The arguments, and those of the first call in short.

        The first call is checked against the signature, so that a mistake is reported once, here.
        """
        for first in itertools.islice(zip(*arguments), 1):  # noqa: B905  # as zip does it
            self._check(first, kwargs)
            whole: list[Iterator[Any]] = [
                itertools.chain((one,), rest) for one, rest in zip(first, arguments, strict=True)
            ]
            return whole, short(first, kwargs)
        return [], ""

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # functions written in C may have no signature
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            tuples = len(args) == 1 and isinstance(args[0], (tuple, list)) and len(signature.parameters) > 1
            hint = f"; {self.name}.starmap() takes tuples of arguments" if tuples else ""
            raise TypeError(f"{self.name}{signature} cannot be called like this: {error}{hint}") from None

    def preflight(self, /, *args: Any, **kwargs: Any) -> Preflight:
        """List what a call would send, and what each hub lacks for it; the task itself does not run.

        Parameters
        ----------
        *args, **kwargs
            The arguments of the call, to list their sizes too.

        Returns
        -------
        Preflight
            `items` (name, kind, how, nbytes, hash) and `lacks` (by the name of a hub); its repr is a table.

        Raises
        ------
        NotSerializable
            The function or an argument cannot be pickled; the message names the part.

        Examples
        --------
        >>> simulate.preflight(3)
        """
        return preflight(current.get(), self.function, self._options, args, kwargs)

    def publish(self) -> str:
        """Let every client, in any language, run this function by its name.

        Returns
        -------
        str
            The name.

        Examples
        --------
        >>> simulate.publish()
        """
        return publish(self)

    @property
    def __nblb_function__(self) -> Callable[..., Any]:
        return self.function

    def __reduce__(self) -> tuple[Any, ...]:
        # In a worker it can be called and submitted; nblb.client is imported only for submitting.
        return payload.NestedTask, (self.function, self._options.given())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind the task when it is used as a method, as the function itself would be."""
        if instance is None:
            return self
        return Task(functools.partial(self.function, instance), self._options.changed({"name": self.name}))

    def __repr__(self) -> str:
        return f"<Task {self.name}{_signature(self.function)}>"


def _check_limit(max_failures: Any) -> None:
    if max_failures is None:
        return
    if isinstance(max_failures, bool) or not isinstance(max_failures, int):
        raise TypeError(f"max_failures is {max_failures!r}; it must be a whole number, 1 or more, or None for no limit")
    if max_failures < 1:
        raise ValueError(f"max_failures is {max_failures}; it must be 1 or more, or None for no limit")


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


@overload
def task(
    function: Callable[..., Any],
    /,
    *,
    name: str = "",
    priority: float = 0.0,
    retries: int = 0,
    retry_wait: float = 0.0,
    retry_on: type[BaseException] | str | Sequence[type[BaseException] | str] = (),
    timeout: float | None = None,
    deadline: float | datetime | None = None,
    time: float | str | None = None,
    cache: bool = False,
    job: str = "",
    engine: str = "",
    at_most_once: bool = False,
    user: str = "",
    gpus: float = 0,
    memory_mb: int = 0,
    needs: Iterable[str] = (),
    memory_retry: float = 0,
) -> Task: ...


@overload
def task(
    *,
    name: str = "",
    priority: float = 0.0,
    retries: int = 0,
    retry_wait: float = 0.0,
    retry_on: type[BaseException] | str | Sequence[type[BaseException] | str] = (),
    timeout: float | None = None,
    deadline: float | datetime | None = None,
    time: float | str | None = None,
    cache: bool = False,
    job: str = "",
    engine: str = "",
    at_most_once: bool = False,
    user: str = "",
    gpus: float = 0,
    memory_mb: int = 0,
    needs: Iterable[str] = (),
    memory_retry: float = 0,
) -> Callable[[Callable[..., Any]], Task]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task of a function: `@lb.task`, `@lb.task(retries=3)` or `lb.task(function, retries=3)`.

    Calling the task still runs the function in this process; `.submit(...)` and `.map(...)` run it on the cluster. If
    `function` is a task already, it keeps its options except for those given here.

    Parameters
    ----------
    function
        A function or a task; if it is left out, a decorator with these options is returned.
    name
        The name that people see and that statistics are kept under; by default the function's name.
    priority
        Tasks of higher priority run first among your own; the priority also selects the workers by their band.
    retries
        The number of times it may run again after it raised an exception.
    retry_wait
        The wait before the first retry in seconds; each later one is twice as long, up to 10 minutes (or as long as
        the first), and up to a tenth is added. A call that waits uses no worker.
    retry_on
        The exception class, or classes, after which it runs again; by default all. Subclasses count, and a timeout
        counts as TimeoutError. A class that this process cannot import may be given by its full name as a text.
    timeout
        The time limit for one call in seconds, after which it ends with TaskTimeout.
    deadline
        Seconds from the submission, or a datetime, by which a call must have ended, with all its waits and retries;
        else it is stopped, or never begins, and ends with DeadlineExceeded. A retry of failed calls counts anew.
    time
        The longest that one call takes, in seconds or as "2h": hubs in batch jobs that end earlier do not begin it.
    cache
        True computes the same function with the same arguments once per cluster.
    job
        A name for jobs of `map`; `submit` runs single calls, which belong to no job.
    engine
        The engine that runs it: "processes", the only one that hubs have so far.
    at_most_once
        True never runs a call again after its worker or hub was lost: the call ends as LOST.
    user
        The user of the task, if the cluster lets you act for others; by default your account.
    gpus
        The GPUs that its worker must have: 1 for a card, 0.5 for at least half of one.
    memory_mb
        The memory that its worker must have, in MB.
    needs
        The features that its worker must have, as groups of WKHUB_WORKERS name them: needs=["matlab"].
    memory_retry
        A factor, such as 2: when its worker was killed for memory, the next attempt needs so many times the memory of
        that worker, at most that of the largest. 0 tries again with the same.

    Returns
    -------
    Task
        The task, which replaces the function; or a decorator that makes a task.

    Raises
    ------
    TypeError
        An option does not exist, or does not accept the value.

    Examples
    --------
    >>> @lb.task(retries=3)
    ... def simulate(seed):
    ...     return seed ** 2
    >>> simulate.submit(3).result()
    """
    if function is None:
        Options().changed(options)  # reports a mistake in the options here
        return lambda function: task(function, **options)
    if isinstance(function, Task):
        return function.options(**options) if options else function
    return _defined(Task(function, Options().changed(options)))


def _defined(task: Task) -> Task:
    redefined.defined(task)
    return task


def publish(function: Callable[..., Any], name: str = "") -> str:
    """Let every client, in any language, run a function by its name.

    Workers call it like the functions of a WorkerHub: `function(task=<the dict that was sent>, arguments={})`. The
    sender of a task sets its priority and user; only the function and the name of a Task are published.

    Parameters
    ----------
    function
        A function, or a task.
    name
        The name; by default the function's own.

    Returns
    -------
    str
        The name.

    Examples
    --------
    >>> lb.publish(lambda task, arguments: task["x"] ** 2, "square")
    """
    if isinstance(function, Task) and (left := function._options.beyond("name", "priority", "user", "job")):
        warnings.warn(
            f"{function.name} is published without {', '.join(left)}: they apply to tasks that this process submits",
            stacklevel=2,
        )
    plain = function.function if isinstance(function, Task) else function
    name = name or (function.name if isinstance(function, Task) else getattr(function, "__name__", ""))
    if not name or name in ("<lambda>", "lambda"):
        raise TypeError("a function without a name is published under one: publish(function, name='...')")
    name = clean_name(name)
    connection = current.get().connection
    blob = shelf.blob(plain)
    for _ in range(3):  # the core may ask for the blob first
        connection.send(blob, Publish(name=name, hash=blob.hash))
        if connection.ask("published").get(name) == blob.hash:
            return name
    raise NblbError(f"the core did not publish {name}; its log says why")
