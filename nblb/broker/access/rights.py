"""What each role may say; pure.

A party on another computer acts as the name that its key has. A *user* submits tasks, and sees and changes only its
own; a *viewer* asks questions and changes nothing; an *admin* may do all of it for everybody, and change the cluster;
a *hub* runs what it is given, and gets no other blobs than those that its attempts name. Parties on the core's own
computer and account do not pass here: whoever runs as that account could read its files anyway.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from nblb.access.key_store import Role
from nblb.protocol.messages import (
    AdaptWorkers,
    Administer,
    Ask,
    BlobWanted,
    CancelTask,
    CollectTask,
    DrainHub,
    FetchCall,
    FetchOutput,
    FetchTask,
    FilesSeen,
    ForgetJob,
    Heartbeat,
    Hello,
    HubHello,
    Message,
    OfferHubs,
    OpenJob,
    Publish,
    PutBlob,
    RemoveHub,
    RetryFailed,
    ScaleHub,
    SetPriority,
    StopAndKeep,
    StopCore,
    SubmitTask,
    TaskFinished,
    TurnKnob,
)
from nblb.scheduling.hubs import Hub
from nblb.scheduling.state import ConnectedClient, State

PEOPLE: tuple[Role, ...] = ("user", "viewer", "admin")
FOR_ALL = (Hello, Heartbeat, FilesSeen, Ask)
FOR_ADMINS: dict[type[Message], str] = {
    StopCore: "stop the cluster",
    ScaleHub: "change a hub",
    AdaptWorkers: "change the number of workers",
    OfferHubs: "offer hubs",
    DrainHub: "drain a hub",
    RemoveHub: "remove a hub",
    Publish: "publish functions",
    Administer: "change keys",
}
ABOUT_TASKS = (
    CancelTask, FetchTask, RetryFailed, SetPriority, TurnKnob, StopAndKeep, FetchCall, FetchOutput, ForgetJob,
    CollectTask,
)  # fmt: skip


class Who(NamedTuple):
    """The owner of a key."""

    name: str
    role: Role
    mark: str = ""  # of the key, with which the ids of its hubs end


class Judged(NamedTuple):
    """The message to handle, or None and the reason; `acts_for` is another user in whose name an admin speaks."""

    message: Message | None
    reason: str = ""
    acts_for: str = ""


def of_client(state: State, who: Who, message: Message) -> Judged:
    """Judge a message that has arrived at the clients' door."""
    kind = type(message)
    if who.role not in PEOPLE:
        return _of_task_on_hub(state, who, message)
    if isinstance(message, Hello):
        return _hello(who, message)
    if isinstance(message, FOR_ALL):
        return Judged(message)
    if who.role == "viewer":
        return _denied(f"the key of {who.name!r} is a viewer's, which may look and change nothing")
    if isinstance(message, (SubmitTask, OpenJob)):
        return _in_own_name(state, who, message)
    if who.role == "admin":
        return Judged(message)
    if kind in FOR_ADMINS:
        return _denied(f"only an administrator may {FOR_ADMINS[kind]}, and the key of {who.name!r} is a user's")
    if isinstance(message, ABOUT_TASKS):
        other = _other_owner(state, who, message)
        return (
            _denied(f"that belongs to {other!r}, and only {other!r} or an administrator may do this")
            if other
            else (Judged(message))
        )
    if kind is PutBlob:
        return Judged(message)
    return _denied(f"a user may not send {kind.__name__}")


def refusal_of(state: State, client: ConnectedClient, message: Message) -> str:
    """Return why a connection whose Hello has a role may not send a message; "" if it may."""
    role = next((role for role in PEOPLE if role == client.role), None)
    if role is None:
        return f"there is no role {client.role[:40]!r}; there are {', '.join(PEOPLE)}"
    return of_client(state, Who(client.user, role), message).reason


def _hello(who: Who, message: Hello) -> Judged:
    """Judge a hello: in the name of the key, or of another user with a role if the key is an administrator's."""
    if not message.role or message.user in ("", who.name):
        return Judged(msgspec.structs.replace(message, user=who.name))
    if who.role != "admin":
        return _denied(f"{who.name!r} may not act for {message.user!r}; only an administrator's key may")
    return Judged(message, acts_for=message.user)


def _of_task_on_hub(state: State, who: Who, message: Message) -> Judged:
    """Judge a message of a task that runs on a hub of this key and submits tasks, which are its user's."""
    if isinstance(message, (Heartbeat, FilesSeen, PutBlob)):
        return Judged(message)
    users = {held.user.name for hub in _hubs_of(state, who) for held in hub.in_flight.values()}
    known = {*users, ""} if isinstance(message, OpenJob) else users  # "" is the user of its Hello
    if isinstance(message, (Hello, OpenJob)) and message.user in known:
        return Judged(message)
    if isinstance(message, Ask) and users:
        return Judged(message)
    if isinstance(message, SubmitTask) and _runs_there(state, who, message.parent):
        return _in_own_name(state, Who(state.records[message.parent].user, "user"), message)
    if isinstance(message, ABOUT_TASKS):
        names = [getattr(message, "task", ""), *getattr(message, "tasks", ())]
        job = state.jobs.get(getattr(message, "job", "") or "")
        records = list(job.records.values()) if job is not None else []
        records += [state.records[name] for name in names if name in state.records]
        if all(_runs_there(state, who, record.spec.parent) for record in records):
            return Judged(message)
    return _denied(
        f"the key of {who.name!r} is a hub's, with which only the tasks on that hub can submit tasks of theirs"
    )


