"""All that is said between processes, and the states a task can be in.

Requests are imperative (SubmitTask, RunTask), facts are past tense (TaskFinished, WorkerDied). The wire message
is the event of the state machine that receives it: there is no second vocabulary. docs/protocol.md tells the
same as a story.

A *task* on the wire is a record of one call or of many calls (`items`) of one function that travel and are
journaled together; `task` is the id that its client made. Facts and orders speak of a slice of a record: `items`
items from `first` on. A record of one call is its own slice (first 0, items 1) and those fields are not sent.
The id of item i of a record of many, as users see it, is f"{task}.{i}".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from nblb.protocol.framing import Codec, Payload


class TaskState(str, Enum):
    """Where a task is in its life; scheduling/slice.py holds the table of transitions."""

    BLOCKED = "BLOCKED"  # waits for other tasks' results
    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"  # a hub has it, no worker yet
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"  # its hub has been told, and has not confirmed
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    def __str__(self) -> str:
        return self.value

    __hash__ = str.__hash__  # Enum's own is Python code, and the scheduler looks states up all the time

    @property
    def ended(self) -> bool:
        return self in ENDED


ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.LOST})


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, kw_only=True, gc=False):
    """The root of what is said; the tag is the name of the class."""


# ── a party and the core ────────────────────────────────────────────────────────────────────────────────────


class Hello(Message):
    """A client's first word on a connection: who it is. Answer: Welcome or Refused."""

    client: str  # random, of this process
    user: str  # a claim; believed only where the transport says it may be
    host: str = ""
    pid: int = 0
    python: tuple[int, int] = (3, 0)
    cloudpickle: str = ""
    notebook: str = ""  # path of the notebook, "" outside one
    since: float = 0.0  # wall clock: when this process connected at first, for lb.inbox()
    here_s: float = -1.0  # how long ago that was, by its own monotonic clock; -1: not known


class Welcome(Message):
    """The core's answer to Hello and HubHello."""

    core: str  # uuid of the cluster, stays over restarts
    epoch: int  # raised by one at each start of the core
    name: str
    user: str = ""  # who the core takes the client for
    durability: str = "process"
    pid: int = 0
    heartbeat_s: float = 1.0
    echo: float = 0.0  # to a hub: its lease counts from when its own clock said this
    output: str = ""  # the folder of this machine in which the whole output of tasks is kept (output_log.py)
    files: str = ""  # the state folder, in whose files large buffers can be handed over; "" if in none
    token: str = ""  # lies there: who finds it sees the same folder


class FilesSeen(Message):
    """This party sees the folder that Welcome named: from here on the core may name files instead of sending bytes."""

    token: str


class Refused(Message):
    """The core will not talk to this party; `reason` is a sentence for a person."""

    reason: str
    kind: str = "NotAllowed"  # name of a class in errors.py


class Heartbeat(Message):
    """Either side is alive; sent when nothing else was said for heartbeat_s."""

    load: float = 0.0  # hub: CPU use of its machine, 0..1
    memory: float = 0.0  # hub: memory in use of its machine, 0..1
    at: float = 0.0  # the clock of whoever says it
    echo: float = 0.0  # core to hub: `at` of the hub's heartbeat that this answers


# ── client to core ──────────────────────────────────────────────────────────────────────────────────────────


class PutBlob(Message):
    """Keep a function or a constant under its content hash; said before the first task that names it."""

    hash: str
    payload: Payload
    name: str = ""


