"""What a turn of the loop wants to say: gathered by address, and let go only after the commit it depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nblb.protocol.messages import Answer, Heartbeat, Message, Refused, RunTask, TaskAccepted, TaskRejected, Welcome

if TYPE_CHECKING:
    from nblb.transport.doors import Doors
from itertools import islice

from nblb.protocol.messages import EndCommitted, FetchTask

# These promise nothing that a journal must hold, so they pass while a full disk holds back the rest.
UNBOUND = (Heartbeat, Welcome, Refused, TaskRejected, Answer)
GONE = frozenset({"UnknownTask", "ResultExpired"})  # kinds of answers that may follow from a drop not yet committed


def is_unbound(message: Message) -> bool:
    """True for what may be sent before the commit; that a task is gone may follow from a drop that is not kept yet."""
    return isinstance(message, UNBOUND) and getattr(message, "kind", "") not in GONE


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


PATIENT_S = 0.02
MOST_PATIENT = 8  # more than a few are worth a message of their own


def is_patient(message: Message) -> bool:
    """Does nobody wait for this? (One that tells of a refusal is news.)"""
    kind = type(message)
    return kind is EndCommitted or (kind is TaskAccepted and not message.items)  # type: ignore[attr-defined]


class DelayedAcks:
    """For which addresses something waits, and until when."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def deadline(self) -> float | None:
        return min(self._until.values(), default=None)

    def holds(self, to: str, messages: Sequence[Message], now: float) -> bool:
        """Whether these, all that there is for this address, wait longer."""
        until = self._until.get(to)
        if len(messages) <= MOST_PATIENT and (until is None or now < until) and all(map(is_patient, messages)):
            if until is None:
                self._until[to] = now + PATIENT_S
            return True
        if until is not None:
            del self._until[to]
        return False

    def forget(self, to: str) -> bool:
        """Nothing waits for this address any more; whether something did."""
        return self._until.pop(to, None) is not None

    def clear(self) -> None:
        self._until.clear()


RESULTS_A_TURN = 64  # for one client, so that others do not wait


class Backpressure:
    """By address, the record, first item and items of each result; the results themselves stay where they lie.

    Each by itself: a record that is told as a whole, again and again, never gets beyond what its client takes at once.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[tuple[str, int, int], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, address: str, message: Message) -> bool:
        """Whether it is the first of this client."""
        first_of_all = address not in self._of
        key = getattr(message, "task", ""), getattr(message, "first", 0), getattr(message, "items", 0)
        self._of.setdefault(address, {})[key] = None
        return first_of_all

    def drop(self, address: str) -> None:
        """This client is gone; when it is back it asks for what it misses."""
        self._of.pop(address, None)

    def take(self, is_slow: Callable[[str], bool]) -> Iterator[tuple[str, FetchTask]]:
        """What to tell in this turn, as the wishes of clients that have read all they had."""
        for address, results in list(self._of.items()):
            if is_slow(address):
                continue
            for key in [*islice(results, RESULTS_A_TURN)]:
                del results[key]
                task, first, items = key
                yield address, FetchTask(task=task, first=first, items=items)
            if not results:
                del self._of[address]
