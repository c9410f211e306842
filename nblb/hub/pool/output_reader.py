"""What tasks print, at the hub's end: read live, told apart by task, and bounded (see output.py for the worker's)."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
from collections.abc import Callable

from nblb.hub.pool.output_store import OutputStore
from nblb.hub.pool.worker_handle import STREAMS, WorkerHandle
from nblb.protocol.messages import Message, TaskPrinted
from nblb.worker.control_page import AFTER

PAUSE_S = 0.02  # between two reads of one stream: what comes meanwhile is gathered
AGAIN_S = 0.2  # between two looks at whether what had to wait may pass
READ_BYTES = 64 * 1024
BURST_BYTES = 64 * 1024  # of one attempt and stream that pass at once …
RATE_BYTES_S = 64 * 1024  # … and from then on
TAIL_BYTES = 32 * 1024  # of what had to wait, the end is kept
HUB_BYTES_S = 1024 * 1024  # of all attempts together
KEPT_BYTES = 4000  # as a dead worker's last words


class Allowance:
    """A bucket of bytes that fills by `rate_s` up to `most`."""

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
    """The output of one attempt on one stream: the head at once, then what its allowance lets pass, always the tail."""

    __slots__ = ("_allowance", "_decoder", "_everybody", "_omitted", "_waiting", "heard", "is_timed")

    def __init__(self, everybody: Allowance, now: float) -> None:
        self._everybody = everybody
        self._allowance = Allowance(BURST_BYTES, RATE_BYTES_S, now)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""
        self._omitted = 0
        self.heard = 0  # bytes, passed on or not
        self.is_timed = False  # a `release` is to come

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def put(self, data: bytes, now: float) -> str:
        """New output; what may pass now."""
        self.heard += len(data)
        self._waiting += self._decoder.decode(data)
        return self.release(now)

    def release(self, now: float) -> str:
        """What may pass now of what waits."""
        size = len(self._waiting)
        if size <= min(self._allowance.left(now), self._everybody.left(now)):
            return self._pass(size)
        if size > 2 * TAIL_BYTES:
            self._cut(TAIL_BYTES)
        return ""

    def end(self, now: float) -> str:
        """The rest, at the end of the attempt."""
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


class OutputReader:
    """Reads the pipes of all workers. `later` calls back at a time, `note` takes the events."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        later: Callable[[float, Callable[[float], None]], None],
        note: Callable[[str, Message], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._selector = selector
        self._later, self._note, self._log = later, note, log
        self.store = OutputStore.none()  # until the hub gives another
        self._everybody: Allowance | None = None

    def watch(self, handle: WorkerHandle) -> None:
        """Read what this worker prints from now on."""
        for stream in STREAMS:
            self._watch(handle, stream)

    def _watch(self, handle: WorkerHandle, stream: str) -> None:
        if not handle.is_gone:
            self._selector.register(
                handle.pipes[stream], selectors.EVENT_READ, lambda now: self._read(handle, stream, now)
            )

    def _read(self, handle: WorkerHandle, stream: str, now: float) -> None:
        """Take what there is, then let the stream be for a moment."""
        if handle.is_gone:
            return  # it was buried by an event before this one
        fd, data = handle.pipes[stream], b""
        number, item = handle.cell.begin_reading(), handle.cell.item
        try:
            if number:
                data = os.read(fd, 4 * READ_BYTES)
        except BlockingIOError:
            pass  # the worker has emptied it
        finally:
            handle.cell.end_reading()
        self._selector.unregister(fd)
        self._later(now + PAUSE_S, lambda _: self._watch(handle, stream))
        if data:
            self.put(handle, number % AFTER, stream, data, now, item)

    def take(self, handle: WorkerHandle, number: int, message: TaskPrinted, now: float) -> None:
        """What the worker has read by itself: the rest of an item's output, one byte a character; or a picture."""
        if message.stream != "display":
            self.put(handle, number, message.stream, message.text.encode("latin-1"), now, message.offset)
        elif number in handle.given:
            self.store.write(handle, handle.given[number], message.offset, "display", message.text.encode())
            self._note(handle.worker, message)

    def put(self, handle: WorkerHandle, number: int, stream: str, data: bytes, now: float, item: int = 0) -> None:
        """Output of this item of the slice of this number, or of a worker that is between two."""
        handle.last_output = (handle.last_output + data[-KEPT_BYTES:])[-KEPT_BYTES:]
        key = handle.given.get(number) or (handle.last_key if number and number == handle.last_number else None)
        if key is None:
            self._log("warning", f"{handle.worker} says: {data.decode('utf-8', 'replace').rstrip()}")
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
        """The slice has ended: what had to wait goes, cut to its tail."""
        self._end_all(handle, now)
        self.store.end(handle)
        handle.printed_item = 0
        handle.last_output = b""

    def _end_all(self, handle: WorkerHandle, now: float) -> None:
        for stream, throttle in handle.throttles.items():
            self._pass_on(handle, stream, throttle.end(now), throttle)
        handle.throttles.clear()

    def bury(self, handle: WorkerHandle, now: float) -> None:
        """The worker has ended: everything that is left in its pipes; its last words stay in `last_output`."""
        running = next(iter(handle.given), handle.last_number)
        for stream in STREAMS:
            with contextlib.suppress(OSError):
                while data := os.read(handle.pipes[stream], READ_BYTES):
                    self.put(handle, running, stream, data, now, handle.cell.item)
        last_output = handle.last_output
        self.end(handle, now)
        handle.last_output = last_output