class OpenJob(Message):
    """A named, ordered set of tasks begins; its records follow as SubmitTask.

    With `request` it is opened only if nobody but `replaces` has its name, so that of several kernels which map the
    same at once one opens the job and the others join it. Answer: Answer (null: it is open; else what the topic "job"
    tells of the job that has the name).
    """

    job: str
    name: str
    items: int  # how many items its records will have in all; 0: open end (an executor)
    task_name: str = ""
    fingerprint: str = ""  # hashes of function and arguments, by which the same sweep is known; unnamed: the function's
    marks: str = ""  # one short hash an item, base64: what a changed sweep need not compute again
    origin: str = ""  # notebook path and cell, for lb.inbox()
    user: str = ""
    made: bool = False  # the client has made the name up: if another job has it, the core gives a free one (JobNamed)
    request: int = 0
    replaces: str = ""  # the job whose name it takes over; "" for a name that is free
    sole: bool = False  # each item is in one record: a record with items that another one has is rejected
    code: str = ""  # fingerprint of the function's code, which comments and places do not change


class SubmitTask(Message):
    """Run `items` calls of a function. Asking twice with one id is harmless. Answer: TaskAccepted | TaskRejected."""

    task: str
    name: str  # for people, and for statistics
    function: str = ""  # content hash of a blob; "" runs the function that is published as `name`
    payload: Payload = Payload()
    items: int = 1
    split: bool = False  # the payload has one buffer cut into items, so slices may run apart
    job: str = ""
    index: int = 0  # where its first item stands in the job
    priority: float = 0.0
    user: str = ""  # act for another user; "" is the connection's own
    retries: int = 0
    timeout_s: float = 0.0  # 0: none; for one item
    at_most_once: bool = False
    depends: tuple[str, ...] = ()  # records, or items of them as "record.item", whose results are arguments
    constants: tuple[str, ...] = ()  # blobs that the payload refers to
    call: str = "python"  # "json": payload and result are JSON, function(task=..., **arguments)
    python: tuple[int, int] = (0, 0)  # (0, 0): any version can run it
    origin: str = ""
    cache: str = ""  # content hash of function and arguments: an earlier result of it may serve
    fresh: bool = False  # … but it does not: it is computed, and serves the later ones
    parent: str = ""  # the record whose call submits it, while that runs on a worker of this cluster …
    parent_item: int = 0  # … the call's number in that record …
    parent_attempt: int = 0  # … and the attempt; its user is the parent's, whatever `user` says


class CancelTask(Message):
    """Stop a record, some items of it, or a job. Answer: CancelAnswer."""

    request: int
    task: str = ""
    first: int = 0
    items: int = 0  # 0: the whole record
    job: str = ""
    kill: bool = False  # do not wait for the grace


class CollectTask(Message):
    """The client holds these results now: the time to live begins."""

    task: str = ""
    tasks: tuple[str, ...] = ()  # or many


class FetchTask(Message):
    """Send the end of this record's (or job's) slices again, results included, and all that comes after.

    With `first` only the result that begins at this item, or what is running there has said last. Several may begin
    there, since a slice that takes long tells some results before its end: `items` is of how many it is, 0 for any.
    """

    task: str = ""
    job: str = ""
    first: int = -1
    items: int = 0
    quiet: bool = False  # only what comes from now on: the ends are known


class RetryFailed(Message):
    """Run the FAILED and LOST items of a record or a job again, as if for the first time. Answer: Answer (how many).

    They are QUEUED then, which TaskReopened tells to all who watch, and will end a second time. With `function` they
    run that one from now on, on the arguments that they have; BlobMissing comes first if the core lacks it.
    """

    request: int
    task: str = ""
    job: str = ""
    function: str = ""  # content hash of a blob
    python: tuple[int, int] = (0, 0)  # that has pickled it


class ForgetJob(Message):
    """Drop a job and its results: from the answer on nobody finds it. Answer: Answer (was it there), if asked for."""

    job: str
    request: int = 0  # 0: no answer is wanted


class Publish(Message):
    """Let anybody run a blob by name; "" as the hash takes it back."""

    name: str
    hash: str = ""


class Ask(Message):
    """A question about the cluster; see broker/queries.py for the topics. Answer: Answer."""

    request: int
    topic: str
    about: dict[str, Any] = {}


class StopCore(Message):
    """End the core; hubs=True ends its hubs too."""

    request: int = 0
    hubs: bool = True


