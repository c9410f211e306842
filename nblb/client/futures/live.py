"""The live state of running tasks in the client: emitted values, knobs and pictures.

`SteeredTask` and `SteeredJob` are the base classes that give it to TaskFuture and Job. Callbacks run on the I/O
thread; everything here may be read from any thread, as often as a front-end likes.
"""

from __future__ import annotations

import difflib
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nblb import payload
from nblb.client import front_end
from nblb.client.jobs.summary import summary
from nblb.errors import NblbError
from nblb.protocol.messages import KnobOffered, StopAndKeep, TaskEmitted, TurnKnob

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection
    from nblb.client.jobs.ledger import Ledger

MOST_PICTURES = 50  # for one task or job
MOST_ITEMS = 64  # items of a job whose live state is kept


@dataclass(frozen=True)
class Knob:
    """A value in a running task that you can change: `future.turn(name, value)`."""

    name: str
    value: Any  # the value that the task uses next
    default: Any = None
    min: float | None = None
    max: float | None = None
    step: float | None = None


@dataclass(frozen=True)
class MimeBundle:
    """Something that a task displayed or emitted: a mime bundle that any front-end can show."""

    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    item: int = 0  # the item of a job that displayed it
    display_id: str = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(self.data), dict(self.metadata)

    def __repr__(self) -> str:
        return str(self.data.get("text/plain") or f"<Picture {', '.join(self.data)}>")


class LiveState:
    """The live state of one task."""

    def __init__(self) -> None:
        self.knobs: dict[str, Knob] = {}
        self.pictures: deque[MimeBundle] = deque(maxlen=MOST_PICTURES)
        self.count = 0  # number of emissions so far
        self.asked = False  # whether the core was asked for what was displayed before this process attached
        self._emitted: TaskEmitted | None = None
        self._value: Any = None
        self._clears = False  # whether the next picture replaces all earlier ones
        self._recalled: set[str] = set()  # texts that may arrive a second time

    def emitted(self, message: TaskEmitted) -> None:
        self._emitted, self._value = message, None
        self.count += 1

    def offered(self, message: KnobOffered) -> None:
        knob = Knob(message.name, message.value, message.default, message.minimum, message.maximum, message.step)
        self.knobs = {**self.knobs, message.name: knob}

    def recall(self, texts: Iterable[tuple[str, int]]) -> None:
        """Add displays read from the output log, which also contains those that arrived here meanwhile.

        A text that arrives later and is equal to one of these is a duplicate.
        """
        self.pictures, self._recalled = deque(maxlen=MOST_PICTURES), set()
        found = list(texts)
        for text, item in found:
            self.displayed(text, item)
        self._recalled = {text for text, _ in found}

    def displayed(self, text: str, item: int = 0) -> MimeBundle | None:
        """Apply the JSON of a display (see worker/mime_bundles.py); return the picture, if it is one."""
        if text in self._recalled:
            self._recalled.discard(text)
            return None
        try:
            shown = json.loads(text)
            if shown.get("clear"):
                self._clear(bool(shown.get("wait")))
                return None
            picture = MimeBundle(shown["data"], shown.get("metadata") or {}, item, str(shown.get("id") or ""))
        except (ValueError, KeyError, AttributeError):
            return None
        if self._clears:
            self._clear(False)
        if shown.get("update"):
            self._replace(picture)
        else:
            self.pictures.append(picture)
        return picture

    def _clear(self, wait: bool) -> None:
        self._clears = wait
        if not wait:
            self.pictures = deque(maxlen=MOST_PICTURES)

    def _replace(self, picture: MimeBundle) -> None:
        pictures = [picture if old.display_id == picture.display_id else old for old in self.pictures]
        self.pictures = deque(pictures, maxlen=MOST_PICTURES)

    def value(self) -> Any:
        """The value that was emitted last; a MimeBundle if it was not sent as a value; None before the first."""
        message = self._emitted
        if message is None:
            return None
        if message.payload is None:
            return self.picture()
        if self._value is None:
            value = payload.unpack_results(message.payload)[0]
            if self._emitted is message:
                self._value = value
            return value
        return self._value

    def picture(self) -> MimeBundle | None:
        """The picture of the value that was emitted last, if it has one."""
        message = self._emitted
        if message is None or not message.bundle:
            return None
        shown = json.loads(message.bundle)
        return MimeBundle(shown["data"], shown.get("metadata") or {}, message.first + message.offset)


def check_turn(knobs: Mapping[str, Knob], name: str, value: Any, who: str) -> None:
    """Raise an error if a knob cannot take this value, as far as its task has reported the knob."""
    if not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"knob {name!r} cannot be {value!r}; it must be a number, a text, True or False")
    if not knobs:
        return  # the task has offered no knob yet; it gets the value when it does
    knob = knobs.get(name)
    if knob is None:
        close = difflib.get_close_matches(name, knobs, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(knobs)}"
        raise NblbError(f"{who} has no knob {name!r}; {hint}")
    if isinstance(knob.default, str) is not isinstance(value, str):
        raise TypeError(f"knob {name!r} is {knob.default!r} by default; {value!r} is of another kind")
    if isinstance(value, str):
        return
    if (knob.min is not None and value < knob.min) or (knob.max is not None and value > knob.max):
        raise ValueError(f"knob {name!r} goes from {knob.min} to {knob.max}; {value!r} is out of range")


class _Steered(Protocol):
    _connection: Connection
    name: str


def _steer(thing: _Steered, name: str, value: Any, **what: Any) -> None:
    request = thing._connection.request()
    thing._connection.send(TurnKnob(name=name, value=value, request=request, **what))


