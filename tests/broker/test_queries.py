"""The topics of Ask: plain JSON values, and a one-sentence error for every other topic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nblb.broker.queries import TOPICS, answer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelTask,
    Group,
    Heartbeat,
    OpenJob,
    Publish,
    SubmitTask,
    TaskPrinted,
    TaskProgressed,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import World

ANNA = "client:anna"


@pytest.fixture
def world() -> World:
    """Anna's sweep of eight items (one failed, one cancelled) on a hub with two workers, bob's task behind it."""
    world = World(Policy(core="c0ffee", name="lab-1", pid=7, epoch=2))
    world.client(ANNA, "anna")
    world.client("client:bob", "bob")
    hub = world.hub("lab", (Group(2, 0, 100),), functions=("known",))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=8, task_name="simulate", fingerprint="fp", origin="nb:3"))
    submit(world, ANNA, "s", name="simulate", items=8, job="j")
    world.tick()
    submit(world, ANNA, "single", name="simulate", priority=5.0)
    world.tick()
    submit(world, "client:bob", "b", name="other")
    world.say(ANNA, CancelTask(request=1, task="s", first=7, items=1))
    world.fact(hub, hub.finish(("s", 0, 1), failures=(2,), duration_s=4.0))
    world.fact(hub, hub.start(("single", 0, 1)))
    world.fact(hub, TaskProgressed(task="single", attempt=1, progress=40.0, note="half way"))
    world.fact(hub, TaskPrinted(task="single", attempt=1, text="hello\n"))
    world.say(ANNA, Publish(name="simulate", hash="f"))
    world.now += 2.0
    return world


def submit(world: World, who: str, task: str, **fields: Any) -> None:
    spec = {"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields}
    world.say(who, SubmitTask(**spec))


def ask(world: World, topic: str, **about: Any) -> Any:
    value = answer(world.scheduler, topic, about, world.now)
    json.dumps(value, allow_nan=False)  # all answers are plain JSON
    return value


def test_status(world: World) -> None:
    status = ask(world, "status")
    expected = {
        "name": "lab-1", "core": "c0ffee", "epoch": 2, "pid": 7, "durability": "process", "queued": 1, "running": 1,
        "hubs": 1, "workers": 2, "busy": 1, "users": ["anna", "bob"],
    }  # fmt: skip
    assert {key: status[key] for key in expected} == expected
    assert status["counts"] == {"QUEUED": 1, "RUNNING": 1, "DONE": 6, "FAILED": 1}


def test_no_more_items_count_as_running_than_there_are_workers(world: World) -> None:
    before = ask(world, "status")
    world.say(ANNA, SubmitTask(task="chunk", name="f", function="f", payload=Payload((b"x",)), items=50))
    world.tick()
    status = ask(world, "status")
    assert (before["running"], before["queued"]) == (1, 1)
    assert (status["running"], status["queued"]) == (2, 50)


def test_hubs_and_workers(world: World) -> None:
    (hub,) = ask(world, "hubs")
    assert (hub["hub"], hub["name"], hub["host"], hub["state"], hub["workers"], hub["busy"]) == (
        "id-lab", "lab", "lab.lab", "up", 2, 1,
    )  # fmt: skip
    assert hub["age_s"] == 2.0
    assert hub["functions"] == ["known"]
    (group,) = hub["groups"]
    assert (group["alive"], group["busy"], group["minP"], group["maxP"]) == (2, 1, 0, 100)
    busy, idle = sorted(ask(world, "workers"), key=lambda row: row["state"])
    assert (busy["task"], busy["task_name"], busy["user"], busy["progress"], busy["note"]) == (
        "single", "simulate", "anna", 40.0, "half way",
    )  # fmt: skip
    assert busy["since_s"] == 2.0
    assert (idle["state"], idle["task"], idle["done"]) == ("idle", "", 0)
    world.now += 6
    world.tick()
    assert ask(world, "hubs")[0]["state"] == "suspect"


def test_users_and_queue(world: World) -> None:
    anna, bob = ask(world, "users")
    assert (anna["user"], anna["queued"], anna["running"], anna["done"], anna["failed"]) == ("anna", 0, 1, 6, 1)
    assert anna["used_s"] == 4.0
    assert (bob["user"], bob["queued"]) == ("bob", 1)
    queue = ask(world, "queue")
    assert queue["by_user"] == {"bob": 1}
    assert queue["by_priority"] == {"0": 1}
    assert queue["by_name"] == {"other": {"number": 1, "waitingtime": 2.0}}
    assert queue["oldest_s"] == 2.0
    assert queue["notes"] == {}
    submit(world, ANNA, "high", name="high", priority=500.0)
    world.tick()
    assert ask(world, "queue")["notes"] == {"high": "no worker takes priority 500 (those here take 0 to 100)"}


def test_a_hub_that_was_scaled_lacks_no_worker(world: World) -> None:
    (group,) = ask(world, "hubs")[0]["groups"]
    assert (group["workers"], group["alive"]) == (2, 2)
    world.say("hub:lab", Heartbeat(wanted=(1,)))
    (group,) = ask(world, "hubs")[0]["groups"]
    assert group["workers"] == 1


def test_a_job_has_the_progress_of_its_running_calls(world: World) -> None:
    world.say(ANNA, OpenJob(job="p", name="long", items=4, task_name="work"))
    world.hub("other", (Group(2, 0, 100),))
    for item in range(4):
        submit(world, ANNA, f"p{item}", job="p", index=item)
    world.tick()
    hub = world.hubs["hub:other"]
    assert ask(world, "jobs", name="long")[0]["progressed"] == 0.0
    for (task, _, _), percent in zip(list(hub.hands), (60.0, 20.0), strict=True):
        world.fact(hub, hub.start((task, 0, 1)))
        world.fact(hub, TaskProgressed(task=task, attempt=1, progress=percent))
    assert ask(world, "jobs", name="long")[0]["progressed"] == pytest.approx(0.8)


def test_jobs(world: World) -> None:
    (row,) = ask(world, "jobs", user="anna", name="sweep")
    assert row["counts"] == {"DONE": 6, "FAILED": 1, "CANCELLED": 1}
    assert (row["items"], row["state"], row["fingerprint"], row["origin"]) == (8, "failed", "fp", "nb:3")
    assert row["created_at"] == 1100.0
    assert ask(world, "jobs", user="bob") == []
    by_id, by_name = ask(world, "job", job="j"), ask(world, "job", name="sweep", user="anna")
    assert by_id == by_name
    assert by_id["records"] == [{"task": "s", "index": 0, "items": 8}]
    assert ask(world, "job", job="unknown") is None
    assert ask(world, "job", name="sweep", user="bob") is None


def test_tasks(world: World) -> None:
    assert ask(world, "tasks")["total"] == 6  # slices: 0-1, 2, 3-6, 7 of the sweep, and two more
    failed = ask(world, "tasks", job="j", state="FAILED")
    assert failed["total"] == 1
    (row,) = failed["rows"]
    assert (row["first"], row["items"], row["failure"]["kind"], row["failure"]["message"]) == (
        2, 1, "ValueError", "item 2",
    )  # fmt: skip
    page = ask(world, "tasks", offset=1, limit=2)
    assert [row["first"] for row in page["rows"]] == [2, 3]
    assert ask(world, "tasks", user="bob")["rows"][0]["task"] == "b"
    assert ask(world, "tasks", offset=-5, limit=10**9)["total"] == 6


def test_task(world: World) -> None:
    row = ask(world, "task", task="single")
    assert (row["state"], row["worker"], row["host"], row["attempt"], row["stdout"]) == (
        "RUNNING", "lab.0.0", "lab.lab", 1, "hello\n",
    )  # fmt: skip
    assert [step[1] for step in row["story"]] == ["SubmitTask", "RunTask", "TaskStarted"]
    assert row["story"][-1][0] == 1100.0
    assert row["why"] == "does not wait: it is RUNNING on hub lab for 2 s"
    assert row["started_s"] == 2.0
    assert ask(world, "task", task="s", first=4)["state"] == "DONE"
    assert ask(world, "task", task="s", first=99) is None
    assert ask(world, "task", task="nobody") is None


def test_the_rest(world: World) -> None:
    assert ask(world, "why", task="b") == ask(world, "task", task="b")["why"]
    assert ask(world, "why", task="nobody") == "the core does not know this task"
    stats = ask(world, "stats")["simulate"]
    assert (stats["totaltasks"], stats["totalcalctimes"], stats["failed"]) == (7, 3.5, 1)  # calls, not attempts
    assert ask(world, "published") == {"simulate": "f"}


def test_an_empty_core_answers_everything() -> None:
    world = World(Policy())
    for topic in TOPICS:
        ask(world, topic)


def test_an_unknown_topic_names_those_there_are(world: World) -> None:
    there = "there is no topic 'nonsense'; there are dropped, failures, groups, hubs, job, jobs"
    with pytest.raises(LookupError, match=there):
        ask(world, "nonsense")


def sums(world: World) -> dict[str, dict[str, int]]:
    """The calls that wait and run, as each topic has them."""
    status, users, queue, jobs = (ask(world, topic) for topic in ("status", "users", "queue", "jobs"))
    return {
        "status": {"queued": status["queued"], "running": status["running"]},
        "counts": {"queued": status["counts"]["QUEUED"], "running": status["counts"]["RUNNING"]},
        "users": {key: sum(user[key] for user in users) for key in ("queued", "running")},
        "queue": {"queued": sum(queue["by_user"].values()), "running": status["running"]},
        "names": {"queued": sum(row["number"] for row in queue["by_name"].values()), "running": status["running"]},
        "priorities": {"queued": sum(queue["by_priority"].values()), "running": status["running"]},
        "jobs": {
            "queued": sum(job["counts"].get(state, 0) for job in jobs for state in ("QUEUED", "ASSIGNED")),
            "running": sum(job["counts"].get("RUNNING", 0) for job in jobs),
        },
    }


def test_all_topics_count_calls_and_count_alike() -> None:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    hub = world.hub("lab", (Group(2), Group(1, 500, 600)))

    def are(queued: int, running: int) -> None:
        world.check()
        for topic, found in sums(world).items():
            assert found == {"queued": queued, "running": running}, topic

    for job, priority in (("j", 0.0), ("k", 550.0)):
        world.say(ANNA, OpenJob(job=job, name=job, items=0))
        whole = SubmitTask(
            task=job, name="f", function="f", payload=Payload((b"x",)), items=50, job=job, priority=priority
        )
        world.say(ANNA, whole)
    are(100, 0)
    world.tick()
    are(98, 2)  # two slices of 50 calls, each on one worker; a third worker has nothing to do
    world.fact(hub, hub.start(("j", 0, 1)))
    are(98, 2)
    for n in range(3):
        world.say(ANNA, SubmitTask(task=f"{n}", name="g", function="g", payload=Payload((b"x",)), job="j"))
    world.tick()
    are(100, 3)
    world.fact(hub, hub.finish(("j", 0, 1), failures=(0, 1)))
    world.tick()
    (anna,) = ask(world, "users")
    stats = ask(world, "stats")
    assert (anna["done"], anna["failed"]) == (48, 2)
    assert (stats["f"]["totaltasks"], stats["f"]["failed"]) == (50, 2)
    assert ask(world, "status")["counts"]["DONE"] == 48
    (job, _) = ask(world, "jobs")
    assert (job["counts"]["DONE"], job["counts"]["FAILED"]) == (48, 2)


def test_a_list_of_jobs_that_is_cut_keeps_those_that_go_on(world: World) -> None:
    for number in range(5):
        world.say(ANNA, OpenJob(job=f"more-{number}", name=f"more-{number}", items=int(number == 1)))
    listed = [row["job"] for row in ask(world, "jobs", limit=2)]
    assert "more-1" in listed, "an old job of which an item is to come"
    assert len(listed) == 2
