"""What a hub keeps of one worker process: its channel, its pipes, its cell, what it was given."""

from __future__ import annotations

import fcntl
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from nblb.hub.cell import Cell
from nblb.hub.pipe import Channel, Parcel
from nblb.messages import RunTask

if TYPE_CHECKING:
    from nblb.hub.printing import Throttle

STREAMS = ("stdout", "stderr")

PIPE_BYTES = 256 * 1024

Key: TypeAlias = "tuple[str, int, int]"  # task, first, attempt


class WorkerSeat:
    """One worker, from the request to start it until its end is known."""

    def __init__(self, worker: str, group: int, channel: Channel, far: socket.socket, cell: Cell) -> None:
        self.worker = worker
        self.group = group
        self.pid = 0
        self.channel = channel
        self.far = far  # the worker's end: what it has not taken can be read back there
        self.no_wait: int = socket.MSG_DONTWAIT
        self.cell = cell
        self.pipes: dict[str, int] = {}
        self.memory_mb = 0
        self.is_ready = False
        self.is_gone = False
        self.killed_why = ""
        self.given: dict[int, Key] = {}  # slices without an end yet, by number, in order
        self.held: set[str] = {""}  # blobs that it has been given
        self.outbox: deque[Parcel] = deque()
        self.last_number = 0
        self.last_key: Key = ("", 0, 0)
        self.progress_at = 0.0
        self.news: tuple[float, str] | None = None
        self.throttles: dict[str, Throttle] = {}
        self.printed_key: Key = ("", 0, 0)
        self.last_output = b""

    @classmethod
    def make(cls, worker: str, group: int, memory_mb: int) -> tuple[WorkerSeat, list[int]]:
        """A seat and the descriptors for its worker, in nursery.FDS's order; they are the caller's to close."""
        channel, far = Channel.pair()
        cell, cell_fd = Cell.make()
        seat = cls(worker, group, channel, far, cell)
        seat.memory_mb = memory_mb
        fds = [os.dup(far.fileno()), cell_fd]
        for stream in STREAMS:
            read, write = os.pipe()
            os.set_blocking(read, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                try:
                    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                except OSError:
                    pass  # this account's pipes have used up their memory: the usual size does
            seat.pipes[stream] = read
            fds += [os.dup(read), write]
        return seat, fds

    def take_number(self, run: RunTask) -> int:
        """The number that stands for this slice between hub and worker."""
        self.last_number += 1
        self.last_key = self.given[self.last_number] = (run.task, run.first, run.attempt)
        return self.last_number

    def number_of(self, key: Key) -> int:
        return next((number for number, given in self.given.items() if given == key), 0)

    def close(self) -> None:
        self.is_gone = True
        for parcel in self.outbox:
            parcel.close()
        self.outbox.clear()
        self.channel.close()
        self.far.close()
        for fd in self.pipes.values():
            os.close(fd)
        self.cell.close()