class ScaleHub(Message):
    """A hub shall have so many workers, split over its groups as configured (client to core, core to hub)."""

    hub: str
    workers: int
    request: int = 0


class TurnKnob(Message):
    """Give a knob of a running task another value (client to core, core to hub). Answer: Answer (slices told).

    The core keeps the value for the tasks of the record, or of the job, that begin later.
    """

    name: str
    value: Any = None  # a JSON value
    task: str = ""
    job: str = ""  # client to core: instead of a task
    item: int = -1  # of the record; -1: all
    request: int = 0
    attempt: int = 0  # core to hub: the slice that is meant
    first: int = 0


class StopAndKeep(Message):
    """End a running task at its next word; its result is what it emitted last. (Both ways as TurnKnob.)"""

    task: str = ""
    job: str = ""
    item: int = -1
    request: int = 0
    attempt: int = 0
    first: int = 0


class FetchCall(Message):
    """Send the very call of one item: function, arguments and all that they need. Answer: CallTold or Answer."""

    request: int
    task: str
    item: int = 0


# ── core to client ──────────────────────────────────────────────────────────────────────────────────────────


class TaskAccepted(Message):
    """The task is in the journal: it will end, whatever dies."""

    task: str = ""
    tasks: tuple[str, ...] = ()  # or many
    items: int = 0  # of single calls that came together only the first so many were kept; 0: all
    reason: str = ""


class TaskRejected(Message):
    """The core did not take the task, and kept nothing of it."""

    task: str
    kind: str  # name of a class in errors.py
    reason: str


class BlobMissing(Message):
    """The core (or the hub) does not hold this blob: say PutBlob again."""

    hash: str


class TaskChanged(Message):
    """A slice is in another state, or further on. Coalesced: only the latest counts."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    progress: float = 0.0  # 0..100
    note: str = ""  # what the task said with its progress, or why it waits
    worker: str = ""
    host: str = ""
    attempt: int = 0


class Failure(Message):
    """One item of a slice that raised, as text that needs no unpickling."""

    offset: int = 0  # from the slice's first item
    kind: str = ""  # name of the exception's class, or of a class in errors.py
    message: str = ""  # str(exception), bounded
    traceback: str = ""  # with source lines, bounded
    where: str = ""  # the innermost line of the user's own code: 'cell In[7] line 4'
    payload: Payload | None = None  # the pickled exception where it pickles
    line: str = ""  # the text of that line
    call: str = ""  # the call that failed, bounded: 'simulate(3, n=1000)'
    frames: Payload | None = None  # the user's frames, JSON and pickles, bounded: see payload/frames.py
    host: str = ""  # where it was raised
    worker: str = ""
    attempt: int = 0


class TaskEnded(Message):
    """A slice has ended: all its items are DONE (payload), or FAILED, CANCELLED or LOST (failure)."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    payload: Payload | None = None  # one pickle of the list of results; call="json": one JSON value
    failure: Failure | None = None
    holes: tuple[int, ...] = ()  # DONE: offsets of items whose end is told by itself (they raised)
    duration_s: float = 0.0  # of these items together, without the holes
    worker: str = ""
    host: str = ""
    attempt: int = 0
    ended_at: float = 0.0  # wall clock, for display
    function: str = ""  # content hash of the function that made it, where it is not the record's own (RetryFailed)
    kept: tuple[int, ...] = ()  # DONE: offsets of items that StopAndKeep ended: their result is what they emitted last


class TaskReopened(Message):
    """Items of a record that had ended run once more, since somebody said RetryFailed: they will end again."""

    task: str
    again: tuple[tuple[int, int], ...]  # runs of items: (first, items)
    items: int = 1  # of the record
    job: str = ""
    function: str = ""  # content hash of the one that they run now, where they were given another
    number: int = 0  # grows from one to the next, over restarts of the core too: a late copy is told by it


class JobChanged(Message):
    """Counts of a job by state, at most a few times a second."""

    job: str
    counts: dict[str, int]


