"""The worker's side of `checkpoint` and `resume` (see nblb/task_api.py).

A state is pickled when the task saves it, and sent at most every EVERY_S; until then the latest one waits, and a timer
sends it. What still waits when a call raises or is interrupted is sent before the end is reported, since the next
attempt begins with it. When a call returns, nothing more of it is needed.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from nblb import payload as packing
from nblb.protocol.framing import Payload
from nblb.protocol.messages import MOST_CHECKPOINT_BYTES, RunTask, TaskCheckpointed
from nblb.quantities import size
from nblb.worker.channel import Channel
from nblb.worker.control_page import ControlPage, marks

EVERY_S = 1.0


class Checkpoints:
    """The saved states of the items of the current slice; the worker sets the slice, the control page the item."""

    def __init__(self, channel: Channel, cell: ControlPage) -> None:
        self._channel, self._cell = channel, cell
        self._lock = threading.Lock()
        self._number = 0
        self._run: RunTask | None = None
        self._states: dict[int, Payload] = {}  # offset of an item -> its latest state
        self._waiting: TaskCheckpointed | None = None
        self._timer: threading.Timer | None = None
        self._next_at = 0.0

    def begin(self, number: int, run: RunTask) -> None:
        """Take the states that earlier attempts have saved."""
        with self._lock:
            self._number, self._run = number, run
            self._states = {one.offset: one.payload for one in run.checkpoints} if run.checkpoints else {}

    def save(self, state: Any) -> None:
        """Keep this state of the current item; raises ValueError if it is too large, NotSerializable as pickle does."""
        run, offset = self._run, self._cell.item
        if run is None:
            return
        payload = packing.pack_results([state], by_file=False)
        if payload.nbytes > MOST_CHECKPOINT_BYTES:
            raise ValueError(
                f"the state of lb.checkpoint has {size(payload.nbytes)}, of {size(MOST_CHECKPOINT_BYTES)} that are "
                "allowed; save less, or write it to a file and save its name"
            )
        message = TaskCheckpointed(task=run.task, attempt=run.attempt, first=run.first, offset=offset, payload=payload)
        with self._lock:
            self._states[offset] = payload
            if self._waiting is not None and self._waiting.offset != offset:
                self._send()
            self._waiting = message
            if monotonic() >= self._next_at:
                self._send()
            elif self._timer is None:
                timer = self._timer = threading.Timer(self._next_at - monotonic(), self._on_time)
                timer.daemon = True
                timer.start()
        marks.raised = True

    def load(self, default: Any) -> Any:
        """Return the latest state of the current item, or the default."""
        payload = self._states.get(self._cell.item) if self._run is not None else None
        return default if payload is None else packing.unpack_results(payload)[0]

    def flush(self) -> None:
        """Send what waits, since the call has not succeeded."""
        if self._waiting is not None:
            with self._lock:
                self._send()

    def returned(self) -> None:
        """Drop what waits, since the call has returned."""
        if self._waiting is not None:
            with self._lock:
                self._waiting = None

    def end(self) -> None:
        """Send what waits, and end the slice."""
        with self._lock:
            self._send()
            self._number, self._run, self._states = 0, None, {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _on_time(self) -> None:
        with self._lock:
            self._timer = None
            self._send()

    def _send(self) -> None:
        """Send the waiting state; the caller holds the lock."""
        message, self._waiting = self._waiting, None
        if message is not None and self._number:
            self._next_at = monotonic() + EVERY_S
            self._channel.send(self._number, message)
