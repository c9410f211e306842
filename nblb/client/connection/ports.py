"""The small interfaces between a connection and what it serves: who owns a record, and a question on its way."""

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
    """What the connection's thread calls of an owner; each method takes the owner, and one port may serve many."""

    def settle(self, owner: T_contra, ended: TaskEnded, fresh: Sequence[tuple[int, int]], /) -> bool:
        """A slice has ended; whether `turned` is to be called for it."""

    def show(self, owner: T_contra, changed: TaskChanged, /) -> None:
        """A task or slice is in another state, or reports progress."""

    def reject(self, owner: T_contra, task: str, failure: Failure, spec: SubmitTask | None, first: int, /) -> None:
        """The core has not taken a record, or its items from `first` on."""

    def printed(self, owner: T_contra, printed: TaskPrinted, /) -> None:
        """A task has written to stdout or stderr."""

    def heard(self, owner: T_contra, message: TaskEmitted | KnobOffered | TaskPrinted, /) -> None:
        """A task has emitted or displayed something, or offers a knob."""

    def turned(self, owner: T_contra, /) -> None:
        """All that arrived together has been told: wake who waits."""

    def hung_up(self, owner: T_contra, error: LoadBalancerUnreachable, /) -> None:
        """The connection was closed: nothing more will be received."""


class Owner(Protocol):
    """A future, a job or a batch of calls: its port receives what becomes of a record."""

    @property
    def _port(self) -> OwnerPort[Any]: ...


class LoneOwner(Owner, Protocol):
    """A future."""

    def done(self) -> bool:
        """Whether its end is known."""


class Pending:
    """A question on its way."""

    __slots__ = ("error", "kind", "ready", "then", "value")

    def __init__(self, then: Callable[[Pending], None] | None = None) -> None:
        self.ready = threading.Event()
        self.value: Any = None
        self.error = self.kind = ""
        self.then = then

    def result(self) -> Any:
        """The answer, once it is ready; raises the error that it is."""
        if self.error:
            raise error_of(self.kind, self.error)
        return self.value


def error_of(kind: str, sentence: str) -> NblbError:
    """The error of errors.py with this name."""
    found = getattr(errors, kind, NblbError)
    return found(sentence) if isinstance(found, type) and issubclass(found, NblbError) else NblbError(sentence)