class JobNamed(Message):
    """Another job of the user has the name that the client made up for this one: it goes by a free one."""

    job: str
    name: str


class CancelAnswer(Message):
    """The answer to CancelTask: how many items are or will be cancelled, and where they were found."""

    request: int
    cancelled: int = 0  # items that are or will be cancelled
    source: str = ""  # the seed's 'from': queue, pending, done or ''


class Answer(Message):
    """What an Ask, StopCore or ScaleHub asked for; or `error`, a sentence, with its class's name in `kind`."""

    request: int
    value: Any = None
    error: str = ""
    kind: str = ""


class CallTold(Message):
    """The answer to FetchCall: what RunTask and HoldBlob would tell a hub."""

    request: int
    name: str
    payload: Payload
    function: str = ""  # content hash; it is in `held`
    item: int = 0  # of the payload, which may hold more than one call
    items: int = 1
    split: bool = False
    call: str = "python"
    held: tuple[HoldBlob, ...] = ()  # function, constants, and results that are arguments


# ── core to hub ─────────────────────────────────────────────────────────────────────────────────────────────


class RunTask(Message):
    """Run this slice on a worker of the hub's group `group`; its facts must carry `attempt`."""

    task: str
    attempt: int
    name: str
    function: str
    payload: Payload
    group: int = 0
    first: int = 0
    items: int = 1
    split: bool = False
    call: str = "python"
    timeout_s: float = 0.0  # for the slice: items times the item's
    depends: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    user: str = ""


class StopTask(Message):
    """Take this attempt back: from the queue, or by interrupting it. Fact: TaskStopped, or its real end."""

    task: str
    attempt: int
    first: int = 0
    kill: bool = False
    why: str = "cancel"  # "cancel" | "timeout" | "recall" (only if it has not started)


class ResumeTask(Message):
    """The worker that waited for tasks of its own may use a slot again. `wait` is that of the WaitEnded it answers."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 0


class LendSlot(Message):
    """Run a stand-in for the worker of this attempt, which seems to wait without saying so. Fact: WaitBegan."""

    task: str
    attempt: int
    first: int = 0


class HoldBlob(Message):
    """A function, a constant, or results of a task that others depend on (then `hash` is the task's id).

    The results of a task may come in several pieces: each says which items it holds, and of how many (`total`).
    The result of one item, whose name is task.item, is counted as number 0 of 1, so its piece may begin before it.
    """

    hash: str
    payload: Payload
    first: int = 0
    items: int = 1
    total: int = 0  # 0: a function or a constant
    holes: tuple[int, ...] = ()  # offsets in this piece whose results come in other pieces


class EndCommitted(Message):
    """The journal holds the end of this attempt (or it is not wanted any more): the hub may drop it."""

    task: str
    attempt: int
    first: int = 0
    offset: int = -1  # of the part (ItemsFinished) that is meant; -1: the end itself


class StopHub(Message):
    """Stop the workers and go; `reason` is for the log."""

    reason: str = ""


# ── hub to core ─────────────────────────────────────────────────────────────────────────────────────────────


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group of alike workers of a hub: a band of priorities, a niceness."""

    workers: int  # as configured; those that live are told by WorkerStarted and WorkerDied
    minP: float = 0.0
    maxP: float = 1000.0
    processP: int = 0
    engine: str = "processes"
    max_tasks: int = 0  # calls after which a worker makes place for a new one; 0: never


def split_workers(number: int, sizes: Sequence[int]) -> list[int]:
    """The workers of each of a hub's groups where the hub is to have `number` of them and the groups have `sizes`.

    In proportion to the sizes, the largest remainders rounded up, an earlier group before a later one; where no group
    has workers, all go to the first.
    """
    whole = sum(sizes)
    if not whole:
        return [number, *(0 for _ in sizes[1:])]
    split = [number * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(number * sizes[i] % whole), i))
    for index in by_remainder[: number - sum(split)]:
        split[index] += 1
    return split


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that a hub has in hand while it says hello again."""

    task: str
    attempt: int
    first: int = 0
    items: int = 1
    worker: str = ""
    ran_s: float = 0.0  # since its worker began
    ahead: bool = False  # it has not begun: it waits in the worker's socket behind another
    wait: int = 0  # its worker has given up its slot (WaitBegan) …
    wait_ended: bool = False  # … and asks for one again (WaitEnded)
    lent: bool = False  # … because it was asked for (LendSlot)


class HubHello(Message):
    """A hub's first word on a connection: what it has, and what it still runs. Answer: Welcome or Refused."""

    hub: str  # random, of this incarnation
    name: str
    host: str
    pid: int
    python: tuple[int, int]
    cloudpickle: str
    groups: tuple[Group, ...]
    workers: tuple[tuple[str, int], ...] = ()  # (worker id, its group), those alive now
    pids: tuple[int, ...] = ()  # of these workers, in their order
    running: tuple[Running, ...] = ()
    functions: tuple[str, ...] = ()  # names it runs by itself (addTask)
    address: str = ""  # where it answers probes (WKHUB_HCPORT)
    core: str = ""  # uuid of the core it spoke with before, "" at first
    ip: str = "127.0.0.1"
    numpy: str = ""  # the version that its workers import
    lb_port: int = 0  # WKHUB_LBPORT, for the seed's answers; nothing listens there
    hc_port: int = 0
    parent: int = 0
    said_at: float = 0.0  # its own clock
    leased_at: float = 0.0  # its lease counts from there by the same clock; 0: it has none, and runs nothing by one
    leaves: bool = False  # it has said HubLeaves to a core before this one
    stand_ins: tuple[str, ...] = ()  # those of `workers` that stand in for workers that wait


