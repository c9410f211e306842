"""The scheduler's state, and the operations on it that several of its parts share.

`out` collects the commands of the current event, in the order in which the shell executes them.
"""

from __future__ import annotations

from collections import deque
from heapq import heappush

import msgspec

from nblb.access.limits import Limits
from nblb.protocol.commands import Command, Log, Record, Send
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import ArgumentsSpent, EndKept
from nblb.protocol.messages import Failure, HoldBlob, Message, StopTask, SubmitTask, TaskEnded, TaskState
from nblb.scheduling import dependencies
from nblb.scheduling.adapting.policy import Adapting
from nblb.scheduling.dropped import Dropped
from nblb.scheduling.fair_share import FairShare
from nblb.scheduling.hubs import Assignment, Fence, Hub, Orphan
from nblb.scheduling.live import Live
from nblb.scheduling.long_tasks import checkpoints
from nblb.scheduling.long_tasks.back_off import DelayedSlices
from nblb.scheduling.nesting import following, parents, waits
from nblb.scheduling.placement import Placement
from nblb.scheduling.reporting.observations import Observations
from nblb.scheduling.reporting.tallies import Tallies
from nblb.scheduling.reporting.wall_clock import WallClock
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import WHOLE, Submission, SubmittedJob

MOST_ENDED_JOBS = 1_000  # whose end the shell has still to handle: a simulated shell never does
AWAKE_BEATS = 5  # heartbeats that a client may miss before it is sent no more displays


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the scheduler; times in seconds."""

    max_queued: int = 1000  # LB_QUEING_MAXPERUSER; 0: no bound
    max_crashes: int = 3
    halflife_s: float = 600.0
    ageing_s: float = 300.0  # a waiting slice gains a priority in this time against its user's others; 0: never
    limits: tuple[Limits, ...] = ()  # shares and quotas of users and groups, when it starts
    prefetch_s: float = 0.010
    heartbeat_s: float = 1.0
    suspect_s: float = 5.0
    lease_s: float = 15.0
    adopt_s: float = 30.0  # after a restart: how long hubs may take to return with attempts
    result_ttl_s: float = 60.0
    job_ttl_s: float = 172_800.0
    notice_s: float = 0.1  # interval of notices to watchers
    client_silence_s: float = 60.0
    name: str = "nblb"
    core: str = ""
    epoch: int = 1
    durability: str = "process"
    pid: int = 0
    output: str = ""  # the folder for the output of tasks
    files: str = ""  # the shared folder whose files messages may name instead of sending bytes, and its token
    token: str = ""
    process: str = ""  # name of the core's process (transfer.process_name)
    bulk: int = 0  # port of the bulk door; 0: there is none
    idle_timeout_s: float = 0.0  # after which a core without clients and tasks ends; 0: never
    adapting: Adapting | None = None  # the limits between which the number of workers follows the load, when it starts

    @property
    def most_ends(self) -> int:
        """Number of sudden ends of its worker or hub after which a slice is LOST; one alone proves nothing."""
        return max(2, self.max_crashes)


class ConnectedClient:
    """A client's connection."""

    __slots__ = ("address", "host", "name", "notebook", "pid", "received_at", "role", "since", "submits", "user")

    def __init__(self, address: str, user: str, now: float) -> None:
        self.address = address
        self.user = user
        self.received_at = now
        self.host = self.notebook = self.name = ""
        self.role = ""  # the limit of its Hello
        self.since = now  # when its process first connected
        self.pid = 0
        self.submits = False  # it can pickle: no one-off question, and no companion of the core


class Blob:
    """A function or a constant."""

    __slots__ = ("name", "payload", "used_at", "user", "uses")

    def __init__(self, payload: Payload, name: str, now: float) -> None:
        self.payload = payload
        self.name = name
        self.user = ""  # the first user whose submission names it
        self.uses = 0  # number of submissions that name it
        self.used_at = now


