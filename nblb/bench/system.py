"""The interface of a benchmarked system, nblb or a peer, and the sizes of the cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class Impossible(Exception):
    """Raised when a system lacks a feature; the table shows the message instead of a figure."""


class System:
    """A running system. `gather` takes what `submit` returns. Subclasses override what their system can do."""

    workers = 2
    single = True  # it has single submits
    batches = True  # its map sends items in chunks by default

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        raise Impossible("no single submits")

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        """Returns all results in order; `chunk` is the number of items per chunk, None the system's default."""
        raise Impossible("no map")

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def run(self, function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
        """Calls the function for each argument, with single submits if the system has them."""
        if self.single:
            return self.gather([self.submit(function, argument) for argument in arguments])
        return self.map(function, arguments)

    def put(self, value: Any) -> Any:
        """Returns the stand-in for a constant in arguments."""
        raise Impossible("no put")

    def check_closures(self) -> None:
        """Raises Impossible if the system cannot send functions that close over values."""

    def close(self) -> None:
        """Ends everything that was started."""


@dataclass(frozen=True)
class Size:
    """The sizes of all cases."""

    lone: int = 300  # round trips one after the other
    warm: int = 30
    submits: int = 5_000
    items: int = 50_000
    items_one_by_one: int = 5_000  # for systems that send each item of a map separately
    chunks: tuple[int, ...] = (512, 4096)
    mib: int = 64
    echoes: int = 5
    sharing: int = 20  # tasks that use one constant
    closures: int = 500
    closure_kib: int = 1024
    uneven: int = 200


FULL = Size()
TINY = Size(
    lone=10, warm=2, submits=50, items=200, items_one_by_one=50, chunks=(64,), mib=1, echoes=1, sharing=4, closures=10,
    closure_kib=16, uneven=10,
)  # fmt: skip
