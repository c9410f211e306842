"""Delivery of button presses: each reaches its action once, even while a cell of the same kernel waits or computes.

A kernel runs one cell at a time, and a press is a message that waits behind the cell. So nblb inspects messages when
they arrive, before the kernel queues them: in the shell channel thread of ipykernel 7; with older versions in the main
thread, when its loop runs (`await`) or a wait of the client calls `pump`. The kernel then handles the message as usual,
so delivery does not depend on the inspection; a press that arrives a second time is recognised by its id.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import queue
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Action = Callable[[str, Any], None]  # (what was clicked, its value)

DELIMITER = b"<IDS|MSG>"
REMEMBERED = 500
log = logging.getLogger("nblb.notebook")


class ButtonPresses:
    """Actions of the cards' buttons, and the ids of presses that were already handled."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._todo: queue.SimpleQueue[tuple[Action, str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def listen(self, key: str, action: Action) -> None:
        """Calls `action` in a separate thread for each press on the card with this key."""
        self._actions[key] = action

    def forget(self, key: str) -> None:
        self._actions.pop(key, None)

    def pressed(self, content: Any) -> None:
        """Handles a press from a card; ignores other content and presses that were already handled."""
        if not isinstance(content, dict) or not isinstance(content.get("nblb"), str):
            return
        action = self._actions.get(content["nblb"])
        if action is None:
            return
        press = str(content.get("id", ""))[:80]
        with self._lock:
            if press in self._seen:
                return
            self._seen[press] = None
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="nblb-clicks", daemon=True)
                self._thread.start()
        self._todo.put((action, str(content.get("click", "")), content.get("value")))

    def _work(self) -> None:
        while True:
            action, click, value = self._todo.get()
            try:
                action(click, value)
            except Exception:
                log.exception("the action of a button failed")


clicks = ButtonPresses()


def press_in(frames: Sequence[Any], sign: Callable[[list[bytes]], bytes]) -> Any | None:
    """The button press in a raw shell message; None if it has none or its signature is wrong."""
    parts = [bytes(getattr(frame, "buffer", frame)) for frame in frames[:12]]
    if DELIMITER not in parts:
        return None
    at = parts.index(DELIMITER)
    signature, *signed = parts[at + 1 : at + 6]
    if len(signed) < 4 or b'"nblb"' not in signed[3] or json.loads(signed[0]).get("msg_type") != "comm_msg":
        return None
    if not hmac.compare_digest(signature, sign(signed)):
        return None
    data = json.loads(signed[3]).get("data", {})
    return data.get("content") if data.get("method") == "custom" else None


def watch(kernel: Any) -> bool:
    """Starts to inspect the kernel's shell messages on arrival, once per kernel; False if it has no such stream."""
    stream, session = getattr(kernel, "shell_stream", None), getattr(kernel, "session", None)
    usual = getattr(stream, "_recv_callback", None)
    if stream is None or session is None or usual is None:
        return False
    if getattr(stream, "nblb_watched", False):
        return True

    def arrived(frames: Sequence[Any]) -> Any:
        with contextlib.suppress(Exception):  # the kernel handles every message as usual
            press = press_in(frames, session.sign)
            if press is not None:
                clicks.pressed(press)
        return usual(frames)

    stream.nblb_watched = True
    if getattr(kernel, "shell_channel_thread", None) is None:
        stream.on_recv(arrived, copy=False)
    else:  # the stream belongs to another thread
        stream.io_loop.add_callback(stream.on_recv, arrived, copy=False)
    return True


ANSWERED = frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"})
MOST = 64  # messages handled by one pump
_pumping: set[int] = set()  # ids of kernels whose main thread is waiting


def main_stream(kernel: Any) -> Any | None:
    """The stream from which the main thread receives its requests."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        return getattr(kernel, "shell_stream", None)
    pair = getattr(thread.manager, "_shell_channel_to_main", None)
    return getattr(pair, "to_stream", None)


def prepare(kernel: Any) -> bool:
    """Installs the hook that decides whether a message is handled now or queued; once, in the main thread."""
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
    """The type of a raw message; "" if it has none."""
    with contextlib.suppress(ValueError, IndexError, AttributeError):
        parts = [bytes(getattr(frame, "buffer", frame)) for frame in frames[:8]]
        return str(json.loads(parts[parts.index(DELIMITER) + 2])["msg_type"])
    return ""


def pump(kernel: Any) -> None:
    """Handles the arrived messages that need not wait for the cell. A wait in the main thread calls it."""
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
    """Delays an interrupt until the messages are handled, and then raises it in the waiting cell.

    A kernel swallows interrupts while it handles a message. It also changes the SIGINT handler around each message,
    which must not happen inside another message.
    """
    pressed = []

    def note(*_: Any) -> None:
        pressed.append(True)
        if len(pressed) > 1:  # the message's handler does not end
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
    """Handles one message inside the running cell, then makes the cell's request the current one again."""
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
