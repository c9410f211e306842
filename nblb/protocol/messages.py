"""The messages between processes, and the states of a task.

Requests are imperative (SubmitTask, RunTask), facts are past tense (TaskFinished, WorkerDied). A message on the wire
is itself the event of the state machine that receives it: there is no second vocabulary. docs/protocol.md shows the
messages in their order.

A *task* on the wire is a submission: one call, or many calls (`items`) of one function that travel and are journaled
together; `task` is the id that its client made. Facts and orders are about a slice of a submission: `items` items
from `first` on. A submission of one item is its own slice (first 0, items 1), and those fields are not sent. The id
of item i of a submission of many, as users see it, is f"{task}.{i}".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from nblb.protocol.framing import Codec, Payload


class TaskState(str, Enum):
    """The state of a task; scheduling/slice.py holds the table of transitions.

    Examples
    --------
    >>> future.state is lb.TaskState.DONE
    """

    BLOCKED = "BLOCKED"  # it waits for the results of other tasks
    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"  # a hub has it, no worker yet
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"  # its hub has the order, and has not confirmed it
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    def __str__(self) -> str:
        return self.value

    __hash__ = str.__hash__  # Enum's own is slow Python code, and the scheduler looks states up all the time

    @property
    def ended(self) -> bool:
        """True for a state that a task does not leave any more."""
        return self in ENDED


ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.LOST})


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, kw_only=True, gc=False):
    """The base class of all messages; the tag is the name of the class."""


# ── a party and the core ────────────────────────────────────────────────────────────────────────────────────


class Hello(Message):
    """A client's first message on a connection, which identifies it. Answer: Welcome or Refused."""

    client: str  # random id of this process
    user: str  # a claim, believed only if the transport allows it
    host: str = ""
    pid: int = 0
    python: tuple[int, int] = (3, 0)
    cloudpickle: str = ""
    notebook: str = ""  # path of the notebook, "" outside one
    since: float = 0.0  # wall clock of this process's first connection, for lb.inbox()
    here_s: float = -1.0  # time since then, by its own monotonic clock; -1: unknown


class Welcome(Message):
    """The core's answer to Hello and HubHello."""

    core: str  # uuid of the cluster, the same after restarts
    epoch: int  # raised by one at each start of the core
    name: str
    user: str = ""  # the client's user, as the core sees it
    durability: str = "process"
    pid: int = 0
    heartbeat_s: float = 1.0
    echo: float = 0.0  # to a hub: the time, by its own clock, from which its lease counts
    output: str = ""  # the folder of this machine with the whole output of tasks (output_log.py)
    files: str = ""  # the state folder, in which large buffers are handed over as files; "" for none
    token: str = ""  # text of a file in it: a party that finds it sees the same folder


class FilesSeen(Message):
    """This party sees the folder in Welcome, so from here on the core may name files instead of sending bytes."""

    token: str


class Refused(Message):
    """The core refuses this party; `reason` is a sentence for a person."""

    reason: str
    kind: str = "NotAllowed"  # name of a class in errors.py


class Heartbeat(Message):
    """A sign of life of either side, sent when nothing else was sent for heartbeat_s."""

    load: float = 0.0  # hub: CPU use of its machine, 0..1
    memory: float = 0.0  # hub: memory in use of its machine, 0..1
    at: float = 0.0  # the sender's clock
    echo: float = 0.0  # core to hub: `at` of the hub's heartbeat that this answers


# ── client to core ──────────────────────────────────────────────────────────────────────────────────────────


class PutBlob(Message):
    """Store a function or a constant under its content hash; sent before the first task that names it."""

    hash: str
    payload: Payload
    name: str = ""


class OpenJob(Message):
    """Open a job, a named and ordered set of tasks, whose submissions follow as SubmitTask.

    With `request` it is opened only if no other job than `replaces` has its name, so that if several kernels map the
    same at once, one opens the job and the others join it. Answer: Answer (null: it is open; else the value of the
    topic "job" for the job that has the name).
    """

    job: str
    name: str
    items: int  # the number of items of all its submissions; 0: open end (an executor)
    task_name: str = ""
    fingerprint: str = ""  # hashes of function and arguments, which identify a sweep; unnamed: the function's
    marks: str = ""  # one short hash for each item, base64: finds the items that a changed sweep need not repeat
    origin: str = ""  # notebook path and cell, for lb.inbox()
    user: str = ""
    made: bool = False  # the client has invented the name: if it is taken, the core chooses a free one (JobNamed)
    request: int = 0
    replaces: str = ""  # the job whose name it takes over; "" for a free name
    sole: bool = False  # each item is in one submission: one with an item of another is rejected
    code: str = ""  # fingerprint of the function's code, independent of comments and of its place in the file


