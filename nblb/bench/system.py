"""What a case needs of a system, ours or a peer's, and how much work a case is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class Impossible(Exception):
    """A system has no such thing; the message is the word that stands in its place in the table."""


class System:
    """A running system. `submit` gives whatever `gather` takes. What a system cannot do is left as it stands here."""

    workers = 2
    single = True  # it has single submits
    batches = True  # its map, left alone, sends items in portions

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        raise Impossible("no single submits")

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        """All results, in order; `chunk` is how many items stay together, None what the system does by itself."""
        raise Impossible("no map")

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def run(self, function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
        """A call for each argument, one by one where the system can."""
        if self.single:
            return self.gather([self.submit(function, argument) for argument in arguments])
        return self.map(function, arguments)

    def put(self, value: Any) -> Any:
        """What stands for a constant in arguments."""
        raise Impossible("no put")

    def check_closures(self) -> None:
        """Raises Impossible where functions that close over values cannot be sent."""

    def close(self) -> None:
        """Ends all that was started."""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    lone: int = 300  # round trips one after the other
    warm: int = 30
    submits: int = 5_000
    items: int = 50_000
    items_one_by_one: int = 5_000  # for systems that send each item of a map by itself
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
