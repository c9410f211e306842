"""A function under another's hash: refused with its name, recorded, and without effect on others."""

from __future__ import annotations

import errno
import os
import random
import sys
from typing import Any

import pytest

from nblb.broker import forged_blobs
from nblb.broker.forged_blobs import forgery
from nblb.protocol.blob_names import blob_name
from nblb.protocol.commands import Send
from nblb.protocol.framing import Payload
from nblb.protocol.messages import BlobMissing, Hello, PutBlob, SubmitTask, TaskAccepted, TaskRejected
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA

BOB = "client:bob"
CODE = Payload((b"{}", b"the code of anna"))
NAME = blob_name(CODE.buffers)
FORGED = PutBlob(hash=NAME, payload=Payload((b"{}", b"other code")), name="fit")


def submit(task: str) -> SubmitTask:
    return SubmitTask(task=task, name="fit", function=NAME, payload=Payload((b"p",)))


class Core:
    """A scheduler that two users are connected to."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(Policy(core="c", max_queued=0))
        for who in (ANNA, BOB):
            self.say(who, Hello(client=who, user=who.partition(":")[2]))

    def say(self, who: str, message: Any) -> list[Any]:
        """Give it a message; returns the messages that it sends."""
        said = self.scheduler.handle(who, message, 1.0)
        return [command.message for command in said if isinstance(command, Send)]


def test_right_bytes_pass_and_known_ones_are_not_read_again() -> None:
    core = Core()
    good = PutBlob(hash=NAME, payload=CODE, name="fit")
    assert forgery(core.scheduler, good) == ""
    core.say(ANNA, good)
    assert forgery(core.scheduler, FORGED) == "", "the core ignores its bytes"
    core.say(BOB, FORGED)
    assert core.scheduler.state.blobs[NAME].payload == CODE


def test_only_the_senders_own_submissions_are_rejected() -> None:
    core = Core()
    for who, task in ((ANNA, "a1"), (BOB, "b1"), (BOB, "b2")):
        core.say(who, submit(task))
    reason = forgery(core.scheduler, FORGED)
    assert f"the bytes of fit do not have the hash '{NAME}'" in reason
    sent = [command for command in core.scheduler.blob_forged(BOB, NAME, reason) if isinstance(command, Send)]
    assert [(each.to, each.message) for each in sent] == [
        (BOB, TaskRejected(task=task, kind="TaskRejected", reason=reason)) for task in ("b1", "b2")
    ]
    assert [*core.scheduler.state.parked_on] == ["a1"]
    said = core.say(ANNA, PutBlob(hash=NAME, payload=CODE, name="fit"))
    assert [message.task for message in said if isinstance(message, TaskAccepted)] == ["a1"]


def test_the_core_asks_for_the_bytes_until_the_right_ones_come() -> None:
    core = Core()
    for task in ("b1", "b2"):
        assert any(isinstance(message, BlobMissing) for message in core.say(BOB, submit(task)))
        core.scheduler.blob_forged(BOB, NAME, "forged")
        assert not core.scheduler.state.parked


def test_bytes_that_cannot_be_read_now_are_not_called_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(forged_blobs, "is_name_of", no_more)
    reason = forgery(Core().scheduler, PutBlob(hash=NAME, payload=CODE, name="fit"))
    assert reason == "the core cannot read the file with the bytes of fit (Too many open files); submit again"


def test_a_name_that_is_no_hash() -> None:
    reason = forgery(Core().scheduler, PutBlob(hash="\x1b[2J" + "f" * 9_999, payload=CODE, name="\x1b[2J"))
    assert "\x1b" not in reason
    assert len(reason) < 600


def test_what_it_costs_in_lines_of_python() -> None:
    code = random.Random(1).randbytes(2048)
    blob = PutBlob(hash=blob_name([b"{}", code]), payload=Payload((b"{}", code)))
    core = Core()
    assert lines_of(lambda: forgery(core.scheduler, blob)) < 60, "of a new function, once; its bytes are hashed in C"
    core.say(ANNA, blob)
    assert lines_of(lambda: forgery(core.scheduler, blob)) < 6, "of a function that the core has"


def lines_of(call: Any) -> int:
    lines = 0

    def trace(_frame: Any, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines
