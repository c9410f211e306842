"""The messages from a hub to the core: what it is, and facts about its workers and its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from nblb.protocol.equipment import PLAIN, Equipment
from nblb.protocol.framing import Payload
from nblb.protocol.messages.blobs import BlobWanted
from nblb.protocol.messages.connection import FilesSeen, Heartbeat
from nblb.protocol.messages.vocabulary import Failure, Message


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group of workers of a hub with the same settings: a band of priorities, a niceness."""

    workers: int  # as configured; WorkerStarted and WorkerDied report the live ones
    minP: float = 0.0
    maxP: float = 1000.0
    processP: int = 0
    engine: str = "processes"
    max_tasks: int = 0  # calls after which a worker is replaced by a new one; 0: never
    only: tuple[str, ...] = ()  # the users whose tasks it runs; none: those of all users
    run_as: str = "hub"  # the account of its workers: the hub's, or with "submitter" that of each task's user
    has: Equipment = PLAIN  # what each of its workers has
    share_mb: int = 0  # without a limit in `has`: a worker's even share of the computer's memory; 0: unknown


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
    draining: bool = False  # DrainHub
    nblb: str = ""  # its version
    left_s: float = 0.0  # what it starts must end within this time, as its batch job ends then; 0: no end is known
    batch_job: str = ""  # the batch job in which it runs: "slurm 17"
    started_with: int = 0  # number of workers, whatever it has been scaled to


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
    memory: bool = False  # it was killed for its memory, for certain or most likely


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
    """The slice has ended; `failures` has the items that raised, `payload` the results of the others that were called.

    Every item was called, except the last `left` ones, which the hub hands back.
    """

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
    left: int = 0  # number of last items that were not begun (StopTask, "recall"): neither result nor failure here
    peak_bytes: int = 0  # most memory that the worker had meanwhile; 0: unknown


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
    peak_bytes: int = 0  # most memory that the worker had since the slice began; 0: unknown


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


class OutputKept(Message):
    """All that a slice has printed or displayed, of a hub that does not see the core's folder for output.

    It comes before the end of the slice. The buffers are segments of output_log.py with these numbers.
    """

    task: str
    attempt: int
    first: int = 0
    kind: str = "said"
    numbers: tuple[int, ...] = ()
    payload: Payload = Payload()


class TaskEmitted(Message):
    """An intermediate result of an item; only the latest counts."""

    task: str
    attempt: int
    first: int = 0
    offset: int = 0  # of the item, from the slice's first
    payload: Payload | None = None  # the pickled value; None if it is only a picture, or too large
    bundle: str = ""  # its representations, as JSON of a mime bundle; "" for a plain value


class TaskCheckpointed(Message):
    """The state that an item has saved; the core keeps the latest, and sends it with the item's next attempt."""

    task: str
    attempt: int
    first: int = 0
    offset: int = 0  # of the item, from the slice's first
    payload: Payload = Payload()


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
    | OutputKept
    | TaskEmitted
    | TaskCheckpointed
    | KnobOffered
    | BlobWanted
)
