"""The worker's side of `emit`, `knob` and "stop early and keep" (see nblb/task_api.py).

Emitted values are packed in the task's own thread while that is cheap, and sent at most every 100 ms and for at most a
fifth of the time (a matplotlib figure takes 25 to 50 ms, so it is drawn about five times a second); a timer sends the
last one if the task emits no more. Commands to the task are in the control page, so a check for them reads one word.
"""

from __future__ import annotations

import contextlib
import json
import threading
from time import monotonic, perf_counter
from typing import Any

from nblb import payload as packing
from nblb.errors import NotSerializable
from nblb.protocol.framing import Payload
from nblb.protocol.messages import KnobOffered, Message, RunTask, TaskEmitted, TaskPrinted
from nblb.task_api import StoppedAndKept
from nblb.user_text import clean_name
from nblb.worker import mime_bundles
from nblb.worker.channel import Channel
from nblb.worker.control_page import ControlPage, marks

EVERY_S = 0.1
SHARE = 5.0  # packing may take this fraction (1/n) of a task's time
CHEAP_S = 0.0005  # a value that takes longer to pack is packed only when it is sent
MAX_VALUE = 8 * 1024 * 1024
BYTES_S = 4 * 1024 * 1024  # of emitted values per second
MAX_KNOBS = 64
DISPLAY_BYTES = 4 * 1024 * 1024  # of displays per slice that pass at once …
DISPLAY_BYTES_S = 512 * 1024  # … and from then on

_NOTHING = object()