def _stop_and_keep(thing: _Steered, **what: Any) -> int:
    connection = thing._connection
    question = StopAndKeep(request=connection.request(), **what)
    return int(connection.wait_for(connection.question(question)))


class SteeredTask:
    """The part of TaskFuture for live values: emitted, knobs, turn, stop_and_keep, displays."""

    _connection: Connection
    name: str
    _record: str
    _item: int
    _said: LiveState | None = None
    _on_emit: tuple[Callable[[Any], Any], ...] = ()

    def done(self) -> bool:
        raise NotImplementedError

    @property
    def emitted(self) -> Any:
        """The value that the task last emitted (lb.emit), a MimeBundle if it was a figure; None before the first."""
        return self._said.value() if self._said is not None else None

    def on_emit(self, callback: Callable[[Any], Any]) -> None:
        """Call a function with each value that the task emits, at most ten times a second.

        Parameters
        ----------
        callback
            The function, which takes the value. It is called on another thread; its output goes to the cell that
                added it.

        Examples
        --------
        >>> future.on_emit(print)
        """
        self._on_emit = (*self._on_emit, front_end.here(callback))

    @property
    def knobs(self) -> dict[str, Knob]:
        """The knobs of the task (lb.knob) by name, with the values that it uses."""
        return dict(self._said.knobs) if self._said is not None else {}

    def turn(self, name: str, value: Any) -> None:
        """Give a knob another value; the running task uses it when it next reads the knob.

        Parameters
        ----------
        name
            The name of the knob.
        value
            A number, a text, True or False, of the kind of the knob's default and within its range.

        Raises
        ------
        NblbError
            The task has no such knob.
        TypeError
            The value is of another kind than the default.
        ValueError
            The value is beyond the range.

        Examples
        --------
        >>> future.turn("lr", 0.01)
        """
        check_turn(self.knobs, name, value, self.name)
        _steer(self, name, value, task=self._record, item=self._item)

    def stop_and_keep(self) -> bool:
        """End the running task at its next call of emit, progress, track or knob; its result is what it last emitted.

        A task that has emitted nothing fails.

        Returns
        -------
        bool
            False if it has ended already.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> future.stop_and_keep()
        """
        if self.done():
            return False
        return _stop_and_keep(self, task=self._record, item=self._item) > 0


class SteeredJob:
    """The part of Job for live values: the same methods, for its items."""

    _connection: Connection
    name: str
    job_id: str
    _ledger: Ledger
    _futures: dict[int, Any]

    def _begin_steering(self) -> None:
        self._listeners: tuple[Callable[[], Any], ...] = ()
        self._said: OrderedDict[int, LiveState] = OrderedDict()
        self._pictures: deque[MimeBundle] = deque(maxlen=MOST_PICTURES)
        self._on_emit: tuple[Callable[[int, Any], Any], ...] = ()

    def summary(self) -> str:
        """Summarize the states and failures of the items in one sentence.

        Returns
        -------
        str
            For example "37 of 1,000 failed: 36 × ValueError at cell In[7] line 4, …".

        Examples
        --------
        >>> print(job.summary())
        """
        return summary(self._ledger)

    def __str__(self) -> str:
        return f"{self.name}: {self.summary()}"

    @property
    def emitted(self) -> dict[int, Any]:
        """The last emitted value of each item, in the order of the items, for the 64 that emitted most recently."""
        return {item: said.value() for item, said in sorted(self._said.items()) if said.count}

    def on_emit(self, callback: Callable[[int, Any], Any]) -> None:
        """Call a function with each value that an item emits.

        Parameters
        ----------
        callback
            The function, which takes the number of the item and the value. It is called on another thread; its output
            goes to the cell that added it.

        Examples
        --------
        >>> job.on_emit(lambda item, value: print(item, value))
        """
        self._on_emit = (*self._on_emit, front_end.here(callback))

    @property
    def knobs(self) -> dict[str, Knob]:
        """The knobs of the items by name, with the value that an item last read."""
        found: dict[str, Knob] = {}
        for said in list(self._said.values()):
            found.update(said.knobs)
        return found

    def turn(self, name: str, value: Any) -> None:
        """Give a knob another value in all items: those that run, and those that start later.

        Parameters
        ----------
        name
            The name of the knob.
        value
            A number, a text, True or False, of the kind of the knob's default and within its range.

        Raises
        ------
        NblbError
            The items have no such knob.
        TypeError
            The value is of another kind than the default.
        ValueError
            The value is beyond the range.

        Examples
        --------
        >>> job.turn("lr", 0.01)
        """
        check_turn(self.knobs, name, value, self.name)
        _steer(self, name, value, job=self.job_id)

    def stop_and_keep(self) -> int:
        """End every running item, with what it last emitted as its result; the others continue.

        Returns
        -------
        int
            The number of running slices that were asked to stop.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> job.stop_and_keep()
        """
        return _stop_and_keep(self, job=self.job_id)

    def live(self: Any, every_s: float = 0.2) -> Iterator[Any]:
        """Yield the job itself repeatedly while it runs, and once more at its end; draw it in the body of the loop.

        Parameters
        ----------
        every_s
            Seconds between two iterations.

        Returns
        -------
        iterator of Job
            This job each time.

        Examples
        --------
        >>> for job in job.live():
        ...     plot(job.emitted)
        """
        done = False
        while not done:
            done = self.wait(every_s)
            yield self

    @property
    def displays(self) -> list[MimeBundle]:
        """The latest 50 displays of all items, as mime bundles; `picture.item` is the number of its item."""
        return list(self._pictures)
