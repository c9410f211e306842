"""The worker's support for tasks that submit tasks (see nblb/task_api.py).

While the main thread of a task waits for nested tasks, its worker gives up its slot: it notifies the hub when the wait
begins and when it is over, and resumes when the hub permits it (a byte in the pipe that early_results.py reads).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.protocol.messages import RunTask, WaitBegan, WaitEnded
from nblb.worker.channel import Channel
from nblb.worker.control_page import ControlPage, marks
from nblb.worker.early_results import EarlyResults

REFUSED = (
    "this task waits for tasks that it submitted, and its hub can run no more stand-ins for waiting workers (as many "
    "wait as WKHUB_MAX_STANDINS allows, or the memory is nearly used up). Return the future instead of waiting for "
    "it, nest tasks less deeply, or raise WKHUB_MAX_STANDINS"
)


class Nested:
    """The running call, as the parent of the tasks that it submits."""

    def __init__(
        self,
        channel: Channel,
        cell: ControlPage,
        parts: EarlyResults,
        parameters: Parameters,
        has_own_key: bool = False,
    ) -> None:
        self.parameters = parameters
        self.has_own_key = has_own_key
        self.number = 0  # of the current slice, 0 between two
        self.at_end: Callable[[], None] | None = None  # set by the client: waits until its submissions are accepted
        self.takes_over: Callable[[Any], str] | None = None  # set by the client: see task_api.Parent
        self.has_submitted = False
        self._channel, self._cell, self._parts = channel, cell, parts
        self._run: RunTask | None = None
        self._pid = os.getpid()
        self._wait = 0
        self._wake: Callable[[], None] | None = None
        self._may_go_on = threading.Event()
        self.is_refused = False
        parts.on_message = self._on_answer

    def begin(self, number: int, run: RunTask) -> None:
        self.number, self._run = number, run

    def end(self) -> None:
        """End the slice."""
        if self.has_submitted and self.at_end is not None:
            self.at_end()
        self.has_submitted = False
        self.number, self._run = 0, None

    @property
    def user(self) -> str:
        return self._run.user if self._run is not None else ""

    @property
    def place(self) -> tuple[str, int, int]:
        """(submission, item, attempt) of the current call; the submission is "" between two slices."""
        run = self._run
        return ("", 0, 0) if run is None else (run.task, run.first + self._cell.item, run.attempt)

    def submits(self) -> None:
        """Note that the current call submits a task."""
        self.has_submitted = marks.raised = True

    # ── waits ──

    @property
    def is_waited_by(self) -> bool:
        """True if a wait in this thread is a wait of the task."""
        return (
            self.number != 0
            and threading.current_thread() is threading.main_thread()
            and os.getpid() == self._pid
            and self._parts.listen()
        )

    def wait_begins(self, wake: Callable[[], None]) -> None:
        """Give up the slot; `wake` is called if the wait fails (`is_refused`)."""
        run = self._run
        assert run is not None
        self._wait += 1
        self._wake, self.is_refused = wake, False
        self._may_go_on.clear()
        began = WaitBegan(task=run.task, attempt=run.attempt, first=run.first, wait=self._wait)
        self._channel.send(self.number, began)

    def wait_ends(self) -> None:
        """Return when the worker has a slot again."""
        run = self._run
        assert run is not None
        self._wake = None
        ended = WaitEnded(task=run.task, attempt=run.attempt, first=run.first, wait=self._wait)
        self._channel.send(self.number, ended)
        self._may_go_on.wait()

    def refusal(self) -> NblbError:
        """Return the error with which a refused wait fails."""
        return NblbError(REFUSED)

    def _on_answer(self, words: bytes) -> None:
        """Take the hub's answer, in the thread that reads the pipe."""
        if b"g" in words:
            self._may_go_on.set()
        if b"r" in words:
            self.is_refused = True
            wake = self._wake
            if wake is not None:
                wake()