def _is_child(state: State, task: str, parent: str) -> bool:
    record = state.records.get(task)
    return record is not None and record.spec.parent == parent


def _hubs_of(state: State, who: Who) -> list[Hub]:
    return [hub for hub in state.hubs.values() if who.mark and hub.id.endswith(f"-{who.mark}")]


def _runs_there(state: State, who: Who, task: str) -> bool:
    """Return True if a hub of this key has an attempt of the submission in hand."""
    return bool(task) and any(fence[0] == task for hub in _hubs_of(state, who) for fence in hub.in_flight)


def of_json(state: State, who: Who, request: Any) -> str:
    """Return why a JSON request of this party is refused; "" if it is not, or if it is malformed anyway."""
    if who.role not in PEOPLE:
        return f"The key of {who.name!r} is a hub's, with which no requests can be sent."
    if not isinstance(request, dict) or who.role == "admin":
        return ""
    if request.get("HEALTH") == "DOWNWORKER":
        return "Only an administrator may report a worker as down."
    word = request.get("toLB")
    if word == "NEWTASK":
        if who.role == "viewer":
            return f"The key of {who.name!r} is a viewer's, which may look and change nothing."
        if request.get("userid") not in (None, who.name):
            return f"{who.name!r} may not act for {str(request['userid'])[:80]!r}; only an administrator's key may."
        return ""
    named = request.get("tasksid") if word == "GETTASKS" else [request.get("taskid")]
    tasks = [task for task in named if isinstance(task, str)] if isinstance(named, list) else []
    owner = next((owner for task in tasks if (owner := _owner(state, task)) not in ("", who.name)), "")
    return f"That task belongs to {owner!r}." if owner else ""


def of_hub(state: State, hub: Hub | None, who: Who, message: Message) -> Judged:
    """Judge a message that has arrived at the hubs' door; `hub` is the sender's, once it has said hello."""
    if who.role != "hub":
        return _denied(f"the key of {who.name!r} is no hub's; hubs need an invitation with --role hub")
    if isinstance(message, BlobWanted) and hub is not None and message.hash not in _named_by(hub):
        return _denied(f"no attempt of hub {who.name!r} names the blob {message.hash[:20]!r}")
    follows = message.follows if isinstance(message, TaskFinished) else ()
    if not all(_is_child(state, name, message.task) for _, name in follows):  # type: ignore[attr-defined]
        return _denied(f"a call on hub {who.name!r} follows a task that it has not submitted")  # to get its result
    return Judged(message)


def as_hub(who: Who, mark: str, hello: HubHello, ip: str, others: State) -> HubHello:
    """Return a hub's hello with the name of its key.

    `mark` becomes part of the hub's id: no hub can return as a hub of another key.
    """
    hub = f"{hello.hub}-{mark}"
    taken = any(other.name == who.name and other.id != hub for other in others.hubs.values())
    return msgspec.structs.replace(
        hello,
        hub=hub,
        name=f"{who.name}-{hello.pid}" if taken else who.name,
        address="",
        hc_port=0,
        lb_port=0,
        ip=ip,
    )


def _named_by(hub: Hub) -> set[str]:
    """Return the blobs, and the tasks whose results are arguments, that the attempts of this hub name."""
    found: set[str] = set()
    for held in hub.in_flight.values():
        spec = held.record.spec
        found.update((spec.function, *spec.constants, *spec.depends, *held.record.codes))
    return found


def _in_own_name(state: State, who: Who, message: SubmitTask | OpenJob) -> Judged:
    if who.role == "admin":
        return Judged(message, acts_for=message.user if message.user not in ("", who.name) else "")
    if message.user not in ("", who.name):
        return _denied(f"{who.name!r} may not act for {message.user!r}; only an administrator's key may")
    job = state.jobs.get(message.job) if message.job else None
    if job is not None and job.user != who.name:
        return _denied(f"the job belongs to {job.user!r}")
    if isinstance(message, OpenJob):
        return Judged(message)
    for task in (message.task, message.parent, *message.depends):
        owner = _owner(state, task)
        if owner not in ("", who.name):
            return _denied(f"task {message.name} uses a task of {owner!r}, and {who.name!r} may only use its own")
    if message.cache:  # the key is the client's claim: with that of another user's call it would plant a result
        return Judged(msgspec.structs.replace(message, cache=f"{message.cache} of {who.name}"))
    return Judged(message)


def _other_owner(state: State, who: Who, message: Message) -> str:
    """Return whose tasks a message is about, if they are another user's; else ""."""
    names = [getattr(message, "task", ""), *getattr(message, "tasks", ())]
    job = state.jobs.get(getattr(message, "job", "") or "")
    owners = [job.user] if job is not None else []
    owners += [_owner(state, name) for name in names if name]
    return next((owner for owner in owners if owner not in ("", who.name)), "")


def _owner(state: State, task: str) -> str:
    """Return the user of a submission, or of an item of it; "" if the core does not know it."""
    if not task:
        return ""
    record = state.records.get(task) or state.records.get(task.rpartition(".")[0])
    if record is not None:
        return record.user
    waiting = state.parked.get(state.parked_on.get(task, ""), ())
    return next((spec.user for _, spec in waiting if spec.task == task), "")


def _denied(reason: str) -> Judged:
    return Judged(None, reason)