class SubmitTask(Message):
    """Run `items` calls of a function. Sending an id twice is harmless. Answer: TaskAccepted or TaskRejected."""

    task: str
    name: str  # for people, and for statistics
    function: str = ""  # content hash of a blob; "" runs the function published as `name`
    payload: Payload = Payload()
    items: int = 1
    split: bool = False  # the payload has one buffer that can be cut into items, so slices may run apart
    job: str = ""
    index: int = 0  # the index of its first item in the job
    priority: float = 0.0
    user: str = ""  # act for another user; "" is the connection's own
    retries: int = 0
    timeout_s: float = 0.0  # 0: none; for one item
    at_most_once: bool = False
    depends: tuple[str, ...] = ()  # submissions, or items as "submission.item", whose results are arguments
    constants: tuple[str, ...] = ()  # blobs that the payload refers to
    call: str = "python"  # "json": payload and result are JSON, function(task=..., **arguments)
    python: tuple[int, int] = (0, 0)  # (0, 0): any version can run it
    origin: str = ""
    cache: str = ""  # content hash of function and arguments: an earlier result with it may be used
    fresh: bool = False  # … but compute the result anew, for later tasks to use
    parent: str = ""  # the submission whose call submits it, while it runs on a worker of this cluster …
    parent_item: int = 0  # … the item of that call …
    parent_attempt: int = 0  # … and the attempt; its user is the parent's, whatever `user` is


class CancelTask(Message):
    """Cancel a submission, some items of it, or a job. Answer: CancelAnswer."""

    request: int
    task: str = ""
    first: int = 0
    items: int = 0  # 0: the whole submission
    job: str = ""
    kill: bool = False  # without a grace period


class CollectTask(Message):
    """The client has received these results, so their time to live begins."""

    task: str = ""
    tasks: tuple[str, ...] = ()  # or many


class FetchTask(Message):
    """Send the ends of this submission's (or job's) slices again, with results, and all later news of them.

    With `first`, send only the result that begins at this item, or the latest news of the slice that runs there.
    Several results may begin there, since a long slice reports some results before its end: `items` is the number of
    items of the result, 0 for any.
    """

    task: str = ""
    job: str = ""
    first: int = -1
    items: int = 0
    quiet: bool = False  # only later news: the ends are known


class RetryFailed(Message):
    """Run the FAILED and LOST items of a submission or a job again, as if for the first time. Answer: Answer (number).

    They become QUEUED, which TaskReopened reports to all watchers, and end a second time. With `function` they run
    that function from now on, with the same arguments; BlobMissing comes first if the core lacks it.
    """

    request: int
    task: str = ""
    job: str = ""
    function: str = ""  # content hash of a blob
    python: tuple[int, int] = (0, 0)  # the Python that has pickled it


class ForgetJob(Message):
    """Drop a job and its results; after the answer no client finds it. Answer: Answer (did it exist?), if wanted."""

    job: str
    request: int = 0  # 0: no answer wanted


class Publish(Message):
    """Let every client run a blob by name; "" as the hash revokes it."""

    name: str
    hash: str = ""


class Ask(Message):
    """A question about the cluster, with a topic of broker/queries.py. Answer: Answer."""

    request: int
    topic: str
    about: dict[str, Any] = {}


class StopCore(Message):
    """Stop the core; hubs=True stops its hubs too."""

    request: int = 0
    hubs: bool = True


class ScaleHub(Message):
    """Set a hub's number of workers, split over its groups as configured (client to core, core to hub)."""

    hub: str
    workers: int
    request: int = 0


class TurnKnob(Message):
    """Set a knob of a running task (client to core, core to hub). Answer: Answer (number of running slices).

    The core keeps the value for slices of the submission, or of the job, that begin later.
    """

    name: str
    value: Any = None  # a JSON value
    task: str = ""
    job: str = ""  # client to core: a job instead of a task
    item: int = -1  # of the submission; -1: all
    request: int = 0
    attempt: int = 0  # core to hub: the attempt of the slice
    first: int = 0


