"""Pages of the list of all calls: order, filters, search, and the bounded cost of a question."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from nblb.broker import task_list
from nblb.broker.queries import call_row
from nblb.broker.task_list import TaskPages
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, OpenJob, SubmitTask
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World


@pytest.fixture
def world() -> World:
    """A job of 100 calls of which some are done and one has failed, and bob's three single tasks."""
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    world.client("client:bob", "bob")
    hub = world.hub("lab", (Group(2, 0, 100),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=100, task_name="simulate"))
    put(world, ANNA, "s", name="simulate", items=10, job="j")
    put(world, ANNA, "r", name="simulate", items=90, job="j", index=10)
    world.tick()
    world.fact(hub, hub.finish(("s", 0, 1), failures=(3,), duration_s=4.0))
    for n in range(3):
        put(world, "client:bob", f"b{n}", name="other", priority=float(n))
    world.tick()
    return world


def put(world: World, who: str, task: str, **fields: Any) -> None:
    world.say(who, SubmitTask(**{"task": task, "function": "f", "payload": Payload((b"x",)), **fields}))


class Viewer:
    def __init__(self, world: World) -> None:
        self.world, self.pages = world, TaskPages()

    def page(self, **about: Any) -> dict[str, Any]:
        scheduler = self.world.scheduler
        row = partial(call_row, scheduler, now=self.world.now)
        return self.pages.page(scheduler.state, about, self.world.now, row)

    def ids(self, **about: Any) -> list[str]:
        return [row["id"] for row in self.page(**about)["rows"]]


def test_every_call_is_a_row_the_newest_first(world: World) -> None:
    viewer = Viewer(world)
    first = viewer.page()
    assert first["total"] == 103
    assert len(first["rows"]) == 50
    ids = [row["id"] for row in first["rows"]]
    assert ids[:3] == ["b2", "b1", "b0"]
    rest = viewer.ids(offset=50) + viewer.ids(offset=100)
    assert len({*ids, *rest}) == 103
    assert viewer.ids(offset=103) == []


def test_filters(world: World) -> None:
    viewer = Viewer(world)
    assert viewer.page(user="bob")["total"] == 3
    assert viewer.page(job="j")["total"] == 100
    assert viewer.page(name="other")["total"] == 3
    assert viewer.page(job="nothing")["total"] == 0
    bad = viewer.page(state="BAD")
    assert [(row["id"], row["state"], row["index"]) for row in bad["rows"]] == [("s.3", "FAILED", 3)]
    assert viewer.page(state="DONE")["total"] == 9
    assert viewer.page(state="OPEN")["total"] == 93
    assert viewer.page(state="DONE")["counts"]["FAILED"] == 1


@pytest.mark.parametrize(("text", "found"), [("SWEEP", 100), ("bob", 3), ("valueerror", 1), ("b1", 1), ("nowhere", 0)])
def test_search(world: World, text: str, found: int) -> None:
    assert Viewer(world).page(search=text)["total"] == found


def test_sorts(world: World) -> None:
    viewer = Viewer(world)
    assert viewer.ids(sort="priority", descending=True)[:3] == ["b2", "b1", "b0"][:3]
    assert viewer.ids(sort="user", descending=True)[0].startswith("b")
    assert viewer.ids(sort="submitted")[:2] == ["s.0", "s.1"]
    assert viewer.ids(sort="submitted", descending=True)[0] == "b2"
    longest = viewer.page(sort="duration", descending=True)["rows"][0]
    assert longest["state"] in ("DONE", "FAILED")
    for sort in task_list.SORTS:
        assert viewer.page(sort=sort)["total"] == 103
    with pytest.raises(LookupError, match="they can by submitted, ended"):
        viewer.page(sort="colour")


def test_a_question_looks_at_a_bounded_number_of_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_list, "STEP", 2)
    viewer = Viewer(world)
    parts = []
    for _ in range(40):
        page = viewer.page(search="bob")
        parts.append(page["searched"])
        if page["searched"] == 1.0:
            break
    assert 0.0 < parts[0] < 1.0
    assert parts == sorted(parts)
    assert page["total"] == 3
    put(world, "client:bob", "b3", name="other")
    assert viewer.page(search="bob")["total"] == 3, "a finished search serves for a while"
    world.now += 10.0
    for _ in range(40):
        page = viewer.page(search="bob")
        assert page["searched"] == 1.0, "while the next one goes on, the finished one is shown"
    assert page["total"] == 4


def test_rows_are_current_and_what_is_gone_is_not_shown(world: World) -> None:
    from nblb.protocol.messages import CancelTask, ForgetJob

    viewer = Viewer(world)
    assert {row["state"] for row in viewer.page(user="bob")["rows"]} <= {"QUEUED", "ASSIGNED"}
    world.say("client:bob", CancelTask(request=1, task="b0"))
    assert "CANCELLED" in {row["state"] for row in viewer.page(user="bob")["rows"]}
    viewer.page(name="simulate")
    world.say(ANNA, ForgetJob(job="j"))
    assert viewer.page(name="simulate")["rows"] == []
    assert all(row["user"] == "bob" for row in viewer.page()["rows"])


def test_searches_are_few(world: World) -> None:
    viewer = Viewer(world)
    for n in range(3 * task_list.MOST_SEARCHES):
        viewer.page(search=f"x{n}")
    assert len(viewer.pages._searches) == task_list.MOST_SEARCHES


def test_a_hundred_thousand_calls_cost_a_page(world: World) -> None:
    """Counted in slices and rows, not in time: the list is not walked for a page at its beginning."""
    put(world, ANNA, "big", name="simulate", items=100_000)
    viewer, made = Viewer(world), []
    viewer.pages.page(world.scheduler.state, {}, world.now, lambda task, item: made.append((task, item)))
    assert len(made) == 50
    page = viewer.page(offset=99_990)
    assert page["total"] == 100_103
    assert len(page["rows"]) == 50
