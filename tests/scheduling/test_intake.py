"""Requests of clients: late blobs, refusals, duplicates, retries and cancels."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import JobForgotten, JobKept, TaskForgotten, TaskKept
from nblb.protocol.messages import (
    Answer,
    Ask,
    BlobMissing,
    CancelAnswer,
    CancelTask,
    CollectTask,
    FetchTask,
    ForgetJob,
    Group,
    Hello,
    JobChanged,
    JobNamed,
    Message,
    OpenJob,
    Publish,
    PutBlob,
    RetryFailed,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEnded,
    TaskRejected,
    TaskReopened,
    TaskState,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c", max_queued=0))
    world.client(ANNA, "anna")
    return world


def spec(task: str, **fields: Any) -> SubmitTask:
    return SubmitTask(**{"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields})


def heard(world: World, kind: type[Message], who: str = ANNA) -> list[Any]:
    return [message for message in world.heard.get(who, []) if type(message) is kind]


def bare() -> Scheduler:
    """A scheduler whose client answers nothing by itself."""
    scheduler = Scheduler(Policy(core="c", max_queued=0))
    scheduler.handle(ANNA, Hello(client="a", user="anna"), 1.0)
    return scheduler


def said(scheduler: Scheduler, message: Message, who: str = ANNA) -> list[Message]:
    return [c.message for c in scheduler.handle(who, message, 2.0) if hasattr(c, "message")]


# ── blobs ──


def test_a_task_waits_for_the_blobs_it_names_and_those_that_need_it_wait_behind() -> None:
    scheduler = bare()
    assert said(scheduler, spec("t1", constants=("c",))) == [BlobMissing(hash="f")]
    assert said(scheduler, spec("t2", function="", depends=("t1",))) == [BlobMissing(hash="f")]
    assert said(scheduler, PutBlob(hash="f", payload=Payload((b"f",)))) == [
        BlobMissing(hash="c"),
        BlobMissing(hash="c"),
    ]
    assert said(scheduler, PutBlob(hash="c", payload=Payload((b"c",)))) == [
        TaskAccepted(task="t1"),
        TaskAccepted(task="t2"),
    ]
    assert not scheduler.state.parked
    assert not scheduler.state.parked_on


def test_what_a_client_left_waiting_goes_with_it() -> None:
    scheduler = bare()
    said(scheduler, spec("t1"))
    scheduler.gone(ANNA, 3.0)
    assert not scheduler.state.parked
    assert not scheduler.state.parked_on
    scheduler.handle("client:b", Hello(client="b", user="bob"), 4.0)
    assert said(scheduler, PutBlob(hash="f", payload=Payload((b"f",))), "client:b") == []
    assert not scheduler.state.records


def test_publishing_gives_a_name_a_function(world: World) -> None:
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    world.say(ANNA, Publish(name="public", hash="f"))
    world.say(ANNA, spec("t1", name="public", function=""))
    assert world.scheduler.state.records["t1"].spec.function == "f"
    world.say(ANNA, Publish(name="public"))
    world.say(ANNA, spec("t2", name="public", function=""))
    assert world.scheduler.state.records["t2"].spec.function == ""
    world.check()


# ── refusals ──


@pytest.mark.parametrize(
    ("fields", "kind", "sentence"),
    [
        ({"priority": float("inf")}, "TaskRejected", "must be a finite number"),
        ({"items": 0}, "TaskRejected", "its payload has another number"),
        ({"items": -3}, "TaskRejected", "its payload has another number"),
        ({"items": 2, "split": True}, "TaskRejected", "its payload has another number"),
        ({"depends": ("nobody",)}, "UnknownTask", "needs the result of task nobody"),
        ({"depends": ("t",)}, "UnknownTask", "needs the result of task t"),
        ({"job": "nothing"}, "TaskRejected", "belongs to job nothing"),
    ],
)
def test_refusals_are_sentences_and_keep_nothing(
    world: World, fields: dict[str, Any], kind: str, sentence: str
) -> None:
    world.say(ANNA, spec("t", **fields))
    (rejected,) = heard(world, TaskRejected)
    assert rejected.kind == kind
    assert sentence in rejected.reason
    assert not world.scheduler.state.records
    world.check()


def test_asking_twice_is_harmless_and_tells_the_end(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("t"))
    world.tick()
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.client("client:later", "anna")
    world.say("client:later", spec("t"))
    assert len(world.scheduler.state.records) == 1
    assert [m.task for m in heard(world, TaskAccepted, "client:later")] == ["t"]
    assert heard(world, TaskEnded, "client:later") == heard(world, TaskEnded)


def test_a_name_that_a_client_made_up_takes_no_other_jobs_name(world: World) -> None:
    names = world.scheduler.state.job_names
    for job, name in (("j1", "simulate-1"), ("j2", "simulate-2"), ("j3", "sweep")):
        world.say(ANNA, OpenJob(job=job, name=name, items=1, made=name != "sweep"))
    assert heard(world, JobNamed) == []
    world.client("client:kernel2", "anna")
    for job, name in (("k1", "simulate-1"), ("k2", "simulate-2"), ("k3", "sweep")):
        world.say("client:kernel2", OpenJob(job=job, name=name, items=1, made=True))
    told = [(message.job, message.name) for message in heard(world, JobNamed, "client:kernel2")]
    assert told == [("k1", "simulate-3"), ("k2", "simulate-4"), ("k3", "sweep-2")]
    assert [names["anna", f"simulate-{n}"] for n in (1, 2, 3, 4)] == ["j1", "j2", "k1", "k2"]
    world.say("client:kernel2", OpenJob(job="k1", name="simulate-1", items=1, made=True))  # said again
    assert [m.name for m in heard(world, JobNamed, "client:kernel2")][-1:] == ["simulate-3"]
    world.say(ANNA, OpenJob(job="j4", name="sweep", items=1))  # a name that the user gave means the latest
    assert names["anna", "sweep"] == "j4"
    world.client("client:b", "bob")
    world.say("client:b", OpenJob(job="b1", name="simulate-1", items=1, made=True))
    assert names["bob", "simulate-1"] == "b1"


def test_a_fetch_watches_from_then_on(world: World) -> None:
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    world.say(ANNA, spec("t", job="j"))
    world.client("client:b", "bob")
    world.say("client:b", FetchTask(job="j"))
    world.now += 1
    world.tick()
    assert [m.counts for m in heard(world, JobChanged, "client:b")] == [{"QUEUED": 1}]
    assert [m.state for m in heard(world, TaskChanged, "client:b")] == [TaskState.QUEUED]
    world.say("client:b", FetchTask(task="unknown"))
    assert heard(world, TaskRejected, "client:b")[0].kind == "UnknownTask"


def test_one_result_of_a_record_can_be_fetched(world: World) -> None:
    """A client that is slow gets what it has missed, and not the whole record again from its start."""
    hub = world.hub("lab", (Group(1),))
    items = Payload((b"abcd",), [1, 1, 1, 1])
    world.say(ANNA, spec("t", items=4, split=True, payload=items))
    world.tick()
    while hub.hands:
        world.fact(hub, hub.finish(next(iter(hub.hands))))
        world.tick()
    ends = heard(world, TaskEnded)
    assert len(ends) > 1
    world.client("client:b", "bob")
    for end in ends[1:]:
        world.say("client:b", FetchTask(task="t", first=end.first))
        assert heard(world, TaskEnded, "client:b")[-1] is end
    assert len(heard(world, TaskEnded, "client:b")) == len(ends) - 1
    world.say("client:b", FetchTask(task="t", first=4))
    world.say("client:b", FetchTask(task="t"))
    assert len(heard(world, TaskEnded, "client:b")) == 2 * len(ends) - 1


def test_results_that_begin_at_the_same_item_can_be_fetched_each_by_itself(world: World) -> None:
    """A slice that takes long tells some of its results before its end; both begin at its first item."""
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("t", items=9, payload=Payload((b"abcdefghi",), [1] * 9)))
    world.tick()
    [fence] = hub.hands
    world.fact(hub, hub.start(fence))
    world.fact(hub, hub.tell(fence, 4))
    world.fact(hub, hub.finish(fence))
    world.tick()
    part, end = heard(world, TaskEnded)
    assert ((part.first, part.items), (end.first, end.items)) == ((0, 4), (0, 9))
    world.client("client:b", "bob")
    for each in (end, part):
        world.say("client:b", FetchTask(task="t", first=each.first, items=each.items))
        assert heard(world, TaskEnded, "client:b")[-1] is each


def test_who_has_gone_hears_nothing_and_can_come_back(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("t1"))
    world.say(ANNA, spec("t2"))
    world.tick()
    world.perform(world.scheduler.gone(ANNA, world.now))
    world.fact(hub, hub.finish(("t1", 0, 1)))
    assert heard(world, TaskEnded) == []
    world.tick()
    world.client(ANNA, "anna")
    world.say(ANNA, FetchTask(task="t1"))
    world.fact(hub, hub.finish(("t2", 0, 1)))
    assert [m.task for m in heard(world, TaskEnded)] == ["t1", "t2"]


# ── again ──


def test_a_retry_is_a_new_life_and_a_chain_waits_for_its_links(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("a", retries=1))
    world.say(ANNA, spec("b", depends=("a",), items=2))
    world.tick()
    for attempt in (1, 2):
        world.fact(hub, hub.finish(("a", 0, attempt), failures=(0,)))
        world.tick()
    assert {world.scheduler.state.records[name].unended for name in "ab"} == {0}
    world.say(ANNA, RetryFailed(request=7, task="b"))  # what it needs has still failed
    assert heard(world, Answer)[-1] == Answer(request=7, value=2, committed=True)
    assert world.scheduler.state.records["b"].slices[0].state is TaskState.FAILED
    world.say(ANNA, RetryFailed(request=8, task="a"))
    world.say(ANNA, RetryFailed(request=9, task="b"))
    assert world.scheduler.state.records["b"].slices[0].state is TaskState.BLOCKED
    world.check()
    world.tick()
    world.fact(hub, hub.finish(("a", 0, 4), failures=(0,)))  # it has its retry again
    world.tick()
    world.fact(hub, hub.finish(("a", 0, 5)))
    world.tick()
    world.check()
    assert [run.task for run in hub.hands.values()] == ["b"]
    world.say(ANNA, RetryFailed(request=10, task="a"))
    world.say(ANNA, RetryFailed(request=11, job="nothing"))
    assert [m.value for m in heard(world, Answer)[-2:]] == [0, 0]


def test_what_is_tried_again_waits_once_for_each_result(world: World) -> None:
    """It had failed by one of two while the other was open: the other's end must not count twice."""
    hub = world.hub("lab", (Group(2),))
    world.say(ANNA, spec("fails"))
    world.say(ANNA, spec("open"))
    world.say(ANNA, spec("needs", depends=("fails", "open")))
    world.tick()
    world.fact(hub, hub.finish(("fails", 0, 1), failures=(0,)))
    world.say(ANNA, RetryFailed(request=1, task="fails"))
    world.say(ANNA, RetryFailed(request=2, task="needs"))
    world.check()
    world.fact(hub, hub.finish(("open", 0, 1)))
    world.tick()
    assert world.scheduler.state.records["needs"].slices[0].state is TaskState.BLOCKED
    world.check()