class StopAndKeep(Message):
    """End a running task at its next call of the task API; its result is its last emitted value. Sent like TurnKnob."""

    task: str = ""
    job: str = ""
    item: int = -1
    request: int = 0
    attempt: int = 0
    first: int = 0


class FetchCall(Message):
    """Send the call of one item: function, arguments and everything they need. Answer: CallTold or Answer."""

    request: int
    task: str
    item: int = 0


# ── core to client ──────────────────────────────────────────────────────────────────────────────────────────


class TaskAccepted(Message):
    """The task is in the journal, and will end even if processes die."""

    task: str = ""
    tasks: tuple[str, ...] = ()  # or many
    items: int = 0  # if positive, only this many of the single calls that arrived together were accepted
    reason: str = ""


class TaskRejected(Message):
    """The core refused the task, and keeps nothing of it."""

    task: str
    kind: str  # name of a class in errors.py
    reason: str


class BlobMissing(Message):
    """The core (or the hub) does not have this blob: send PutBlob again."""

    hash: str


class TaskChanged(Message):
    """The new state or progress of a slice. Coalesced: only the latest counts."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    progress: float = 0.0  # 0..100
    note: str = ""  # the task's note on its progress, or why it waits
    worker: str = ""
    host: str = ""
    attempt: int = 0


class Failure(Message):
    """The failure of one item of a slice, as text that needs no unpickling."""

    offset: int = 0  # from the slice's first item
    kind: str = ""  # name of the exception's class, or of a class in errors.py
    message: str = ""  # str(exception), bounded
    traceback: str = ""  # with source lines, bounded
    where: str = ""  # the innermost line of the user's own code: 'cell In[7] line 4'
    payload: Payload | None = None  # the pickled exception, if it can be pickled
    line: str = ""  # the text of that line
    call: str = ""  # the call that failed, bounded: 'simulate(3, n=1000)'
    frames: Payload | None = None  # the user's frames, JSON and pickles, bounded: see payload/frames.py
    host: str = ""  # the host on which it was raised
    worker: str = ""
    attempt: int = 0


class TaskEnded(Message):
    """The end of a slice: all its items are DONE (payload), or FAILED, CANCELLED or LOST (failure)."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    payload: Payload | None = None  # one pickle of the list of results; call="json": one JSON value
    failure: Failure | None = None
    holes: tuple[int, ...] = ()  # DONE: offsets of items with a TaskEnded of their own (they raised)
    duration_s: float = 0.0  # of all these items together, without the holes
    worker: str = ""
    host: str = ""
    attempt: int = 0
    ended_at: float = 0.0  # wall clock, for display
    function: str = ""  # content hash of the function, if not the submission's own (RetryFailed)
    kept: tuple[int, ...] = ()  # DONE: offsets of items ended by StopAndKeep: their result is their last emitted value


class TaskReopened(Message):
    """Ended items of a submission run once more, because a client sent RetryFailed, and will end again."""

    task: str
    again: tuple[tuple[int, int], ...]  # runs of items: (first, items)
    items: int = 1  # of the submission
    job: str = ""
    function: str = ""  # content hash of the function that they run now, if it is another one
    number: int = 0  # increases with each, even after restarts of the core: it identifies a late copy


class JobChanged(Message):
    """The counts of a job's items by state, at most a few times a second."""

    job: str
    counts: dict[str, int]


class JobNamed(Message):
    """The new name of a job, because another job of the user has the name that the client invented."""

    job: str
    name: str


class CancelAnswer(Message):
    """The answer to CancelTask: the number of items that are or will be cancelled, and where they were found."""

    request: int
    cancelled: int = 0  # items that are or will be cancelled
    source: str = ""  # the seed's 'from': queue, pending, done or ''


class Answer(Message):
    """The answer to a request: a value; or `error`, a sentence, with its class's name in `kind`."""

    request: int
    value: Any = None
    error: str = ""
    kind: str = ""
    committed: bool = False  # it tells of a record, so it is sent only after that record's commit


class CallTold(Message):
    """The answer to FetchCall, with the contents of the RunTask and HoldBlob for a hub."""

    request: int
    name: str
    payload: Payload
    function: str = ""  # content hash; it is in `held`
    item: int = 0  # the item in the payload, which may contain several calls
    items: int = 1
    split: bool = False
    call: str = "python"
    held: tuple[HoldBlob, ...] = ()  # function, constants, and results that are arguments


