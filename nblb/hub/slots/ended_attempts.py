"""Attempts that are over and that the core knows to be over: an order to run one of them is a late copy; pure."""

from __future__ import annotations

from nblb.protocol.messages import RunTask

MOST = 10_000  # slices that are remembered


class EndedAttempts:
    """Of each slice the latest attempt that is over, for as many slices as orders can be on their way."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, int], int] = {}

    def add(self, task: str, first: int, attempt: int) -> None:
        attempts, key = self._attempts, (task, first)
        attempts[key] = max(attempt, attempts.pop(key, 0))  # the latest stand last
        if len(attempts) > MOST:
            del attempts[next(iter(attempts))]

    def knows(self, run: RunTask) -> bool:
        return self._attempts.get((run.task, run.first), -1) >= run.attempt

    def forget(self) -> None:
        """A core was started anew: what was on its way from the one before is lost, and it may count otherwise."""
        self._attempts.clear()
