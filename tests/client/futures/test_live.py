"""The live state of tasks in the client: bounded, and converted back into values and pictures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nblb import payload
from nblb.client import front_end
from nblb.client.cluster import Cluster
from nblb.client.futures.live import MOST_ITEMS, MOST_PICTURES, Knob, LiveState, MimeBundle, check_turn
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job import Job
from nblb.errors import NblbError
from nblb.protocol.messages import KnobOffered, StopAndKeep, TaskEmitted, TaskPrinted, TurnKnob
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


def emitted(value: Any, task: str = "t", first: int = 0) -> TaskEmitted:
    return TaskEmitted(task=task, attempt=1, first=first, payload=payload.pack_results([value]))


def shown(text: str, task: str = "t", **more: Any) -> TaskPrinted:
    bundle = json.dumps({"data": {"text/plain": text}, "metadata": {}, **more})
    return TaskPrinted(task=task, attempt=1, stream="display", text=bundle)


@pytest.fixture
def future(cluster: Cluster) -> TaskFuture:
    return TaskFuture(cluster.connection, "t", "work")


def test_the_latest_emission_counts(future: TaskFuture) -> None:
    heard: list[Any] = []
    assert future.emitted is None
    future.on_emit(heard.append)
    for value in (1, {"a": [2]}, None):
        future._port.received(future, emitted(value))
    assert heard == [1, {"a": [2]}, None]
    assert future.emitted is None
    future._port.received(future, emitted("last"))
    assert future.emitted == "last"


def test_a_figure_is_a_picture(future: TaskFuture) -> None:
    bundle = json.dumps({"data": {"image/png": "AAAA", "text/plain": "<Figure>"}, "metadata": {}})
    future._port.received(future, TaskEmitted(task="t", attempt=1, bundle=bundle))
    picture = future.emitted
    assert isinstance(picture, MimeBundle)
    assert repr(picture) == "<Figure>"
    assert picture._repr_mimebundle_()[0]["image/png"] == "AAAA"


def test_displays_are_shown_updated_cleared_and_bounded(future: TaskFuture, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[Any, str]] = []
    monkeypatch.setitem(front_end._pictures, "shown", lambda owner, picture: noted.append((owner, str(picture))))
    future._port.received(future, shown("one"))
    future._port.received(future, shown("two", id="x"))
    future._port.received(future, shown("three", id="x", update=True))
    assert [str(picture) for picture in future.displays] == ["one", "three"]
    assert noted == [(future, "one"), (future, "two"), (future, "three")]
    clear = TaskPrinted(task="t", attempt=1, stream="display", text='{"clear": true, "wait": true}')
    future._port.received(future, clear)
    assert len(future.displays) == 2  # until the next one comes
    future._port.received(future, shown("four"))
    assert [str(picture) for picture in future.displays] == ["four"]
    for number in range(2 * MOST_PICTURES):
        future._port.received(future, shown(str(number)))
    assert len(future.displays) == MOST_PICTURES


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{}", '{"data": 1}'])
def test_a_display_that_is_none_is_ignored(text: str) -> None:
    LiveState().displayed(text)


def test_knobs_are_turned_through_the_core(future: TaskFuture, core: FakeCore) -> None:
    future._port.received(
        future, KnobOffered(task="t", attempt=1, name="lr", value=0.1, default=0.1, minimum=0, maximum=1)
    )
    assert future.knobs == {"lr": Knob("lr", 0.1, 0.1, 0, 1, None)}
    future.turn("lr", 0.5)
    (turned,) = wait_until(lambda: core.said(TurnKnob), 5)
    assert (turned.task, turned.item, turned.name, turned.value) == ("t", 0, "lr", 0.5)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("lrr", 1, NblbError, "did you mean 'lr'"),
        ("zzz", 1, NblbError, "it has lr, mode"),
        ("lr", 2, ValueError, "goes from 0 to 1"),
        ("lr", "fast", TypeError, "of another kind"),
        ("mode", 1, TypeError, "of another kind"),
        ("lr", [1], TypeError, "a number, a text"),
    ],
)
def test_mistakes_with_knobs_are_said_at_once(name: str, value: Any, error: type[Exception], words: str) -> None:
    knobs = {"lr": Knob("lr", 0.1, 0.1, 0, 1), "mode": Knob("mode", "a", "a")}
    with pytest.raises(error, match=words):
        check_turn(knobs, name, value, "work")
    if not isinstance(value, list):
        check_turn({}, name, value, "work")  # it may come yet


def test_a_job_hears_its_items_and_keeps_the_latest(cluster: Cluster) -> None:
    job = Job(cluster.connection, "j", "sweep", "work", 1000)
    job._port.add_record(job, "t", 0, 1000)
    heard: list[tuple[int, Any]] = []
    job.on_emit(lambda item, value: heard.append((item, value)))
    of_item: list[Any] = []
    job[3].on_emit(of_item.append)
    for item in range(3 * MOST_ITEMS):
        job._port.received(job, emitted(item * 10, first=item))
    job._port.received(job, KnobOffered(task="t", attempt=1, name="lr", first=5, value=1, default=1))
    job._port.received(job, shown("a"))
    assert heard[:2] == [(0, 0), (1, 10)]
    assert of_item == [30]
    assert len(job.emitted) <= MOST_ITEMS
    assert list(job.knobs) == ["lr"]
    last = 3 * MOST_ITEMS - 1
    assert job[last].emitted == last * 10  # a future that is made later knows it too
    assert [(picture.item, str(picture)) for picture in job.displays] == [(0, "a")]


def test_stop_and_keep_asks_the_core_and_not_for_what_has_ended(future: TaskFuture, core: FakeCore) -> None:
    future._cancel_here()
    assert future.stop_and_keep() is False
    assert not core.said(StopAndKeep)