# ── core to hub ─────────────────────────────────────────────────────────────────────────────────────────────


class RunTask(Message):
    """Run this slice on a worker of the hub's group `group`; facts about it must carry `attempt`."""

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
    timeout_s: float = 0.0  # for the slice: the timeout of one item times `items`
    depends: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    user: str = ""


class StopTask(Message):
    """Stop this attempt: remove it from the queue, or interrupt it. Fact: TaskStopped, or its real end."""

    task: str
    attempt: int
    first: int = 0
    kill: bool = False
    why: str = "cancel"  # "cancel" | "timeout" | "recall" (only if it has not started)


class ResumeTask(Message):
    """Let the worker that waited for its own tasks use a slot again. `wait` is that of the answered WaitEnded."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 0


class LendSlot(Message):
    """Run a stand-in for the worker of this attempt, which seems to wait unreported. Fact: WaitBegan."""

    task: str
    attempt: int
    first: int = 0


class HoldBlob(Message):
    """A function, a constant, or results of a task that others depend on (then `hash` is the task's id).

    The results of a task may come in several pieces: each has its items, and the number of all items (`total`). The
    result of one item, whose id is task.item, counts as number 0 of 1, so its piece may begin before it.
    """

    hash: str
    payload: Payload
    first: int = 0
    items: int = 1
    total: int = 0  # 0: a function or a constant
    holes: tuple[int, ...] = ()  # offsets in this piece whose results come in other pieces


class EndCommitted(Message):
    """The end of this attempt is in the journal (or no longer wanted), so the hub may drop it."""

    task: str
    attempt: int
    first: int = 0
    offset: int = -1  # of the part (ItemsFinished); -1: the end itself


class StopHub(Message):
    """Stop the workers and exit; `reason` is for the log."""

    reason: str = ""


# ── hub to core ─────────────────────────────────────────────────────────────────────────────────────────────


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group of workers of a hub with the same settings: a band of priorities, a niceness."""

    workers: int  # as configured; WorkerStarted and WorkerDied report the live ones
    minP: float = 0.0
    maxP: float = 1000.0
    processP: int = 0
    engine: str = "processes"
    max_tasks: int = 0  # calls after which a worker is replaced by a new one; 0: never


def split_workers(number: int, sizes: Sequence[int]) -> list[int]:
    """Return the numbers of workers of a hub's groups with these `sizes`, if the hub must have `number` in all.

    The numbers are in proportion to the sizes; the largest remainders are rounded up, earlier groups first. If no
    group has workers, the first group gets all.
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
    """An attempt that a reconnecting hub has in hand."""

    task: str
    attempt: int
    first: int = 0
    items: int = 1
    worker: str = ""
    ran_s: float = 0.0  # time since its worker began
    ahead: bool = False  # not begun: it waits in the worker's socket behind another slice
    wait: int = 0  # the number of the wait for which its worker has given up its slot (WaitBegan) …
    wait_ended: bool = False  # … and asks for one again (WaitEnded)
    lent: bool = False  # … because LendSlot asked for it


class HubHello(Message):
    """A hub's first message on a connection, with its workers and running attempts. Answer: Welcome or Refused."""

    hub: str  # random id of this start of the hub
    name: str
    host: str
    pid: int
    python: tuple[int, int]
    cloudpickle: str
    groups: tuple[Group, ...]
    workers: tuple[tuple[str, int], ...] = ()  # (worker id, its group) of the live workers
    pids: tuple[int, ...] = ()  # of these workers, in the same order
    running: tuple[Running, ...] = ()
    functions: tuple[str, ...] = ()  # names of its own functions (addTask)
    address: str = ""  # at which it answers probes (WKHUB_HCPORT)
    core: str = ""  # uuid of the core of its last connection, "" at first
    ip: str = "127.0.0.1"
    numpy: str = ""  # the version that its workers import
    lb_port: int = 0  # WKHUB_LBPORT, for the seed's answers; nothing listens there
    hc_port: int = 0
    parent: int = 0
    said_at: float = 0.0  # its own clock
    leased_at: float = 0.0  # the start of its lease by the same clock; 0: it has no lease, and runs nothing under one
    leaves: bool = False  # it has sent HubLeaves to an earlier core
    stand_ins: tuple[str, ...] = ()  # those of `workers` that stand in for waiting workers


class HubLeaves(Message):
    """The hub stops once its running slices have ended; it returns the others, and must get no more."""


class HubGone(Message):
    """The hub disconnects on purpose."""

    reason: str = ""


class WorkerStarted(Message):
    """A worker's process is ready for tasks."""

    worker: str
    group: int = 0
    pid: int = 0
    stand_in: bool = False  # it runs in place of a waiting worker, and adds no slot; sent again when that changes


class WorkerDied(Message):
    """A worker's process has ended by itself, and with it the slice that it ran; a new worker will start."""

    worker: str
    reason: str  # a sentence: signal or exit code, memory, last output
    group: int = 0
    task: str = ""  # "" if it was idle
    attempt: int = 0
    first: int = 0
    shared: bool = False  # other workers of its hub ended at the same moment, and any of their tasks may be the cause


class TaskStarted(Message):
    """A worker has begun with the slice."""

    task: str
    attempt: int
    first: int = 0
    worker: str = ""


class WaitBegan(Message):
    """The worker of this attempt waits for its own tasks and has given up its slot; `wait` numbers its waits."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 1
    lent: bool = False  # LendSlot asked for it: the worker may go on at any time, without asking for a slot


class WaitEnded(Message):
    """The wait is over, because its tasks have ended or its time is up; the worker needs a slot. Answer: ResumeTask."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 1


class TaskProgressed(Message):
    """The latest progress and note of a running slice."""

    task: str
    attempt: int
    first: int = 0
    progress: float = 0.0  # 0..100; of the slice
    note: str = ""


class TaskFinished(Message):
    """Every item of the slice was called; `failures` has those that raised, `payload` the results of all others."""

    task: str
    attempt: int
    first: int = 0
    items: int = 1
    payload: Payload | None = None  # one pickle of the list of all items' results (None for one that raised)
    failures: tuple[Failure, ...] = ()
    duration_s: float = 0.0  # of the whole slice
    worker: str = ""
    kept: tuple[int, ...] = ()  # offsets of items that StopAndKeep ended: their result is their last emitted value
    told: int = 0  # number of first items that ItemsFinished reported: they have neither result nor failure here
    follows: tuple[tuple[int, str], ...] = ()  # (offset, task): items that end as their own task does


class ItemsFinished(Message):
    """The ends of some items of a slice that still runs, so that their results need not wait for the others.

    They are sent in order and without gaps. Offsets in `failures` and `kept` count from the first of these items,
    which is item `offset` of the slice.
    """

    task: str
    attempt: int
    first: int = 0  # of the slice, as in its RunTask
    offset: int = 0
    items: int = 1
    payload: Payload | None = None
    failures: tuple[Failure, ...] = ()
    duration_s: float = 0.0  # since the slice began, or since its last part was sent
    worker: str = ""
    kept: tuple[int, ...] = ()


class TaskStopped(Message):
    """The attempt was stopped by StopTask, or the hub returns it unstarted (`why`: "recall")."""

    task: str
    attempt: int
    first: int = 0
    why: str = "cancel"
    ran: bool = False
    worker: str = ""


class TaskPrinted(Message):
    """Output of a task, bounded; the core keeps it as the tail of the task's output, and forwards it to watchers."""

    task: str
    attempt: int
    first: int = 0
    stream: str = "stdout"  # "stdout" | "stderr" | "display" (then `text` is JSON, see worker/mime_bundles.py)
    text: str = ""
    offset: int = 0  # the item of the slice that wrote it
    heard: int = 0  # bytes that it has written to this stream so far, sent or not


class TaskEmitted(Message):
    """An intermediate result of an item; only the latest counts."""

    task: str
    attempt: int
    first: int = 0
    offset: int = 0  # of the item, from the slice's first
    payload: Payload | None = None  # the pickled value; None if it is only a picture, or too large
    bundle: str = ""  # its representations, as JSON of a mime bundle; "" for a plain value


class KnobOffered(Message):
    """A task has asked for the value of a knob, and uses this one."""

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
    """The hub needs a blob (or the result of a task) that RunTask names. Answer: HoldBlob or BlobMissing."""

    hash: str


FromClient: TypeAlias = (  # allowed at the clients' door
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
