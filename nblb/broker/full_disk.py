"""The core's behaviour on a full disk: refuse new work, record running work, and resume when there is room again.

New submissions and blobs never use the journal's reserve; attempts and ends do. While they use it, no waiting slice
is started, so that the reserve is left for the results of running slices. When the reserve is used up too, results
wait at their hubs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from nblb.broker.outgoing import Outgoing
from nblb.errors import JournalFull
from nblb.protocol.commands import Command
from nblb.protocol.messages import Message, PutBlob, SubmitTask, TaskRejected, TaskStopped
from nblb.scheduling.scheduler import Scheduler

RETRY_COMMIT_S = 0.5


class JournalPort(Protocol):
    """The part of a journal that meets a full disk: Journal, MemoryJournal and the simulated Disk have it."""

    def commit(self) -> None: ...

    def withdraw(self, tasks: set[str]) -> bool: ...

    def pending_tasks(self) -> list[str]: ...

    def has_room(self) -> bool: ...

    @property
    def is_tight(self) -> bool: ...

    @property
    def full_reason(self) -> str: ...

    @property
    def is_gone(self) -> bool: ...


class FullDisk:
    """Commits the journal for the core's loop, and handles a commit that fails for lack of room."""

    def __init__(
        self,
        journal: JournalPort,
        scheduler: Scheduler,
        out: Outgoing,
        say: Callable[[str, str], None],
        safely: Callable[..., list[Command]],
        make_room: Callable[[], bool],
    ) -> None:
        self._journal, self._scheduler, self._out, self._say, self._safely = journal, scheduler, out, say, safely
        self._make_room = make_room  # by deleting what is worth less than submissions and results
        self.reason = ""  # why new work is refused; "" while it is accepted
        self._stuck = False  # not even the records of running work could be committed
        self._retry_at = 0.0

    def deadline(self) -> float | None:
        """Return the time of the next check for room, or None if the disk is not full."""
        return self._retry_at if self.reason else None

    def keep(self, now: float) -> bool:
        """Commit the appended entries; return False if messages that depend on them must not be sent yet."""
        if self._stuck and now < self._retry_at:
            return False
        was_stuck = self._stuck
        try:
            self._commit()
            self._stuck = False
        except JournalFull as error:
            self._stuck = not self._make_do(str(error), now)
        if was_stuck and not self._stuck:  # withheld orders may have gone to other hubs meanwhile
            self._out.keep_orders(self._scheduler.is_given)
        if self.reason or self._journal.is_tight:
            self._check_room(now)
        return not self._stuck

    def _commit(self) -> None:
        """Commit; if there is no room, delete the oldest output of tasks and try again, since results matter more."""
        try:
            self._journal.commit()
        except JournalFull:
            if self._journal.is_gone or not self._make_room():
                raise
            self._say("warning", "LB - THE DISK IS FULL : the oldest output of tasks was given up")
            self._journal.commit()

    def _begin(self, reason: str, now: float) -> None:
        if not self.reason:
            self._say("error", f"LB - {reason} No task is accepted until then; what runs goes on.")
        self.reason, self._retry_at = reason, now + RETRY_COMMIT_S

    def _check_room(self, now: float) -> None:
        """Check for room, and accept new work again if there is some."""
        if not self.reason:  # running work has just begun to use the reserve
            self._begin(self._journal.full_reason, now)
        elif not self._stuck and now >= self._retry_at:
            if self._journal.has_room():
                self._say("good", "LB - THERE IS ROOM AGAIN : tasks are accepted")
                self.reason = ""
            else:
                self._retry_at = now + RETRY_COMMIT_S
        self._scheduler.pause_starts(self._journal.is_tight)

    def _make_do(self, reason: str, now: float) -> bool:
        """Refuse new work and try to commit the rest; return True if that succeeded."""
        self._begin(reason, now)
        refused = set(self._journal.pending_tasks())
        for hub, order in self._out.orders(refused):
            back = TaskStopped(task=order.task, attempt=order.attempt, first=order.first, why="recall")
            self._safely(self._scheduler.handle, hub, back, now)  # on behalf of the hub, which never received it
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
        """Refuse a new submission or blob without handling it; return True if the message was one."""
        if isinstance(message, SubmitTask) and self._scheduler.task_view(message.task) is None:
            self._out.add(sender, TaskRejected(task=message.task, kind="JournalFull", reason=self.reason))
            return True
        return isinstance(message, PutBlob)

    def refuse_json(self, request: Any) -> bool:
        """Return True if a request at the JSON door is a new task, which must be refused."""
        return isinstance(request, dict) and request.get("toLB") == "NEWTASK"