class HubLeaves(Message):
    """The hub goes as soon as nothing runs there; it hands back what it has not begun, and is to be given no more."""


class HubGone(Message):
    """The hub leaves on purpose."""

    reason: str = ""


class WorkerStarted(Message):
    """A worker's process is ready for tasks."""

    worker: str
    group: int = 0
    pid: int = 0
    stand_in: bool = False  # it runs in place of one that waits, and adds no slot; said again when that changes


class WorkerDied(Message):
    """A worker's process has ended by itself, with what it was running; a new one is on its way."""

    worker: str
    reason: str  # a sentence: signal or exit code, memory, last output
    group: int = 0
    task: str = ""  # "" if it was idle
    attempt: int = 0
    first: int = 0
    shared: bool = False  # others of its hub ended at the same moment, and any of their tasks may have done it


class TaskStarted(Message):
    """A worker has begun with the slice."""

    task: str
    attempt: int
    first: int = 0
    worker: str = ""


class WaitBegan(Message):
    """The worker of this attempt waits for tasks of its own and has given up its slot; `wait` counts its waits."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 1
    lent: bool = False  # LendSlot has asked for it: the worker may go on at any time, and asks for no slot


class WaitEnded(Message):
    """What that wait was for is over, or its time: the worker asks for a slot. Answer: ResumeTask."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 1


class TaskProgressed(Message):
    """The progress and the note that a running slice reported last."""

    task: str
    attempt: int
    first: int = 0
    progress: float = 0.0  # 0..100; of the slice
    note: str = ""


class TaskFinished(Message):
    """Every item of the slice was called; those that raised stand in `failures`, all others in `payload`."""

    task: str
    attempt: int
    first: int = 0
    items: int = 1
    payload: Payload | None = None  # one pickle of the list of all items' results (None for one that raised)
    failures: tuple[Failure, ...] = ()
    duration_s: float = 0.0  # of the whole slice
    worker: str = ""
    kept: tuple[int, ...] = ()  # offsets of items that StopAndKeep ended: their result is what they emitted last
    told: int = 0  # the first so many items have been told by ItemsFinished: here they have neither result nor failure
    follows: tuple[tuple[int, str], ...] = ()  # (offset, task): items that end as that task of theirs does


