"""The functions that a task calls while it runs: `progress`, `track`, `emit`, `knob`, `checkpoint`, `resume`.

Outside a worker none of them has a visible effect, so a task stays a plain function. A worker sets `reporter`, `voice`
and `keeper` for the attempt that it runs. A task may call them as often as it likes, because the worker keeps only the
latest value, and sends it at most every 20 ms (progress) or 100 ms (emitted values); the last one is always sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from nblb.parameters import Parameters

T = TypeVar("T")

Reporter = Callable[[float, str], None]


class WorkerPort(Protocol):
    """The services of a worker for the task that it runs."""

    def emit(self, thing: Any) -> None: ...
    def knob(
        self, name: str, default: Any, minimum: float | None, maximum: float | None, step: float | None
    ) -> Any: ...


class StateKeeper(Protocol):
    """The place where a worker keeps what the task that it runs saves for its next attempt."""

    def save(self, state: Any) -> None: ...
    def load(self, default: Any) -> Any: ...


class Parent(Protocol):
    """The data about the running call that a client in a worker needs for the tasks that the call submits."""

    parameters: Parameters  # of the cluster that runs the call
    number: int  # of the current slice, 0 between two slices
    at_end: Callable[[], None] | None  # called at the end of a slice whose calls have submitted tasks
    takes_over: Callable[[Any], str] | None  # takes a call's result, returns the task whose result replaces it, or ""
    is_refused: bool  # the current wait must fail
    has_own_key: bool  # it runs as the account of its user, who has another key than the hub

    @property
    def user(self) -> str: ...
    @property
    def place(self) -> tuple[str, int, int]: ...
    @property
    def is_waited_by(self) -> bool: ...
    def submits(self) -> None: ...
    def wait_begins(self, wake: Callable[[], None]) -> None: ...
    def wait_ends(self) -> None: ...
    def refusal(self) -> Exception: ...


class StoppedAndKept(BaseException):
    """Raised inside a task to end it early, with its last emitted value as the result.

    It is not an Exception, so that a task that catches all errors of a step ends all the same; `finally` blocks run.
    """


reporter: Reporter | None = None
voice: WorkerPort | None = None
keeper: StateKeeper | None = None
parent: Parent | None = None  # in a worker


def progress(percent: float, note: str = "") -> None:
    """Report how far this task is.

    Parameters
    ----------
    percent
        0 to 100.
    note
        A few words about what it does.

    Examples
    --------
    >>> lb.progress(40, "half way")
    """
    report = reporter
    if report is not None:
        percent = float(percent)
        report(min(max(percent, 0.0), 100.0) if percent == percent else 0.0, note)  # noqa: PLR0124  # NaN


def track(iterable: Iterable[T], total: int | None = None, note: str = "") -> Iterator[T]:
    """Give the items of an iterable, one after another, while the task's progress follows them.

    Parameters
    ----------
    iterable
        The items.
    total
        Their number, where `len(iterable)` is not known; without either the items are counted in the note.
    note
        A few words about what the task does.

    Returns
    -------
    iterator
        The items.

    Examples
    --------
    >>> for step in lb.track(range(1000)):
    ...     simulate(step)
    """
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = 0
    done = 0
    for item in iterable:
        yield item
        done += 1
        report = reporter
        if report is None:
            continue
        if total > 0:
            report(min(100.0 * done / total, 100.0), note)
        else:
            report(0.0, f"{note} {done:,}".lstrip())


def emit(thing: Any) -> None:
    """Send an intermediate result to all who watch this task.

    Only the latest counts; "stop early and keep" makes it the task's result. It is kept as the object that it is:
    emit a copy of what you go on changing.

    Parameters
    ----------
    thing
        A value, a figure, or anything with a picture.

    Examples
    --------
    >>> lb.emit({"epoch": 3, "loss": 0.25})
    """
    say = voice
    if say is not None:
        say.emit(thing)


def knob(
    name: str,
    default: T,
    min: float | None = None,  # noqa: A002  # the usual names of a slider's ends
    max: float | None = None,  # noqa: A002
    step: float | None = None,
) -> T:
    """Read a knob, which all who watch this task can turn while it runs; read it as often as you like.

    Parameters
    ----------
    name
        What it is called on the task's card.
    default
        Its value until somebody turns it: a number, a text, or True or False.
    min, max, step
        The range of its slider, for numbers.

    Returns
    -------
    int, float, str or bool
        The value that it has now, of the kind of the default.

    Examples
    --------
    >>> rate = lb.knob("lr", 0.1, min=0, max=1)
    """
    _check_knob(name, default, min, max)
    say = voice
    if say is None:
        return default
    value: T = say.knob(name, default, min, max, step)
    return value


def checkpoint(state: Any) -> None:
    """Save how far this task is, so that its next attempt can go on from there instead of from the start.

    The core keeps the latest state on its disk until the task ends, and gives it to the next attempt: after a crash or
    the end of a worker, hub or batch job, after a restart of the core, and when a call that raised is retried. It is
    sent at most once a second, so an attempt that is killed may lose the last second. Each call of a job has a state of
    its own. Outside a worker nothing is saved.

    Parameters
    ----------
    state
        Anything that can be pickled, at most 8 MB; it replaces the one before.

    Raises
    ------
    ValueError
        The state is too large.
    NotSerializable
        It cannot be pickled.

    Examples
    --------
    >>> lb.checkpoint({"step": step, "sum": total})
    """
    place = keeper
    if place is not None:
        place.save(state)


def resume(default: T) -> T:
    """Return the state that this task has saved last with `lb.checkpoint`, in this attempt or an earlier one.

    Parameters
    ----------
    default
        What to return if it has saved none, as in its first attempt, or outside a worker.

    Returns
    -------
    Any
        The state, or the default.

    Examples
    --------
    >>> state = lb.resume({"step": 0, "sum": 0})
    """
    place = keeper
    if place is None:
        return default
    state: T = place.load(default)
    return state


def _check_knob(name: Any, default: Any, minimum: float | None, maximum: float | None) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of a knob is {name!r}; it must be a text")
    if not isinstance(default, (bool, int, float, str)):
        raise TypeError(f"knob {name!r} is {default!r} by default; it must be a number, a text, True or False")
    for limit in (minimum, maximum):
        if limit is not None and isinstance(default, str):
            raise TypeError(f"knob {name!r} is a text, which has no min and max")
    if not isinstance(default, str) and (
        (minimum is not None and default < minimum) or (maximum is not None and default > maximum)
    ):
        raise ValueError(f"knob {name!r} is {default!r} by default, which is not within {minimum}..{maximum}")
