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

    def watch(self, seat: WorkerHandle) -> None:
        """Read what this worker prints from now on."""
        for stream in STREAMS:
            self._watch(seat, stream)

    def _watch(self, seat: WorkerHandle, stream: str) -> None:
        if not seat.is_gone:
            self._selector.register(seat.pipes[stream], selectors.EVENT_READ, lambda now: self._read(seat, stream, now))

    def _read(self, seat: WorkerHandle, stream: str, now: float) -> None:
        """Take what there is, then let the stream be for a moment."""
        if seat.is_gone:
            return  # it was buried by an event before this one
        fd, data = seat.pipes[stream], b""
        number, item = seat.cell.begin_reading(), seat.cell.item
        try:
            if number:
                data = os.read(fd, 4 * READ_BYTES)
        except BlockingIOError:
            pass  # the worker has emptied it
        finally:
            seat.cell.end_reading()
        self._selector.unregister(fd)
        self._later(now + PAUSE_S, lambda _: self._watch(seat, stream))
        if data:
            self.put(seat, number % AFTER, stream, data, now, item)

    def take(self, seat: WorkerHandle, number: int, message: TaskPrinted, now: float) -> None:
        """What the worker has read by itself: the rest of an item's output, one byte a character; or a picture."""
        if message.stream != "display":
            self.put(seat, number, message.stream, message.text.encode("latin-1"), now, message.offset)
        elif number in seat.given:
            self.store.write(seat, seat.given[number], message.offset, "display", message.text.encode())
            self._note(seat.worker, message)

    def put(self, seat: WorkerHandle, number: int, stream: str, data: bytes, now: float, item: int = 0) -> None:
        """Output of this item of the slice of this number, or of a worker that is between two."""
        seat.last_output = (seat.last_output + data[-KEPT_BYTES:])[-KEPT_BYTES:]
        key = seat.given.get(number) or (seat.last_key if number and number == seat.last_number else None)
        if key is None:
            self._log("warning", f"{seat.worker} says: {data.decode('utf-8', 'replace').rstrip()}")
            return
        self.store.write(seat, key, item, stream, data)
        if item != seat.printed_item:
            self._end_all(seat, now)
            seat.printed_item = item
        throttle = seat.throttles.get(stream)
        if throttle is None:
            if self._everybody is None:
                self._everybody = Allowance(HUB_BYTES_S, HUB_BYTES_S, now)
            throttle = seat.throttles[stream] = Throttle(self._everybody, now)
        seat.printed_key = key
        self._pass_on(seat, stream, throttle.put(data, now), throttle)
        if throttle.is_waiting and not throttle.is_timed:
            throttle.is_timed = True
            self._later(now + AGAIN_S, lambda at: self._release(seat, stream, throttle, at))

    def _release(self, seat: WorkerHandle, stream: str, throttle: Throttle, now: float) -> None:
        throttle.is_timed = False
        if seat.throttles.get(stream) is not throttle or not throttle.is_waiting:
            return
        self._pass_on(seat, stream, throttle.release(now), throttle)
        if throttle.is_waiting:
            throttle.is_timed = True
            self._later(now + AGAIN_S, lambda at: self._release(seat, stream, throttle, at))

    def _pass_on(self, seat: WorkerHandle, stream: str, text: str, throttle: Throttle) -> None:
        if text:
            task, first, attempt = seat.printed_key
            said = TaskPrinted(
                task=task,
                attempt=attempt,
                first=first,
                stream=stream,
                text=text,
                offset=seat.printed_item,
                heard=throttle.heard,
            )
            self._note(seat.worker, said)

    def end(self, seat: WorkerHandle, now: float) -> None:
        """The slice has ended: what had to wait goes, cut to its tail."""
        self._end_all(seat, now)
        self.store.end(seat)
        seat.printed_item = 0
        seat.last_output = b""

    def _end_all(self, seat: WorkerHandle, now: float) -> None:
        for stream, throttle in seat.throttles.items():
            self._pass_on(seat, stream, throttle.end(now), throttle)
        seat.throttles.clear()

    def bury(self, seat: WorkerHandle, now: float) -> None:
        """The worker has ended: everything that is left in its pipes; its last words stay in `last_output`."""
        running = next(iter(seat.given), seat.last_number)
        for stream in STREAMS:
            with contextlib.suppress(OSError):
                while data := os.read(seat.pipes[stream], READ_BYTES):
                    self.put(seat, running, stream, data, now, seat.cell.item)
        last_output = seat.last_output
        self.end(seat, now)
        seat.last_output = last_output
