"""What a worker says of a slice that it is still at: which calls are over, when the hub asks for them.

The hub asks, by a byte in a pipe, when a slice has taken long. A thread that sleeps in a read otherwise takes note,
and the worker answers between two calls. Should the call at hand go on, the thread answers itself: the results that
lie ready must not wait for a call that takes a minute.
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
from nblb.worker.result_files import ResultFiles

PATIENCE_S = 0.02  # for the call at hand to end: what is pickled between two calls nobody changes meanwhile


class EarlyResults:
    """The calls of the slice at hand that are over, and how many of them have been told."""

    def __init__(self, channel: Channel, worker: str, asked: int, max_bytes: int) -> None:
        self.due = False  # the hub has asked
        self.told = 0  # items, from the slice's first on
        self.store: ResultFiles | None = None
        self.on_word: Callable[[bytes], None] = lambda _words: None  # what else the hub writes into the pipe
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
        """A task has forked: its child says nothing, and the lock may have been the thread's."""
        self._lock, self._run, self.due = threading.Lock(), None, False

    def listen(self) -> bool:
        """Have a thread take note of what the hub asks; False where this account may have no more threads."""
        if not self._listens:
            try:
                _thread.start_new_thread(self._listen, ())
            except RuntimeError:
                return False
            self._listens = True
        return True

    def begin(self, number: int, run: RunTask, results: list[Any], failures: list[Failure], kept: list[int]) -> None:
        """A slice of many begins; its results and failures will be found in these."""
        self.listen()  # else all is told at the end
        with self._lock:
            self._number, self._results, self._failures, self._kept = number, results, failures, kept
            self._since, self.told, self._gives_up, self.due = perf_counter(), 0, False, False
            self._run = run

    def give_up(self) -> None:
        """All that was not told is told at the end only."""
        self._gives_up = True

    def end(self) -> int:
        """The rest is told with the slice's end; how many were told before. Their results and failures are gone."""
        with self._lock:
            self._run, self.due = None, False
            return self.told

    def say(self) -> None:
        """Tell what is over and was not told."""
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
            ):  # it does not pickle, perhaps because the task changes it this moment: the end will tell
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
            raise ValueError("too large to be told at once")
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
        )

    def _listen(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the task's, in its own thread
        while words := os.read(self._asked, 64):
            if words.strip(b"?"):
                self.on_word(words)
            if b"?" not in words:
                continue
            self.due = marks.raised = True  # in this order: who sees the mark finds what is due
            sleep(PATIENCE_S)
            if self.due:
                self.say()
