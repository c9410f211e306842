"""The workers of a hub as operating-system processes: starts them, exchanges messages, reports how they ended.

It executes the decisions of the slots (slots.py); messages of workers become the slots' events. One selector watches
all workers' channels and pipes and the fork server, so the hub waits in one place and an idle hub does nothing.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from time import monotonic
from typing import Any

from msgspec.structs import replace

from nblb.errors import ProtocolError
from nblb.hub.gpus import Pins
from nblb.hub.pool import cause_of_death
from nblb.hub.pool.blob_parcels import BlobParcels
from nblb.hub.pool.fork_server_link import ForkServerLink
from nblb.hub.pool.memory_watch import MemoryWatch
from nblb.hub.pool.output_reader import OutputReader
from nblb.hub.pool.worker_handle import Key, WorkerHandle, not_given
from nblb.hub.slots.attempts import WorkerSpent
from nblb.protocol.commands import Steer
from nblb.protocol.framing import Find, Payload, Refer
from nblb.protocol.messages import (
    HoldBlob,
    ItemsFinished,
    Message,
    RunTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WaitBegan,
    WorkerDied,
    WorkerStarted,
)
from nblb.shared_files.transfer import BY_FILE, Folder
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
from nblb.worker.settings import WorkerSettings

PAUSE_S = 0.02  # between two reads of a worker's progress, and of its output
STACK_S = 1.0  # the longest wait for a worker's stack before it is killed; a worker without a processor writes none
STACK_INTERVAL_S = 0.02  # between two looks for it
END_S = 0.3  # time for exit handlers of idle workers when the hub ends …
RETIRE_S = 2.0  # … and of a worker that is replaced or has lost its hub: a task must not keep it for ever
INTERRUPTS, INTERRUPT_S = 4, 0.1  # number of SIGINTs for a slice, and their interval
INFINITY = float("inf")
CLIENT = "nblb.client.nested"  # the module with which tasks submit tasks

Event = tuple[str, Message]


class ProcessPool:
    """The processes behind the slots. All of it runs in the thread that calls `read`."""

    def __init__(
        self, settings: Sequence[WorkerSettings], log: Callable[[str, str], None], pins: Pins | None = None
    ) -> None:
        self._settings = settings  # by group, for the worker processes
        self._log = log
        self._pins = pins or Pins(())
        self.selector = selectors.DefaultSelector()
        self._handles: dict[str, WorkerHandle] = {}
        self._folder: Folder | None = None
        self._refer: Refer | None = None
        self._find: Find | None = None
        self._blobs = BlobParcels()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []  # a heap of scheduled calls
        self._dues = 0
        self._now = 0.0
        self._events: list[Event] = []
        self.printing = OutputReader(self.selector, self._later, self._note, log)
        self._memory = MemoryWatch(settings, self._kill_with_stack)
        self._oom = cause_of_death.OutOfMemoryWatch()
        self._is_apart = any(group.run_as == "submitter" for group in settings)
        self._fork_server = ForkServerLink(self.selector, self._on_fork_server, self._is_apart)

    # ── commands of the slots ──

    def start_worker(self, worker: str, group: int, not_before: float, now: float) -> None:
        if not_before > now:
            self._later(not_before, lambda at: self.start_worker(worker, group, at, at))
            return
        settings = self._settings[min(group, len(self._settings) - 1)]
        try:
            handle, fds = WorkerHandle.make(worker, group)
        except OSError as error:
            self._events.append((worker, WorkerDied(worker=worker, group=group, reason=f"no descriptors: {error}")))
            return
        self._handles[worker] = handle
        self.selector.register(handle.channel.socket, selectors.EVENT_READ, lambda now: self._read_channel(handle, now))
        self.printing.watch(handle)
        if settings.run_as == "submitter":  # it is forked when its first slice names the account
            handle.spare, handle.is_apart, handle.is_ready = fds, True, True
            self._note(worker, WorkerStarted(worker=worker, group=group))
            return
        self._send_folder(handle)
        self._fork(handle, settings, fds)

    def _fork(self, handle: WorkerHandle, settings: WorkerSettings, fds: Sequence[int]) -> None:
        pinned = self._pins.environment(handle.worker, handle.group)
        if pinned:
            settings = replace(settings, env={**pinned, **settings.env})
        try:
            self._fork_server.start(handle.worker, settings, fds)
        except OSError as error:
            self._buried(handle, f"it could not be started: {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _fork_for(self, handle: WorkerHandle, user: str) -> None:
        """Fork the process of a worker that has waited for its user, as that user's account."""
        fds, handle.spare, handle.is_ready = handle.spare, [], False
        settings = self._settings[min(handle.group, len(self._settings) - 1)]
        self._fork(handle, replace(settings, account=user), fds)

    def hand_to(self, folder: Folder) -> None:
        """Make workers hand over large results in this folder, and read there the files that messages name."""
        self._folder = self._blobs.folder = folder
        self._refer, self._find = folder.refers, folder.adopt
        for handle in self._handles.values():
            self._send_folder(handle)

    def _send_folder(self, handle: WorkerHandle) -> None:
        if self._folder is not None and not handle.is_apart:
            told = HandTo(root=self._folder.root, prefix=self._folder.prefix)
            self._post(handle, pack(to_worker, 0, told))

    def store_blob(self, message: HoldBlob) -> None:
        """Keep a blob for the workers; raises OSError."""
        self._blobs.store(message)

    def drop_blob(self, blob: str) -> None:
        self._blobs.drop(blob)
        for handle in self._handles.values():
            if blob in handle.held:
                handle.held.discard(blob)
                self._post(handle, pack(to_worker, 0, DropBlob(hash=blob)))

    def give(self, worker: str, run: RunTask) -> None:
        """Send a slice to a worker, after the blobs that the worker lacks."""
        handle = self._handles.get(worker)
        if handle is None:
            return  # it has just died: the slots get that event and choose another worker
        if handle.spare:
            self._fork_for(handle, run.user)
            if handle.is_gone:
                return
        number = 0
        try:
            for blob in (run.function, *run.constants, *run.depends):
                if blob not in handle.held:
                    for parcel in self._blobs.of(blob, files=not handle.is_apart):
                        self._post(handle, parcel)
                    handle.held.add(blob)
            number = handle.take_number(run)
            if self._memory.look_at is None:
                self._memory.begin(self._now)
            self._post(handle, pack(to_worker, number, run, None if handle.is_apart else self._refer))
        except OSError as error:
            handle.given.pop(number, None)
            self._events.append((worker, not_given(run, worker, error)))

    def interrupt(self, worker: str, key: Key) -> None:
        handle = self._handles.get(worker)
        number = handle.number_of(key) if handle is not None else 0
        if handle is not None and number:
            handle.cell.stop(number)
            self._interrupt(handle, number, INTERRUPTS)

    def _interrupt(self, handle: WorkerHandle, number: int, times: int) -> None:
        """Send SIGINT, and repeat it while the slice runs: one just before a system call does not interrupt it."""
        if number in handle.given and not handle.is_gone:
            self._fork_server.signal(handle.worker, signal.SIGINT, False)
            if times > 1:
                self._later(self._now + INTERRUPT_S, lambda _: self._interrupt(handle, number, times - 1))

    def steer(self, command: Steer) -> None:
        """Write a knob's new value, or the order to end early, for the worker."""
        handle = self._handles.get(command.worker)
        if handle is not None and not handle.steer(command):
            self._log("warning", f"{command.worker} has no room for the value of knob {command.knob!r}")

    def ask_for_items(self, worker: str) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            handle.ask_for_items()

    def hand_back(self, worker: str, key: Key) -> None:
        """Make the worker end this slice after its current call."""
        handle = self._handles.get(worker)
        number = handle.number_of(key) if handle is not None else 0
        if handle is not None and number:
            handle.cell.hand_back(number)

    def resume(self, worker: str) -> None:
        """Resume a worker that has waited for nested tasks."""
        self._write_command(worker, b"g")

    def refuse_wait(self, worker: str) -> None:
        """Make a worker's wait for nested tasks fail."""
        self._write_command(worker, b"r")

    def _write_command(self, worker: str, word: bytes) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            with contextlib.suppress(OSError):  # it is dying
                os.write(handle.ask, word)

    def kill(self, worker: str, why: str) -> None:
        handle = self._handles.get(worker)
        if handle is not None:
            handle.killed_why = handle.killed_why or why
            if handle.spare:
                self._buried(handle, why)
            else:
                self._fork_server.signal(worker, signal.SIGKILL, True)

    def _kill_with_stack(self, worker: str, why: str) -> None:
        """Kill a worker after it has written its stack to stderr, as its last output."""
        handle = self._handles[worker]
        handle.killed_why = why
        self._fork_server.signal(worker, STACK_SIGNAL, False)
        self._kill_after_stack(worker, why, self._now + STACK_S)

    def _kill_after_stack(self, worker: str, why: str, until: float) -> None:
        """Kill the worker once its stack is there or `until` has come."""
        handle = self._handles.get(worker)
        if handle is None:
            return
        if self._now >= until or cause_of_death.has_whole_stack(handle.last_output.decode("utf-8", "replace")):
            self.kill(worker, why)
        else:
            self._later(self._now + STACK_INTERVAL_S, lambda _: self._kill_after_stack(worker, why, until))

    def retire(self, worker: str, why: str = "") -> None:
        """Make an idle worker end by itself by closing its channel."""
        handle = self._handles.get(worker)
        if handle is not None:
            handle.killed_why = why or "it is not needed any more"
            if handle.spare:
                self._buried(handle, handle.killed_why)
                return
            with contextlib.suppress(OSError):
                handle.channel.socket.shutdown(1)  # SHUT_WR: its last messages are still received
            self._later(self._now + RETIRE_S, lambda _: self._kill_deaf(handle))

    def _kill_deaf(self, handle: WorkerHandle) -> None:
        """Kill a worker whose channel is closed and that has not ended by itself."""
        if not handle.is_gone:
            self.kill(handle.worker, "a task has broken the channel to its hub")

    def take_back(self, worker: str) -> None:
        """Read back what the worker has not taken yet; each slice becomes a TaskStopped(why="recall")."""
        handle = self._handles.get(worker)
        if handle is None:
            return
        again = [parcel for parcel in handle.unread() if not self._returned(handle, parcel)]
        for parcel in again:
            self._post(handle, parcel)

    # ── events of the workers ──

    def read(self, now: float, stirred: bool = True) -> list[Event]:
        """Return all events of the workers, in order; `stirred` is False if `fileno` is known not to be readable."""
        self._now = now
        if stirred:
            for key, _ in self.selector.select(0):
                key.data(now)
        while self._due and self._due[0][0] <= now:
            heappop(self._due)[2](now)
        if self._memory.look_at is not None and now >= self._memory.look_at:
            self._memory.check(self._handles.values(), now)
        events, self._events = self._events, []
        return events

    def next_deadline(self) -> float | None:
        at = self._due[0][0] if self._due else None
        if self._memory.look_at is not None:
            at = min(at or INFINITY, self._memory.look_at)
        return at

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable when `read` has something to do."""
        return self.selector.fileno()

    def pids(self) -> dict[str, int]:
        """Return the process of each worker that has one."""
        return {worker: handle.pid for worker, handle in self._handles.items() if handle.pid}

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def close(self) -> None:
        """End all workers, the fork server, and the processes that they have left."""
        for worker in list(self._handles):
            self.retire(worker)
        until = monotonic() + END_S
        while self._handles and (left_s := until - monotonic()) > 0:
            for key, _ in self.selector.select(left_s):
                key.data(self._now)
        self._fork_server.close()
        for handle in list(self._handles.values()):
            self._forget(handle)
        self._blobs.close()
        self.selector.close()

    # ── channels ──

    def _post(self, handle: WorkerHandle, parcel: Parcel) -> None:
        """Send a parcel, or queue it while the worker's socket is full; close it after that."""
        if not handle.outbox:
            try:
                handle.channel.post(parcel)
            except BlockingIOError:
                call = self.selector.get_key(handle.channel.socket).data
                self.selector.modify(handle.channel.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, call)
            except OSError:  # it is dying; the fork server reports that, and what it was sent is read back then
                handle.outbox.append(parcel)
                return
            else:
                parcel.close()
                return
        handle.outbox.append(parcel)

    def _flush(self, handle: WorkerHandle) -> None:
        try:
            while handle.outbox:
                handle.channel.post(handle.outbox[0])
                handle.outbox.popleft().close()
        except OSError:
            return
        self.selector.modify(
            handle.channel.socket, selectors.EVENT_READ, self.selector.get_key(handle.channel.socket).data
        )

    def _read_channel(self, handle: WorkerHandle, now: float) -> None:
        if handle.is_gone:
            return  # an earlier event of this turn removed the worker
        worker, sock, events = handle.worker, handle.channel.socket, self._events
        if handle.outbox:
            self._flush(handle)
        try:
            while True:
                datagram, fd = receive_datagram(sock)
                if not datagram:
                    self.selector.unregister(sock)  # both ends are closed, or a task wrote an empty datagram
                    self._later(now + RETIRE_S, lambda _: self._kill_deaf(handle))
                    return
                number, message = self._unpacked(handle, datagram, fd)
                if type(message) is TaskFinished or type(message) is TaskStopped:
                    if handle.read_is_due:  # its last progress, if the end came within the pause
                        self._read_progress(handle, now)
                    if handle.given.pop(number, None) is None:
                        raise ProtocolError("it reports the end of a slice that it was not given")
                    handle.news, handle.told = None, 0
                    if handle.throttles or handle.kept:
                        self.printing.end(handle, now)
                    if self._memory.is_spent(handle):
                        events.append((worker, WorkerSpent(worker=worker)))
                    events.append((worker, message))
                    if not handle.given:  # no more messages are expected, and the selector reports any later one
                        return
                else:
                    self._on_message(handle, number, message, now)
        except BlockingIOError:
            return
        except (ProtocolError, OSError) as error:  # a task has written into its worker's descriptors
            self.kill(worker, f"its channel is broken: {error}")
            with contextlib.suppress(KeyError):
                self.selector.unregister(sock)

    def _unpacked(self, handle: WorkerHandle, datagram: bytes, fd: int) -> tuple[int, Any]:
        """Return a worker's message; of one that sees no folder, with its large buffers in files."""
        if not handle.is_apart:
            return unpack(from_worker, datagram, fd, self._find)
        settings = self._settings[min(handle.group, len(self._settings) - 1)]
        number, message = unpack(from_worker, datagram, fd, most_bytes=2 * settings.max_message_mb << 20)
        payload: Payload | None = getattr(message, "payload", None)
        if payload is not None and self._folder is not None and payload.nbytes >= BY_FILE and not payload.sizes:
            with contextlib.suppress(OSError):  # a full disk: it goes with the message
                filed = Payload.of(self._folder.write(payload.buffers))
                message = replace(message, payload=filed)
        return number, message

    def _on_message(self, handle: WorkerHandle, number: int, message: Any, now: float) -> None:
        if type(message) is TaskProgressed:
            if handle.progress_at + PAUSE_S <= now:
                self._read_progress(handle, now)
            else:
                handle.read_is_due = True
                self._later(handle.progress_at + PAUSE_S, lambda at: self._read_progress(handle, at))
        elif type(message) is TaskPrinted:
            self.printing.take(handle, number, message, now)
        elif type(message) is WorkerStarted:
            handle.is_ready = True
            self._note(handle.worker, WorkerStarted(worker=handle.worker, group=handle.group, pid=message.pid))
        elif number in handle.given:  # early results, an emitted value, or a knob
            if type(message) is WaitBegan:
                self._fork_server.preload(CLIENT)  # its stand-in and later workers may need it too
            if type(message) is ItemsFinished:
                handle.told = message.offset + message.items
            self._events.append((handle.worker, message))

    def _later(self, at: float, call: Callable[[float], None]) -> None:
        self._dues += 1
        heappush(self._due, (at, self._dues, call))

    def _note(self, worker: str, message: Message) -> None:
        self._events.append((worker, message))

    def _read_progress(self, handle: WorkerHandle, now: float) -> None:
        """Read the latest progress from the worker's control page."""
        if handle.is_gone:
            return
        handle.progress_at, handle.read_is_due = now, False
        number, percent, note = handle.cell.read()
        run = handle.given.get(number)
        if run is not None and handle.news != (percent, note):
            handle.news = percent, note
            task, first, attempt = run
            message = TaskProgressed(task=task, attempt=attempt, first=first, progress=percent, note=note)
            self._events.append((handle.worker, message))

    # ── life and death ──

    def _on_fork_server(self, word: str, worker: str, *rest: Any) -> None:
        """Handle a message of the fork server; "gone" when it has ended, and all workers with it."""
        if word == "started":
            handle = self._handles.get(worker)
            if handle is not None:
                handle.pid = rest[0]
        elif word == "gone":
            self._log("error", "the fork server of the workers has ended; it is started again")
            for handle in list(self._handles.values()):
                if handle.pid:
                    with contextlib.suppress(OSError):
                        os.killpg(handle.pid, signal.SIGKILL)
                self._buried(handle, "the fork server of its hub has ended, and all workers with it", shared=True)
        else:
            handle = self._handles.get(worker)
            if handle is not None:
                self._buried(handle, rest[0] if word == "failed" else self._reason(handle, *rest))

    def _reason(self, handle: WorkerHandle, status: int, peak_kib: int) -> str:
        self._drain_dead(handle)
        if handle.killed_why and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return handle.killed_why
        struck = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and self._oom.has_struck()
        last_output = handle.last_output.decode("utf-8", "replace")
        trail = self._memory.trail(handle)
        words = cause_of_death.sentence(status, peak_kib, handle.killed_why, struck, last_output, trail, self._now)
        return words if handle.is_ready else f"it could not start: {words}"

    def _drain_dead(self, handle: WorkerHandle) -> None:
        """Read the rest from a worker that has ended: its ends, then what it had not taken, then its output."""
        now = self._now
        with contextlib.suppress(KeyError):
            self.selector.get_key(handle.channel.socket)
            self._read_channel(handle, now)
        for parcel in handle.unread():
            self._returned(handle, parcel)
            parcel.close()
        self.printing.bury(handle, now)

    def _buried(self, handle: WorkerHandle, reason: str, shared: bool = False) -> None:
        self._drain_dead(handle)
        key = next(iter(handle.given.values()), ("", 0, 0))
        died = WorkerDied(
            worker=handle.worker,
            group=handle.group,
            reason=reason,
            task=key[0],
            first=key[1],
            attempt=key[2],
            shared=shared,
            memory=cause_of_death.is_for_memory(reason),
        )
        self._events.append((handle.worker, died))
        self._forget(handle)
        if self._folder is not None and handle.pid:
            self._folder.sweep(handle.pid)

    def _forget(self, handle: WorkerHandle) -> None:
        for fd in (handle.channel.socket.fileno(), *handle.pipes.values()):
            with contextlib.suppress(KeyError, ValueError):  # paused, or never registered
                self.selector.unregister(fd)
        self._handles.pop(handle.worker, None)
        self._pins.release(handle.worker)
        self._memory.forget(handle.worker)
        handle.close()

    def _returned(self, handle: WorkerHandle, parcel: Parcel) -> bool:
        """Handle a parcel that was read back; return True if it was a slice, which goes back to the slots."""
        key = handle.given.pop(peek_number(parcel.datagram), None)
        if key is None:
            return False
        parcel.close()
        task, first, attempt = key
        message = TaskStopped(task=task, attempt=attempt, first=first, why="recall", worker=handle.worker)
        self._events.append((handle.worker, message))
        return True
