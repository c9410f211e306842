"""The messages that the I/O thread sends, and their order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nblb.client.connection.io_thread import LONG_LINE, LOOKS, IoThread
from nblb.protocol.commands import Send
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Ask, Message, SubmitTask

CORE = "core"
TASKS: list[Message] = [SubmitTask(task=f"t{n}", name="f", payload=Payload((b"x",))) for n in range(3)]


class StuckLine:
    """Nothing leaves any more, as behind a core that has much to do."""

    def __init__(self, unsent_bytes: int) -> None:
        self.unsent_bytes = unsent_bytes
        self.outbox: list[Message] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.outbox += messages

    def send_ahead(self, message: Message) -> None:
        self.outbox.insert(0, message)


@pytest.mark.parametrize("topic", sorted(LOOKS))
def test_who_asks_for_the_cluster_need_not_wait_for_a_million_submits(topic: str) -> None:
    line, question = StuckLine(LONG_LINE + 1), Ask(request=1, topic=topic)
    IoThread._say(line, [*(Send(CORE, task) for task in TASKS), Send(CORE, question)])
    assert line.outbox == [question, *TASKS]


def test_in_a_short_line_everything_keeps_its_place() -> None:
    line, question = StuckLine(0), Ask(request=1, topic="status")
    IoThread._say(line, [*(Send(CORE, task) for task in TASKS), Send(CORE, question)])
    assert line.outbox == [*TASKS, question]


def test_a_question_about_what_was_said_stays_behind_it() -> None:
    line, question = StuckLine(LONG_LINE + 1), Ask(request=1, topic="jobs")
    IoThread._say(line, [*(Send(CORE, task) for task in TASKS), Send(CORE, question)])
    assert line.outbox == [*TASKS, question]
