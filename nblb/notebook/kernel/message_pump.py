"""While a cell waits for tasks, the kernel goes on answering the page: widgets, and a page that was loaded anew.

A kernel handles one request at a time, so during `job.wait()` a reloaded page would get no answer and its cards
would stay pictures until the wait is over. The client's wait calls `pump` some times a second; it runs what has
arrived for widgets and what a page asks when it connects, and lets everything else (cells above all) queue as usual.

This leans on how ipykernel 6 and 7 queue their messages. Where a kernel is made differently nothing is touched.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nblb.notebook.kernel.comm import DELIMITER

ANSWERED = frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"})
MOST = 64  # messages handled by one pump
_pumping: set[int] = set()  # kernels (by id) whose main thread waits just now


def main_stream(kernel: Any) -> Any | None:
    """The stream by which the main thread gets its requests."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        return getattr(kernel, "shell_stream", None)
    pair = getattr(thread.manager, "_shell_channel_to_main", None)
    return getattr(pair, "to_stream", None)


def prepare(kernel: Any) -> bool:
    """Puts the choice between now and later in front of the queue; once, in the main thread."""
    stream = main_stream(kernel)
    usual: Callable[[Any], Any] | None = getattr(stream, "_recv_callback", None)
    if stream is None or usual is None or not hasattr(kernel, "_parent_ident"):
        return False
    if getattr(stream, "nblb_pumped", False):
        return True

    def arrived(frames: Sequence[Any]) -> Any:
        if id(kernel) in _pumping and kind(frames) in ANSWERED:
            _run_now(kernel, frames)
            return None
        return usual(frames)

    stream.nblb_pumped = True
    stream.on_recv(arrived, copy=False)
    return True


def kind(frames: Sequence[Any]) -> str:
    """The type of a raw message, "" if it is none."""
    with contextlib.suppress(ValueError, IndexError, AttributeError):
        parts = [bytes(getattr(frame, "buffer", frame)) for frame in frames[:8]]
        return str(json.loads(parts[parts.index(DELIMITER) + 2])["msg_type"])
    return ""


def pump(kernel: Any) -> None:
    """Called by a wait in the main thread: handles what has arrived and may be handled now."""
    if threading.current_thread() is not threading.main_thread() or id(kernel) in _pumping:
        return
    stream = main_stream(kernel)
    if stream is None:
        return
    import zmq

    _pumping.add(id(kernel))
    try:
        with _interrupt_after(kernel), contextlib.suppress(Exception):  # a wait must not fail because of a button
            stream.flush(zmq.POLLIN, MOST)
    finally:
        _pumping.discard(id(kernel))


@contextlib.contextmanager
def _interrupt_after(kernel: Any) -> Iterator[None]:
    """The stop button belongs to the waiting cell: a kernel swallows it while it handles a message, so it comes after.

    A kernel also changes the handler of SIGINT around each message, which must not happen inside another's.
    """
    pressed = []

    def note(*_: Any) -> None:
        pressed.append(True)
        if len(pressed) > 1:  # the message's own handler does not come to an end
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    kernel.pre_handler_hook = kernel.post_handler_hook = lambda: None
    try:
        yield
    finally:
        del kernel.pre_handler_hook, kernel.post_handler_hook
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _run_now(kernel: Any, frames: Sequence[Any]) -> None:
    """Handles one message inside the running cell, and makes the cell's request the current one again."""
    ident, parent = kernel._parent_ident["shell"], kernel.get_parent("shell")
    work = kernel.dispatch_shell(frames)
    try:
        work.send(None)  # the handlers of these messages do not suspend
        work.close()
    except StopIteration:
        pass
    finally:
        kernel.set_parent(ident, parent, channel="shell")
        with contextlib.suppress(Exception):
            kernel._publish_status("busy", "shell")
