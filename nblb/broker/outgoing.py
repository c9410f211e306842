"""What a turn of the loop wants to say: gathered by address, and let go only after the commit it depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nblb.broker.delayed_acks import DelayedAcks
from nblb.protocol.messages import Answer, Heartbeat, Message, Refused, RunTask, TaskAccepted, TaskRejected, Welcome

if TYPE_CHECKING:
    from nblb.transport.doors import Doors

# These promise nothing that a journal must hold, so they pass while a full disk holds back the rest.
UNBOUND = (Heartbeat, Welcome, Refused, TaskRejected, Answer)


def is_unbound(message: Message) -> bool:
    """May it be said before the commit? That a task is not known may hang on its being forgotten."""
    return isinstance(message, UNBOUND) and getattr(message, "kind", "") != "UnknownTask"


class Outgoing:
    """Sends and JSON answers, each kind in the order in which it was decided."""

    def __init__(self) -> None:
        self.sends: dict[str, list[Message]] = {}
        self.replies: list[tuple[str, Any, str]] = []  # to whom, what, and the task that it promises
        self._delayed_acks = DelayedAcks()

    def add(self, to: str, message: Message) -> None:
        waiting = self.sends.get(to)
        if waiting is None:
            self.sends[to] = [message]
        else:
            waiting.append(message)

    def reply(self, to: str, value: Any, task: str = "") -> None:
        self.replies.append((to, value, task))

    def deadline(self) -> float | None:
        """When to flush again, for those for whom something patient waits."""
        return self._delayed_acks.deadline()

    def flush(self, doors: Doors, now: float | None) -> None:
        """Say all of it, but for what may wait for company; without a clock that too."""
        sends, self.sends = self.sends, {}
        for to, messages in sends.items():
            if now is not None and self._delayed_acks.holds(to, messages, now):
                self.sends[to] = messages
            else:
                doors.send(to, _acknowledged_together(messages))
        replies, self.replies = self.replies, []
        for to, value, _ in replies:
            doors.answer_json(to, value)

    def flush_unbound(self, doors: Doors) -> None:
        """Say what depends on no record, and keep the rest back."""
        self._delayed_acks.clear()  # a flush to come holds back anew
        for to, messages in list(self.sends.items()):
            free = [message for message in messages if is_unbound(message)]
            if not free:
                continue
            doors.send(to, free)
            kept = [message for message in messages if not is_unbound(message)]
            if kept:
                self.sends[to] = kept
            else:
                del self.sends[to]
        replies, self.replies = self.replies, [reply for reply in self.replies if reply[2]]
        for to, value, task in replies:
            if not task:
                doors.answer_json(to, value)

    def forget(self, to: str) -> None:
        """Nobody is there any more for whom something could wait."""
        if self._delayed_acks.forget(to):
            del self.sends[to]

    def orders(self, tasks: set[str]) -> list[tuple[str, RunTask]]:
        """Which hubs were about to be told to run these tasks."""
        return [
            (to, message)
            for to, messages in self.sends.items()
            for message in messages
            if isinstance(message, RunTask) and message.task in tasks
        ]

    def keep_orders(self, is_meant: Callable[[str, RunTask], bool]) -> None:
        """Say no order to run that is not meant any more."""
        for to, messages in self.sends.items():
            self.sends[to] = [m for m in messages if not isinstance(m, RunTask) or is_meant(to, m)]

    def take_back(self, tasks: set[str], instead: Callable[[str], Any]) -> None:
        """Say nothing about these tasks after all; JSON clients are answered `instead(task)`."""
        for to, messages in list(self.sends.items()):
            self.sends[to] = [message for message in messages if getattr(message, "task", None) not in tasks]
        self.replies = [
            (to, instead(task), "") if task in tasks else (to, said, task) for to, said, task in self.replies
        ]


def _acknowledged_together(messages: list[Message]) -> list[Message]:
    """The same, with one TaskAccepted for all tasks that the turn has accepted."""
    tasks = [message.task for message in messages if type(message) is TaskAccepted and not message.items]
    if len(tasks) < 2:
        return messages
    others = [message for message in messages if type(message) is not TaskAccepted or message.items]
    at = next(at for at, message in enumerate(messages) if type(message) is TaskAccepted and not message.items)
    return [*others[:at], TaskAccepted(tasks=tuple(tasks)), *others[at:]]
