"""The hub's data about one worker process: its channel, its pipes, its control page, its slices."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from nblb.protocol.commands import Steer
from nblb.protocol.messages import Failure, RunTask, TaskFinished
from nblb.worker.channel import Channel, Parcel, receive_datagram
from nblb.worker.control_page import STEER_BYTES, ControlPage

if TYPE_CHECKING:
    from nblb.hub.pool.output_reader import Throttle
    from nblb.hub.pool.output_store import SliceFile

STREAMS = ("stdout", "stderr")

PIPE_BYTES = 256 * 1024

Key: TypeAlias = "tuple[str, int, int]"  # task, first, attempt


class WorkerHandle:
    """One worker process, from the request to start it until its end is known."""

    def __init__(self, worker: str, group: int, channel: Channel, far: socket.socket, cell: ControlPage) -> None:
        self.worker = worker
        self.group = group
        self.pid = 0
        self.channel = channel
        self.far = far  # the worker's end: what it has not taken is read back there
        self.no_wait: int = socket.MSG_DONTWAIT
        self.cell = cell
        self.pipes: dict[str, int] = {}
        self.spare: list[int] = []  # its descriptors, while it waits for a user to be forked for
        self.is_apart = False  # its process belongs to the account of its user, and is not trusted
        self.ask = -1  # a byte written here requests the early results of the current slice (worker/early_results.py)
        self.told = 0  # items of that slice that were reported
        self.is_ready = False
        self.is_gone = False
        self.killed_why = ""
        self.given: dict[int, Key] = {}  # slices that have not ended, by number, in order
        self.held: set[str] = {""}  # blobs sent to it
        self.outbox: deque[Parcel] = deque()
        self.last_number = 0
        self.last_key: Key = ("", 0, 0)
        self.progress_at = 0.0
        self.read_is_due = False
        self.is_paused = False  # its output is not read for a moment
        self.unordered: tuple[int, int, list[bytes]] | None = None  # (slice, item, output of each stream) kept back
        self.news: tuple[float, str] | None = None
        self.throttles: dict[str, Throttle] = {}
        self.printed_key: Key = ("", 0, 0)
        self.printed_item = 0
        self.kept: dict[str, SliceFile] = {}  # open files of the slice's output
        self.kept_key: Key = ("", 0, 0)
        self._sent_number = 0  # the slice to which steering was sent, and its content
        self._ends: list[int] = []
        self._knobs: dict[tuple[int, str], Any] = {}
        self.last_output = b""

    @classmethod
    def make(cls, worker: str, group: int) -> tuple[WorkerHandle, list[int]]:
        """Make a handle, and its worker's descriptors in the order of fork_server.FDS; the caller must close them."""
        channel, far = Channel.pair()
        cell, page_fd = ControlPage.make()
        handle = cls(worker, group, channel, far, cell)
        fds = [os.dup(far.fileno()), page_fd]
        for stream in STREAMS:
            read, write = os.pipe()
            os.set_blocking(read, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                try:
                    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                except OSError:
                    pass  # this account has used up its memory for pipes: the default size is enough
            handle.pipes[stream] = read
            fds += [os.dup(read), write]
        asked, handle.ask = os.pipe()
        os.set_blocking(handle.ask, False)
        return handle, [*fds, asked]

    def ask_for_items(self) -> None:
        """Request from the worker the ended calls of its slice that it has not reported."""
        if self.cell.item > self.told:
            with contextlib.suppress(OSError):  # the pipe is full of requests, or the worker is dying
                os.write(self.ask, b"?")

    def take_number(self, run: RunTask) -> int:
        """Return a new number, by which hub and worker identify this slice."""
        self.last_number += 1
        self.last_key = self.given[self.last_number] = (run.task, run.first, run.attempt)
        return self.last_number

    def steer(self, command: Steer) -> bool:
        """Write a steering command where the worker reads it; return False if there is not enough space."""
        number = self.number_of((command.task, command.first, command.attempt))
        if not number:
            return True  # the slice has ended
        if number != self._sent_number:
            self._sent_number, self._ends, self._knobs = number, [], {}
        ends = [*self._ends, command.item] if command.keep else self._ends
        knobs = {**self._knobs, (command.item, command.knob): command.value} if command.knob else self._knobs
        told = [[item, name, value] for (item, name), value in knobs.items()]
        data = json.dumps({"number": number, "ends": ends, "knobs": told}).encode()
        if len(data) > STEER_BYTES:
            return False
        self._ends, self._knobs = ends, knobs
        self.cell.steer(data)
        return True

    def number_of(self, key: Key) -> int:
        return next((number for number, given in self.given.items() if given == key), 0)

    def unread(self) -> list[Parcel]:
        """Return the parcels in the worker's socket and those queued behind it, in order."""
        parcels: list[Parcel] = []
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                datagram, fd = receive_datagram(self.far, self.no_wait)
                if not datagram:
                    break
                parcels.append(Parcel(datagram, fd))
        parcels += self.outbox
        self.outbox.clear()
        return parcels

    def close(self) -> None:
        self.is_gone = True
        for parcel in self.outbox:
            parcel.close()
        self.outbox.clear()
        self.channel.close()
        self.far.close()
        for fd in (*self.pipes.values(), self.ask, *self.spare):
            os.close(fd)
        self.spare.clear()
        self.cell.close()


def not_given(run: RunTask, worker: str, error: OSError) -> TaskFinished:
    """Return the end of a slice whose arguments cannot be handed over."""
    words = f"the arguments cannot be handed to a worker: {error}"
    failures = tuple(Failure(offset=n, kind="MemoryError", message=words) for n in range(run.items))
    return TaskFinished(
        task=run.task, attempt=run.attempt, first=run.first, items=run.items, failures=failures, worker=worker
    )
