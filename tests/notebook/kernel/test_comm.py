from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.session import Session

from nblb.notebook.kernel import comm
from tests.notebook.kernels import kernel, outputs_of, run, said, until_printed
from tests.waiting import wait_until


def press(key: str = "k", identity: str = "1", click: str = "cancel") -> dict[str, Any]:
    return {"nblb": key, "click": click, "value": 4, "id": identity}


def message(session: Session, content: Any, kind: str = "comm_msg") -> list[bytes]:
    data = {"comm_id": "c", "data": {"method": "custom", "content": content}}
    return session.serialize(session.msg(kind, data), ident=b"front-end")


def test_a_press_seen_twice_acts_once_and_not_in_the_callers_thread() -> None:
    heard: list[Any] = []
    board = comm.ButtonPresses()
    board.listen("k", lambda click, value: heard.append((click, value, threading.current_thread().name)))
    for identity in ("1", "1", "2"):
        board.pressed(press(identity=identity))
    wait_until(lambda: len(heard) == 2, what="two presses")
    assert heard[0] == ("cancel", 4, "nblb-clicks")


def test_what_is_no_press_and_presses_on_forgotten_cards_are_let_pass() -> None:
    board = comm.ButtonPresses()
    board.listen("k", lambda *_: None)
    board.forget("k")
    for content in (None, "x", {}, {"nblb": 3}, press(), {"nblb": "other"}):
        board.pressed(content)
    assert board._thread is None


def test_an_action_that_raises_does_not_end_the_others() -> None:
    heard: list[str] = []

    def action(click: str, value: Any) -> None:
        if click == "bad":
            raise RuntimeError("no")
        heard.append(click)

    board = comm.ButtonPresses()
    board.listen("k", action)
    board.pressed(press(identity="1", click="bad"))
    board.pressed(press(identity="2", click="good"))
    wait_until(lambda: heard == ["good"], what="the second press")


def test_presses_are_found_in_raw_messages_only_if_the_front_end_signed_them() -> None:
    session = Session(key=b"secret")
    assert comm.press_in(message(session, press()), session.sign) == press()
    assert comm.press_in(message(Session(key=b"other"), press()), session.sign) is None
    assert comm.press_in(message(session, press(), "execute_request"), session.sign) is None
    assert comm.press_in(message(session, {"other": 1}), session.sign) is None
    assert comm.press_in([b"noise"], session.sign) is None


def test_watching_lets_every_message_go_its_usual_way() -> None:
    session = Session(key=b"secret")
    usual: list[Any] = []

    def on_recv(callback: Any, copy: bool) -> None:
        stream._recv_callback = callback

    loop = SimpleNamespace(add_callback=lambda f, *a, **k: f(*a, **k))
    stream = SimpleNamespace(_recv_callback=usual.append, io_loop=loop, on_recv=on_recv)
    kernel = SimpleNamespace(shell_stream=stream, session=session)
    assert comm.watch(kernel)
    assert comm.watch(kernel)  # once is enough
    frames = message(session, press())
    for sent in (frames, [b"noise"], [*frames[:5], json.dumps({"nblb": 1}).encode()]):
        stream._recv_callback(sent)
        assert usual[-1] is sent
    assert len(usual) == 3


def test_a_kernel_of_another_kind_is_left_alone() -> None:
    assert not comm.watch(SimpleNamespace())


class Kernel:
    """As much of a kernel as pumping touches."""

    def __init__(self) -> None:
        self.session = Session(key=b"secret")
        self.parent: tuple[Any, Any] = ("cell", {"cell": 1})
        self._parent_ident = {"shell": "cell"}
        self.now: list[str] = []
        self.later: list[Any] = []
        self.hooks = 0
        self.waiting: list[Any] = []
        self.shell_stream = SimpleNamespace(_recv_callback=self.later.append, on_recv=self.on_recv, flush=self.flush)

    def on_recv(self, callback: Any, copy: bool) -> None:
        self.shell_stream._recv_callback = callback

    def flush(self, flag: int, limit: int) -> None:
        while self.waiting:
            self.shell_stream._recv_callback(self.waiting.pop(0))

    def get_parent(self, channel: str) -> Any:
        return self.parent[1]

    def set_parent(self, ident: Any, parent: Any, channel: str) -> None:
        self.parent = (ident, parent)

    async def dispatch_shell(self, frames: Any) -> None:
        self.set_parent("page", {}, "shell")
        self.pre_handler_hook()
        self.now.append(comm.kind(frames))

    def pre_handler_hook(self) -> None:
        self.hooks += 1

    post_handler_hook = pre_handler_hook

    def send(self, kind: str) -> None:
        self.waiting.append(self.session.serialize(self.session.msg(kind, {}), ident=b"page"))


def test_widgets_and_a_new_page_are_answered_and_cells_wait_in_their_order() -> None:
    kernel = Kernel()
    assert comm.prepare(kernel)
    assert comm.prepare(kernel)
    for kind in ("execute_request", "comm_msg", "kernel_info_request", "complete_request"):
        kernel.send(kind)
    kernel.waiting.append([b"noise"])
    comm.pump(kernel)
    assert kernel.now == ["comm_msg", "kernel_info_request"]
    assert [comm.kind(frames) for frames in kernel.later] == ["execute_request", "complete_request", ""]
    assert kernel.parent == ("cell", {"cell": 1})
    assert kernel.hooks == 0  # SIGINT is the cell's


def test_outside_a_wait_everything_goes_its_usual_way() -> None:
    kernel = Kernel()
    comm.prepare(kernel)
    kernel.send("comm_msg")
    kernel.flush(0, 1)
    assert kernel.now == []
    assert len(kernel.later) == 1


@pytest.mark.parametrize("kernel", [SimpleNamespace(), SimpleNamespace(shell_stream=SimpleNamespace())])
def test_kernels_of_another_make_are_left_alone(kernel: Any) -> None:
    assert not comm.prepare(kernel)
    comm.pump(kernel)


def test_this_ipykernel_is_of_a_known_make() -> None:
    look = "kernel = get_ipython().kernel\nprint(comm.prepare(kernel), comm.watch(kernel))"
    notebook = run(f"from nblb.notebook.kernel import comm\n{look}")
    assert said(notebook, 0) == "True True\n"


def test_the_stop_button_ends_a_pumped_wait_at_once_and_cells_run_after_it() -> None:
    with kernel("from nblb.notebook import display_hooks\nimport time\nfakes.FakeJob()") as (manager, client):
        wait = client.execute("import time; print('waits')\nwhile True: time.sleep(0.05); display_hooks.pump()")
        until_printed(client, "waits\n")
        client.kernel_info()  # answered while the cell waits
        assert client.get_shell_msg(timeout=60)["msg_type"] == "kernel_info_reply"
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)  # the loop has no other end
        assert (reply["parent_header"]["msg_id"], reply["content"]["ename"]) == (wait, "KeyboardInterrupt")
        outputs_of(client, wait)
        manager.interrupt_kernel()  # between cells it must not end the kernel
        wait_until(lambda: client.execute("1", reply=True, timeout=60)["content"]["status"] == "ok", 10, "a cell")