class LiveChannel:
    """The live messages from and to the current task; the worker sets the slice, the control page the item."""

    def __init__(self, channel: Channel, cell: ControlPage) -> None:
        self._channel, self._cell = channel, cell
        self._lock = threading.Lock()
        self._number = 0
        self._run: RunTask | None = None
        self.spoke = False  # `end_item` has something to do
        self._latest: Any = _NOTHING
        self._waiting: Any = _NOTHING  # to be sent: a message, or the unpacked value
        self._timer: threading.Timer | None = None
        self._next_at = 0.0
        self._cost_s = 0.0  # time to pack the last value
        self._nbytes = 0
        self._seen = cell.steered
        self._ends: set[int] = set()
        self._turned: dict[tuple[int, str], Any] = {}
        self._offered: dict[str, Any] = {}  # knobs of the item, with the value last reported
        self._display_left, self._display_at = float(DISPLAY_BYTES), 0.0
        self._held_back = ""

    # ── for the worker ──

    def begin(self, number: int, run: RunTask) -> None:
        self._number, self._run = number, run
        if self._ends or self._turned:
            self._ends, self._turned = set(), {}
        self._display_left, self._display_at = float(DISPLAY_BYTES), monotonic()
        if self.spoke:
            self._forget()

    def _forget(self) -> None:
        """Reset the state of an item before the next one."""
        self.spoke = False
        self._latest = _NOTHING
        if self._offered:
            self._offered = {}

    @property
    def item(self) -> int:
        """The number of the current call in the slice."""
        return self._cell.item

    @property
    def is_to_end(self) -> bool:
        """True if the current item must stop and keep what it has emitted."""
        return self.item in self._ends

    @property
    def has_emitted(self) -> bool:
        return self._latest is not _NOTHING

    @property
    def emitted(self) -> Any:
        return self._latest

    def end_item(self) -> None:
        """Send what waits, since the call is over."""
        if self._timer is not None:
            self._flush(self._timer)
        if self._held_back:
            held, self._held_back = self._held_back, ""
            self._send_display(held)
        self._forget()

    def end(self) -> None:
        with self._lock:
            self._number, self._run = 0, None
            self._waiting, self._latest = _NOTHING, _NOTHING
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    # ── for the task ──

    def emit(self, thing: Any) -> None:
        if not self._number:
            return
        now = monotonic()
        self._latest, self.spoke, marks.raised = thing, True, True
        if now >= self._next_at:
            with self._lock:
                self._waiting = _NOTHING
            self._send(self._packed(thing))
        else:
            word = self._packed(thing) if self._cost_s < CHEAP_S else thing
            with self._lock:
                self._waiting = word
                if self._timer is None:
                    timer = self._timer = threading.Timer(self._next_at - now, lambda: self._flush(timer))
                    timer.daemon = True
                    timer.start()
        self.check()

    def _flush(self, timer: threading.Timer) -> None:
        """Send what waits, when its time has come or its call is over, whichever is first."""
        with self._lock:
            if timer is not self._timer:
                return
            timer.cancel()
            self._timer = None
            word, self._waiting = self._waiting, _NOTHING
        if word is _NOTHING:
            return
        # A value that cannot be packed now (the task is changing it, or it raises) is not shown.
        with contextlib.suppress(BaseException):
            self._send(word if isinstance(word, TaskEmitted) else self._packed(word))

    def _packed(self, thing: Any) -> TaskEmitted:
        started, run = perf_counter(), self._run
        assert run is not None
        data, metadata = mime_bundles.bundle_of(thing, plain=False, tight=False)
        payload: Payload | None = None
        if not mime_bundles.is_figure(thing):
            try:
                payload = packing.pack_results([thing], by_file=False)
            except NotSerializable:
                if not data:
                    raise
        if payload is not None and payload.nbytes > MAX_VALUE:
            words = f"(a {type(thing).__name__} of {payload.nbytes:,} bytes: too large to be shown while the task runs)"
            data, payload = {"text/plain": words, **data}, None
        message = TaskEmitted(
            task=run.task,
            attempt=run.attempt,
            first=run.first,
            offset=self.item,
            payload=payload,
            bundle=mime_bundles.encode(data, metadata) if data else "",
        )
        self._cost_s = perf_counter() - started
        self._nbytes = len(message.bundle) + (payload.nbytes if payload is not None else 0)
        return message

    def _send(self, message: Message) -> None:
        self._next_at = monotonic() + max(EVERY_S, SHARE * self._cost_s, self._nbytes / BYTES_S)
        number = self._number
        if number:
            self._channel.send(number, message)

    # ── commands to the task ──

    def check(self) -> None:
        """Raise StoppedAndKept if this item must end now."""
        if self._cell.steered != self._seen:
            self._listen()
        if self._ends and self.item in self._ends and threading.current_thread() is threading.main_thread():
            raise StoppedAndKept

    def _listen(self) -> None:
        self._seen = self._cell.steered
        with contextlib.suppress(ValueError):
            told = json.loads(self._cell.steering())
            if told["number"] == self._number:
                self._ends.update(self.item if item < 0 else item for item in told["ends"])
                self._turned = {(item, name): value for item, name, value in told["knobs"]}

    def knob(self, name: str, default: Any, minimum: float | None, maximum: float | None, step: float | None) -> Any:
        run = self._run
        if not self._number or run is None:
            return default
        self.check()
        turned = self._turned
        value = turned.get((self.item, name), turned.get((-1, name), _NOTHING)) if turned else _NOTHING
        value = default if value is _NOTHING else _fitting(value, default, minimum, maximum)
        if self._offered.get(name, _NOTHING) != value and (name in self._offered or len(self._offered) < MAX_KNOBS):
            self._offered[name] = value
            self.spoke = marks.raised = True
            offered = KnobOffered(
                task=run.task,
                attempt=run.attempt,
                name=clean_name(name),
                first=run.first,
                offset=self.item,
                value=value,
                default=default,
                minimum=minimum,
                maximum=maximum,
                step=step,
            )
            self._channel.send(self._number, offered)
        return value

    # ── displays ──

    def show(self, text: str) -> None:
        """Send the JSON of a display (mime_bundles.py); when displays come too fast, the latest is delayed."""
        now = monotonic()
        filled = self._display_left + (now - self._display_at) * DISPLAY_BYTES_S
        self._display_left, self._display_at = min(float(DISPLAY_BYTES), filled), now
        if len(text) > self._display_left:
            self._held_back, self.spoke, marks.raised = text, True, True
            return
        self._held_back = ""
        self._send_display(text)

    def _send_display(self, text: str) -> None:
        run, number = self._run, self._number
        if run is not None and number:
            self._display_left -= len(text)
            printed = TaskPrinted(
                task=run.task, attempt=run.attempt, first=run.first, stream="display", text=text, offset=self.item
            )
            self._channel.send(number, printed)


def _fitting(value: Any, default: Any, minimum: float | None, maximum: float | None) -> Any:
    """Return a knob's value converted to the default's type, and within the limits."""
    if isinstance(default, bool):
        return bool(value)
    if isinstance(default, str):
        return str(value)
    if isinstance(value, str) or value is None:
        return default
    if minimum is not None and value < minimum:
        value = minimum
    if maximum is not None and value > maximum:
        value = maximum
    return int(value) if isinstance(default, int) and float(value).is_integer() else float(value)
