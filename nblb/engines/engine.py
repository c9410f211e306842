"""The protocol between a hub and an engine, and what an engine may be able to do.

A hub gives an engine one order for each of its slots at most, so that priorities and fairness stay the core's. An order
is bytes, which only the engine's worker opens (remote_call.py). The engine reports from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

CAPABILITIES = {
    "cancel_queued": "take back a call that has not begun",
    "interrupt": "interrupt a call that runs",
    "kill": "kill the worker of a call that runs",
    "progress": "show progress while a call runs",
    "output": "show output while a call runs",
    "scale": "change its number of workers",
    "reattach": "go on with calls of an earlier hub",
}


@dataclass(frozen=True)
class OrderEnded:
    """The order has ended in good order; `end` is what remote_call.run_order has returned."""

    ticket: int
    end: bytes


@dataclass(frozen=True)
class OrderLost:
    """The order cannot end: its worker died, or the engine failed."""

    ticket: int
    reason: str


@dataclass(frozen=True)
class OrderReported:
    """Output or progress of a running order; `message` is encoded like an end."""

    ticket: int
    message: bytes


EngineEvent: TypeAlias = "OrderEnded | OrderLost | OrderReported"
Pieces: TypeAlias = "Mapping[str, Sequence[Any]]"  # by name, the pieces of each blob: bytes, or what `place` returned


class Engine(Protocol):
    """A system that runs orders.

    Attributes
    ----------
    name
        Its name for people: "dask", or "module:callable".
    capabilities
        Keys of CAPABILITIES.
    """

    name: str
    capabilities: frozenset[str]

    def start(self, workers: int, report: Callable[[EngineEvent], None]) -> None:
        """Start, or connect to, the system; `report` gets all events, from any thread."""

    def place(self, name: str, data: bytes) -> Any:
        """Store a large piece of a blob once for all orders; return what stands for it in their pieces."""

    def drop(self, placed: Any) -> None:
        """Remove a stored piece."""

    def submit(self, ticket: int, order: bytes, pieces: Pieces) -> None:
        """Run an order."""

    def cancel(self, ticket: int) -> bool:
        """Take back an order; return False if it has begun, or cannot be taken back."""

    def kill(self, ticket: int) -> bool:
        """Kill the worker that runs an order, which OrderLost reports; return False if that is impossible."""

    def scale(self, workers: int) -> bool:
        """Change the number of workers; return False if that is impossible."""

    def close(self) -> None:
        """End what `start` has started."""


def refused(engine: Engine, capability: str) -> str:
    """Return the sentence on what an engine cannot do."""
    return f"the engine {engine.name!r} cannot {CAPABILITIES[capability]}"
