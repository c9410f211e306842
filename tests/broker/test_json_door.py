"""The JSON protocol without a socket: the seed's requests and answers, and one-sentence errors for all others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.broker import queries
from nblb.broker.json_door import DOOR, handle_json
from nblb.protocol.commands import Command, Record, Send
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import TaskKept
from nblb.protocol.messages import (
    CancelTask,
    Failure,
    Group,
    Hello,
    HubHello,
    Message,
    OpenJob,
    PutBlob,
    RunTask,
    StopTask,
    SubmitTask,
    TaskFinished,
    TaskProgressed,
    TaskStarted,
    TaskStopped,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy

HUB = "hub:1"


class Lab:
    """A scheduler with one hub of one worker that knows HELLO, and a clock that a test turns."""

    def __init__(self, max_queued: int = 1000, hub: bool = True) -> None:
        self.scheduler = Scheduler(Policy(max_queued=max_queued, result_ttl_s=60.0), queries.answer)
        self.scheduler.wall_offset = 1_000_000.0
        self.now = 100.0
        self.made = 0
        self.records: list[Any] = []
        if hub:
            hello = HubHello(
                hub="h",
                name="lab",
                host="lab1",
                pid=1,
                python=(3, 11),
                cloudpickle="3",
                groups=(Group(workers=1, minP=0, maxP=100),),
                workers=(("worker_c0b28c1f", 0),),
                functions=("HELLO",),
                lb_port=8300,
                hc_port=8301,
            )
            self.say(HUB, hello)

    def say(self, sender: str, *messages: Message) -> list[Message]:
        """What the hub is told when this has been said and the turn is over."""
        commands: list[Command] = []
        for message in messages:
            commands += self.scheduler.handle(sender, message, self.now)
        return self._to_hub([*commands, *self.scheduler.tick(self.now)])

    def _to_hub(self, commands: list[Command]) -> list[Message]:
        self.records += [command.entry for command in commands if isinstance(command, Record)]
        return [command.message for command in commands if isinstance(command, Send) and command.to == HUB]

    def ask(self, request: Any) -> Any:
        self.made += 1
        reply = handle_json(self.scheduler, request, self.now, f"id-{self.made}", "account")
        assert not any(isinstance(command, Send) and command.to == DOOR for command in reply.commands)
        self.told = self._to_hub([*reply.commands, *self.scheduler.tick(self.now)])
        self.promised = reply.task
        return json.loads(json.dumps(reply.value))  # it is JSON

    def new(self, task: Any = None, name: str = "HELLO", user: str = "u", **more: Any) -> str:
        answer = self.ask(
            {"toLB": "NEWTASK", "taskname": name, "taskdict": {} if task is None else task, "userid": user, **more}
        )
        assert set(answer) == {"taskid"}, answer
        return str(answer["taskid"])

    def progress(self, task: str) -> Any:
        return self.ask({"toLB": "GETTASK", "taskid": task})["progress"]

    def cancel(self, task: str) -> Any:
        return self.ask({"toLB": "CANCELTASK", "taskid": task})

    def order(self) -> RunTask:
        return next(message for message in self.told if isinstance(message, RunTask))

    def finish(self, order: RunTask, result: Any = None, failure: Failure | None = None) -> list[Message]:
        payload = None if failure else Payload((json.dumps(result).encode(),))
        failures = (failure,) if failure else ()
        said = TaskFinished(task=order.task, attempt=order.attempt, payload=payload, failures=failures, duration_s=0.5)
        return self.say(HUB, TaskStarted(task=order.task, attempt=order.attempt, worker="worker_c0b28c1f"), said)


@pytest.fixture
def lab() -> Lab:
    return Lab()


# ── clients ──


def test_hello(lab: Lab) -> None:
    task = lab.new({"firstName": "John", "lastName": "Doe"})
    assert [entry.spec.task for entry in lab.records if isinstance(entry, TaskKept)] == [task]
    order = lab.order()
    assert (order.call, order.name, order.user) == ("json", "HELLO", "u")
    assert json.loads(b"".join(order.payload.buffers)) == {"firstName": "John", "lastName": "Doe"}
    assert lab.ask({"toLB": "GETTASK", "taskid": task}) == {"progress": 0, "result": None}
    attempt = order.attempt
    lab.say(HUB, TaskStarted(task=task, attempt=attempt, worker="worker_c0b28c1f"))
    assert lab.progress(task) == 1  # it runs, and has said nothing
    for told, shown in ((40.4, 40), (0.2, 1), (99.9, 99), (100, 99)):
        lab.say(HUB, TaskProgressed(task=task, attempt=attempt, progress=told))
        assert lab.progress(task) == shown
    lab.finish(order, "Hello John Doe !")
    assert lab.ask({"toLB": "GETTASK", "taskid": task}) == {"progress": 100, "result": "Hello John Doe !"}


def test_what_records_must_keep_waits_for_their_commit(lab: Lab) -> None:
    """An acceptance, a result and a cancel are answered after the commit; how far a task is, at any time."""
    task, other = lab.new(), lab.new()
    assert lab.promised == other
    lab.progress(task)
    assert not lab.promised
    assert not lab.cancel("unknown")["deleted"]
    assert not lab.promised
    assert lab.cancel(other)["deleted"]
    assert lab.promised == other
    lab.progress(other)
    assert lab.promised == other
    lab.say(HUB, TaskStarted(task=task, attempt=1, worker="worker_c0b28c1f"))
    lab.say(HUB, TaskFinished(task=task, attempt=1, payload=Payload((b"1",)), duration_s=0.5))
    assert lab.ask({"toLB": "GETTASKS", "tasksid": [task]})[task]["result"] == 1
    assert lab.promised == task


def test_many_at_once(lab: Lab) -> None:
    first = lab.new()
    order = lab.order()
    second = lab.new()
    lab.finish(order, [1, {"a": None}])
    answer = lab.ask({"toLB": "GETTASKS", "tasksid": [first, second, "x"]})
    assert answer[first] == {"progress": 100, "result": [1, {"a": None}]}
    assert answer[second] == {"progress": 0, "result": None}
    assert answer["x"]["progress"] is None
    assert lab.ask({"toLB": "GETTASKS", "tasksid": []}) == {}


def test_a_failure_has_its_reason(lab: Lab) -> None:
    task = lab.new()
    lab.finish(lab.order(), failure=Failure(kind="ZeroDivisionError", message="division by zero"))
    answer = lab.ask({"toLB": "GETTASK", "taskid": task})
    assert answer == {"progress": None, "result": None, "error": "ZeroDivisionError: division by zero"}


def test_an_unknown_task(lab: Lab) -> None:
    answer = lab.ask({"toLB": "GETTASK", "taskid": "x"})
    assert (answer["progress"], answer["result"]) == (None, None)
    assert 'no task "x"' in answer["error"]


def test_a_result_that_was_collected_goes_in_its_time(lab: Lab) -> None:
    task = lab.new()
    lab.finish(lab.order(), 7)
    for _ in range(3):
        lab.now += 59
        assert lab.progress(task) == 100  # each collection gives it another 60 s
    lab.now += 61
    lab.say(HUB)
    assert lab.progress(task) is None


def test_a_result_that_nobody_collected_stays(lab: Lab) -> None:
    task = lab.new()
    lab.finish(lab.order(), 7)
    lab.now += 3600
    lab.say(HUB)
    assert lab.progress(task) == 100


def test_a_python_result_is_not_opened(lab: Lab) -> None:
    lab.say("client:1", Hello(client="c", user="u"), PutBlob(hash="f", payload=Payload((b"code",))))
    (order,) = (
        message
        for message in lab.say("client:1", SubmitTask(task="p", name="f", function="f", python=(3, 11)))
        if isinstance(message, RunTask)
    )
    lab.say(HUB, TaskFinished(task="p", attempt=order.attempt, payload=Payload((b"\x80\x05.",))))
    answer = lab.ask({"toLB": "GETTASK", "taskid": "p"})
    assert (answer["progress"], answer["result"]) == (100, None)
    assert "Python object" in answer["error"]


def test_cancel(lab: Lab) -> None:
    running, order = lab.new(), lab.order()
    lab.say(HUB, TaskStarted(task=running, attempt=order.attempt, worker="worker_c0b28c1f"))
    queued = lab.new()
    assert lab.ask({"toLB": "CANCELTASK", "taskid": queued}) == {"deleted": True, "from": "queue"}
    assert lab.ask({"toLB": "CANCELTASK", "taskid": queued}) == {"deleted": False, "from": None}
    assert lab.ask({"toLB": "CANCELTASK", "taskid": running}) == {"deleted": True, "from": "pending"}
    assert [type(message) for message in lab.told] == [StopTask]
    assert lab.progress(running) == "cancelled"
    lab.say(HUB, TaskStopped(task=running, attempt=order.attempt, ran=True))
    done = lab.new()
    lab.finish(lab.order(), 1)
    assert lab.ask({"toLB": "CANCELTASK", "taskid": done}) == {"deleted": True, "from": "done"}
    for task in (queued, running, done):
        assert lab.ask({"toLB": "GETTASK", "taskid": task}) == {"progress": "cancelled", "result": None}
    assert lab.ask({"toLB": "CANCELTASK", "taskid": "x"}) == {"deleted": False, "from": None}


@pytest.mark.parametrize(
    ("name", "priority", "why"),
    [
        ("HELO", 0, "no hub knows a task named 'HELO' (did you mean 'HELLO'?)."),
        ("HELLO", 2000, "no worker takes priority 2000 (those here take 0 to 100)."),
    ],
)
def test_what_no_worker_can_run_is_said_in_the_answers(lab: Lab, name: str, priority: float, why: str) -> None:
    answer = lab.ask({"toLB": "NEWTASK", "taskname": name, "taskdict": {}, "priority": priority})
    assert answer["warning"] == f"The task is kept and waits: {why}"
    waits = {"progress": 0, "result": None, "waiting": why[0].upper() + why[1:]}
    assert lab.ask({"toLB": "GETTASK", "taskid": answer["taskid"]}) == waits
    known = lab.new()
    both = lab.ask({"toLB": "GETTASKS", "tasksid": [answer["taskid"], known]})
    assert (both[answer["taskid"]], set(both[known])) == (waits, {"progress", "result"})


def test_a_request_may_state_what_its_task_needs(lab: Lab) -> None:
    new = {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {}}
    answer = lab.ask({**new, "gpus": 1, "memory_mb": None, "needs": ["matlab"]})
    assert "no connected worker has feature 'matlab'" in answer["warning"]
    assert lab.ask({**new, "gpus": -1})["error"].startswith("gpus is -1; it must be")


def test_before_a_hub_is_here_nothing_is_said_of_it() -> None:
    assert set(Lab(hub=False).ask({"toLB": "NEWTASK", "taskname": "HELO", "taskdict": {}})) == {"taskid"}


def test_too_many_queued() -> None:
    lab = Lab(max_queued=3, hub=False)
    for _ in range(3):
        lab.new()
    new = {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {}, "userid": "u"}
    assert lab.ask(new) == {"error": "User has too many pending task (3)"}
    lab.new(user="other")


def test_only_this_door_refuses_what_is_beyond_the_bound() -> None:
    lab = Lab(max_queued=2, hub=False)
    lab.say("client:python", Hello(client="c", user="u"))
    lab.say("client:python", OpenJob(job="j", name="sweep", items=9))
    lab.say("client:python", SubmitTask(task="j1", name="HELLO", job="j", items=9))
    lab.new()  # a job's tasks do not count
    for n in range(4):
        lab.say("client:python", SubmitTask(task=f"t{n}", name="HELLO"))
    assert len([entry for entry in lab.records if isinstance(entry, TaskKept)]) == 6
    new = {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {}, "userid": "u"}
    assert lab.ask(new) == {"error": "User has too many pending task (2)"}
    lab.say("client:python", CancelTask(request=1, task="t0"))
    lab.say("client:python", CancelTask(request=2, task="t1"))
    lab.say("client:python", CancelTask(request=3, task="t2"))
    lab.say("client:python", CancelTask(request=4, task="t3"))
    lab.new()


@pytest.mark.parametrize(
    ("given_priority", "priority"), [(None, 0), (5, 5), (2.5, 2.5), ("7", 7), ("-3.5", -3.5), (-1, -1)]
)
def test_priorities(given_priority: Any, priority: float) -> None:
    lab = Lab(hub=False)
    lab.new(priority=given_priority)
    (entry,) = (entry for entry in lab.records if isinstance(entry, TaskKept))
    assert entry.spec.priority == priority


def test_without_a_user_it_is_the_accounts_task(lab: Lab) -> None:
    lab.ask({"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {}})
    assert lab.order().user == "account"


# ── the Health Check and the Monitor ──


def test_the_workers_list(lab: Lab) -> None:
    lab.now += 5
    (worker,) = lab.ask({"HEALTH": "GIVEMEWORKERSLIST"}).items()
    assert worker[0] == "worker_c0b28c1f"
    assert worker[1] == {
        "workerip": "127.0.0.1",
        "workerhealthport": 8301,
        "lasttasktime": 1_000_100.0,
        "taskname": None,
        "address": "",
    }
    assert Lab(hub=False).ask({"HEALTH": "GIVEMEWORKERSLIST"}) == {}


def test_a_worker_is_said_to_be_down(lab: Lab) -> None:
    assert lab.ask({"HEALTH": "DOWNWORKER", "workerid": "worker_c0b28c1f"}) == {"LB": "OK"}
    assert "no worker" in lab.ask({"HEALTH": "DOWNWORKER", "workerid": "x"})["error"]
    assert len(lab.ask({"HEALTH": "GIVEMEWORKERSLIST"})) == 1  # hearsay removes no worker that is alive


def test_the_monitor(lab: Lab) -> None:
    running, order = lab.new(), lab.order()
    lab.say(HUB, TaskStarted(task=running, attempt=order.attempt, worker="worker_c0b28c1f"))
    lab.say(HUB, TaskProgressed(task=running, attempt=order.attempt, progress=40))
    lab.new(priority=7)
    lab.now += 2
    answer = lab.ask({"MONITOR": "WORKERS"})
    assert answer["commandqueue"] == {"HELLO": {"number": 1, "waitingtime": 2.0}}
    assert answer["priorityqueue"] == {"7": 1}
    assert answer["workers"] == [
        {
            "workerid": "worker_c0b28c1f",
            "workerip": "127.0.0.1",
            "workerport": 8300,
            "workerhealthport": 8301,
            "workerCPU": 0.0,
            "workertask": "HELLO",
            "workertaskid": running,
            "workerdone": 40.0,
            "workerminpriority": 0.0,
            "workermaxpriority": 100.0,
        }
    ]
    lab.finish(order, 1)
    stats = lab.ask({"MONITOR": "STATS"})["HELLO"]
    assert stats["totaltasks"] == 1
    assert stats["meancalctimes"] == 0.5
    names = {"totaltasks", "totalcalctimes", "mincalctimes", "meancalctimes", "maxcalctimes"}
    assert set(stats) >= names | {"minwaittimes", "meanwaittimes", "maxwaittimes"}


# ── whatever is not a request ──

NEW = {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {}, "userid": "u"}

WRONG: list[tuple[Any, str]] = [
    (None, "JSON object"),
    (7, "JSON object"),
    ("GETTASK", "JSON object"),
    ([], "JSON object"),
    ({}, "'toLB', 'HEALTH' or 'MONITOR'"),
    ({"toLB": "FLY"}, "must be one of NEWTASK, GETTASK, GETTASKS, CANCELTASK"),
    ({"toLB": ["GETTASK"]}, "'toLB' is"),
    ({"toLB": {}}, "'toLB' is"),
    ({"HEALTH": "FLY"}, "GIVEMEWORKERSLIST, DOWNWORKER"),
    ({"HEALTH": "DOWNWORKER"}, "'workerid' is missing"),
    ({"MONITOR": None}, "WORKERS, STATS"),
    ({"toLB": "GETTASK"}, "'taskid' is missing"),
    ({"toLB": "GETTASK", "taskid": ["a"]}, "'taskid' is"),
    ({"toLB": "CANCELTASK", "taskid": 7}, "'taskid' is 7"),
    ({"toLB": "GETTASKS"}, "'tasksid' must be a list"),
    ({"toLB": "GETTASKS", "tasksid": "abc"}, "'tasksid' must be a list"),
    ({"toLB": "GETTASKS", "tasksid": ["a", 1]}, "each a text"),
    ({"toLB": "GETTASKS", "tasksid": ["a"] * 100_001}, "at most 100000"),
    ({**NEW, "taskname": ""}, "'taskname' is"),
    ({**NEW, "taskname": {}}, "'taskname' is"),
    ({**NEW, "userid": 3}, "'userid' is 3"),
    ({**NEW, "priority": "high"}, "'priority' is \"high\"; it must be a finite number"),
    ({**NEW, "priority": "nan"}, "'priority'"),
    ({**NEW, "priority": 10**400}, "'priority'"),
    ({**NEW, "priority": True}, "'priority' is true"),
    ({**NEW, "priority": []}, "'priority'"),
    ({"toLB": "NEWTASK", "taskname": "HELLO"}, "'taskdict' is missing"),
]


@pytest.mark.parametrize(("request_", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_one_sentence(lab: Lab, request_: Any, said: str) -> None:
    answer = lab.ask(request_)
    assert set(answer) == {"error"}
    assert said in answer["error"]
    assert answer["error"].endswith(".")
    assert len(answer["error"]) < 300
    assert lab.new()  # and the next good request is answered as before


WORDS = ["toLB", "HEALTH", "MONITOR", "NEWTASK", "GETTASK", "GETTASKS", "CANCELTASK", "taskid", "tasksid", "id-1"]
MORE = ["taskname", "taskdict", "priority", "userid", "WORKERS", "STATS", "GIVEMEWORKERSLIST", "DOWNWORKER", "workerid"]
words = st.sampled_from(WORDS + MORE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(words | st.text(), each, max_size=4),
    max_leaves=8,
)


@pytest.mark.decoder
@settings(deadline=None)
@given(st.lists(JSON, max_size=5))
def test_any_json_gets_an_answer(requests: list[Any]) -> None:
    lab = Lab()
    for request in requests:
        answer = lab.ask(request)
        assert isinstance(answer, dict)
    assert lab.new()
