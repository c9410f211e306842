"""What the suite needs of a system beyond what a case does: starting it, its processes, others who connect."""

from __future__ import annotations

import os
from typing import Any

from nblb.bench import meters
from nblb.bench.system import Impossible, System

WORKERS = 2


class Peer(System):
    """A system that is started by making it, with two workers and what its own documentation recommends."""

    tries: dict[str, list[dict[str, Any]]] = {}  # cases in which it has settings to choose from: its best one counts

    portion = 1.0  # of the single submits: a rate needs no more, and some would take minutes

    def __init__(self, workers: int = WORKERS, **settings: Any) -> None:
        self.workers = workers
        if settings:
            raise TypeError(f"{type(self).__name__} has no settings {settings}")

    @classmethod
    def with_hubs(cls, hubs: int) -> Peer:
        """So many holders of one worker each, on this machine."""
        raise Impossible("has no hubs")

    def address(self) -> str:
        """What `attach` of another process needs."""
        raise Impossible("one process only")

    @classmethod
    def attach(cls, address: str, user: str = "") -> Peer:
        """Connects to what another process has started, for somebody of this name where it knows users."""
        raise Impossible("one process only")

    def brokers(self) -> list[int]:
        """The processes that hold what is queued; none where the client does."""
        return []

    def processes(self) -> list[int]:
        """All but the client."""
        return meters.descendants(os.getpid())

    def abandon(self) -> None:
        """Ends it although much is queued."""
        self.close()
