"""The interfaces between a connection and the objects that it serves: owners of submissions, and pending requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from nblb import errors
from nblb.errors import LoadBalancerUnreachable, NblbError
from nblb.protocol.messages import (
    Failure,
    KnobOffered,
    SubmitTask,
    TaskChanged,
    TaskEmitted,
    TaskEnded,
    TaskPrinted,
)

T_contra = TypeVar("T_contra", contravariant=True)


class OwnerPort(Protocol[T_contra]):
    """The methods of an owner that the I/O thread calls; each takes the owner, so one port can serve many."""

    def settle(self, owner: T_contra, ended: TaskEnded, fresh: Sequence[tuple[int, int]], /) -> bool:
        """Handle the end of a slice; return whether `turned` is to be called afterwards."""

    def show(self, owner: T_contra, changed: TaskChanged, /) -> None:
        """Handle a change of state, or progress, of a task or slice."""

    def reject(self, owner: T_contra, task: str, failure: Failure, spec: SubmitTask | None, first: int, /) -> None:
        """Handle the refusal of a submission, or of its items from `first` on."""

    def printed(self, owner: T_contra, printed: TaskPrinted, /) -> None:
        """Handle text that a task wrote to stdout or stderr."""

    def received(self, owner: T_contra, message: TaskEmitted | KnobOffered | TaskPrinted, /) -> None:
        """Handle something that a task emitted or displayed, or a knob that it offers."""

    def turned(self, owner: T_contra, /) -> None:
        """Wake waiting threads, after everything that arrived together was handled."""

    def connection_closed(self, owner: T_contra, error: LoadBalancerUnreachable, /) -> None:
        """Handle the close of the connection, after which nothing more is received."""


class Owner(Protocol):
    """A future, a job or a batch of calls, whose port receives the events of a submission."""

    @property
    def _port(self) -> OwnerPort[Any]: ...


class LoneOwner(Owner, Protocol):
    """The future of a single task."""

    def done(self) -> bool:
        """True if its end is known."""


class Pending:
    """A request that waits for its answer."""

    __slots__ = ("error", "kind", "ready", "then", "value")

    def __init__(self, then: Callable[[Pending], None] | None = None) -> None:
        self.ready = threading.Event()
        self.value: Any = None
        self.error = self.kind = ""
        self.then = then

    def result(self) -> Any:
        """The answer, once it is ready; raises the error if the answer is one."""
        if self.error:
            raise error_of(self.kind, self.error)
        return self.value


def error_of(kind: str, sentence: str) -> NblbError:
    """Make the error of errors.py that has this name."""
    found = getattr(errors, kind, NblbError)
    return found(sentence) if isinstance(found, type) and issubclass(found, NblbError) else NblbError(sentence)
