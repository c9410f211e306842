"""The output of callbacks on nblb's threads goes to the cell that registered them, even after a button press."""

from __future__ import annotations

import threading
import time
from typing import Any

from nblb.notebook.kernel import output_routing
from tests.notebook.kernels import kernel

GIVEN = """
import sys, threading
from nblb.client.futures.light_future import LightFuture
from nblb.notebook import display_hooks
display_hooks.install(get_ipython())
f = LightFuture.__new__(LightFuture)
f.add_done_callback(lambda future: (print("called", future.result()), print("aside", file=sys.stderr)))
"""
SETTLED = """
thread = threading.Thread(target=f.set_result, args=(7,))
thread.start(); thread.join()
"""


def test_a_callback_speaks_to_the_cell_that_gave_it() -> None:
    with kernel() as (_, client):
        given, settled = client.execute(GIVEN), client.execute(SETTLED)
        own = client.execute("print('own'); threading.Thread(target=print, args=('of the user',)).start()")
        heard: dict[str, set[str]] = {given: set(), settled: set(), own: set()}
        until = time.monotonic() + 30
        while sum(map(len, heard.values())) < 4 and time.monotonic() < until:
            message: dict[str, Any] = client.get_iopub_msg(timeout=60)
            if message["header"]["msg_type"] == "stream":
                for line in message["content"]["text"].splitlines():
                    heard[message["parent_header"]["msg_id"]].add(line)
        assert heard[given] == {"called 7", "aside"}
        assert heard[settled] == set()
        assert heard[own] == {"own", "of the user"}


def test_outside_a_kernel_a_callback_is_what_it_was() -> None:
    def callback() -> int:
        return 3

    assert output_routing.bind(callback) is callback
    found: list[int] = []

    def work() -> None:
        with output_routing.speaking({"header": {"msg_id": "x"}}):
            found.append(callback())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3]
