"""The hub's reader of task output: live, attributed to tasks, and bounded (worker/capture.py is the worker's end)."""

from __future__ import annotations

import codecs
import os
import selectors
from collections.abc import Callable

from nblb.hub.pool.output_store import OutputStore
from nblb.hub.pool.worker_handle import STREAMS, WorkerHandle
from nblb.protocol.messages import Message, TaskPrinted
from nblb.worker.control_page import AFTER

PAUSE_S = 0.02  # between two reads of one stream: output in between is sent together
AGAIN_S = 0.2  # between two checks whether waiting output may pass
READ_BYTES = 64 * 1024
BURST_BYTES = 64 * 1024  # per attempt and stream that pass at once …
RATE_BYTES_S = 64 * 1024  # … and from then on
TAIL_BYTES = 32 * 1024  # the kept end of waiting output
HUB_BYTES_S = 1024 * 1024  # for all attempts together
KEPT_BYTES = 4000  # as a dead worker's last output


class Allowance:
    """A token bucket of bytes, filled at `rate_s` per second up to `most`."""

    __slots__ = ("_at", "_left", "_most", "_rate_s")

    def __init__(self, most: float, rate_s: float, now: float) -> None:
        self._most, self._rate_s = most, rate_s
        self._left, self._at = most, now

    def left(self, now: float) -> float:
        self._left = min(self._most, self._left + (now - self._at) * self._rate_s)
        self._at = now
        return self._left

    def take(self, amount: float) -> None:
        self._left -= amount


class Throttle:
    """The output of one attempt on one stream: the head at once, then as much as allowed, and always the tail."""

    __slots__ = ("_allowance", "_decoder", "_everybody", "_omitted", "_waiting", "heard", "is_timed")

    def __init__(self, everybody: Allowance, now: float) -> None:
        self._everybody = everybody
        self._allowance = Allowance(BURST_BYTES, RATE_BYTES_S, now)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._omitted = 0
        self.heard = 0  # bytes read, forwarded or not
        self.is_timed = False  # a `release` is scheduled

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def put(self, data: bytes, now: float) -> str:
        """Add new output; return what may pass now."""
        self.heard += len(data)
        self._waiting += self._decoder.decode(data)
        return self.release(now)

    def release(self, now: float) -> str:
        """Return the part of the waiting output that may pass now."""
        size = len(self._waiting)
        if size <= min(self._allowance.left(now), self._everybody.left(now)):
            return self._pass(size)
        if size > 2 * TAIL_BYTES:
            self._cut(TAIL_BYTES)
        return ""

    def end(self, now: float) -> str:
        """Return the rest, at the end of the attempt."""
        self._waiting += self._decoder.decode(b"", True)
        most = TAIL_BYTES if self._everybody.left(now) > 0 else TAIL_BYTES // 16
        if len(self._waiting) > most and len(self._waiting) > self._allowance.left(now):
            self._cut(most)
        return self._pass(len(self._waiting))

    def _cut(self, most: int) -> None:
        self._omitted += len(self._waiting) - most
        self._waiting = self._waiting[-most:]

    def _pass(self, size: int) -> str:
        text, self._waiting = self._waiting, ""
        if self._omitted:
            text = f"\n… {self._omitted:,} characters left out …\n{text}"
            self._omitted = 0
        self._allowance.take(size)
        self._everybody.take(size)
        return text


def _available(fd: int) -> bytes:
    """Read what is in a pipe now, up to a bound; nothing if the worker has emptied it."""
    try:
        return os.read(fd, 4 * READ_BYTES)
    except OSError:
        return b""


