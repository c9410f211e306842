"""Captures the output of tasks in the worker, and attributes it to tasks.

Descriptors 1 and 2 of a worker are pipes, so the output of C code and of child processes is captured too. The hub
reads them while a slice runs (so output is live even while C code holds the interpreter lock); the worker itself
empties them at the end of each slice. The control page they share determines which of the two may read. So each byte
is attributed to the task during which it was written. A thread that a task has left running is an exception: what it
prints later through sys.stdout or sys.stderr is dropped, since it would stand in the output of another task.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import select
import sys
import threading
import weakref
from _thread import get_ident
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from nblb.protocol.messages import RunTask, TaskPrinted
from nblb.worker.control_page import marks
from nblb.worker.write_order import WriteOrder

READ_BYTES = 64 * 1024
STREAMS = ("stdout", "stderr")
DRAIN_BYTES = 4 * 1024 * 1024  # most bytes at the end of a slice, in case another process keeps writing

_libc = ctypes.PyDLL(None)


class _Noting(io.BufferedWriter):
    """A buffer that sets a flag, common to all of them, when it is written to; threads left behind write nothing."""

    wrote = False
    order = WriteOrder.alone()
    stream = 0  # 0 for stdout, 1 for stderr

    def write(self, data: Any) -> int:
        if left_behind and _threads.get(get_ident()) in left_behind:
            return len(data)
        _Noting.wrote = marks.raised = True
        _Noting.order.wrote(self.stream, len(data))
        return super().write(data)


left_behind: weakref.WeakSet[Any] = weakref.WeakSet()  # threads that earlier slices have left running
_threads: dict[int, Any] = threading._active  # type: ignore[attr-defined]  # current_thread() would add foreign ones


def note_threads() -> None:
    """Note the threads that run at the end of a slice, except the worker's own."""
    if len(_threads) > 1:
        own = threading.main_thread()
        left_behind.update(t for t in list(_threads.values()) if t is not own and not t.name.startswith("nblb"))


def own_stream(fd: int) -> io.TextIOWrapper:
    """Return a new sys.stdout or sys.stderr of this process."""
    buffer = _Noting(io.FileIO(fd, "w", closefd=False))
    buffer.stream = fd - 1
    # write_through, so that the buffer notices at once; a line still becomes one write.
    return io.TextIOWrapper(
        buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
    )


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:
    _StreamHandler = logging.StreamHandler  # takes a subscript from Python 3.11 on


class _LastResort(_StreamHandler):
    """The handler for log records without a handler of the task: writes level and logger to the current stderr.

    The loggers' level applies: WARNING, as in a notebook, until a task calls setLevel(logging.INFO).
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        """Ignore an assignment: the stream is always the current sys.stderr."""


def label_logging() -> None:
    """Install the handler of last resort, which does not interfere with a task's logging.basicConfig."""
    logging.lastResort = _LastResort()


def _is_shut(stream: TextIO) -> bool:
    try:
        return stream.closed
    except ValueError:  # its buffer was detached
        return True


class WorkerOutput:
    """The worker's end of the pipes: flushes and empties them between two slices."""

    def __init__(self, stdout_read: int, stderr_read: int, order: WriteOrder | None = None) -> None:
        self._fds = {stdout_read: 0, stderr_read: 1}
        if order is not None:
            _Noting.order = order
        self._poll = select.poll()
        for fd in self._fds:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._streams = sys.stdout, sys.stderr

    def flush(self) -> None:
        """Write all buffered output into the pipes, and restore the worker's own streams."""
        stdout, stderr = self._streams
        if sys.stdout is not stdout:
            with contextlib.suppress(BaseException):  # a user's object may raise anything
                sys.stdout.flush()
            sys.stdout = stdout
        if sys.stderr is not stderr:
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            sys.stderr = stderr
        if _is_shut(stdout) or _is_shut(stderr):
            self._reopen()
        else:
            with contextlib.suppress(OSError, ValueError):
                stdout.flush()
                stderr.flush()
        _libc.fflush(None)
        note_threads()

    @property
    def has_written(self) -> bool:
        """Return whether Python code has printed since the last `take`."""
        return _Noting.wrote

    def flush_own(self) -> None:
        """Write what Python code has printed into the pipes."""
        for stream in self._streams:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    def _reopen(self) -> None:
        """Open sys.stdout and sys.stderr again for the next task after a task has closed them."""
        sys.stdout, sys.stderr = own_stream(1), own_stream(2)
        self._streams = sys.stdout, sys.stderr

    def take(self, run: RunTask, offset: int) -> Iterator[TaskPrinted]:
        """Yield the content of the pipes as output of that item; one byte is one character (latin-1) up to the hub."""
        _Noting.wrote = False
        data = [b"", b""]
        for fd, _ in self._poll.poll(0):
            data[self._fds[fd]] = self._drained(fd)
        if not any(data):
            return
        for stream, length in enumerate(map(len, data)):
            _Noting.order.has_read(stream, length)
        pieces, _ = _Noting.order.sort(data, is_all=True)
        for stream, piece in pieces:
            for start in range(0, len(piece), READ_BYTES // 2):
                yield TaskPrinted(
                    task=run.task,
                    attempt=run.attempt,
                    first=run.first,
                    stream=STREAMS[stream],
                    text=piece[start : start + READ_BYTES // 2].decode("latin-1"),
                    offset=offset,
                )

    def _drained(self, fd: int) -> bytes:
        """Read what is in a pipe, up to a bound."""
        found, taken = [], 0
        with contextlib.suppress(OSError):
            while taken < DRAIN_BYTES and (data := os.read(fd, READ_BYTES)):
                found.append(data)
                taken += len(data)
        return b"".join(found)
