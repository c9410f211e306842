"""Attempts whose end the core has acknowledged: a RunTask for one of them is a late copy; pure."""

from __future__ import annotations

from nblb.protocol.messages import RunTask

MOST = 10_000  # remembered slices


class EndedAttempts:
    """The latest ended attempt of each slice, for as many slices as late orders can be on their way."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, int], int] = {}

    def add(self, task: str, first: int, attempt: int) -> None:
        attempts, key = self._attempts, (task, first)
        attempts[key] = max(attempt, attempts.pop(key, 0))  # moved to the end, as the latest
        if len(attempts) > MOST:
            del attempts[next(iter(attempts))]

    def knows(self, run: RunTask) -> bool:
        return self._attempts.get((run.task, run.first), -1) >= run.attempt

    def forget(self) -> None:
        """Drop all, since a new core has started: orders of the old one are lost, and attempt numbers may differ."""
        self._attempts.clear()
