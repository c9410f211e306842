from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

from jupyter_client.session import Session

from nblb.notebook.kernel import comm
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
