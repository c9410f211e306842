"""Messages that wait for files, and those that must stay behind them; pure.

A message that names a file waits until the file has been moved. What is about something that waits stays behind it: a
task behind its function, a cancellation behind its task, the end of a slice behind its early results. All others pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from nblb.protocol.messages import Message, OpenJob, RunTask, StopTask, SubmitTask

Topic: TypeAlias = "tuple[str, ...]"


def topics(message: Message) -> tuple[set[Topic], set[Topic]]:
    """Return what a message is about, and what it needs: it stays behind messages that are about the latter."""
    about: set[Topic] = set()
    needs: set[Topic] = set()
    task, blob, job = (str(getattr(message, field, "") or "") for field in ("task", "hash", "job"))
    if task and hasattr(message, "attempt"):  # of a slice
        about |= {("task", task), ("slice", task, str(getattr(message, "first", 0)))}
        needs.add(("slice", task, str(getattr(message, "first", 0))))
        needs.add(("submission", task))
    elif task:
        about.add(("task", task))
        needs.add(("task", task))
    if blob:
        about.add(("blob", blob))
        needs.add(("blob", blob))
    if isinstance(message, SubmitTask):
        about |= {("submission", task), ("job", job)}
    elif job and not isinstance(message, OpenJob):
        needs.add(("job", job))
    for name in (getattr(message, "function", ""), *getattr(message, "constants", ())):
        needs.add(("blob", name))
    parent = message.parent if isinstance(message, SubmitTask) else ""  # a HubHello has one, too: a process
    for name in (*getattr(message, "depends", ()), parent):
        needs |= {("task", name), ("task", name.rpartition(".")[0]), ("blob", name)}
    return about, {topic for topic in needs if topic[1]}


class _Held:
    __slots__ = ("about", "message", "missing", "needs")

    def __init__(self, message: Message, missing: set[str], about: set[Topic], needs: set[Topic]) -> None:
        self.message, self.missing, self.about, self.needs = message, missing, about, needs


class HeldBack:
    """The messages of one direction that wait, in their order."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._about: dict[Topic, int] = {}  # of the held ones, and how many there are of each

    def __bool__(self) -> bool:
        return bool(self._held)

    def pass_on(self, message: Message, missing: Iterable[str]) -> bool:
        """Return True if the message may go on at once; else it is held until `moved` lets it go."""
        files = set(missing)
        if not files and not self._held:
            return True
        about, needs = topics(message)
        if isinstance(message, StopTask):
            self._take_back(message)
        if not files and not any(topic in self._about for topic in needs):
            return True
        self._held.append(_Held(message, files, about, needs))
        for topic in about:
            self._about[topic] = self._about.get(topic, 0) + 1
        return False

    def _take_back(self, message: StopTask) -> None:
        """Drop the order that this one stops: the hub, which never receives it, answers that it has stopped."""
        fence = message.task, message.first, message.attempt
        for held in list(self._held):
            run = held.message
            if isinstance(run, RunTask) and (run.task, run.first, run.attempt) == fence:
                self._held.remove(held)
                self._uncount(held)

    def _uncount(self, held: _Held) -> None:
        for topic in held.about:
            self._about[topic] -= 1
            if not self._about[topic]:
                del self._about[topic]

    def moved(self, names: Iterable[str]) -> list[Any]:
        """Note that these files have been moved; return the messages that may go on, in their order."""
        there = set(names)
        free: list[Any] = []
        left: list[_Held] = []
        ahead: set[Topic] = set()
        for held in self._held:
            held.missing -= there
            if held.missing or not ahead.isdisjoint(held.needs):
                left.append(held)
                ahead |= held.about
            else:
                self._uncount(held)
                free.append(held.message)
        self._held = left
        return free

    def clear(self) -> list[Any]:
        """Return all messages in their order, and hold none."""
        messages = [held.message for held in self._held]
        self._held, self._about = [], {}
        return messages
