"""Tasks that the core has refused: should it accept a late copy of one after all, that one is cancelled; pure.

A copy is late when it was said again before the refusal was heard. Its future has failed by then, so nobody would
ever ask for what it gives.
"""

from __future__ import annotations

from nblb.protocol.messages import CancelTask

MOST = 10_000  # refused tasks that are remembered


class RefusedTasks:
    """The tasks, and the cancels that have no answer yet; these have numbers below 0, so no user's question is one."""

    def __init__(self) -> None:
        self._refused: dict[str, None] = {}
        self._cancels: dict[int, CancelTask] = {}
        self._number = 0

    def refused(self, task: str) -> None:
        self._refused[task] = None
        if len(self._refused) > MOST:
            del self._refused[next(iter(self._refused))]

    def accepted(self, task: str) -> list[CancelTask]:
        """What is to be said of a task that the core has taken and this client does not wait for."""
        if task not in self._refused:
            return []
        del self._refused[task]
        self._number -= 1
        self._cancels[self._number] = CancelTask(request=self._number, task=task)
        return [self._cancels[self._number]]

    def answered(self, request: int) -> None:
        self._cancels.pop(request, None)

    @property
    def owed(self) -> list[CancelTask]:
        """To be said again after each Welcome, until it is answered."""
        return list(self._cancels.values())