def test_a_retry_counts_failures_back(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("a", items=3))
    world.tick()
    world.fact(hub, hub.finish(("a", 0, 1), failures=(1,)))
    user = world.scheduler.state.share.user("anna")
    assert (user.done, user.failed) == (2, 1)
    world.say(ANNA, RetryFailed(request=1, task="a"))
    assert (user.done, user.failed, user.waiting) == (2, 0, 1)
    world.check()


# ── second thoughts ──


def test_a_cancel_reaches_all_states(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    for task in ("runs", "assigned", "waits"):
        world.say(ANNA, spec(task))
    world.say(ANNA, spec("blocked", depends=("runs",), items=3))
    world.tick()
    world.fact(hub, hub.start(("runs", 0, 1)))
    answers = []
    for task, first, items in [
        ("waits", 0, 0), ("blocked", 1, 1), ("blocked", 0, 0), ("assigned", 0, 0), ("runs", 0, 0), ("runs", 0, 0),
        ("unknown", 0, 0), ("runs", 9, 1), ("runs", 0, -4),
    ]:  # fmt: skip
        world.say(ANNA, CancelTask(request=len(answers), task=task, first=first, items=items))
        world.check()
        answer: CancelAnswer = heard(world, CancelAnswer)[-1]
        answers.append((answer.cancelled, answer.source))
    assert answers == [
        (1, "queue"), (1, "queue"), (2, "queue"), (1, "pending"), (1, "pending"), (0, "pending"), (0, ""), (0, ""),
        (0, ""),
    ]  # fmt: skip


def test_a_result_that_others_need_is_not_cancelled(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("a"))
    world.say(ANNA, spec("b", depends=("a",)))
    world.tick()
    world.fact(hub, hub.finish(("a", 0, 1)))
    world.say(ANNA, CancelTask(request=1, task="a"))
    assert heard(world, CancelAnswer)[-1] == CancelAnswer(request=1)
    world.tick()
    world.fact(hub, hub.finish(("b", 0, 1)))
    world.say(ANNA, CancelTask(request=2, task="a"))
    assert heard(world, CancelAnswer)[-1] == CancelAnswer(request=2, cancelled=1, source="done")
    world.check()


def test_a_long_chain_of_failures_is_no_deep_recursion(world: World) -> None:
    world.say(ANNA, spec("t0"))
    for n in range(1, 3000):
        world.say(ANNA, spec(f"t{n}", depends=(f"t{n - 1}",)))
    world.say(ANNA, CancelTask(request=1, task="t0"))
    assert {r.slices[0].state for r in world.scheduler.state.records.values()} == {
        TaskState.CANCELLED,
        TaskState.FAILED,
    }


def test_collected_results_go_after_their_time_unless_they_are_needed(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("a"))
    world.say(ANNA, spec("b", depends=("a",)))
    world.tick()
    world.fact(hub, hub.finish(("a", 0, 1)))
    world.say(ANNA, CollectTask(task="a"))
    world.now += 61
    world.connect(hub)
    world.tick()
    assert "a" in world.scheduler.state.records
    world.fact(hub, hub.finish(("b", 0, 1)) if ("b", 0, 1) in hub.hands else None)
    world.now += 61
    world.tick()
    assert "a" not in world.scheduler.state.records
    assert "b" in world.scheduler.state.records
    world.check()


def test_an_empty_job_is_forgotten_at_once(world: World) -> None:
    world.say(ANNA, OpenJob(job="j", name="sweep", items=0))
    world.say(ANNA, ForgetJob(job="j"))
    assert not world.scheduler.state.jobs
    assert not world.scheduler.state.job_names
    assert world.journal[-1] == JobForgotten("j")


def test_a_name_means_the_latest_job_that_is_left(world: World) -> None:
    for job in ("j1", "j2"):
        world.say(ANNA, OpenJob(job=job, name="sweep", items=0))
    assert world.scheduler.state.job_names["anna", "sweep"] == "j2"
    world.say(ANNA, ForgetJob(job="j2"))
    assert world.scheduler.state.job_names["anna", "sweep"] == "j1"


# ── refused after all: the journal was full ──


def test_refused_records_leave_no_trace(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    world.say(ANNA, spec("old", cache="k"))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=0))
    world.tick()
    world.fact(hub, hub.finish(("old", 0, 1)))
    scheduler = world.scheduler
    commands = []
    for one in (spec("n1", job="j", items=2), spec("n2", depends=("n1", "old")), spec("n3", cache="k2"),
                spec("n4", cache="k2"), spec("n5", cache="k")):  # fmt: skip
        commands += scheduler.handle(ANNA, one, world.now)
    commands += scheduler.tick(world.now)  # n1 is given to the hub in the turn whose commit fails
    said_then = scheduler.refuse({"n1", "n2", "n3", "n4", "n5", "unknown"}, "JournalFull", "no room", world.now)
    assert {c.message.task for c in said_then} == {"n1", "n2", "n3", "n4", "n5"}  # type: ignore[attr-defined]
    assert {type(c.message) for c in said_then} == {TaskRejected}  # type: ignore[attr-defined]
    assert list(scheduler.state.records) == ["old"]
    assert "j" in scheduler.state.jobs
    world.check(ticked=True)
    world.say(ANNA, spec("n1", job="j"))
    world.tick()
    assert [run.task for run in hub.hands.values()] == ["n1"]
    world.check(ticked=True)


