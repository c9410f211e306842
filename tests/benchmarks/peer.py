"""The interface of a system that the suite compares: its start, its processes, and other clients."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

from nblb.bench import meters
from nblb.bench.system import Impossible, System
from nblb.bench.work import noop
from tests.benchmarks.work import command

WORKERS = 2


class Peer(System):
    """A system with two workers and the settings that its own documentation recommends; construction starts it."""

    tries: dict[str, list[dict[str, Any]]] = {}  # alternative settings for a case; the best one counts

    collects_output = False  # it brings what tasks print to the client
    portion = 1.0  # share of the single submits to run, for systems that would take minutes

    def __init__(self, workers: int = WORKERS, **settings: Any) -> None:
        self.workers = workers
        if settings:
            raise TypeError(f"{type(self).__name__} has no settings {settings}")

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        """Start this many hubs, or their counterpart, with one worker each on this machine."""
        raise Impossible("has no hubs")

    def address(self) -> str:
        """The address that `attach` in another process needs."""
        raise Impossible("one process only")

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        """Connect to a system that another process has started, as this user if the system knows users."""
        raise Impossible("one process only")

    def brokers(self) -> list[int]:
        """The processes with the queue; empty if the client has it."""
        return []

    def processes(self) -> list[int]:
        """All processes except the client."""
        return meters.descendants(os.getpid())

    def abandon(self) -> None:
        """Stop the system although much is queued."""
        self.close()

    def commands(self, count: int) -> None:
        """Run the command `true` so many times: here in a Python function of a map."""
        if self.map(command, range(count)) != [0] * count:
            raise AssertionError("a command failed")

    def functions(self, count: int) -> None:
        """Run so many Python functions by single submits."""
        if self.run(noop, range(count)) != list(range(count)):
            raise AssertionError("a task's result is not its argument")

    def joblib(self) -> AbstractContextManager[Any]:
        """The context in which joblib runs its calls on this system."""
        raise Impossible("no joblib backend")
