"""What a core does while its disk is full: refuse what is new, keep what goes on, and see when there is room again.

New tasks and blobs never take the journal's reserve; attempts and ends do. While they live on it nothing that waits
is started, so that it is there for the results of what runs. When it is used up as well, results wait at their hubs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nblb.broker.journal.journal import Journal
from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.outgoing import Outgoing
from nblb.errors import JournalFull
from nblb.protocol.commands import Command
from nblb.protocol.messages import Message, PutBlob, SubmitTask, TaskRejected, TaskStopped
from nblb.scheduling.scheduler import Scheduler

RETRY_COMMIT_S = 0.5


class FullDisk:
    """Commits for the core's loop, and knows what to do when there is no room."""

    def __init__(
        self,
        journal: Journal | MemoryJournal,
        scheduler: Scheduler,
        out: Outgoing,
        say: Callable[[str, str], None],
        safely: Callable[..., list[Command]],
        make_room: Callable[[], bool],
    ) -> None:
        self._journal, self._scheduler, self._out, self._say, self._safely = journal, scheduler, out, say, safely
        self._make_room = make_room  # by what is worth less than tasks and their results
        self.reason = ""  # why nothing new is taken, while nothing is
        self._stuck = False  # not even what goes on could be kept
        self._retry_at = 0.0

    def deadline(self) -> float | None:
        """When to look again whether there is room."""
        return self._retry_at if self.reason else None

    def keep(self, now: float) -> bool:
        """Commit what was appended; False when what depends on it must not be said yet."""
        if self._stuck and now < self._retry_at:
            return False
        was_stuck = self._stuck
        try:
            self._commit()
            self._stuck = False
        except JournalFull as error:
            self._stuck = not self._make_do(str(error), now)
        if was_stuck and not self._stuck:  # what waited to be said may have been given to others meanwhile
            self._out.keep_orders(self._scheduler.is_given)
        if self.reason or self._journal.is_tight:
            self._look(now)
        return not self._stuck

    def _commit(self) -> None:
        """Results come before output: what tasks have printed goes first where there is no room for both."""
        try:
            self._journal.commit()
        except JournalFull:
            if not self._make_room():
                raise
            self._say("warning", "LB - THE DISK IS FULL : the oldest output of tasks was given up")
            self._journal.commit()

    def _begin(self, reason: str, now: float) -> None:
        if not self.reason:
            self._say("error", f"LB - {reason} No task is accepted until then; what runs goes on.")
        self.reason, self._retry_at = reason, now + RETRY_COMMIT_S

    def _look(self, now: float) -> None:
        """Is there room again?"""
        if not self.reason:  # what goes on has just taken the reserve
            self._begin(self._journal.full_reason, now)
        elif not self._stuck and now >= self._retry_at:
            if self._journal.has_room():
                self._say("good", "LB - THERE IS ROOM AGAIN : tasks are accepted")
                self.reason = ""
            else:
                self._retry_at = now + RETRY_COMMIT_S
        self._scheduler.hold(self._journal.is_tight)

    def _make_do(self, reason: str, now: float) -> bool:
        """Refuse what is new, and try to keep what goes on. True if that much could be kept."""
        self._begin(reason, now)
        refused = set(self._journal.pending_tasks())
        for hub, order in self._out.orders(refused):
            back = TaskStopped(task=order.task, attempt=order.attempt, first=order.first, why="recall")
            self._safely(self._scheduler.handle, hub, back, now)  # as if the hub, which never heard of it, had
        said = self._safely(self._scheduler.refuse, refused, "JournalFull", reason, now) if refused else []
        self._out.take_back(refused, lambda _task: {"error": reason})
        for command in said:
            message = getattr(command, "message", None)
            if isinstance(message, TaskRejected):
                self._out.add(command.to, message)  # type: ignore[attr-defined]
        if not self._journal.withdraw(refused):
            return False
        try:
            self._journal.commit()
        except JournalFull:
            return False
        return True

    def refuse(self, sender: str, message: Message) -> bool:
        """New tasks and blobs are not even looked at."""
        if isinstance(message, SubmitTask) and self._scheduler.task_view(message.task) is None:
            self._out.add(sender, TaskRejected(task=message.task, kind="JournalFull", reason=self.reason))
            return True
        return isinstance(message, PutBlob)

    def refuse_json(self, request: Any) -> bool:
        """The same at the JSON door."""
        return isinstance(request, dict) and request.get("toLB") == "NEWTASK"
