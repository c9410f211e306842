"""What tasks print, at the worker's end: told apart by task.

Descriptors 1 and 2 of a worker are pipes, so the output of C code and of child processes is caught too. Two read
them: the hub while a slice runs (so it is seen live even when C code holds the interpreter), and the worker itself
at the end of each slice, until they are empty; the cell they share says whose turn it is. So each byte carries the
name of the task during which it was written.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from nblb.protocol.messages import RunTask, TaskPrinted
from nblb.worker.control_page import marks

READ_BYTES = 64 * 1024
DRAIN_BYTES = 4 * 1024 * 1024  # at the end of a slice, should something else go on writing

_libc = ctypes.PyDLL(None)


class _Noting(io.BufferedWriter):
    """Knows whether something was written to any of them."""

    wrote = False

    def write(self, data: Any) -> int:
        _Noting.wrote = marks.raised = True
        return super().write(data)


def own_stream(fd: int) -> io.TextIOWrapper:
    """A sys.stdout or sys.stderr of this process, whatever became of the one before."""
    buffer = _Noting(io.FileIO(fd, "w", closefd=False))
    # Written through, so that the buffer knows at once; it still makes one write of a line.
    return io.TextIOWrapper(
        buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
    )


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:
    _StreamHandler = logging.StreamHandler  # takes a subscript from Python 3.11 on


class _LastResort(_StreamHandler):
    """Where records go that no handler of the task's own takes: stderr, whatever that is now, with level and logger.

    It takes what the loggers let pass: WARNING, as in a notebook, until a task says setLevel(logging.INFO).
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        """It is always the present one."""


def label_logging() -> None:
    """Without a change to a task, and without getting in the way of its logging.basicConfig."""
    logging.lastResort = _LastResort()


def _is_shut(stream: TextIO) -> bool:
    try:
        return stream.closed
    except ValueError:  # its buffer was detached
        return True


class WorkerOutput:
    """The worker's side: flushes and empties its own pipes between two slices."""

    def __init__(self, stdout_read: int, stderr_read: int) -> None:
        self._fds = {stdout_read: "stdout", stderr_read: "stderr"}
        self._poll = select.poll()
        for fd in self._fds:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._streams = sys.stdout, sys.stderr

    def flush(self) -> None:
        """Everything that is buffered goes into the pipes, and the streams are the worker's own again."""
        stdout, stderr = self._streams
        if sys.stdout is not stdout:
            with contextlib.suppress(BaseException):  # an object of the user's, which may raise anything
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

    @property
    def has_written(self) -> bool:
        """Whether Python code has printed since the last `take`."""
        return _Noting.wrote

    def flush_own(self) -> None:
        """What Python code has printed goes into the pipes."""
        for stream in self._streams:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    def _reopen(self) -> None:
        """A task has closed sys.stdout or sys.stderr; the next one gets them back."""
        sys.stdout, sys.stderr = own_stream(1), own_stream(2)
        self._streams = sys.stdout, sys.stderr

    def take(self, run: RunTask, offset: int) -> Iterator[TaskPrinted]:
        """What lies in the pipes, as that item's; one byte is one character (latin-1) up to the hub."""
        _Noting.wrote = False
        for fd, _ in self._poll.poll(0):
            taken = 0
            with contextlib.suppress(OSError):
                while taken < DRAIN_BYTES and (data := os.read(fd, READ_BYTES // 2)):
                    taken += len(data)
                    yield TaskPrinted(
                        task=run.task,
                        attempt=run.attempt,
                        first=run.first,
                        stream=self._fds[fd],
                        text=data.decode("latin-1"),
                        offset=offset,
                    )