class ItemsFinished(Message):
    """Some calls of a slice are over while it goes on: told so that nobody waits for the others. In order, no gaps.

    Offsets in `failures` and `kept` count from the first of these items, which is number `offset` of the slice.
    """

    task: str
    attempt: int
    first: int = 0  # of the slice, as in its RunTask
    offset: int = 0
    items: int = 1
    payload: Payload | None = None
    failures: tuple[Failure, ...] = ()
    duration_s: float = 0.0  # since the slice began, or its part before this one was told
    worker: str = ""
    kept: tuple[int, ...] = ()


class TaskStopped(Message):
    """The attempt runs no more because StopTask said so, or the hub hands it back unstarted (`why`: "recall")."""

    task: str
    attempt: int
    first: int = 0
    why: str = "cancel"
    ran: bool = False
    worker: str = ""


class TaskPrinted(Message):
    """Output of a task, bounded; kept by the core as the tail of the task's output and passed on to watchers."""

    task: str
    attempt: int
    first: int = 0
    stream: str = "stdout"  # "stdout" | "stderr" | "display" (then `text` is JSON, see worker/mime_bundles.py)
    text: str = ""
    offset: int = 0  # which item of the slice wrote it
    heard: int = 0  # bytes that it has written to this stream so far, whether they were passed on or not


class TaskEmitted(Message):
    """An intermediate result of an item; only the latest counts."""

    task: str
    attempt: int
    first: int = 0
    offset: int = 0  # of the item, from the slice's first
    payload: Payload | None = None  # the pickled value; None for one that is only a picture, or too large
    bundle: str = ""  # its pictures, as JSON of a mime bundle; "" for a plain value


class KnobOffered(Message):
    """A task has asked for the value of a knob, and goes on with this one."""

    task: str
    attempt: int
    name: str
    first: int = 0
    offset: int = 0  # of the item, from the slice's first
    value: Any = None
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None


class BlobWanted(Message):
    """The hub needs a blob (or the result of a task) that a RunTask names. Answer: HoldBlob or BlobMissing."""

    hash: str


FromClient: TypeAlias = (  # what may arrive at the clients' door
    Hello
    | FilesSeen
    | Heartbeat
    | PutBlob
    | OpenJob
    | SubmitTask
    | CancelTask
    | CollectTask
    | FetchTask
    | RetryFailed
    | ForgetJob
    | Publish
    | Ask
    | StopCore
    | ScaleHub
    | TurnKnob
    | StopAndKeep
    | FetchCall
)
ToClient: TypeAlias = (
    Welcome
    | Refused
    | Heartbeat
    | TaskAccepted
    | TaskRejected
    | BlobMissing
    | TaskChanged
    | TaskEnded
    | TaskReopened
    | TaskPrinted
    | TaskEmitted
    | KnobOffered
    | JobChanged
    | JobNamed
    | CancelAnswer
    | Answer
    | CallTold
)
FromHub: TypeAlias = (
    HubHello
    | FilesSeen
    | HubLeaves
    | HubGone
    | Heartbeat
    | WorkerStarted
    | WorkerDied
    | TaskStarted
    | WaitBegan
    | WaitEnded
    | TaskProgressed
    | TaskFinished
    | ItemsFinished
    | TaskStopped
    | TaskPrinted
    | TaskEmitted
    | KnobOffered
    | BlobWanted
)
ToHub: TypeAlias = (
    Welcome
    | Refused
    | Heartbeat
    | RunTask
    | StopTask
    | ResumeTask
    | LendSlot
    | HoldBlob
    | BlobMissing
    | EndCommitted
    | ScaleHub
    | StopHub
    | TurnKnob
    | StopAndKeep
)

client_to_core = Codec(FromClient)
core_to_client = Codec(ToClient)
hub_to_core = Codec(FromHub)
core_to_hub = Codec(ToHub)
