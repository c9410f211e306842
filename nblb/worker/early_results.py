"""Early results: a worker reports ended calls of its running slice when the hub requests them.

The hub requests them with a byte in a pipe when a slice has taken long. A thread blocked in a read takes the request,
and the worker answers between two calls. If the current call takes longer, the thread answers itself: finished results
must not wait for a call that takes a minute.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any

import msgspec

from nblb import payload as packing
from nblb.protocol.messages import Failure, ItemsFinished, RunTask
from nblb.worker.calling import fits
from nblb.worker.channel import Channel
from nblb.worker.control_page import marks
from nblb.worker.peak_memory import PeakMemory
from nblb.worker.result_files import ResultFiles

PATIENCE_S = 0.02  # wait for the current call to end: no call changes results that are pickled between two calls


class EarlyResults:
    """The ended calls of the current slice, and how many of them have been reported."""

    def __init__(self, channel: Channel, worker: str, asked: int, max_bytes: int) -> None:
        self.due = False  # the hub has requested early results
        self.told = 0  # number of first items that were reported
        self.store: ResultFiles | None = None
        self.peak: PeakMemory | None = None
        self.on_message: Callable[[bytes], None] = lambda _words: None  # takes other bytes from the pipe
        self._channel, self._worker, self._asked, self._max_bytes = channel, worker, asked, max_bytes
        self._lock = threading.Lock()
        self._listens = self._gives_up = False
        self._number, self._run = 0, None  # type: int, RunTask | None
        self._results: list[Any] = []
        self._failures: list[Failure] = []
        self._kept: list[int] = []
        self._since = 0.0
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Reset in a task's forked child: it reports nothing, and the thread may have held the lock."""
        self._lock, self._run, self.due = threading.Lock(), None, False

    def listen(self) -> bool:
        """Start the thread that takes requests; return False if this account may have no more threads."""
        if not self._listens:
            try:
                _thread.start_new_thread(self._listen, ())
            except RuntimeError:
                return False
            self._listens = True
        return True

    def begin(self, number: int, run: RunTask, results: list[Any], failures: list[Failure], kept: list[int]) -> None:
        """Begin a slice of many calls, whose results and failures are added to these lists."""
        self.listen()  # without the thread, all is reported at the end
        with self._lock:
            self._number, self._results, self._failures, self._kept = number, results, failures, kept
            self._since, self.told, self._gives_up, self.due = perf_counter(), 0, False, False
            self._run = run

    def give_up(self) -> None:
        """Report everything else only at the end."""
        self._gives_up = True

    def end(self) -> int:
        """End early reports; return how many items were reported, whose results and failures are dropped."""
        with self._lock:
            self._run, self.due = None, False
            return self.told

    def report(self) -> None:
        """Report the ended calls that were not reported."""
        with self._lock:
            self.due = False
            run, first, upto = self._run, self.told, len(self._results)
            if run is None or self._gives_up or not first < upto < run.items:
                return
            try:
                message = self._message(run, first, upto)
                self._channel.send(self._number, message)
            except (
                BaseException
            ):  # it does not pickle, perhaps because the task is changing it: it is reported at the end
                self._gives_up = True
                return
            if self.store is not None:
                self.store.settle(message.payload)
            self.told, self._since = upto, self._since + message.duration_s
            self._results[first:upto] = [None] * (upto - first)
            del self._failures[: len(message.failures)]
            del self._kept[: len(message.kept)]

    def _message(self, run: RunTask, first: int, upto: int) -> ItemsFinished:
        failures = [
            msgspec.structs.replace(failure, offset=failure.offset - first)
            for failure in [*self._failures]
            if failure.offset < upto
        ]
        payload = packing.pack_results(self._results[first:upto]) if len(failures) < upto - first else None
        if payload is not None and not fits(payload, self._max_bytes):
            raise ValueError("too large for one message")
        return ItemsFinished(
            task=run.task,
            attempt=run.attempt,
            first=run.first,
            offset=first,
            items=upto - first,
            payload=payload,
            failures=tuple(failures),
            duration_s=perf_counter() - self._since,
            worker=self._worker,
            kept=tuple(offset - first for offset in [*self._kept] if offset < upto),
            peak_bytes=self.peak.nbytes if self.peak is not None else 0,
        )

    def _listen(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals belong to the task's own thread
        while words := os.read(self._asked, 64):
            if words.strip(b"?"):
                self.on_message(words)
            if b"?" not in words:
                continue
            self.due = marks.raised = True  # in this order: a reader of the flag finds `due` set
            sleep(PATIENCE_S)
            if self.due:
                self.report()