class State:
    """The scheduler's state: submissions, jobs, blobs, clients, hubs and queues."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.clock = WallClock()
        self.wall = self.clock.wall  # the wall-clock time of a time of the core's monotonic clock
        self.out: list[Command] = []
        self.records: dict[str, Submission] = {}
        self.jobs: dict[str, SubmittedJob] = {}
        self.job_names: dict[tuple[str, str], str] = {}  # (user, name) -> the latest job of that name
        self.blobs: dict[str, Blob] = {}
        self.published: dict[str, str] = {}
        self.cache: dict[str, Submission] = {}
        self.live = Live()
        self.presence: dict[str, deque[tuple[float, float]]] = {}  # notebook -> (from, to) of its past kernels
        self.clients: dict[str, ConnectedClient] = {}
        self.hubs: dict[str, Hub] = {}  # by address
        self.share = FairShare(policy.halflife_s, policy.ageing_s, policy.limits)
        self.placement = Placement(policy.prefetch_s)
        self.tallies = Tallies(self.share)
        self.observations = Observations()
        self.ended_jobs: list[SubmittedJob] = []  # with an end that the shell has not handled yet
        self.changed: dict[Slice, None] = {}  # slices with changes not yet sent to watchers
        self.changed_jobs: dict[SubmittedJob, None] = {}
        self.expiring: list[tuple[float, int, Submission]] = []  # heap
        self.with_deadline: dict[Submission, None] = {}  # submissions with new open calls: see deadlines.py
        self.overdue: dict[Assignment, None] = {}  # attempts whose hub must stop them, since their deadline has passed
        self.over_limit: dict[SubmittedJob, None] = {}  # jobs that may have too many failures: see failure_limit.py
        self.delayed = DelayedSlices()
        self.withheld: dict[Slice, None] = {}  # QUEUED, but not in the line while another suspect runs: see dispatch.py
        self.orphans: dict[Fence, Orphan] = {}  # after a restart: attempts that may still run
        self.parked: dict[str, list[tuple[str, SubmitTask]]] = {}  # blob -> submissions that arrived before it
        self.parked_on: dict[str, str] = {}  # task -> blob
        self.dropped = Dropped()
        self.resumable: dict[Assignment, None] = {}  # attempts that ask for a slot after a wait, longest first
        self.divisible: dict[Assignment, None] = {}  # running slices of several calls, in the order of their start
        self.followers: dict[str, list[Slice]] = {}  # task -> slices that returned it and end as it does
        self.nested = 0  # number of open nested submissions
        self.left: list[tuple[Submission, int, int, int]] = []  # (parent, first, items, attempt)
        self.versions: set[tuple[tuple[int, int], int]] = (
            set()
        )  # Python, NumPy's major: of all hubs that have connected
        self.judges_from = 0.0  # when hubs of an earlier core have had time to return
        self.accepted = 0
        self.reopened = 0
        self.late_facts = 0
        self.dispatch_due = False
        self.notice_at: float | None = None
        self._closing: deque[tuple[Submission, Slice | None]] = deque()
        self._closing_now = False

    # ── blobs ──

    def count_blob(self, blob: Blob, user: str) -> None:
        """Count the bytes of a blob for the first user who needs it."""
        blob.user = user
        self.share.uploads[user] += blob.payload.nbytes

    def drop_blob(self, name: str) -> int:
        """Drop a blob; return its size in bytes."""
        blob = self.blobs.pop(name, None)
        if blob is None:
            return 0
        if blob.user:
            self.share.uploads[blob.user] -= blob.payload.nbytes
        return blob.payload.nbytes

    # ── sending ──

    def send(self, to: str, message: Message) -> None:
        self.out.append(Send(to, message))

    def notify(self, watchers: tuple[str, ...], message: Message) -> None:
        """Send a message to the connected watchers; disconnected ones stay in the tuple, which costs nothing."""
        for address in watchers:
            if address in self.clients:
                self.out.append(Send(address, message))

    def send_if_active(self, watchers: tuple[str, ...], message: Message, now: float) -> None:
        """Send a message to watchers that sent something lately: for a stopped client, large messages would pile up."""
        for address in watchers:
            client = self.clients.get(address)
            if client is not None and client.received_at + AWAKE_BEATS * self.policy.heartbeat_s >= now:
                self.out.append(Send(address, message))

    def watched_by(self, watchers: tuple[str, ...], address: str) -> tuple[str, ...]:
        """Return the connected ones of these watchers, and this one."""
        return (*(other for other in watchers if other != address and other in self.clients), address)

    def log(self, level: str, text: str) -> None:
        self.out.append(Log(level, text))

    @property
    def wall_offset(self) -> float:
        """Wall-clock time minus the core's monotonic time."""
        return self.clock.offset

    # ── queue ──

    def is_in_line(self, task: Slice) -> bool:
        """Return whether the slice is QUEUED and in its user's line: neither withheld nor delayed."""
        return task.state is TaskState.QUEUED and task not in self.withheld and task not in self.delayed

    def delay(self, task: Slice, until: float) -> None:
        """Keep a QUEUED slice out of its user's line until then."""
        task.not_before = until
        self.delayed.add(task, until)
        user = task.record.owner
        user.look_again()
        self.share.line_changed(user, task.record.spec.priority)

    def end_delays(self, now: float) -> None:
        """Add the slices whose wait is over to the lines."""
        for task in self.delayed.due(now):
            self.enqueue(task)

    def enqueue(self, task: Slice) -> None:
        """Add a QUEUED slice to its user's line."""
        user = task.record.owner
        if user.add(task):
            self.share.line_changed(user, task.record.spec.priority)
        self.dispatch_due = True

    def unqueue(self, task: Slice) -> None:
        """Remove a slice that was cancelled while it was QUEUED from its line."""
        if task in self.withheld:
            del self.withheld[task]
            return
        if self.delayed.discard(task):
            return
        user = task.record.owner
        user.cancelled(task)
        self.share.line_changed(user, task.record.spec.priority)

    def notice(self, task: Slice, now: float) -> None:
        """Schedule a notice to the watchers of this slice and its job."""
        if task.record.watchers:
            self.changed[task] = None
            if self.notice_at is None:
                self.notice_at = now + self.policy.notice_s
        self.notice_job(task.record.job, now)

    def notice_job(self, job: SubmittedJob | None, now: float) -> None:
        """Schedule a notice of the job's counts to its watchers."""
        if job is not None and job.watchers:
            self.changed_jobs[job] = None
            if self.notice_at is None:
                self.notice_at = now + self.policy.notice_s

    # ── the end of a slice ──

    def keep_end(self, ended: TaskEnded) -> None:
        self.out.append(
            Record(
                EndKept(  # positional, since keyword arguments cost time
                    ended.task,
                    ended.first,
                    ended.items,
                    ended.attempt,
                    ended.state,
                    ended.ended_at,
                    ended.payload,
                    ended.failure,
                    ended.duration_s,
                    ended.worker,
                    ended.host,
                    ended.holes,
                    ended.function,
                    ended.kept,
                    ended.peak_bytes,
                )
            )
        )

    def finish(self, tasks: list[Slice], ended: TaskEnded, now: float, keep: bool = True) -> None:
        """Set the end of slices that have just moved to an ended state; journal it and send it to watchers."""
        record = tasks[0].record
        if tasks[0].ended is not None:  # a result is cancelled, or lost
            self.replace_end(tasks, ended)
        elif ended.payload is not None:
            size = ended.payload.nbytes
            record.stored += size
            record.owner.stored += size
        for task in tasks:
            task.ended = ended
            task.held = task.orphan = None
            self.tallies.count(task, self.clock.offset)
            self.observations.ended(task, ended, self.clock.offset)
            self.changed.pop(task, None)
            if record.checkpoints:
                checkpoints.drop(self, task)
            if record.children and ended.state is not TaskState.DONE:
                parents.leave_children(self, task)
        if keep:
            self.keep_end(ended)
        self.notify(record.watchers, ended)
        if record.job is not None:
            self.notice_job(record.job, now)
            if record.job.spec.max_failures and ended.state in (TaskState.FAILED, TaskState.LOST):
                self.over_limit[record.job] = None
        if record.dependents:
            self._closing += [(record, task) for task in tasks]
        if record.unended == 0 and not record.closed:
            record.closed = True
            self._closing.append((record, None))
        if self._closing:
            self._close(now)

    def replace_end(self, tasks: list[Slice], ended: TaskEnded | None) -> None:
        """Give slices another end, or none, and count the bytes of their submission again."""
        for task in tasks:
            task.ended = ended
        self.weigh(tasks[0].record)

    def weigh(self, record: Submission) -> None:
        """Count the bytes that are stored for a submission again."""
        size = record.weight()
        record.owner.stored += size - record.stored
        record.stored = size

    def _close(self, now: float) -> None:
        """Process the consequences of ends in a loop, since a chain of dependents may be long."""
        if self._closing_now:
            return
        self._closing_now = True
        try:
            while self._closing:
                record, task = self._closing.popleft()
                if task is not None:
                    dependencies.wake(self, record, range(task.first, task.first + task.items), now)
                    continue
                record.ended_at = now
                if record.job is not None:
                    self._job_changed(record.job)
                if record.spec.parent:
                    parents.untie(self, record, now)
                    if record.id in self.followers:
                        following.followed_ended(self, record, now)
                self.expire_at(record, record.expires or now + self.policy.job_ttl_s)
                if record.done:
                    if record.spec.payload.parts is not None:
                        self.out.append(Record(ArgumentsSpent(record.id)))
                    size = record.spec.payload.nbytes  # as release_arguments does: a call for each task costs time
                    record.stored -= size
                    record.owner.stored -= size
                    record.release_arguments()
                if record.spec.depends:
                    dependencies.unpin(self, record)
                if record.spec.cache or record.followers or record.dependents:
                    dependencies.wake_all(self, record, now)
        finally:
            self._closing_now = False

    def _job_changed(self, job: SubmittedJob) -> None:
        """Note that the job has ended, if its last submission was the one that has just ended."""
        is_over = job.items and not job.unended and sum(job.counts.values()) >= job.items
        if is_over and len(self.ended_jobs) < MOST_ENDED_JOBS:
            self.ended_jobs.append(job)

    def fail(
        self,
        task: Slice,
        cause: str,
        failure: Failure | None,
        now: float,
        duration_s: float = 0.0,
        peak_bytes: int = 0,
    ) -> None:
        """End a slice without a result; `cause` is that of the table of transitions."""
        worker, host = ("", "") if task.held is None else (task.held.worker, task.held.group.hub.hello.host)
        old = task.move(cause, now)
        if failure is None:
            failure = task.reason
        ended = TaskEnded(
            task=task.record.id,
            first=task.first,
            items=task.items,
            state=task.state,
            failure=failure,
            duration_s=duration_s,
            attempt=task.attempt,
            worker=worker,
            host=host,
            ended_at=self.wall(now),
            function=task.code,
            peak_bytes=peak_bytes,
        )
        self.finish([task], ended, now, keep=old is not TaskState.CANCELLING)  # else journaled when it was cancelled

    def release_arguments(self, record: Submission) -> None:
        """Drop the arguments of a submission that is done."""
        size = record.spec.payload.nbytes
        record.release_arguments()
        record.stored -= size
        record.owner.stored -= size

    def expire_at(self, record: Submission, at: float) -> None:
        record.expires = at
        heappush(self.expiring, (at, record.number, record))

    def drop_job(self, job: SubmittedJob) -> None:
        """Drop the job; its name then refers to the latest remaining job of that name.

        Submissions of it that stay, because others need them or hubs have not released them, then belong to no job.
        """
        for record in job.records.values():
            record.job = None
        name = job.user, job.spec.name
        del self.jobs[job.id]
        self.changed_jobs.pop(job, None)
        if self.job_names[name] == job.id:
            del self.job_names[name]
            for other in self.jobs.values():
                if (other.user, other.spec.name) == name:
                    self.job_names[name] = other.id

    # ── the attempts of hubs ──

    def give(self, held: Assignment) -> None:
        """Count an attempt as assigned to its hub."""
        for task in held.tasks:
            task.held = held
        held.group.hub.in_flight[held.fence] = held
        held.group.work_changed(1, held.estimate_s)
        held.user.occupy(1, held.group.band.worker_class)
        if held.user.is_special:  # its group's limit may hold back others now
            self.share.assigned(held.user)

    def let_go(self, held: Assignment, now: float, duration_s: float) -> float:
        """Remove an attempt that its group no longer has; `duration_s` is the time that is not charged yet.

        Returns the part of that time that is charged: the worker used a slot then.
        """
        hub = held.group.hub
        if hub.in_flight.pop(held.fence, None) is None:
            return 0.0
        self.divisible.pop(held, None)
        if held.is_over:
            self.overdue.pop(held, None)
        if held.wait:
            waits.leave_wait(self, held, now)
        else:
            held.group.work_changed(-1, -held.estimate_s)
            held.user.occupy(-1, held.group.band.worker_class)
        if held.waited_s:
            duration_s = held.without_waits(duration_s)
        worker = hub.workers.get(held.worker)
        if worker is not None:
            worker.done += 1
            worker.used_s += duration_s
            if worker.held is held:
                worker.held, worker.since = None, now
        if held.record.children and held.user.is_special:
            self.share.count_all(held.user)
        if duration_s > 0.0:
            self.share.charge(held.user, duration_s, now, held.group.band.worker_class)
        else:
            self.share.standing_changed(held.user)
        self.dispatch_due = True
        return duration_s

    def stop(self, held: Assignment, why: str, kill: bool = False) -> None:
        self.send(
            held.group.hub.address,
            StopTask(task=held.record.id, attempt=held.attempt, first=held.first, kill=kill, why=why),
        )

    def needed(self, name: str) -> tuple[Submission | None, int]:
        """Return the submission that an entry of `depends` names, and its item; WHOLE for all items."""
        record = self.records.get(name)
        if record is not None:
            return record, WHOLE
        whole, _, item = name.rpartition(".")
        record = self.records.get(whole)
        if record is None or not item.isdecimal() or int(item) >= record.items:
            return None, WHOLE
        return record, int(item)

    def supply(self, hub: Hub, name: str) -> bool:
        """Send a blob, or the results of a task, to a hub that lacks it; return False if the core does not have it."""
        if name in hub.holds:
            return True
        pieces = self.pieces(name)
        if pieces:
            hub.holds.add(name)
        for piece in pieces:
            self.send(hub.address, piece)
        return bool(pieces)

    def pieces(self, name: str) -> list[HoldBlob]:
        """Return the messages that bring a hub a blob, or a DONE task's results; empty if the core has neither."""
        blob = self.blobs.get(name)
        if blob is not None:
            return [HoldBlob(hash=name, payload=blob.payload)]
        record, item = self.needed(name)
        if record is None or not record.has_result(item):
            return []
        if item != WHOLE:
            return [_piece_with(name, item, record.at(item).ended)]
        ends = {id(task.ended): task.ended for task in record.slices if task.ended is not None}
        return [
            HoldBlob(
                hash=name,
                payload=ended.payload,
                first=ended.first,
                items=ended.items,
                total=record.items,
                holes=ended.holes,
            )
            for ended in ends.values()
            if ended.payload is not None
        ]


def _piece_with(name: str, item: int, ended: TaskEnded | None) -> HoldBlob:
    """Return the message with the result of one item, inside the payload in which it arrived."""
    assert ended is not None
    assert ended.payload is not None
    return HoldBlob(hash=name, payload=ended.payload, first=ended.first - item, items=ended.items, total=1)
