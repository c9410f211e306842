from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.session import Session

from nblb.notebook.kernel import message_pump
from tests.notebook.kernels import kernel, outputs_of, run, said, until_printed
from tests.waiting import wait_until


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
        self.now.append(message_pump.kind(frames))

    def pre_handler_hook(self) -> None:
        self.hooks += 1

    post_handler_hook = pre_handler_hook

    def send(self, kind: str) -> None:
        self.waiting.append(self.session.serialize(self.session.msg(kind, {}), ident=b"page"))


def test_widgets_and_a_new_page_are_answered_and_cells_wait_in_their_order() -> None:
    kernel = Kernel()
    assert message_pump.prepare(kernel)
    assert message_pump.prepare(kernel)
    for kind in ("execute_request", "comm_msg", "kernel_info_request", "complete_request"):
        kernel.send(kind)
    kernel.waiting.append([b"noise"])
    message_pump.pump(kernel)
    assert kernel.now == ["comm_msg", "kernel_info_request"]
    assert [message_pump.kind(frames) for frames in kernel.later] == ["execute_request", "complete_request", ""]
    assert kernel.parent == ("cell", {"cell": 1})
    assert kernel.hooks == 0  # SIGINT is the cell's


def test_outside_a_wait_everything_goes_its_usual_way() -> None:
    kernel = Kernel()
    message_pump.prepare(kernel)
    kernel.send("comm_msg")
    kernel.flush(0, 1)
    assert kernel.now == []
    assert len(kernel.later) == 1


@pytest.mark.parametrize("kernel", [SimpleNamespace(), SimpleNamespace(shell_stream=SimpleNamespace())])
def test_kernels_of_another_make_are_left_alone(kernel: Any) -> None:
    assert not message_pump.prepare(kernel)
    message_pump.pump(kernel)


@pytest.mark.timeout(60)
def test_this_ipykernel_is_of_a_known_make() -> None:
    look = "kernel = get_ipython().kernel\nprint(pumping.prepare(kernel), clicks.watch(kernel))"
    notebook = run(f"from nblb.notebook import clicks, pumping\n{look}")
    assert said(notebook, 0) == "True True\n"


@pytest.mark.timeout(60)
def test_the_stop_button_ends_a_pumped_wait_at_once_and_cells_run_after_it() -> None:
    with kernel("from nblb.notebook import showing\nimport time\nfakes.FakeJob()") as (manager, client):
        wait = client.execute("import time; print('waits')\nwhile True: time.sleep(0.05); showing.pump()")
        until_printed(client, "waits\n")
        client.kernel_info()  # answered while the cell waits
        assert client.get_shell_msg(timeout=5)["msg_type"] == "kernel_info_reply"
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)  # the loop has no other end
        assert (reply["parent_header"]["msg_id"], reply["content"]["ename"]) == (wait, "KeyboardInterrupt")
        outputs_of(client, wait)
        manager.interrupt_kernel()  # between cells it must not end the kernel
        wait_until(lambda: client.execute("1", reply=True, timeout=10)["content"]["status"] == "ok", 10, "a cell")
