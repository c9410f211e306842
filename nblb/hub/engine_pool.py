"""The workers of a hub as slots of an engine: the same interface as the process pool's, for orders that run elsewhere.

A worker here is a slot: it has at most one order in the engine. A call that the engine can neither interrupt nor kill
goes on when it is stopped; its slot is out of use until then, and its end is dropped.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from nblb.engines.engine import Engine, EngineEvent, OrderEnded, OrderLost, OrderReported, refused
from nblb.engines.remote_call import joined, messages_of, parted
from nblb.errors import ProtocolError
from nblb.hub.pool.output_store import OutputStore
from nblb.protocol.commands import Steer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    HoldBlob,
    Message,
    RunTask,
    TaskFinished,
    TaskPrinted,
    TaskStopped,
    WorkerDied,
    WorkerStarted,
)
from nblb.shared_files.transfer import Folder
from nblb.system import child_processes
from nblb.worker.channel import from_worker, to_worker

Key: TypeAlias = "tuple[str, int, int]"


@dataclass
class EngineSlot:
    """A worker of the hub: its group, and its order in the engine."""

    group: int
    ticket: int = 0
    run: RunTask | None = None
    behind: deque[RunTask] = field(default_factory=deque)
    killed_why: str = ""


@dataclass
class OutputPort:
    """The place of the process pool's output reader: an engine's output has no files, only the live tail."""

    store: OutputStore | None = None


class EnginePool:
    """The slots of a hub in an engine. All of it, but `_report`, runs in the thread that calls `read`."""

    def __init__(self, engine: Engine, workers: int, log: Callable[[str, str], None]) -> None:
        self._engine, self._log = engine, log
        self.printing = OutputPort()
        self._slots: dict[str, EngineSlot] = {}
        self._tickets: dict[int, str] = {}  # -> worker
        self._abandoned: set[int] = set()  # orders that go on although they were stopped
        self._to_start: deque[tuple[str, int]] = deque()  # workers that wait for the end of abandoned orders
        self._pieces: dict[str, list[Any]] = {}  # by blob
        self._events: list[tuple[str, Message]] = []
        self._reported: deque[EngineEvent] = deque()  # from the engine's threads
        self._due: list[tuple[float, str, int]] = []  # when to start which worker of which group
        self._number = 0
        self._size = workers
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        engine.start(workers, self._report)

    # ── commands of the slots ──

    def start_worker(self, worker: str, group: int, not_before: float, now: float) -> None:
        if not_before > now:
            self._due.append((not_before, worker, group))
        elif len(self._to_start) < len(self._abandoned):
            self._to_start.append((worker, group))
        else:
            self._begin(worker, group)

    def _begin(self, worker: str, group: int) -> None:
        self._slots[worker] = EngineSlot(group)
        self._events.append((worker, WorkerStarted(worker=worker, group=group)))

    def hand_to(self, folder: Folder) -> None:
        """Read in this folder the files that messages name; an engine's results come as bytes."""

    def store_blob(self, message: HoldBlob) -> None:
        """Keep a blob for the workers."""
        pieces = self._pieces.setdefault(message.hash, [])
        if message.total == 0 and pieces:
            return
        whole = Payload([bytes(buffer) for buffer in message.payload.buffers], message.payload.sizes)
        data = joined(to_worker, msgspec.structs.replace(message, payload=whole))
        pieces.append(self._engine.place(message.hash, data))

    def drop_blob(self, blob: str) -> None:
        for piece in self._pieces.pop(blob, ()):
            self._engine.drop(piece)

    def give(self, worker: str, run: RunTask) -> None:
        """Run a slice in this slot, after those that were given before."""
        slot = self._slots.get(worker)
        if slot is None:
            return  # it has just died: the slots get that event and choose another worker
        slot.behind.append(run)
        if slot.run is None:
            self._next(slot, worker)

    def _next(self, slot: EngineSlot, worker: str) -> None:
        slot.run = run = slot.behind.popleft() if slot.behind else None
        if run is None:
            slot.ticket = 0
            return
        self._number += 1
        slot.ticket = self._number
        self._tickets[slot.ticket] = worker
        names = dict.fromkeys((run.function, *run.constants, *run.depends))
        pieces = {name: self._pieces[name] for name in names if name in self._pieces}
        payload = Payload([bytes(buffer) for buffer in run.payload.buffers], run.payload.sizes)
        self._engine.submit(slot.ticket, joined(to_worker, msgspec.structs.replace(run, payload=payload)), pieces)

    def interrupt(self, worker: str, key: Key) -> None:
        """Take the slice back if it has not begun; else the kill that follows decides."""
        slot = self._slots.get(worker)
        if slot is None or slot.run is None or _key(slot.run) != key or not self._engine.cancel(slot.ticket):
            return
        del self._tickets[slot.ticket]
        may_have_run = "interrupt" in self._engine.capabilities
        self._events.append((worker, msgspec.structs.replace(_stopped(slot.run, worker), ran=may_have_run)))
        self._next(slot, worker)

    def kill(self, worker: str, why: str) -> None:
        slot = self._slots.get(worker)
        if slot is None:
            return
        if slot.run is None or self._engine.cancel(slot.ticket):
            self._tickets.pop(slot.ticket, None)
            self._died(worker, why)
            return
        if "kill" in self._engine.capabilities and self._engine.kill(slot.ticket):
            slot.killed_why = why
            return
        sentence = f"{refused(self._engine, 'kill')}: it goes on, and its result is dropped"
        self._log("warning", f"{slot.run.name}: {sentence}")
        told = TaskPrinted(
            task=slot.run.task,
            attempt=slot.run.attempt,
            first=slot.run.first,
            stream="stderr",
            text=f"nblb: {sentence}\n",
        )
        self._events.append((worker, told))
        self._abandoned.add(slot.ticket)
        del self._tickets[slot.ticket]
        self._died(worker, sentence)

    def retire(self, worker: str, why: str = "") -> None:
        """End an idle slot."""
        if worker in self._slots:
            self._died(worker, why or "it is not needed any more")

    def take_back(self, worker: str) -> None:
        """Return the slices that wait behind the current one; each becomes a TaskStopped(why="recall")."""
        slot = self._slots.get(worker)
        if slot is not None:
            self._events += [(worker, _stopped(run, worker)) for run in slot.behind]
            slot.behind.clear()

    def steer(self, command: Steer) -> None:
        """Drop a knob's value, or the order to end early: they reach only workers of this hub's own."""
        self._log("warning", f"{command.worker}: tasks in the engine {self._engine.name!r} have no knobs")

    def ask_for_items(self, worker: str) -> None:
        """Do nothing: the results of a slice come with its end."""

    def hand_back(self, worker: str, key: Key) -> None:
        """Do nothing: a slice in an engine is not shortened."""

    def resume(self, worker: str) -> None:
        """Do nothing: tasks in an engine lend no slots."""

    def refuse_wait(self, worker: str) -> None:
        """Do nothing: tasks in an engine lend no slots."""

    # ── events ──

    def _report(self, event: EngineEvent) -> None:
        self._reported.append(event)
        with contextlib.suppress(OSError):  # full, so that it wakes anyway; or closed
            os.write(self._wake_write, b"e")

    def read(self, now: float, stirred: bool = True) -> list[tuple[str, Message]]:  # noqa: ARG002
        """Return all events of the slots, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self._fit_engine()
        while self._due and min(self._due)[0] <= now:
            due = min(self._due)
            self._due.remove(due)
            self.start_worker(due[1], due[2], now, now)
        while self._reported:
            self._take(self._reported.popleft())
        events, self._events = self._events, []
        return events

    def _take(self, event: EngineEvent) -> None:
        if event.ticket in self._abandoned:
            if not isinstance(event, OrderReported):
                self._abandoned.discard(event.ticket)
                if self._to_start:
                    self._begin(*self._to_start.popleft())
            return
        worker = self._tickets.get(event.ticket)
        if worker is None:
            return
        match event:
            case OrderReported(_, message):
                with contextlib.suppress(ProtocolError):
                    self._events.append((worker, parted(from_worker, message)))
            case OrderEnded(ticket, end):
                self._ended(worker, ticket, end)
            case OrderLost(ticket, reason):
                del self._tickets[ticket]
                self._died(worker, reason)

    def _ended(self, worker: str, ticket: int, end: bytes) -> None:
        slot = self._slots[worker]
        del self._tickets[ticket]
        try:
            messages = messages_of(end)
        except (ProtocolError, struct.error) as error:
            self._died(worker, f"the engine {self._engine.name!r} has returned something else than an end: {error}")
            return
        for message in messages:
            known = msgspec.structs.replace(message, worker=worker) if isinstance(message, TaskFinished) else message
            self._events.append((worker, known))
        self._next(slot, worker)

    def _died(self, worker: str, reason: str) -> None:
        """Remove a slot; a slice that it ran goes to the slots with its end, those behind it are queued again."""
        slot = self._slots.pop(worker)
        task, first, attempt = _key(slot.run) if slot.run is not None else ("", 0, 0)
        died = WorkerDied(
            worker=worker, group=slot.group, reason=slot.killed_why or reason, task=task, first=first, attempt=attempt
        )
        self._events.append((worker, died))
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"w")

    def _fit_engine(self) -> None:
        """Make the engine as large as the number of slots, if it can."""
        wanted = len(self._slots) + len(self._due) + len(self._to_start)
        if wanted and wanted != self._size:
            self._size = wanted
            if "scale" not in self._engine.capabilities or not self._engine.scale(wanted):
                self._log("warning", refused(self._engine, "scale"))

    def next_deadline(self) -> float | None:
        return min(self._due)[0] if self._due else None

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when `read` has something to do."""
        return self._wake_read

    @property
    def has_events(self) -> bool:
        return bool(self._events or self._reported)

    def pids(self) -> dict[str, int]:
        """Return no process: those of an engine are its own."""
        return {}

    def close(self) -> None:
        """End the engine, and the processes that it has left as children of this one."""
        self._engine.close()
        child_processes.end_adopted()
        for end in (self._wake_read, self._wake_write):
            os.close(end)


def _key(run: RunTask) -> Key:
    return run.task, run.first, run.attempt


def _stopped(run: RunTask, worker: str) -> TaskStopped:
    return TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall", worker=worker)
