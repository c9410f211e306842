"""The outgoing messages of a turn: gathered by address, and sent only after the commit that they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from nblb.protocol.messages import (
    Answer,
    EndCommitted,
    FetchTask,
    Heartbeat,
    Message,
    Refused,
    ResumeTask,
    RunTask,
    StopTask,
    TaskAccepted,
    TaskRejected,
    Welcome,
)

# These promise nothing that the journal must contain, so they are sent even while a full disk withholds the rest.
UNBOUND = (Heartbeat, Welcome, Refused, TaskRejected, Answer)
GONE = frozenset({"UnknownTask", "ResultExpired"})  # kinds of answers that may depend on an uncommitted drop


def is_unbound(message: Message) -> bool:
    """Return True if it may be sent before the commit; the answer that a task is gone may depend on a drop in it."""
    if isinstance(message, Answer) and message.committed:
        return False
    return isinstance(message, UNBOUND) and getattr(message, "kind", "") not in GONE


class Sender(Protocol):
    """The doors of a core, or those of a simulated one."""

    def send(self, to: str, messages: Sequence[Message]) -> object: ...

    def answer_json(self, to: str, value: object) -> None: ...


class Outgoing:
    """Messages and JSON answers to send, each kind in the order of the decisions."""

    def __init__(self) -> None:
        self.sends: dict[str, list[Message]] = {}
        self.replies: list[tuple[str, Any, str]] = []  # address, value, and the submission that it promises
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
        """Return the time of the next flush that delayed acknowledgements need, or None."""
        return self._delayed_acks.deadline()

    def flush(self, doors: Sender, now: float | None) -> None:
        """Send everything except delayed acknowledgements that may still wait; with `now` None, send those too."""
        sends, self.sends = self.sends, {}
        for to, messages in sends.items():
            if now is not None and self._delayed_acks.holds(to, messages, now):
                self.sends[to] = messages
            else:
                doors.send(to, _acknowledged_together(messages))
        replies, self.replies = self.replies, []
        for to, value, _ in replies:
            doors.answer_json(to, value)

    def flush_unbound(self, doors: Sender) -> None:
        """Send the messages that depend on no journal entry, and withhold the rest."""
        self._delayed_acks.clear()  # the next flush decides again what to delay
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
        """Drop the delayed acknowledgements of a peer that is gone."""
        if self._delayed_acks.forget(to):
            del self.sends[to]

    def orders(self, tasks: set[str]) -> list[tuple[str, RunTask]]:
        """Return the unsent orders to run these submissions, each with its hub's address."""
        return [
            (to, message)
            for to, messages in self.sends.items()
            for message in messages
            if isinstance(message, RunTask) and message.task in tasks
        ]

    def keep_orders(self, is_meant: Callable[[str, RunTask | ResumeTask], bool]) -> None:
        """Drop the orders to run, or to go on, that are no longer valid, or that a StopTask behind them takes back.

        A hub that is told to stop an attempt that it never received answers that it has stopped.
        """
        for to, messages in self.sends.items():
            stopped = {(m.task, m.first, m.attempt) for m in messages if isinstance(m, StopTask)}
            self.sends[to] = [
                m
                for m in messages
                if not isinstance(m, (RunTask, ResumeTask))
                or (is_meant(to, m) and (m.task, m.first, m.attempt) not in stopped)
            ]

    def take_back(self, tasks: set[str], instead: Callable[[str], Any]) -> None:
        """Drop all messages about these submissions; JSON clients get `instead(task)` as their answer."""
        for to, messages in list(self.sends.items()):
            self.sends[to] = [message for message in messages if getattr(message, "task", None) not in tasks]
        self.replies = [
            (to, instead(task), "") if task in tasks else (to, said, task) for to, said, task in self.replies
        ]


def _acknowledged_together(messages: list[Message]) -> list[Message]:
    """Return the messages with one TaskAccepted for all submissions accepted in this turn."""
    tasks = [message.task for message in messages if type(message) is TaskAccepted and not message.items]
    if len(tasks) < 2:
        return messages
    others = [message for message in messages if type(message) is not TaskAccepted or message.items]
    at = next(at for at, message in enumerate(messages) if type(message) is TaskAccepted and not message.items)
    return [*others[:at], TaskAccepted(tasks=tuple(tasks)), *others[at:]]


PATIENT_S = 0.02
MOST_PATIENT = 8  # from this many on, acknowledgements are sent on their own


def is_patient(message: Message) -> bool:
    """Return True if the message may be delayed, because its receiver does not wait for it."""
    kind = type(message)
    return kind is EndCommitted or (kind is TaskAccepted and not message.items)  # type: ignore[attr-defined]


class DelayedAcks:
    """The addresses whose acknowledgements are delayed, each with the time of sending."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def deadline(self) -> float | None:
        return min(self._until.values(), default=None)

    def holds(self, to: str, messages: Sequence[Message], now: float) -> bool:
        """Return True if `messages`, which must be all for this address, may wait longer."""
        until = self._until.get(to)
        if len(messages) <= MOST_PATIENT and (until is None or now < until) and all(map(is_patient, messages)):
            if until is None:
                self._until[to] = now + PATIENT_S
            return True
        if until is not None:
            del self._until[to]
        return False

    def forget(self, to: str) -> bool:
        """Drop this address; return True if acknowledgements for it were delayed."""
        return self._until.pop(to, None) is not None

    def clear(self) -> None:
        self._until.clear()


RESULTS_A_TURN = 64  # for one client, so that others do not wait


class Backpressure:
    """The results withheld from slow clients: submission, first item and items of each, by address.

    The payloads stay in the scheduler or the journal. Each result is sent by itself: sending a whole submission again
    and again would never get beyond what its client takes at once.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[tuple[str, int, int], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, address: str, message: Message) -> bool:
        """Withhold the result; return True if it is the first withheld from this client."""
        first_of_all = address not in self._of
        key = getattr(message, "task", ""), getattr(message, "first", 0), getattr(message, "items", 0)
        self._of.setdefault(address, {})[key] = None
        return first_of_all

    def drop(self, address: str) -> None:
        """Drop the entries of a client that is gone; when it reconnects, it fetches what it misses."""
        self._of.pop(address, None)

    def take(self, is_slow: Callable[[str], bool]) -> Iterator[tuple[str, FetchTask]]:
        """Yield this turn's results, as FetchTask requests of clients that have read everything sent so far."""
        for address, results in list(self._of.items()):
            if is_slow(address):
                continue
            for key in [*islice(results, RESULTS_A_TURN)]:
                del results[key]
                task, first, items = key
                yield address, FetchTask(task=task, first=first, items=items)
            if not results:
                del self._of[address]
