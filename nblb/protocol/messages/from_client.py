"""The messages from a client to the core: requests, in the imperative."""

from __future__ import annotations

from typing import Any, TypeAlias

from nblb.protocol.equipment import Needs
from nblb.protocol.framing import Payload
from nblb.protocol.messages.access import Administer, Enrol
from nblb.protocol.messages.blobs import PutBlob
from nblb.protocol.messages.connection import FilesSeen, Heartbeat, Hello
from nblb.protocol.messages.vocabulary import Message


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
    arguments: str = ""  # those of its first call in short, for people
    max_failures: int = 0  # after so many failed or lost items the others are cancelled; 0: no limit


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
    retry_wait_s: float = 0.0  # before the first retry of a call that raised; later ones wait longer
    retry_on: tuple[str, ...] = ()  # retry only failures of these classes: full names; (): of all
    timeout_s: float = 0.0  # 0: none; for one item
    deadline_s: float = 0.0  # after its acceptance: a call that has not ended by then fails; 0: none
    deadline_at: float = 0.0  # the same as a time of the wall clock; 0: none
    time_s: float = 0.0  # the longest that one item takes, for hubs whose batch job ends; 0: as measured
    at_most_once: bool = False
    depends: tuple[str, ...] = ()  # submissions, or items as "submission.item", whose results are arguments
    constants: tuple[str, ...] = ()  # blobs that the payload refers to
    call: str = "python"  # "json": payload and result are JSON, function(task=..., **arguments)
    python: tuple[int, int] = (0, 0)  # (0, 0): any version can run it
    numpy: int = 0  # the major version of NumPy that function or arguments need; 0: they have no arrays
    origin: str = ""
    cache: str = ""  # content hash of function and arguments: an earlier result with it may be used
    fresh: bool = False  # … but compute the result again, for later tasks to use
    parent: str = ""  # the submission whose call submits it, while it runs on a worker of this cluster …
    parent_item: int = 0  # … the item of that call …
    parent_attempt: int = 0  # … and the attempt; its user is the parent's, whatever `user` is
    arguments: tuple[str, ...] = ()  # those of each call in short, for people; of a notebook's single tasks
    needs: Needs | None = None  # what a worker must have
    memory_retry: float = 0.0  # after a death for memory it needs so many times what that worker had; 0: as before


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

    Items that were cancelled by the job's `max_failures` run again, too.

    They become QUEUED, which TaskReopened reports to all watchers, and end a second time. With `function` they run
    that function from now on, with the same arguments; BlobMissing comes first if the core lacks it. With `items` only
    these of them run again.
    """

    request: int
    task: str = ""
    job: str = ""
    function: str = ""  # content hash of a blob
    python: tuple[int, int] = (0, 0)  # the Python that has pickled it
    items: tuple[int, ...] = ()  # numbers in the submission, or in the job; (): all that failed or were lost


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


class AdaptWorkers(Message):
    """Let the number of workers follow the load; on=False ends that and changes no worker. Answer: Answer."""

    minimum: int = 0
    maximum: int = 0
    idle_s: float = 30.0  # for which fewer workers must have been enough before some end
    on: bool = True
    request: int = 0


class OfferHubs(Message):
    """Offer hubs that a batch system would start. Answer: Answer (how many there should be; None: adapts to nothing).

    The launcher repeats it; an offer that is not repeated lapses.
    """

    place: str  # identifies the offer
    hubs: int
    workers: int  # of each
    jobs: tuple[str, ...] = ()  # that have been submitted, as in a hub's hello: "slurm 17"
    request: int = 0


class DrainHub(Message):
    """Let a hub finish what runs, and give it no new work; drain=False takes that back (client to core, core to hub).

    The hub repeats it in its hello, so that a restarted core knows. Answer: Answer.
    """

    hub: str
    drain: bool = True
    request: int = 0


class RemoveHub(Message):
    """Drain a hub and stop it when nothing runs on it; with `restart` its process starts again. Answer: Answer."""

    hub: str
    restart: bool = False
    request: int = 0


class SetPriority(Message):
    """Change the priority of the calls of a submission or a job that have not ended. Answer: Answer (their number)."""

    request: int
    priority: float
    task: str = ""
    job: str = ""


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


class FetchOutput(Message):
    """Send all that an item has printed, to a client elsewhere. Answer: OutputTold or Answer."""

    request: int
    task: str
    item: int = 0


FromClient: TypeAlias = (  # what the clients' door accepts
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
    | AdaptWorkers
    | OfferHubs
    | DrainHub
    | RemoveHub
    | SetPriority
    | TurnKnob
    | StopAndKeep
    | FetchCall
    | FetchOutput
    | Administer
    | Enrol
)
