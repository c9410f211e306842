"""The control page: memory that a hub and one of its workers share, for state that needs no message.

    running   written by the worker: the number of its current slice, 0 while it tidies up after one,
              AFTER + number while it waits for the next
    stop      written by the hub: the number of the slice that SIGINT is meant for
    shorten   written by the hub: the number of the slice that must end after its current call
    reading   written by the hub: 1 while it reads the worker's output
    news      1 from the worker's notice of progress until the hub has read it
    progress  the latest percent and note of a slice, under a version that is odd while it is being written
    item      written by the worker: the number of the current call in the slice
    steering  written by the hub, under a version of its own: commands to the slice as JSON (knobs, stop and keep)
    order     the order in which the slice has written to stdout and stderr (write_order.py)

So a late SIGINT never interrupts the next task, output is attributed to tasks although the hub and the worker both
read it, a task may report progress a million times without a million messages, and a check for commands reads one
word. Each field has one writer (`news` is set by one side and cleared by the other), and is written as one aligned
word.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
import time

from nblb.worker.write_order import WORDS, WriteOrder

_ORDER_AT = 8192
SIZE = _ORDER_AT + 8 * WORDS
AFTER = 1 << 62  # added to a slice's number once it has ended
NOTE_BYTES = 400
WAIT_S = 1.0  # longer than any read of the hub, in case it dies during one

_RUNNING, _STOP, _READING, _NEWS, _VERSION = range(5)
_progress = struct.Struct("<QdH")
_PROGRESS_AT = 40
_ITEM, _STEERED, _STEER_LENGTH, _SHORTEN = range(64, 68)  # indices of more words, behind the note
_STEER_AT = 68 * 8
STEER_BYTES = _ORDER_AT - _STEER_AT


def shared_memory(name: str = "nblb") -> int:
    """Return a descriptor of anonymous memory that can be passed to other processes; freed with its last user."""
    make = getattr(os, "memfd_create", None)
    if make is not None:
        return int(make(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def seal(fd: int, content: bool) -> None:
    """Forbid changes of the size of shared memory, and with `content` of its bytes, where the system can (Linux)."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | (fcntl.F_SEAL_WRITE if content else 0)
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


class ControlPage:
    """One worker's control page, mapped in the hub or in the worker."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)
        self._words = memoryview(self._memory).cast("Q")
        self.order = WriteOrder(self._words[_ORDER_AT // 8 : SIZE // 8])

    @classmethod
    def make(cls) -> tuple[ControlPage, int]:
        """Return a new page, and the descriptor to pass to the worker."""
        fd = shared_memory("nblb-cell")
        os.ftruncate(fd, SIZE)
        seal(fd, content=False)  # a task that cut it would end its hub
        return cls(fd), fd

    def close(self) -> None:
        self.order.close()
        self._words.release()
        self._memory.close()

    # ── the worker's side ──

    def begin(self, number: int) -> None:
        self._words[_NEWS] = 0  # an interrupt may have come between setting it and its message
        self._words[_ITEM] = 0
        self.order.begin()
        self._words[_RUNNING] = number

    def tidy(self) -> None:
        """Take over reading the output; return when the hub has stopped reading it."""
        words = self._words
        words[_RUNNING] = 0
        if words[_READING]:
            until = time.monotonic() + WAIT_S
            while words[_READING] and time.monotonic() < until:
                time.sleep(0)

    def resume(self, number: int) -> None:
        """Continue with the slice: the hub reads the output again."""
        self._words[_RUNNING] = number

    def end(self, number: int) -> None:
        self._words[_RUNNING] = AFTER + number

    @property
    def place(self) -> tuple[memoryview, int]:
        """Return the words and the index at which the worker itself writes the number of each call."""
        return self._words, _ITEM

    @property
    def item(self) -> int:
        """The number of the current call in the slice."""
        return self._words[_ITEM]

    @property
    def steered(self) -> int:
        """A version that changes with each command of the hub."""
        return self._words[_STEERED]

    def steering(self) -> bytes:
        """The latest commands of the hub, as JSON."""
        for _ in range(100):
            version = self._words[_STEERED]
            data = bytes(self._memory[_STEER_AT : _STEER_AT + min(self._words[_STEER_LENGTH], STEER_BYTES)])
            if version % 2 == 0 and version == self._words[_STEERED]:
                return data
        return b""

    def is_to_stop(self, number: int) -> bool:
        return self._words[_STOP] == number

    def is_to_hand_back(self, number: int) -> bool:
        """Return whether the slice must end after its current call."""
        return self._words[_SHORTEN] == number

    def report(self, number: int, percent: float, note: bytes) -> bool:
        """Write the latest progress; return True if the hub must be notified."""
        words = self._words
        version = words[_VERSION] | 1  # it may be odd already, after an interrupted write
        words[_VERSION] = version
        _progress.pack_into(self._memory, _PROGRESS_AT, number, percent, len(note))
        if note:
            self._memory[_PROGRESS_AT + _progress.size : _PROGRESS_AT + _progress.size + len(note)] = note
        words[_VERSION] = version + 1
        if words[_NEWS]:
            return False
        words[_NEWS] = 1
        return True

    # ── the hub's side ──

    def stop(self, number: int) -> None:
        self._words[_STOP] = number

    def hand_back(self, number: int) -> None:
        self._words[_SHORTEN] = number

    def steer(self, data: bytes) -> None:
        """Write commands for the worker, of at most STEER_BYTES."""
        version = self._words[_STEERED] + 1
        self._words[_STEERED] = version
        self._memory[_STEER_AT : _STEER_AT + len(data)] = data
        self._words[_STEER_LENGTH] = len(data)
        self._words[_STEERED] = version + 1

    def begin_reading(self) -> int:
        """Return the slice whose output is in the pipes, 0 if the worker reads them; `end_reading` must follow."""
        self._words[_READING] = 1
        return self._words[_RUNNING]

    def end_reading(self) -> None:
        self._words[_READING] = 0

    def read(self) -> tuple[int, float, str]:
        """Return the latest progress: slice, percent, note. The worker notifies again when there is more."""
        self._words[_NEWS] = 0
        for _ in range(100):
            version = self._words[_VERSION]
            number, percent, length = _progress.unpack_from(self._memory, _PROGRESS_AT)
            start = _PROGRESS_AT + _progress.size
            note = self._memory[start : start + min(length, NOTE_BYTES)]
            if version % 2 == 0 and version == self._words[_VERSION]:
                return number, percent, note.decode("utf-8", "replace")
        return 0, 0.0, ""  # it writes permanently, or died during a write


class SideEffects:
    """A flag that the current call has left work to do before the next; a process runs one call at a time."""

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised = False


marks = SideEffects()
