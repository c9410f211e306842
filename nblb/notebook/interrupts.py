"""Handling of the stop button in a wait: the first press frees the kernel, a second one soon after cancels the work.

After the first press no cell runs, and an idle kernel ignores SIGINT. So nblb installs its own handler between cells
while the second press counts. ipykernel 6 and 7 restore `saved_sigint_handler` after each message.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from nblb.client.connection.waiting import AGAIN_S
from nblb.notebook.cards.stop_card import StopCard, called
from nblb.notebook.kernel import comm
from nblb.notebook.kernel.environment import Mode, kernel, mode, shell

DOUBLE_S = 0.5  # the longest time between the two presses of a double click


def interrupted(thing: Any, fate: str, stop: KeyboardInterrupt) -> bool:
    """Shows the choices in the cell that waited, after the stop button has ended its wait. The client calls it."""
    here = mode()
    if here is Mode.OFF or threading.current_thread() is not threading.main_thread():
        return False
    comm.watch(kernel())
    comm.prepare(kernel())
    card = StopCard(thing, here, "" if fate == "detach" else fate)
    card.show()
    # No word on the work's fate: this line stays in the cell, and the card above it says what is true later, too.
    stop._render_traceback_ = lambda: [f"KeyboardInterrupt: stopped waiting for {called(thing)}"]  # type: ignore[attr-defined]
    if fate == "detach":
        arm(card, thing)
    return True


def arm(card: StopCard, thing: Any) -> None:
    """Makes a SIGINT within the next three seconds, and before another cell runs, cancel the work.

    A SIGINT that follows within a moment is the second half of a double click, and does nothing.
    """
    first = time.monotonic()
    until, cell_over, another = first + AGAIN_S, threading.Event(), threading.Event()
    here, events = kernel(), shell().events  # type: ignore[union-attr]

    def over(*_: Any) -> None:
        cell_over.set()
        events.unregister("post_run_cell", over)
        events.register("pre_run_cell", begun)

    def begun(*_: Any) -> None:
        another.set()
        events.unregister("pre_run_cell", begun)

    def pressed(*_: Any) -> None:
        now = time.monotonic()
        if cell_over.is_set() and now < first + DOUBLE_S:
            return
        if now < until and not another.is_set():
            # In another thread: the interrupted main thread may own any lock.
            threading.Thread(target=card.choose, args=(thing, "cancel"), name="nblb-stop", daemon=True).start()
        elif not cell_over.is_set():  # the cell has caught the first one and goes on
            raise KeyboardInterrupt

    events.register("post_run_cell", over)
    if hasattr(here, "saved_sigint_handler"):
        here.saved_sigint_handler = pressed  # type: ignore[union-attr]
        signal.signal(signal.SIGINT, pressed)
