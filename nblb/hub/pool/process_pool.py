"""The workers of a hub as operating-system processes: starts them, talks to them, says how they ended.

What the slots decide (slots.py) is done here; what workers say becomes the slots' events. One selector watches all
workers' channels and pipes and the nursery, so the hub waits in one place and an idle hub does nothing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from time import monotonic
from typing import Any

from nblb.errors import ProtocolError
from nblb.hub.pool import cause_of_death
from nblb.hub.pool.blob_parcels import BlobParcels
from nblb.hub.pool.fork_server_link import ForkServerLink
from nblb.hub.pool.memory_watch import MemoryWatch
from nblb.hub.pool.output_reader import OutputReader
from nblb.hub.pool.worker_handle import Key, WorkerHandle, not_given
from nblb.hub.slots.attempts import WorkerSpent
from nblb.protocol.commands import Steer
from nblb.protocol.framing import Find, Refer
from nblb.protocol.messages import (
    HoldBlob,
    ItemsFinished,
    Message,
    RunTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WorkerDied,
    WorkerStarted,
)
from nblb.shared_files.transfer import Folder
from nblb.worker.channel import (
    STACK_SIGNAL,
    DropBlob,
    Parcel,
    from_worker,
    pack,
    peek_number,
    receive_datagram,
    to_worker,
    unpack,
)
from nblb.worker.result_files import HandTo

PAUSE_S = 0.02  # between two looks at a worker's progress, and between two reads of its output
STACK_S = 0.05  # a worker that is to be killed has that long to write down where it is
END_S = 0.3  # idle workers have that long to run their exit handlers
INFINITY = float("inf")

Event = tuple[str, Message]


class ProcessPool:
    """The processes behind the slots. Everything happens in the thread that calls `read`."""

    def __init__(self, settings: Sequence[Mapping[str, Any]], log: Callable[[str, str], None]) -> None:
        self._settings = settings  # of each group, for the worker process
        self._log = log
        self.selector = selectors.DefaultSelector()
        self._seats: dict[str, WorkerHandle] = {}
        self._folder: Folder | None = None
        self._refer: Refer | None = None
        self._find: Find | None = None
        self._blobs = BlobParcels()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []  # a heap of what is to be done later
        self._dues = 0
        self._now = 0.0
        self._events: list[Event] = []
        self.printing = OutputReader(self.selector, self._later, self._note, log)
        self._memory = MemoryWatch(settings, self._kill_with_stack)
        self._oom = cause_of_death.OutOfMemoryWatch()
        self._nursery = ForkServerLink(self.selector, self._on_nursery)

    # ── what the slots want done ──

    def start_worker(self, worker: str, group: int, not_before: float, now: float) -> None:
        if not_before > now:
            self._later(not_before, lambda at: self.start_worker(worker, group, at, at))
            return
        settings = self._settings[min(group, len(self._settings) - 1)]
        try:
            seat, fds = WorkerHandle.make(worker, group)
        except OSError as error:
            self._events.append((worker, WorkerDied(worker=worker, group=group, reason=f"no descriptors: {error}")))
            return
        self._seats[worker] = seat
        self.selector.register(seat.channel.socket, selectors.EVENT_READ, lambda now: self._read_channel(seat, now))
        self.printing.watch(seat)
        self._tell_folder(seat)
        try:
            self._nursery.start(worker, settings, fds)
        except OSError as error:
            self._buried(seat, f"it could not be started: {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def hand_to(self, folder: Folder) -> None:
        """Workers shall hand over large results there, and find there what messages name."""
        self._folder = self._blobs.folder = folder
        self._refer, self._find = folder.refers, folder.adopt
        for seat in self._seats.values():
            self._tell_folder(seat)

    def _tell_folder(self, seat: WorkerHandle) -> None:
        if self._folder is not None:
            told = HandTo(root=self._folder.root, prefix=self._folder.prefix)
            self._post(seat, pack(to_worker, 0, told))

    def hold(self, message: HoldBlob) -> None:
        """Keep a blob for the workers; raises OSError."""
        self._blobs.hold(message)

    def drop_blob(self, blob: str) -> None:
        self._blobs.drop(blob)
        for seat in self._seats.values():
            if blob in seat.held:
                seat.held.discard(blob)
                self._post(seat, pack(to_worker, 0, DropBlob(hash=blob)))

    def give(self, worker: str, run: RunTask) -> None:
        """Hand a slice to a worker, behind the blobs of it that the worker lacks."""
        seat = self._seats.get(worker)
        if seat is None:
            return  # it has died this moment: the slots will hear of that and give it to another
        for blob in (run.function, *run.constants, *run.depends):
            if blob not in seat.held:
                seat.held.add(blob)
                for parcel in self._blobs.of(blob):
                    self._post(seat, parcel)
        number = seat.take_number(run)
        if self._memory.look_at is None:
            self._memory.begin(self._now)
        try:
            self._post(seat, pack(to_worker, number, run, self._refer))
        except OSError as error:
            del seat.given[number]
            self._events.append((worker, not_given(run, worker, error)))

    def interrupt(self, worker: str, key: Key) -> None:
        seat = self._seats.get(worker)
        number = seat.number_of(key) if seat is not None else 0
        if seat is not None and number:
            seat.cell.stop(number)
            self._nursery.signal(worker, signal.SIGINT, False)

    def steer(self, command: Steer) -> None:
        """A knob's new value, or the word to end early."""
        seat = self._seats.get(command.worker)
        if seat is not None and not seat.steer(command):
            self._log("warning", f"{command.worker} has no room for the value of knob {command.knob!r}")

    def ask_for_items(self, worker: str) -> None:
        seat = self._seats.get(worker)
        if seat is not None:
            seat.ask_for_items()

    def kill(self, worker: str, why: str) -> None:
        seat = self._seats.get(worker)
        if seat is not None:
            seat.killed_why = seat.killed_why or why
            self._nursery.signal(worker, signal.SIGKILL, True)

    def _kill_with_stack(self, worker: str, why: str) -> None:
        """Kill it a moment later: first it writes the lines that it is at to its stderr, as its last output."""
        seat = self._seats[worker]
        seat.killed_why = why
        self._nursery.signal(worker, STACK_SIGNAL, False)
        self._later(self._now + STACK_S, lambda _: self.kill(worker, why))

    def retire(self, worker: str, why: str = "") -> None:
        """Let an idle worker end by itself: it finds its channel closed."""
        seat = self._seats.get(worker)
        if seat is not None:
            seat.killed_why = why or "it is not needed any more"
            with contextlib.suppress(OSError):
                seat.channel.socket.shutdown(1)  # SHUT_WR: what it still says is heard

    def take_back(self, worker: str) -> None:
        """Read back what the worker has not taken yet; each slice comes as TaskStopped(why="recall")."""
        seat = self._seats.get(worker)
        if seat is None:
            return
        again = [parcel for parcel in seat.unread() if not self._returned(seat, parcel)]
        for parcel in again:
            self._post(seat, parcel)

    # ── what comes from them ──

    def read(self, now: float, stirred: bool = True) -> list[Event]:
        """Everything that has happened to the workers, in order; `stirred` unless `fileno` is known to be silent."""
        self._now = now
        if stirred:
            for key, _ in self.selector.select(0):
                key.data(now)
        while self._due and self._due[0][0] <= now:
            heappop(self._due)[2](now)
        if self._memory.look_at is not None and now >= self._memory.look_at:
            self._memory.look(self._seats.values(), now)
        events, self._events = self._events, []
        return events

    def next_deadline(self) -> float | None:
        at = self._due[0][0] if self._due else None
        if self._memory.look_at is not None:
            at = min(at or INFINITY, self._memory.look_at)
        return at

    @property
    def fileno(self) -> int:
        """Readable when `read` has something to do."""
        return self.selector.fileno()

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def close(self) -> None:
        """End all workers, and the nursery with whatever they have left behind."""
        for worker in self._seats:
            self.retire(worker)
        until = monotonic() + END_S
        while self._seats and (left_s := until - monotonic()) > 0:
            for key, _ in self.selector.select(left_s):
                key.data(self._now)
        self._nursery.close()
        for seat in list(self._seats.values()):
            self._forget(seat)
        self._blobs.close()
        self.selector.close()

    # ── channels ──

    def _post(self, seat: WorkerHandle, parcel: Parcel) -> None:
        """Send, or queue while the worker's socket is full; the parcel is closed in the end."""
        if not seat.outbox:
            try:
                seat.channel.post(parcel)
            except BlockingIOError:
                call = self.selector.get_key(seat.channel.socket).data
                self.selector.modify(seat.channel.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, call)
            except OSError:  # it is dying; the nursery will say so, and what it was given is read back then
                seat.outbox.append(parcel)
                return
            else:
                parcel.close()
                return
        seat.outbox.append(parcel)

    def _flush(self, seat: WorkerHandle) -> None:
        try:
            while seat.outbox:
                seat.channel.post(seat.outbox[0])
                seat.outbox.popleft().close()
        except OSError:
            return
        self.selector.modify(seat.channel.socket, selectors.EVENT_READ, self.selector.get_key(seat.channel.socket).data)

    def _read_channel(self, seat: WorkerHandle, now: float) -> None:
        if seat.is_gone:
            return  # it was buried by an event before this one
        worker, sock, events = seat.worker, seat.channel.socket, self._events
        if seat.outbox:
            self._flush(seat)
        try:
            while True:
                datagram, fd = receive_datagram(sock)
                if not datagram:
                    self.selector.unregister(sock)  # both ends of it are gone, or shut
                    return
                number, message = unpack(from_worker, datagram, fd, self._find)
                if type(message) is TaskFinished or type(message) is TaskStopped:
                    if seat.look_is_due:  # its last word, if this end came before the pause was over
                        self._look(seat, now)
                    if seat.given.pop(number, None) is None:
                        raise ProtocolError("it reports the end of a slice that it was not given")
                    seat.news, seat.told = None, 0
                    if seat.throttles or seat.kept:
                        self.printing.end(seat, now)
                    if self._memory.is_spent(seat):
                        events.append((worker, WorkerSpent(worker=worker)))
                    events.append((worker, message))
                    if not seat.given:  # it has nothing more to say, and if so the selector names it again
                        return
                else:
                    self._on_word(seat, number, message, now)
        except BlockingIOError:
            return
        except (ProtocolError, OSError) as error:  # a task has written into its worker's descriptors
            self.kill(worker, f"its channel is broken: {error}")
            with contextlib.suppress(KeyError):
                self.selector.unregister(sock)

    def _on_word(self, seat: WorkerHandle, number: int, message: Any, now: float) -> None:
        if type(message) is TaskProgressed:
            if seat.progress_at + PAUSE_S <= now:
                self._look(seat, now)
            else:
                seat.look_is_due = True
                self._later(seat.progress_at + PAUSE_S, lambda at: self._look(seat, at))
        elif type(message) is TaskPrinted:
            self.printing.take(seat, number, message, now)
        elif type(message) is WorkerStarted:
            seat.is_ready = True
            self._note(seat.worker, WorkerStarted(worker=seat.worker, group=seat.group, pid=message.pid))
        elif number in seat.given:  # a part, emitted, or a knob
            if type(message) is ItemsFinished:
                seat.told = message.offset + message.items
            self._events.append((seat.worker, message))

    def _later(self, at: float, call: Callable[[float], None]) -> None:
        self._dues += 1
        heappush(self._due, (at, self._dues, call))

    def _note(self, worker: str, message: Message) -> None:
        self._events.append((worker, message))

    def _look(self, seat: WorkerHandle, now: float) -> None:
        """The latest progress that the worker has put into its cell."""
        if seat.is_gone:
            return
        seat.progress_at, seat.look_is_due = now, False
        number, percent, note = seat.cell.look()
        run = seat.given.get(number)
        if run is not None and seat.news != (percent, note):
            seat.news = percent, note
            task, first, attempt = run
            message = TaskProgressed(task=task, attempt=attempt, first=first, progress=percent, note=note)
            self._events.append((seat.worker, message))

    # ── life and death ──

    def _on_nursery(self, word: str, worker: str, *rest: Any) -> None:
        """Something that the nursery said; "gone" when it has itself ended, and all workers with it."""
        if word == "started":
            seat = self._seats.get(worker)
            if seat is not None:
                seat.pid = rest[0]
        elif word == "gone":
            self._log("error", "the nursery of the workers has ended; it is started again")
            for seat in list(self._seats.values()):
                if seat.pid:
                    with contextlib.suppress(OSError):
                        os.killpg(seat.pid, signal.SIGKILL)
                self._buried(seat, "the process that it was forked from has ended")
        else:
            seat = self._seats.get(worker)
            if seat is not None:
                self._buried(seat, rest[0] if word == "failed" else self._reason(seat, *rest))

    def _reason(self, seat: WorkerHandle, status: int, peak_kib: int) -> str:
        self._drain_dead(seat)
        if seat.killed_why and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return seat.killed_why
        struck = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and self._oom.has_struck()
        last_output = seat.last_output.decode("utf-8", "replace")
        trail = self._memory.trail(seat)
        words = cause_of_death.sentence(status, peak_kib, seat.killed_why, struck, last_output, trail, self._now)
        return words if seat.is_ready else f"it could not start: {words}"

    def _drain_dead(self, seat: WorkerHandle) -> None:
        """Hear out a worker that has ended: its ends first, then what it had not taken, then its output."""
        now = self._now
        with contextlib.suppress(KeyError):
            self.selector.get_key(seat.channel.socket)
            self._read_channel(seat, now)
        for parcel in seat.unread():
            self._returned(seat, parcel)
            parcel.close()
        self.printing.bury(seat, now)

    def _buried(self, seat: WorkerHandle, reason: str) -> None:
        self._drain_dead(seat)
        key = next(iter(seat.given.values()), ("", 0, 0))
        died = WorkerDied(
            worker=seat.worker, group=seat.group, reason=reason, task=key[0], first=key[1], attempt=key[2]
        )
        self._events.append((seat.worker, died))
        self._forget(seat)
        if self._folder is not None and seat.pid:
            self._folder.sweep(seat.pid)

    def _forget(self, seat: WorkerHandle) -> None:
        for fd in (seat.channel.socket.fileno(), *seat.pipes.values()):
            with contextlib.suppress(KeyError, ValueError):  # paused, or never registered
                self.selector.unregister(fd)
        self._seats.pop(seat.worker, None)
        self._memory.forget(seat.worker)
        seat.close()

    def _returned(self, seat: WorkerHandle, parcel: Parcel) -> bool:
        """A parcel that was read back: True if it was a slice, which goes back to the slots."""
        key = seat.given.pop(peek_number(parcel.datagram), None)
        if key is None:
            return False
        parcel.close()
        task, first, attempt = key
        message = TaskStopped(task=task, attempt=attempt, first=first, why="recall", worker=seat.worker)
        self._events.append((seat.worker, message))
        return True