class OutputReader:
    """Reads the pipes of all workers; `later` schedules a call, `note` takes the events."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        later: Callable[[float, Callable[[float], None]], None],
        note: Callable[[str, Message], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._selector = selector
        self._later, self._note, self._log = later, note, log
        self.store = OutputStore.none()  # until the hub sets another
        self._everybody: Allowance | None = None

    def watch(self, handle: WorkerHandle) -> None:
        """Read the output of this worker from now on."""
        if handle.is_gone:
            return
        handle.is_paused = False
        for stream in STREAMS:
            self._selector.register(handle.pipes[stream], selectors.EVENT_READ, lambda now: self._read(handle, now))

    def _read(self, handle: WorkerHandle, now: float) -> None:
        """Read the available output of both streams, in the order of writing, then pause for a moment."""
        if handle.is_gone or handle.is_paused:
            return  # an earlier event of this turn removed the worker, or has read both
        cell, order, pieces, rest = handle.cell, handle.cell.order, [], [b"", b""]  # type: ignore[var-annotated]
        number, item = cell.begin_reading(), cell.item
        held = handle.unordered
        if held is not None and held[:2] != (number % AFTER, item):
            self._pass_unordered(handle, now)
            held = None
        try:
            if number:
                new = [_available(handle.pipes[stream]) for stream in STREAMS]
                for stream, data in enumerate(new):
                    order.has_read(stream, len(data))
                before = held[2] if held is not None else (b"", b"")
                pieces, rest = order.sort([a + b for a, b in zip(before, new, strict=True)], is_all=False)
                handle.unordered = (number % AFTER, item, rest) if any(rest) else None
        finally:
            cell.end_reading()
        handle.is_paused = True
        for name in STREAMS:
            self._selector.unregister(handle.pipes[name])
        self._later(now + PAUSE_S, lambda at: self._go_on(handle, at))
        for stream, data in pieces:
            self.put(handle, number % AFTER, STREAMS[stream], data, now, item)

    def _go_on(self, handle: WorkerHandle, now: float) -> None:
        """Read again after a pause; what was kept back for its order has waited long enough."""
        self._pass_unordered(handle, now)
        self.watch(handle)

    def _pass_unordered(self, handle: WorkerHandle, now: float) -> None:
        """Pass on output that was kept back because earlier output of the other stream was not there yet."""
        held, handle.unordered = handle.unordered, None
        if held is not None and not handle.is_gone:
            number, item, data = held
            pieces, _ = handle.cell.order.sort(data, is_all=True)
            for stream, text in pieces:
                self.put(handle, number, STREAMS[stream], text, now, item)

    def take(self, handle: WorkerHandle, number: int, message: TaskPrinted, now: float) -> None:
        """Take what the worker has read itself: the rest of an item's output, one byte per character, or a display."""
        self._pass_unordered(handle, now)
        if message.stream != "display":
            self.put(handle, number, message.stream, message.text.encode("latin-1"), now, message.offset)
        elif number in handle.given:
            self.store.write(handle, handle.given[number], message.offset, "display", message.text.encode())
            self._note(handle.worker, message)

    def put(self, handle: WorkerHandle, number: int, stream: str, data: bytes, now: float, item: int = 0) -> None:
        """Take output of an item of the slice with this number, or of a worker between two slices."""
        handle.last_output = (handle.last_output + data[-KEPT_BYTES:])[-KEPT_BYTES:]
        key = handle.given.get(number) or (handle.last_key if number and number == handle.last_number else None)
        if key is None:
            self._log("warning", f"{handle.worker} printed outside a task: {data.decode('utf-8', 'replace').rstrip()}")
            return
        self.store.write(handle, key, item, stream, data)
        if item != handle.printed_item:
            self._end_all(handle, now)
            handle.printed_item = item
        throttle = handle.throttles.get(stream)
        if throttle is None:
            if self._everybody is None:
                self._everybody = Allowance(HUB_BYTES_S, HUB_BYTES_S, now)
            throttle = handle.throttles[stream] = Throttle(self._everybody, now)
        handle.printed_key = key
        self._pass_on(handle, stream, throttle.put(data, now), throttle)
        if throttle.is_waiting and not throttle.is_timed:
            throttle.is_timed = True
            self._later(now + AGAIN_S, lambda at: self._release(handle, stream, throttle, at))

    def _release(self, handle: WorkerHandle, stream: str, throttle: Throttle, now: float) -> None:
        throttle.is_timed = False
        if handle.throttles.get(stream) is not throttle or not throttle.is_waiting:
            return
        self._pass_on(handle, stream, throttle.release(now), throttle)
        if throttle.is_waiting:
            throttle.is_timed = True
            self._later(now + AGAIN_S, lambda at: self._release(handle, stream, throttle, at))

    def _pass_on(self, handle: WorkerHandle, stream: str, text: str, throttle: Throttle) -> None:
        if text:
            task, first, attempt = handle.printed_key
            said = TaskPrinted(
                task=task,
                attempt=attempt,
                first=first,
                stream=stream,
                text=text,
                offset=handle.printed_item,
                heard=throttle.heard,
            )
            self._note(handle.worker, said)

    def end(self, handle: WorkerHandle, now: float) -> None:
        """End the output of a slice: send what waits, cut to its tail."""
        self._pass_unordered(handle, now)
        self._end_all(handle, now)
        for message in self.store.end(handle):
            self._note(handle.worker, message)
        handle.printed_item = 0
        handle.last_output = b""

    def _end_all(self, handle: WorkerHandle, now: float) -> None:
        for stream, throttle in handle.throttles.items():
            self._pass_on(handle, stream, throttle.end(now), throttle)
        handle.throttles.clear()

    def bury(self, handle: WorkerHandle, now: float) -> None:
        """Read the rest from a dead worker's pipes; its last output stays in `last_output`."""
        running = next(iter(handle.given), handle.last_number)
        self._pass_unordered(handle, now)
        item, order = handle.cell.item, handle.cell.order
        while any(data := [_available(handle.pipes[stream]) for stream in STREAMS]):
            for stream, text in enumerate(data):
                order.has_read(stream, len(text))
            for stream, text in order.sort(data, is_all=True)[0]:
                self.put(handle, running, STREAMS[stream], text, now, item)
        last_output = handle.last_output
        self.end(handle, now)
        handle.last_output = last_output
