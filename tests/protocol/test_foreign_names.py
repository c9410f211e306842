"""Names from any program are one bounded line; those of nblb's own clients stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nblb.broker.queries import answer
from nblb.protocol.commands import Log
from nblb.protocol.foreign_names import LONGEST, with_clean_names
from nblb.protocol.messages import Group, Hello, HubHello, OpenJob, SubmitTask, TaskFinished
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.user_text import clean_name

WILD = "\x1b[2J\x07\n" + "x" * 100_000


@given(st.text(max_size=2000) | st.integers(0, 3000).map("\x1b".__mul__))
def test_a_name_that_a_client_has_cleaned_stays(text: str) -> None:
    name = clean_name(text)
    message = OpenJob(job="j", name=name, items=1)
    assert with_clean_names(message, "name") is message or with_clean_names(message, "name").name == name


@given(st.text(max_size=3000))
def test_any_other_is_one_bounded_line(text: str) -> None:
    name = with_clean_names(OpenJob(job="j", name=text, items=1), "name").name
    assert not set(name) & {"\x1b", "\0", "\n", "\r", "\x07"}
    assert len(name) <= 6 * LONGEST
    assert with_clean_names(OpenJob(job="j", name=name[:LONGEST], items=1), "name").name == name[:LONGEST]


def test_no_row_or_line_of_the_core_has_a_name_raw() -> None:
    core = Scheduler(Policy(core="c"), answer)
    hello = HubHello(
        hub="h",
        name=WILD,
        host=WILD,
        ip=WILD,
        pid=1,
        python=(3, 11),
        cloudpickle="3",
        groups=(Group(1),),
        workers=(("w", 0),),
    )
    said = [
        *core.handle("hub:1", hello, 1.0),
        *core.handle("client:1", Hello(client=WILD, user=WILD, host=WILD, notebook=WILD), 1.0),
        *core.handle("client:1", OpenJob(job="j", name=WILD, user=WILD, items=2), 1.0),
        *core.handle("client:1", SubmitTask(task="t", name=WILD, user=WILD, job="j"), 1.0),
        *core.handle("client:1", SubmitTask(task="u", name=WILD, priority=float("nan")), 1.0),
        *core.handle("hub:1", TaskFinished(task="t", attempt=9), 1.0),
    ]
    rows = [answer(core, topic, {}, 2.0) for topic in ("status", "hubs", "workers", "users", "jobs", "presence")]
    said_texts = [command.text for command in said if isinstance(command, Log)]
    said_texts += [getattr(command.message, "reason", "") for command in said if hasattr(command, "message")]
    assert len(said_texts) > 2
    for text in [*texts_in(rows), *said_texts]:
        assert text.isprintable()
        assert len(text) < 10_000


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts_in(each)
