"""The function that an engine's workers call: an order goes in, its end comes out, both as bytes.

It loads functions and arguments as a worker of a hub does (worker/calling.py). What a call raises, KeyboardInterrupt
included, becomes its failure, since an exception that leaves the function ends the workers of some engines.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from nblb import task_api
from nblb.payload import put_back
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, RunTask, TaskFinished, TaskPrinted, TaskProgressed
from nblb.worker import calling
from nblb.worker.channel import PacketCodec, from_worker, to_worker

KEPT_BYTES = 256 * 1024 * 1024  # of blobs in a worker
OUTPUT_CHARS = 1024 * 1024  # of one order
PART_CHARS = 64 * 1024

Send = Callable[[bytes], object]


def joined(codec: PacketCodec, message: Any) -> bytes:
    """Return a message as bytes."""
    frames = codec.encode((message,))[1:]
    sizes = [memoryview(frame).nbytes for frame in frames]
    return b"".join((struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes), *frames))


def parted(codec: PacketCodec, data: bytes) -> Any:
    """Return the message that `joined` has packed."""
    (count,) = struct.unpack_from("<I", data)
    sizes = struct.unpack_from(f"<{count}Q", data, 4)
    at, frames, view = 4 + 8 * count, list[memoryview](), memoryview(data)
    for size in sizes:
        frames.append(view[at : at + size])
        at += size
    return codec.decode_one(frames[0], frames[1] if count > 1 else b"", frames[2:])


class EngineBlobs(calling.Blobs):
    """The blobs that a worker of an engine has kept from its orders, those used last up to KEPT_BYTES."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}  # latest used last

    def keep(self, pieces: Mapping[str, Sequence[Any]]) -> None:
        """Keep the blobs of an order; a piece is its bytes, or the path of a file with them."""
        for name, given in pieces.items():
            if name not in self._held or len(self._held[name]) < len(given):
                self._held[name] = [(_read(piece), -1) for piece in given]
            self._sizes.pop(name, None)
            self._sizes[name] = sum(len(data) for data, _ in self._held[name])
        total = sum(self._sizes.values())
        for name in [name for name in self._sizes if name not in pieces]:
            if total <= KEPT_BYTES:
                break
            total -= self._sizes.pop(name)
            del self._held[name]
            self._functions.pop(name, None)
            self._latest = ""

    def _open(self, datagram: bytes, fd: int) -> Any:  # noqa: ARG002
        return parted(to_worker, datagram)


def _read(piece: Any) -> bytes:
    if not isinstance(piece, str):
        return bytes(piece)
    try:
        return Path(piece).read_bytes()
    except OSError as error:
        raise OSError(
            f"{socket.gethostname()} cannot read {piece} ({error.strerror or error}); give the engine the option "
            "'folder', a folder that all its computers share"
        ) from None


_blobs = EngineBlobs()
_pid = os.getpid()


def run_order(order: bytes, pieces: Mapping[str, Sequence[Any]], send: Send | None = None) -> bytes:
    """Run the calls of an order, and return its TaskFinished.

    Parameters
    ----------
    order
        The RunTask.
    pieces
        The blobs that it needs.
    send
        Sends output and progress to the hub while the order runs; without it the output comes with the end.
    """
    started = perf_counter()
    run: RunTask = parted(to_worker, order)
    worker = f"{socket.gethostname()}-{os.getpid()}"
    failures: list[Failure] = []
    payload: Payload | None = None
    output = _Output(run, send)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _reporting(run, send):
        try:
            _blobs.keep(pieces)
            payload = _call_all(run, failures, worker)
        except BaseException as error:
            failures[:] = calling.rest_failed(error, run, failures, range(run.items), worker)
        finally:
            put_back()
    end = TaskFinished(
        task=run.task,
        attempt=run.attempt,
        first=run.first,
        items=run.items,
        payload=payload,
        failures=tuple(failures),
        duration_s=perf_counter() - started,
    )
    return _joined_all([*output.rest(), end])


def _call_all(run: RunTask, failures: list[Failure], worker: str) -> Payload | None:
    calls, placement = calling.prepare(run, _blobs)
    if placement:
        placement.put()
    results: list[Any] = []
    while (at := len(results)) < run.items:
        try:
            portion = calls.portion(at)
        except BaseException as error:
            failures.append(calling.failure_of(error, at, run, worker, calls.said(at)))
            results.append(None)
            continue
        for args, kwargs in portion:
            try:
                results.append(calls.function(*args, **kwargs))
            except BaseException as error:
                offset = len(results)
                failures.append(calling.failure_of(error, offset, run, worker, calls.said(offset)))
                results.append(None)
    if len(failures) == run.items:
        return None
    return calling.pack(run, results, failures, 1 << 30)


def _joined_all(messages: Sequence[Any]) -> bytes:
    parts = [joined(from_worker, message) for message in messages]
    return b"".join((struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts)), *parts))


def messages_of(end: bytes) -> list[Any]:
    """Return the messages in what `run_order` has returned: output, and the TaskFinished last."""
    (count,) = struct.unpack_from("<I", end)
    sizes = struct.unpack_from(f"<{count}Q", end, 4)
    at, found = 4 + 8 * count, []
    for size in sizes:
        found.append(parted(from_worker, end[at : at + size]))
        at += size
    return found


@contextlib.contextmanager
def _reporting(run: RunTask, send: Send | None) -> Iterator[None]:
    """Send the progress of calls, if the engine can; else leave it to the surroundings."""
    if send is None:
        yield
        return

    def report(percent: float, note: str) -> None:
        told = TaskProgressed(task=run.task, attempt=run.attempt, first=run.first, progress=percent, note=note)
        send(joined(from_worker, told))

    before, task_api.reporter = task_api.reporter, report
    try:
        yield
    finally:
        task_api.reporter = before


class _Output(io.TextIOBase):
    """The output of an order, sent at once or kept for the end, OUTPUT_CHARS at most."""

    def __init__(self, run: RunTask, send: Send | None) -> None:
        self._run, self._send = run, send
        self._kept: list[str] = []
        self._left = OUTPUT_CHARS

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        passed = text[: self._left]
        self._left -= len(passed)
        if passed and self._send is not None:
            self._send(joined(from_worker, self._printed(passed)))
        elif passed:
            self._kept.append(passed)
        return len(text)

    def rest(self) -> list[TaskPrinted]:
        """Return what was not sent."""
        text = "".join(self._kept)
        return [self._printed(text[at : at + PART_CHARS]) for at in range(0, len(text), PART_CHARS)]

    def _printed(self, text: str) -> TaskPrinted:
        return TaskPrinted(task=self._run.task, attempt=self._run.attempt, first=self._run.first, text=text)