def test_forgotten_is_written_down(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    world.say(ANNA, spec("t", job="j"))
    world.tick()
    world.fact(hub, hub.finish(("t", 0, 1)))
    world.say(ANNA, ForgetJob(job="j"))
    world.tick()
    forgotten = [entry for entry in world.journal if isinstance(entry, (TaskForgotten, JobForgotten))]
    assert forgotten == [JobForgotten("j"), TaskForgotten("t")]
    assert not world.scheduler.state.blobs["f"].uses


def test_a_forgotten_job_is_found_by_nobody_though_its_records_are_still_there(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    opened = OpenJob(job="j", name="sweep", items=1)
    world.say(ANNA, opened)
    world.say(ANNA, spec("t", job="j"))
    world.tick()
    world.say(ANNA, ForgetJob(job="j", request=7))
    world.say(ANNA, Ask(request=8, topic="job", about={"name": "sweep", "user": "anna"}))
    assert [(answer.request, answer.value) for answer in heard(world, Answer)] == [(7, True), (8, None)]
    assert JobForgotten("j") in world.journal, "before the answer leaves"
    assert "t" in world.scheduler.state.records, "its hub has still to let go of it"
    world.say(ANNA, opened)  # a late copy, or a kernel that was away
    assert "j" not in world.scheduler.state.jobs
    world.say(ANNA, spec("u", job="j"))
    assert heard(world, TaskRejected)[-1].task == "u"
    world.say(ANNA, RetryFailed(request=9, task="t"))
    world.say(ANNA, ForgetJob(job="j", request=10))
    assert [answer.value for answer in heard(world, Answer)][-2:] == [0, False]
    world.check()
    world.fact(hub, hub.stopped(("t", 0, 1), "cancel"))
    world.tick()
    assert not world.scheduler.state.records
    world.check(ticked=True)


def test_no_question_deafens_the_core(world: World) -> None:
    for about in ({"task": ["x"]}, {"first": "x", "task": "t"}, {"offset": 1e308}, {"limit": {}}, {"job": [1]}):
        for topic in ("task", "tasks", "job", "jobs", "why", "nonsense"):
            world.say(ANNA, Ask(request=1, topic=topic, about=about))
    assert len(heard(world, Answer)) == 30
    assert "there is no topic 'nonsense'" in heard(world, Answer)[-1].error
    world.check()


def test_a_record_of_which_an_earlier_core_kept_a_part_is_acknowledged_as_that_part() -> None:
    """Until 0.1 calls beyond LB_QUEING_MAXPERUSER were refused, and the journal has the others."""
    scheduler = Scheduler(Policy(core="c"))
    part = spec("b", user="anna", items=3, split=True, payload=Payload((b"abc",), [1] * 3))
    scheduler.restore([TaskKept(part, 1.0)], 1.0)
    scheduler.handle(ANNA, Hello(client="a", user="anna"), 1.0)
    whole = spec("b", items=5, split=True, payload=Payload((b"abcde",), [1] * 5))
    [again] = [m for m in said(scheduler, whole) if isinstance(m, TaskAccepted)]
    assert (again.items, "last 2 of 5" in again.reason) == (3, True)


def test_a_late_copy_of_a_task_that_is_forgotten_does_not_run_again() -> None:
    scheduler = bare()
    scheduler.handle(ANNA, PutBlob(hash="f", payload=Payload((b"f",))), 1.0)
    scheduler.handle(ANNA, OpenJob(job="j", name="sweep", items=1), 1.0)
    said(scheduler, spec("a", job="j"))
    said(scheduler, ForgetJob(job="j"))
    scheduler.tick(3.0)
    assert "a" not in scheduler.state.records
    scheduler.handle(ANNA, OpenJob(job="j", name="sweep", items=1), 3.0)
    [rejected] = said(scheduler, spec("a", job="j"))
    assert isinstance(rejected, TaskRejected)
    assert "dropped before this copy" in rejected.reason
    assert "a" not in scheduler.state.records


def test_the_end_of_a_shared_computation_finds_who_hoped_for_it_forgotten(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, spec("source", cache="k"))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    world.say(ANNA, spec("follower", job="j", cache="k"))
    world.tick()
    world.say(ANNA, ForgetJob(job="j"))
    world.tick()
    assert list(world.scheduler.state.records) == ["source"]
    world.fact(hub, hub.finish(("source", 0, 1)))
    world.tick()
    assert list(world.scheduler.state.records) == ["source"]
    assert world.scheduler.state.records["source"].done
    world.check(ticked=True)


def test_what_waits_for_a_blob_can_be_cancelled(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    scheduler = world.scheduler
    world.say(ANNA, OpenJob(job="j", name="sweep", items=3))
    for one in (spec("whole", job="j"), spec("part", job="j", items=2, split=True, payload=Payload((b"xy",), [1, 1]))):
        scheduler.handle(ANNA, one, world.now)  # the function is not here yet
    answers = [
        scheduler.handle(ANNA, CancelTask(request=n, task=task, first=first, items=1), world.now)
        for n, (task, first) in enumerate((("whole", 0), ("part", 1), ("nothing", 0)))
    ]
    assert [c.message.cancelled for (c,) in answers] == [1, 1, 0]  # type: ignore[attr-defined]
    world.say(ANNA, PutBlob(hash="f", payload=Payload((b"f",))))
    world.tick()
    assert list(hub.hands) == [("part", 0, 1)]
    assert [t.state for t in world.scheduler.state.records["whole"].slices] == [TaskState.CANCELLED]
    world.check(ticked=True)


# ── several kernels at one name ──

BOB = "client:bob"


def opening(job: str, replaces: str = "", request: int = 1) -> OpenJob:
    return OpenJob(job=job, name="sweep", items=4, fingerprint="x", request=request, replaces=replaces, sole=True)


def test_of_two_kernels_that_open_one_name_the_second_is_told_of_the_first(world: World) -> None:
    world.client(BOB, "anna")
    world.say(ANNA, opening("a"))
    world.say(BOB, opening("b"))
    assert [answer.value for answer in heard(world, Answer)] == [None]
    [answer] = heard(world, Answer, BOB)
    assert (answer.value["job"], answer.value["fingerprint"], answer.value["submitter"]) == ("a", "x", ANNA)
    assert list(world.scheduler.state.jobs) == ["a"]
    world.say(BOB, opening("b", replaces="a", request=2))
    assert heard(world, Answer, BOB)[-1].value is None, "it knows whose name it takes over"
    world.say(ANNA, opening("c", replaces="a", request=2))
    assert heard(world, Answer)[-1].value["job"] == "b"
    world.say(ANNA, opening("a", request=3))
    assert heard(world, Answer)[-1].value is None, "it is open: its answer was lost"
    kept = [entry.spec for entry in world.journal if isinstance(entry, JobKept)]
    assert [(spec.job, spec.request, spec.replaces) for spec in kept] == [("a", 0, ""), ("b", 0, "")]
    world.check()


def test_each_item_of_a_sole_job_is_in_one_record(world: World) -> None:
    world.say(ANNA, opening("j"))
    two = {"job": "j", "items": 2, "split": True, "payload": Payload((b"ab",), [1, 1])}
    world.say(ANNA, spec("t", index=1, **two))
    for task, index in (("u", 0), ("v", 2)):
        world.say(ANNA, spec(task, index=index, **two))
        assert "another kernel has submitted" in heard(world, TaskRejected)[-1].reason
    world.say(ANNA, spec("w", job="j", index=3))
    world.say(ANNA, spec("x", job="j", index=0))
    assert list(world.scheduler.state.records) == ["t", "w", "x"]
    world.check()
    world.restart(grouped=True)
    world.client(ANNA, "anna")
    world.say(ANNA, spec("u", index=0, **two))
    assert list(world.scheduler.state.records) == ["t", "w", "x"]


def test_a_fresh_call_is_computed_and_serves_the_later_ones(world: World) -> None:
    hub = world.hub("lab", (Group(1),))

    def called(task: str, **how: bool) -> str:
        world.say(ANNA, spec(task, cache="k", **how))
        world.tick()
        if (task, 0, 1) in hub.hands:
            world.fact(hub, hub.finish((task, 0, 1)))
        [ended] = [end for end in heard(world, TaskEnded) if end.task == task]
        return f"{bytes(ended.payload.buffers[0]).decode()} {ended.worker}"

    first = called("a")
    assert called("b") == first.split()[0] + " cache"
    fresh = called("c", fresh=True)
    assert not fresh.endswith("cache")
    assert called("d") == fresh.split()[0] + " cache"
    world.restart(grouped=True)
    world.client(ANNA, "anna")
    assert called("e") == fresh.split()[0] + " cache"


# ── once more ──


def failed_job(world: World, **fields: Any) -> ModelHub:
    """A job of one record of three items, of which 0 and 2 have failed; anna and bob's kernels watch it."""
    hub = world.hub("lab", (Group(1),))
    world.client(BOB, "anna")
    world.say(ANNA, OpenJob(job="j", name="sweep", items=3))
    three = {"items": 3, "split": True, "payload": Payload((b"abc",), [1] * 3), "job": "j"}
    world.say(ANNA, spec("t", **{**three, **fields}))
    world.say(BOB, FetchTask(job="j"))
    world.tick()
    while hub.hands:
        fence = next(iter(hub.hands))
        run = hub.hands[fence]
        bad = [item - run.first for item in (0, 2) if run.first <= item < run.first + run.items]
        world.fact(hub, hub.finish(fence, failures=bad))
        world.tick()
    return hub


def test_a_retry_is_told_to_all_kernels_that_watch_before_its_ends(world: World) -> None:
    hub = failed_job(world)
    world.say(ANNA, RetryFailed(request=1, job="j"))
    world.tick()
    told = [heard(world, TaskReopened, who)[-1] for who in (ANNA, BOB)]
    assert told[0] == told[1]
    assert (told[0].again, told[0].items, told[0].job) == (((0, 1), (2, 1)), 3, "j")
    [reopened] = [at for at, message in enumerate(world.heard[BOB]) if isinstance(message, TaskReopened)]
    while hub.hands:
        world.fact(hub, hub.finish(next(iter(hub.hands))))
        world.tick()
    assert {m.first for m in world.heard[BOB][reopened:] if isinstance(m, TaskEnded)} == {0, 2}
    world.say(ANNA, RetryFailed(request=2, job="j"))
    assert len(heard(world, TaskReopened)) == 1, "nothing has failed"
    ends = len(heard(world, TaskEnded, BOB))
    world.say(BOB, FetchTask(job="j", quiet=True))
    assert len(heard(world, TaskEnded, BOB)) == ends
    world.check(ticked=True)


def test_only_what_failed_runs_the_new_function(world: World) -> None:
    hub = failed_job(world)
    new = RetryFailed(request=1, job="j", function="g", python=(3, 12))
    world.say(ANNA, new)
    assert heard(world, BlobMissing)[-1].hash == "g"
    assert not [answer for answer in heard(world, Answer) if answer.request == 1]
    world.say(ANNA, PutBlob(hash="g", payload=Payload((b"g",))))
    world.say(ANNA, new)
    assert heard(world, Answer)[-1].value == 2
    assert heard(world, TaskReopened)[-1].function == "g"
    world.tick()
    world.check(ticked=True)
    world.restart(grouped=True)
    world.client(ANNA, "anna")
    world.connect(hub)
    world.say(ANNA, FetchTask(job="j"))
    world.tick()
    assert {run.function for run in hub.hands.values()} == {"g"}
    assert world.scheduler.state.blobs["g"].uses == 1
    while hub.hands:
        world.fact(hub, hub.finish(next(iter(hub.hands))))
        world.tick()
    by = {end.first: end.function for end in heard(world, TaskEnded) if end.state is TaskState.DONE}
    assert by[0] == by[2] == "g"
    assert set(by.values()) == {"", "g"}, "what had been done before was made by the old one"
    world.check(ticked=True)
    world.say(ANNA, ForgetJob(job="j"))
    world.tick()
    assert not world.scheduler.state.blobs["g"].uses


def test_a_function_of_another_python_is_refused_and_nothing_is_lost(world: World) -> None:
    failed_job(world, python=(3, 11))
    world.say(ANNA, PutBlob(hash="g", payload=Payload((b"g",))))
    world.say(ANNA, RetryFailed(request=1, job="j", function="g", python=(3, 12)))
    answer = heard(world, Answer)[-1]
    assert "sent from Python 3.11, the new function from Python 3.12" in answer.error
    assert not heard(world, TaskReopened)
    world.check()


def test_a_result_of_mended_code_does_not_serve_calls_of_the_old(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.say(ANNA, OpenJob(job="j", name="sweep", items=1))
    world.say(ANNA, spec("t", job="j", cache="k"))
    world.tick()
    world.fact(hub, hub.finish(("t", 0, 1), failures=[0]))
    world.say(ANNA, PutBlob(hash="g", payload=Payload((b"g",))))
    world.say(ANNA, RetryFailed(request=1, job="j", function="g"))
    world.tick()
    world.fact(hub, hub.finish(next(iter(hub.hands))))
    world.say(ANNA, spec("u", cache="k"))
    world.tick()
    assert [run.function for run in hub.hands.values()] == ["f"], "it is computed"
    world.check()


def test_some_items_of_what_was_lost_run_again_and_the_others_keep_their_end(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    world.client(BOB, "bob")
    world.say(ANNA, spec("t", items=5, at_most_once=True))
    world.tick()
    world.fact(hub, hub.start(("t", 0, 1)))
    for fact in hub.die(hub.on["t", 0, 1], "killed"):
        world.fact(hub, fact)
    world.tick()
    record = world.scheduler.state.records["t"]
    assert record.unended == 0
    world.say(ANNA, RetryFailed(request=1, task="t", items=(3, 1, 1, 9)))
    assert heard(world, Answer)[-1].value == 2
    assert heard(world, TaskReopened)[-1].again == ((3, 1), (1, 1))
    world.check()
    before = len(heard(world, TaskEnded, BOB))
    world.say(BOB, FetchTask(task="t"))
    told = heard(world, TaskEnded, BOB)[before:]
    assert {n for end in told for n in range(end.first, end.first + end.items)} == {0, 2, 4}
    ends = [(task.first, task.items, task.ended and (task.ended.first, task.ended.items)) for task in record.slices]
    world.restart(grouped=True)
    again = world.scheduler.state.records["t"]
    assert [(t.first, t.items, t.ended and (t.ended.first, t.ended.items)) for t in again.slices] == ends
    world.check()
