"""The seed's requests in plain JSON, so that a program in any language with ZeroMQ and JSON can be a client.

A pure translation: a request becomes messages to the scheduler, and the scheduler's commands become the seed's
answer. Every request gets one answer; a bad request gets {'error': a sentence}. The core reads only JSON here, never
a pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, NamedTuple, TypeVar

import msgspec

from nblb.broker import queries
from nblb.errors import JournalError
from nblb.protocol.commands import Command, Send
from nblb.protocol.equipment import Needs, checked_needs
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelAnswer,
    CancelTask,
    CollectTask,
    Hello,
    Message,
    SubmitTask,
    TaskRejected,
    TaskState,
)
from nblb.scheduling.scheduler import Scheduler, TaskView
from nblb.scheduling.submission import Kind
from nblb.user_text import clean_name

DOOR = "json-door:"  # the scheduler's address for all JSON clients; nothing is sent there
MOST_IDS = 100_000

WAITING = (TaskState.BLOCKED, TaskState.QUEUED, TaskState.ASSIGNED)
AnyMessage = TypeVar("AnyMessage", bound=Message)


class JsonReply(NamedTuple):
    """The answer, the commands to perform before it, and the submission it promises to keep ("" if none)."""

    value: Any
    commands: list[Command]
    task: str = ""


class BadRequest(Exception):
    """A request that cannot be answered; the text is a sentence that says why."""


def handle_json(scheduler: Scheduler, request: Any, now: float, new_task: str, account: str) -> JsonReply:
    """Answer one request; `new_task` is the id for a new submission, `account` the user if the request names none."""
    commands: list[Command] = []
    try:
        value, task = _Request(scheduler, now, commands).answer(request, new_task, account)
    except BadRequest as error:
        return JsonReply({"error": str(error)}, commands)
    return JsonReply(value, commands, task)


class _Request:
    """The handling of one request."""

    def __init__(self, scheduler: Scheduler, now: float, commands: list[Command]) -> None:
        self.scheduler, self.now, self.commands = scheduler, now, commands
        self._obstacles: dict[tuple[Kind, float], str] = {}
        self.promised = ""  # a task whose entries must be committed before this answer is sent

    def answer(self, request: Any, new_task: str, account: str) -> tuple[Any, str]:
        if not isinstance(request, dict):
            raise BadRequest(f"A request is a JSON object, and this is {_shown(request)}.")
        if "toLB" in request:
            word = request["toLB"]
            if word == "NEWTASK":
                return self._new_task(request, new_task, account)
            return self._one_of("toLB", word, self._CLIENTS, "NEWTASK")(self, request), self.promised
        if "HEALTH" in request:
            return self._one_of("HEALTH", request["HEALTH"], self._HEALTH)(self, request), ""
        if "MONITOR" in request:
            return self._one_of("MONITOR", request["MONITOR"], self._MONITOR)(self, request), ""
        raise BadRequest("A request must have the key 'toLB', 'HEALTH' or 'MONITOR', and this one has none of them.")

    @staticmethod
    def _one_of(
        key: str, word: Any, known: Mapping[str, Callable[[_Request, dict[str, Any]], Any]], *more: str
    ) -> Callable[[_Request, dict[str, Any]], Any]:
        if isinstance(word, str) and word in known:
            return known[word]
        raise BadRequest(f"{key!r} is {_shown(word)}; it must be one of {', '.join([*more, *known])}.")

    def _ask(self, message: Message, expect: type[AnyMessage]) -> AnyMessage | None:
        """Hand the message to the scheduler on behalf of the door; return its answer of type `expect`."""
        found: AnyMessage | None = None
        hello = Hello(client="json", user="json", host="localhost")
        for said in (hello, message):
            for command in self.scheduler.handle(DOOR, said, self.now):
                if isinstance(command, Send) and command.to == DOOR:
                    if isinstance(command.message, expect):
                        found = command.message
                else:
                    self.commands.append(command)
        return found

    # ── clients ──

    def _new_task(self, request: dict[str, Any], new_task: str, account: str) -> tuple[Any, str]:
        name = _text(request, "taskname")
        if "taskdict" not in request:
            raise BadRequest("'taskdict' is missing: it holds what the task's function is called with.")
        priority = _number(request, "priority")
        user = account if request.get("userid") is None else _text(request, "userid")
        full, which = self.scheduler.full_queue(user)
        if full:  # the seed's rule, which its clients expect; other doors have no limit
            own = "" if which == "LB_QUEING_MAXPERUSER" else f": {which}, until one of them starts"
            raise BadRequest(f"User has too many pending task ({full}){own}")
        spec = SubmitTask(
            task=new_task,
            name=name,
            payload=Payload((msgspec.json.encode(request["taskdict"]),)),
            priority=priority,
            user=user,
            call="json",
            needs=_needs(request),
        )
        rejected = self._ask(spec, TaskRejected)
        if rejected is None:
            obstacle = self._obstacle(new_task)
            warning = {"warning": f"The task is kept and waits: {obstacle}."} if obstacle else {}
            return {"taskid": new_task, **warning}, new_task
        return {"error": _sentence(rejected.reason)}, ""

    def _obstacle(self, task: str) -> str:
        """Return why none of the present workers can ever run the task; "" if one can, or if no worker is present."""
        scheduler = self.scheduler
        record = scheduler.state.records.get(task) or scheduler.state.records.get(task.rpartition(".")[0])
        if record is None or not any(group.alive for hub in scheduler.state.hubs.values() for group in hub.groups):
            return ""
        alike = record.kind, record.spec.priority
        if alike not in self._obstacles:  # a request may name many ids, but few kinds
            self._obstacles[alike] = scheduler.dispatch.no_taker(record)
        return self._obstacles[alike]

    def _get_task(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._state_of(_text(request, "taskid"))

    def _get_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        ids = request.get("tasksid")
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise BadRequest("'tasksid' must be a list of task ids, each a text.")
        if len(ids) > MOST_IDS:
            raise BadRequest(f"'tasksid' has {len(ids)} ids; ask for at most {MOST_IDS} at once.")
        return {each: self._state_of(each) for each in ids}

    def _state_of(self, task: str) -> dict[str, Any]:
        view: TaskView | None = self.scheduler.task_view(task)
        if view is None:
            kind, reason = self.scheduler.state.dropped.answer(task)
            if kind == "UnknownTask":
                reason = f"There is no task {_shown(task)} here: it was never sent, or its result was dropped."
            self.promised = task
            return {"progress": None, "result": None, "error": _sentence(reason)}
        if view.state.ended or view.state is TaskState.CANCELLING:
            self.promised = task
        if view.state.ended:
            self._ask(CollectTask(task=task), Message)
        if view.state in (TaskState.CANCELLED, TaskState.CANCELLING):
            return {"progress": "cancelled", "result": None}
        if view.state is TaskState.DONE:
            return _result(view)
        if view.state in WAITING:
            obstacle = self._obstacle(task) if view.state is TaskState.QUEUED else ""
            return {"progress": 0, "result": None, **({"waiting": _sentence(obstacle)} if obstacle else {})}
        if view.state is TaskState.RUNNING:
            return {"progress": max(1, min(99, int(view.progress))), "result": None}
        failure = view.failure
        reason = f"{failure.kind}: {failure.message}" if failure is not None else f"The task is {view.state}."
        return {"progress": None, "result": None, "error": reason}

    def _cancel_task(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(CancelTask(request=0, task=_text(request, "taskid")), CancelAnswer)
        if answer is None or not answer.source:
            return {"deleted": False, "from": None}
        self.promised = _text(request, "taskid")
        return {"deleted": True, "from": answer.source}

    # ── the Health Check and the Monitor ──

    def _rows(self, topic: str) -> Any:
        return queries.answer(self.scheduler, topic, {}, self.now)

    def _workers_list(self, _request: dict[str, Any]) -> dict[str, Any]:
        wall = self.now + self.scheduler.wall_offset
        return {
            row["worker"]: {
                "workerip": row["ip"],
                "workerhealthport": row["hc_port"],
                "lasttasktime": wall - row["since_s"],
                "taskname": row["task_name"] or None,
                "address": row["address"],
                **_told_by_core(row),
            }
            for row in self._rows("workers")
        }

    def _down_worker(self, request: dict[str, Any]) -> dict[str, Any]:
        """Acknowledge the report; only a worker's hub and that hub's lease decide whether the worker is lost."""
        worker = _text(request, "workerid")
        if all(row["worker"] != worker for row in self._rows("workers")):
            raise BadRequest(f"There is no worker {_shown(worker)} here.")
        return {"LB": "OK"}

    def _monitor_workers(self, _request: dict[str, Any]) -> dict[str, Any]:
        queue = self._rows("queue")
        workers = [
            {
                "workerid": row["worker"],
                "workerip": row["ip"],
                "workerport": row["lb_port"],
                "workerhealthport": row["hc_port"],
                "workerCPU": row.get("cpu", 0.0),
                "workertask": row["task_name"] or None,
                "workertaskid": row["task"] or None,
                "workerdone": row["progress"],
                "workerminpriority": row["minP"],
                "workermaxpriority": row["maxP"],
            }
            for row in self._rows("workers")
        ]
        return {"workers": workers, "commandqueue": queue["by_name"], "priorityqueue": queue["by_priority"]}

    def _monitor_stats(self, _request: dict[str, Any]) -> Any:
        return self._rows("stats")

    _CLIENTS = {"GETTASK": _get_task, "GETTASKS": _get_tasks, "CANCELTASK": _cancel_task}
    _HEALTH = {"GIVEMEWORKERSLIST": _workers_list, "DOWNWORKER": _down_worker}
    _MONITOR = {"WORKERS": _monitor_workers, "STATS": _monitor_stats}


def _told_by_core(row: dict[str, Any]) -> dict[str, int]:
    """Return a worker's state as its hub would tell it, for a hub on another computer, which nobody can ask.

    The core knows it from the hub's heartbeats: 100 free, 0 busy, -1 if the hub is silent.
    """
    if row["address"] or row["hc_port"]:
        return {}
    return {"state": -1 if row.get("suspect") else 100 if row["state"] == "idle" else 0}


def _result(view: TaskView) -> dict[str, Any]:
    """The JSON that the task returned; a Python object's pickle is not opened here."""
    payload = view.payload
    try:
        result = msgspec.json.decode(b"".join(payload.buffers)) if payload is not None else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        said = "The result is a Python object, which the JSON door does not open; collect it with nblb's Client."
        return {"progress": 100, "result": None, "error": said}
    except (JournalError, OSError) as error:
        return {"progress": None, "result": None, "error": f"The result is lost: {error}"}
    return {"progress": 100, "result": result}


def _text(request: dict[str, Any], key: str) -> str:
    value = request.get(key)
    if isinstance(value, str) and value:
        return clean_name(value)
    found = _shown(value) if key in request else "missing"
    raise BadRequest(f"{key!r} is {found}; it must be a text that is not empty.")


def _number(request: dict[str, Any], key: str) -> float:
    value = request.get(key)
    if value is None:
        return 0.0
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):
        number = float("nan")
    if not isfinite(number):
        raise BadRequest(f"{key!r} is {_shown(value)}; it must be a finite number.")
    return number


def _needs(request: dict[str, Any]) -> Needs | None:
    """Return what the task needs of its worker: the keys gpus, memory_mb and needs, all optional."""
    try:
        return checked_needs(request.get("gpus") or 0, request.get("memory_mb") or 0, request.get("needs") or ())
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{error}.") from None


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
