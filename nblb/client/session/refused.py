"""Tasks that the core has refused. If the core accepts a late copy of one, the client cancels that copy; pure.

A copy is late if it was sent again before the refusal arrived. Its future has failed by then, so no code would ever
use its result.
"""

from __future__ import annotations

from nblb.protocol.messages import CancelTask

MOST = 10_000  # most refused tasks to remember


class RefusedTasks:
    """The refused tasks, and unanswered cancel requests; these have negative ids, which no request of a user has."""

    def __init__(self) -> None:
        self._refused: dict[str, None] = {}
        self._cancels: dict[int, CancelTask] = {}
        self._number = 0

    def refused(self, task: str) -> None:
        self._refused[task] = None
        if len(self._refused) > MOST:
            del self._refused[next(iter(self._refused))]

    def accepted(self, task: str) -> list[CancelTask]:
        """The messages to send when the core has accepted a task: a cancel request if the task was refused before."""
        if task not in self._refused:
            return []
        del self._refused[task]
        self._number -= 1
        self._cancels[self._number] = CancelTask(request=self._number, task=task)
        return [self._cancels[self._number]]

    def answered(self, request: int) -> None:
        self._cancels.pop(request, None)

    @property
    def unsent(self) -> list[CancelTask]:
        """The cancel requests to send again after each Welcome, until they are answered."""
        return list(self._cancels.values())
