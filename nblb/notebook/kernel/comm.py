"""Button presses reach their action once and early: also while a cell of the same kernel waits or computes.

A kernel runs one cell at a time, and a press is a message that waits behind it. So the messages are looked at
where they arrive, before they are queued: by ipykernel 7 in a thread of its own, by older ones in the main thread
when its loop turns (`await`) or a wait of the client pumps (comm.py). The message then goes its usual way, so
that nothing depends on the look; the second sight of the same press is known by its id.
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
    """Who listens to whose buttons, and which presses were acted upon already."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._todo: queue.SimpleQueue[tuple[Action, str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def listen(self, key: str, action: Action) -> None:
        """`action` is called in a thread of its own for each press on the card of this key."""
        self._actions[key] = action

    def forget(self, key: str) -> None:
        self._actions.pop(key, None)

    def pressed(self, content: Any) -> None:
        """A press as the card sent it; anything else, and a press seen before, is let pass."""
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
    """The press that a raw shell message carries, or None; one that is not signed by the front-end is none."""
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
    """Looks at the kernel's shell messages as they arrive, once per kernel; False where it has no such stream."""
    stream, session = getattr(kernel, "shell_stream", None), getattr(kernel, "session", None)
    usual = getattr(stream, "_recv_callback", None)
    if stream is None or session is None or usual is None:
        return False
    if getattr(stream, "nblb_watched", False):
        return True

    def arrived(frames: Sequence[Any]) -> Any:
        with contextlib.suppress(Exception):  # whatever it is, it goes its usual way
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
