"""The referee of a history: compares from outside the messages sent, the journal, and the calls really run.

Rules besides those of submission_log.py: I1 an acknowledged task stays known; I4 a message is sent only when its effect
is on the disk, and users see what the journal has; I6 turns are fair (fairness.py); I7 a poisonous task kills few
workers; I9 a replay of the journal gives the live state; `once`: an at_most_once item begins once; `forget`: a
forgotten job is not found again. final_checks.py checks the end of a history.
"""

from __future__ import annotations

from collections.abc import Sequence

from nblb.broker.dead_hubs import LOOK_S
from nblb.protocol.commands import Command, Record, Send, Steer
from nblb.protocol.journal_entries import AnyEntry, EndKept, TaskKept
from nblb.protocol.messages import (
    Answer,
    CancelAnswer,
    CancelTask,
    EndCommitted,
    Failure,
    ForgetJob,
    ItemsFinished,
    Message,
    RetryFailed,
    RunTask,
    StopAndKeep,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskPrinted,
    TaskRejected,
    TaskReopened,
    TaskState,
    TurnKnob,
)
from nblb.scheduling import invariants
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.submission import Submission
from nblb.simulation.fairness import Shares, StartDelays, check_turns
from nblb.simulation.replay_check import differences
from nblb.simulation.simulated_client import SimulatedClient
from nblb.simulation.simulated_core import SimulatedCore
from nblb.simulation.simulated_hub import SimulatedHub
from nblb.simulation.simulated_pool import SimulatedWorker
from nblb.simulation.simulator import Simulator, Violation
from nblb.simulation.standing import Standing
from nblb.simulation.submission_log import Kept, SubmissionLog
from nblb.simulation.told_check import told_wrong
from nblb.simulation.workload import NAMED, Conduct

LENT_S = 0.05  # a message of the hub may be on its way for so long


class ObservedSubmission:
    """The promises made for one submission, and what the user's present kernel has seen of it."""

    __slots__ = ("client", "ended", "rejected", "spec")

    def __init__(self, spec: SubmitTask, client: SimulatedClient) -> None:
        self.spec = spec
        self.client = client
        self.ended: list[TaskEnded | None] = [None] * spec.items
        self.rejected: Failure | None = None

    @property
    def resolved(self) -> bool:
        return self.rejected is not None or all(end is not None for end in self.ended)


class Referee:
    """Receives all events of a history, and raises Violation."""

    def __init__(self, simulator: Simulator, conduct: dict[str, Conduct], mirror: float, orderly: bool) -> None:
        self.simulator = simulator
        self.ledger = SubmissionLog()
        self.ledger.orderly = orderly
        self.core: SimulatedCore | None = None
        self.submissions: dict[str, ObservedSubmission] = {}
        self.acknowledged: set[str] = set()
        self.begun: dict[tuple[str, int], int] = {}  # (task, item) -> how often it has begun
        self.kills: dict[tuple[str, int], int] = {}
        self.interruptions = 0  # crashes and broken connections so far; each may cost an attempt
        self.worker_kills = 0
        self.orderly = orderly  # the network neither reorders nor repeats messages, as the real transport
        self.withdrawn = False  # a hub has withdrawn its functions by name
        self.standing = Standing()  # shares and limits of the users
        self.slack_s = 0.0  # what slow connections add
        self.shares: Shares | None = None
        self.waits: StartDelays | None = None
        self.hubs: list[SimulatedHub] = []  # the present incarnations
        self.made: list[SimulatedHub] = []  # all incarnations
        self.clients: set[SimulatedClient] = set()
        self.steers: set[tuple[str, int]] = set()  # (task, item or -1) with a turned knob or an early stop
        self.kept_early: set[str] = set()  # tasks that a user has stopped early
        self.again: dict[str, int] = {}  # task -> how often a retry of its failed items was requested
        self.cancel_asked: set[str] = set()  # tasks that a user has cancelled
        self.refused_waits: set[str] = set()  # tasks with a failed wait for nested tasks
        self.scaled = False  # the number of workers of a hub was changed
        self._conduct = conduct
        self._at: dict[tuple[str, int], tuple[SimulatedWorker, RunTask]] = {}  # (task, item) -> who began it last
        self._gone: dict[tuple[str, int, int], float] = {}
        self._cancels: dict[tuple[str, int], CancelTask] = {}
        self._forgets: dict[tuple[str, int], str] = {}  # (client, request) -> job
        self.forgotten: set[str] = set()  # jobs that the core has reported as forgotten
        self._lent: dict[tuple[str, int, int], float] = {}  # slice whose lent slot is to be counted again -> since when
        self._mirror = mirror  # probability that a replay is compared with the live state

    # ── the disk ──

    def committed(self, batch: Sequence[AnyEntry]) -> None:
        self.ledger.is_steady &= self.core is None or not self.core.wall_jump
        self.ledger.committed(batch)

    def all_is_void(self) -> None:
        """Voids all promises: LB_DURABILITY is "none" and the core has ended."""
        self.ledger.void()
        self.acknowledged.clear()
        self._at.clear()
        for task in self.submissions:  # unacknowledged tasks are submitted again
            self.again[task] = self.again.get(task, 0) + 1

    # ── the core ──

    def said(self, to: str, message: Message) -> None:
        """Checks a message that the core sends: what it promises must be on the disk."""
        kind = type(message)
        if kind is TaskEnded:
            self._check_end(message)  # type: ignore[arg-type]
        elif kind is RunTask:
            self._check_run(message)  # type: ignore[arg-type]
        elif kind is EndCommitted:
            self._check_release(message)  # type: ignore[arg-type]
        elif kind is TaskAccepted:
            self._check_accepted(message)  # type: ignore[arg-type]
        elif kind is TaskRejected:
            self._check_refusal(message)  # type: ignore[arg-type]
        elif kind is Answer:
            self._check_forgotten(to, message)  # type: ignore[arg-type]
        elif kind is CancelAnswer:
            self._note_cancel(to, message)  # type: ignore[arg-type]
        elif kind is TaskPrinted:
            self._check_output(to, message)  # type: ignore[arg-type]

    def _check_accepted(self, message: TaskAccepted) -> None:
        """Check that every acknowledged submission, single or grouped, is completely on the disk."""
        if message.items:
            raise Violation("bound", f"{message} is said, and all calls that were submitted are to be kept")
        for task in message.tasks or (message.task,):
            if task not in self.ledger.tasks:
                raise Violation("I4", f"task {task} is acknowledged and not on the disk")
            self.acknowledged.add(task)

    def _check_forgotten(self, to: str, answer: Answer) -> None:
        """Checks that a job reported as forgotten is not found any more, also after a restart."""
        job = self._forgets.get((to, answer.request))
        if job is None:
            return
        if job in self.ledger.jobs:
            raise Violation("forget", f"job {job} was confirmed as dropped, but the disk has it")
        self.forgotten.add(job)

    def _check_output(self, to: str, message: TaskPrinted) -> None:
        """Checks that output goes to the user of its task, and comes from the attempt that it names."""
        submission = self.submissions[message.task]
        users = {client.address: client.user for client in self.clients}
        if users.get(to, submission.client.user) != submission.client.user:
            raise Violation("output", f"{to} receives output of {message.task}, which {submission.client.user} owns")
        if message.text != f"{message.task}[{message.first + message.offset}]#{message.attempt}":
            raise Violation("output", f"{message} names another call than the one that printed it")

    def _check_end(self, message: TaskEnded) -> None:
        kept = self.ledger.tasks.get(message.task)
        if kept is not None and message.state is TaskState.CANCELLED:
            known = all(kept.states[n] is message.state for n in range(message.first, message.first + message.items))
        else:
            known = kept is not None and any(_same_end(end, message) or _contains(end, message) for end in kept.ends)
        if not known:
            raise Violation("I4", f"{message} is said and not on the disk")

    def _check_run(self, message: RunTask) -> None:
        if (message.task, message.first, message.attempt) not in self.ledger.fences:
            raise Violation("I4", f"attempt {message.attempt} of {message.task}[{message.first}] is not on the disk")
        if self.core is None or self.core.disk.pending.is_empty:  # else a state may wait for room on the disk
            self.ledger.check_states(message)
        known = self.ledger.tasks[message.task]
        ordered = known.states[message.first : message.first + message.items]
        if all(state is TaskState.CANCELLED for state in ordered) and not known.forgotten:
            raise Violation("I8", f"{message.task}[{message.first}] is ordered, and all of it was cancelled")
        spec = known.spec
        parent = self.ledger.tasks.get(spec.parent)
        if parent is not None and came_to_nothing(parent, spec):
            raise Violation("nested", f"{message.task} begins, and the attempt of {spec.parent} that wants it is over")
        if parent is not None and spec.user != parent.spec.user:
            raise Violation("nested", f"{message.task} of {spec.parent} counts as {spec.user}'s")

    def _check_release(self, message: EndCommitted) -> None:
        """Checks that a hub may drop a result only when it is on the disk or was not wanted."""
        items = self._released(message)
        kept = self.ledger.tasks.get(message.task)
        if not items or kept is None or kept.forgotten or (self.core is not None and self.core.disk.forgets):
            return
        for item in items:
            settled = kept.states[item] is not None or kept.attempts[item] > message.attempt
            if not settled and (item, message.attempt) not in kept.failed and not self._was_returned(kept, item):
                raise Violation("I4", f"the hub may drop the result of {message} and it is not on the disk")

    def _released(self, message: EndCommitted) -> range:
        """The items whose results a hub may drop: those of a slice or a part of it."""
        sizes = self.ledger.produced.get((message.task, message.first + max(0, message.offset), message.attempt), ())
        if not sizes:
            return range(0)
        if message.offset < 0:
            return range(message.first, message.first + max(sizes))
        return range(message.first + message.offset, message.first + message.offset + min(sizes))

    def _was_returned(self, kept: Kept, item: int) -> bool:
        """True if the core had given up the attempt before its result came; the journal need not record that."""
        scheduler = self.core.scheduler if self.core is not None else None
        record = scheduler.state.records.get(kept.spec.task) if scheduler is not None else None
        return record is not None and record.at(item).held is None

    def _check_refusal(self, message: TaskRejected) -> None:
        if message.kind == "TooManyQueuedTasks":
            raise Violation("bound", f"{message} is said, and what is beyond the bound is to be kept behind it")
        kept = self.ledger.tasks.get(message.task)
        if kept is None or kept.forgotten or not self.orderly:
            return
        if kept.batch < self.ledger.batches:  # else: refused, and accepted when it came again in the same turn
            raise Violation("I2", f"{message} is said of a task that is kept")

    def _note_cancel(self, to: str, answer: CancelAnswer) -> None:
        asked = self._cancels.get((to, answer.request))
        if asked is None or not answer.cancelled:
            return
        for kept in self.ledger.tasks.values():
            spec = kept.spec
            if spec.task in self.again:  # failed items were not cancelled, and may be open again
                continue
            if spec.task == asked.task or (asked.job and spec.job == asked.job):
                first, items = (asked.first, asked.items) if asked.items and not asked.job else (0, spec.items)
                kept.cancelled.update(item for item in kept.open_items if first <= item < first + items)

    def decided(self, scheduler: Scheduler, commands: Sequence[Command]) -> None:
        check_turns(scheduler, commands, self.standing)
        self._check_bytes(scheduler, commands)
        if self.shares is not None:
            self.shares.check(scheduler, self.hubs, self.simulator.now)
        if self.waits is not None:
            self.waits.check(scheduler, self.simulator.now)

    def _check_bytes(self, scheduler: Scheduler, commands: Sequence[Command]) -> None:
        """Checks that nothing was accepted beyond a limit of stored bytes, and nothing refused without one.

        The sum is without results of this turn, which may have come after the acceptance.
        """
        kept = [c.entry.spec.user for c in commands if type(c) is Record and type(c.entry) is TaskKept]
        for user in dict.fromkeys(kept):
            for limits, users in self.standing.most_bytes(user):
                stored = sum(
                    _weight_before(record, scheduler.state.wall(self._now()) - 1e-6)
                    for record in scheduler.state.records.values()
                    if record.user in users
                )
                if stored > limits.max_bytes:
                    raise Violation("quota", f"{stored} bytes of {limits.whose} are stored, of {limits.max_bytes}")
        for command in commands:
            if type(command) is Send and type(command.message) is TaskRejected:
                refused = self.submissions.get(command.message.task)
                limited = refused is None or self.standing.most_bytes(refused.client.user)
                if command.message.kind == "QuotaExceeded" and not limited:
                    raise Violation("quota", f"{command.message} is said of a user without a limit")

    def _now(self) -> float:
        return self.core.clock() if self.core is not None else 0.0

    def settled_down(self, scheduler: Scheduler) -> None:
        """Checks after a committed turn that the disk and the core's memory agree."""
        core = self.core
        self._check_gone(scheduler)
        if scheduler.state.nested or self._lent:
            self._check_lent(scheduler)
        if core is not None and scheduler.state.orphans:
            self._check_dead(scheduler, core)
        if core is not None and self.simulator.chance(self._mirror) and core.disk.pending.is_empty:
            self.compare(scheduler, core)

    def _check_lent(self, scheduler: Scheduler) -> None:
        """Checks that a slot which was lent for a silent wait is counted again when the awaited tasks are over."""
        now, before, self._lent = self.simulator.now, self._lent, {}
        silent = {id(w.run): w for hub in self.made for w in hub.pool.workers.values() if w.nested.goes_on_unasked}
        runs = {(w.run.task, w.run.first, w.run.attempt) for w in silent.values() if w.run is not None}
        for hub in scheduler.state.hubs.values():
            for fence, held in hub.in_flight.items():
                if fence in runs and held.wait and held not in scheduler.state.resumable and not held.record.children:
                    self._lent[fence] = before.get(fence, now)
                    if now > self._lent[fence] + LENT_S + self.slack_s and self.orderly:
                        text = f"{fence} counts as waiting, and the tasks that it waited for are over"
                        raise Violation("slots", f"{text} since {now - self._lent[fence]:.2f} s")

    def _check_gone(self, scheduler: Scheduler) -> None:
        """Checks that forgotten jobs stay so; only in orderly networks, which repeat no message after a restart."""
        back = [job for job in self.forgotten if job in scheduler.state.jobs] if self.orderly else ()
        if back:
            raise Violation("forget", f"job {back[0]} was dropped and is found again")

    def _check_dead(self, scheduler: Scheduler, core: SimulatedCore) -> None:
        """Checks that nothing waits for a hub whose process is known to have ended."""
        now, here = self.simulator.now, {hub.id for hub in scheduler.state.hubs.values()}
        gone = {o.fence: o.hub for o in scheduler.state.orphans.values() if o.hub not in here and core.has_ended(o.hub)}
        self._gone = {fence: self._gone.get(fence, now) for fence in gone}  # slice -> start of the wait
        for fence, since in self._gone.items():
            if now > since + 1.5 * LOOK_S and core.started_at <= since:
                raise Violation("dead", f"{fence} waits for {gone[fence]}, whose process is gone")

    def compare(self, scheduler: Scheduler, core: SimulatedCore) -> None:
        """Checks I9, and the scheduler's sums against their parts."""
        try:
            invariants.check(scheduler, ticked=True)
        except AssertionError as error:
            raise Violation("sums", str(error)) from None
        waiting = [t for r in scheduler.state.records.values() for t in r.slices if t.state is TaskState.QUEUED]
        if waiting:
            task = waiting[len(self.acknowledged) % len(waiting)]  # any of them, without a draw
            wrong = told_wrong(scheduler, task, task.first + task.items // 2, core.clock())
            if wrong:
                raise Violation("told", wrong)
        found = differences(scheduler, core.disk.replay(), core.clock(), core.make, not core.wall_jump)
        if found:
            raise Violation("I9", f"a replay of the journal says otherwise: {found}")

    def restarted(self, scheduler: Scheduler) -> None:
        """Checks that the new core knows acknowledged tasks and no forgotten ones."""
        self._check_gone(scheduler)
        for task in self.acknowledged:
            if task not in scheduler.state.records and not self.ledger.tasks[task].forgotten:
                raise Violation("I1", f"task {task} was acknowledged and is gone after a restart")

    # ── the workers ──

    def conduct(self, task: str) -> Conduct:
        return self._conduct[task]

    def nests(self, spec: SubmitTask, conduct: Conduct) -> None:
        """Records a task that a call is about to submit."""
        self._conduct[spec.task] = conduct

    def refused(self, run: RunTask) -> None:
        """Records that a wait has failed, and its call with it."""
        self.refused_waits.add(run.task)

    def goes_on(self, worker: SimulatedWorker) -> None:
        """Checks, when a worker begins or goes on after a wait, that its group runs no more calls than it has slots."""
        hub = next((hub for hub in self.made if hub.pool is worker.pool), None)
        if hub is None or hub.address in hub.network.miscounted:
            return
        group, pool = hub.groups[worker.group], worker.pool
        if not self.orderly or worker.is_excused or (pool.limits and pool.connect is not None):
            return
        most = pool.limits[worker.group] if pool.limits else group.workers
        running = [
            one.name
            for one in worker.pool.workers.values()
            if one.alive
            and one.group == worker.group
            and one.began_at > pool.scaled_at
            and one.run not in (None, one.nested.silent_run)
            and not one.nested.waits
        ]
        if len(running) > most:
            raise Violation("slots", f"{running} run at once in a group of {most}")

    def began(self, run: RunTask, item: int, worker: SimulatedWorker) -> int:
        """Checks that a call begins with its argument and runs nowhere else; returns how often it has begun."""
        self._check_name(run, worker)
        self._check_owner(run, worker)
        if self.waits is not None:
            self.waits.began(run, item, worker.pool.hub, self.hubs, self.simulator.now)
        self.goes_on(worker)
        before = self._at.get((run.task, item))
        if self.orderly and before is not None and before[0].is_at(before[1], item) and not before[0].is_excused:
            raise Violation("alone", f"{run.task}[{item}] begins on {worker.name} while {before[0].name} is at it")
        self._at[run.task, item] = worker, run
        text = b"".join(map(bytes, run.payload.buffers))
        at = item - run.first if run.split else item  # a payload that cannot be cut comes whole
        if text[at : at + 1] != bytes((item % 256,)) or (run.split and len(text) != run.items):
            raise Violation("payload", f"{run.task}[{item}] was given {text!r} on {worker.name}")
        times = self.begun[run.task, item] = self.begun.get((run.task, item), 0) + 1
        once = self.submissions[run.task].spec.at_most_once
        if times > 1 + self.again.get(run.task, 0) and once and self.orderly:
            raise Violation("once", f"{run.task}[{item}] is at_most_once and began {times} times")
        return times

    def _check_owner(self, run: RunTask, worker: SimulatedWorker) -> None:
        """Checks that the owner of the hub lets this user's tasks run there."""
        hub = next((hub for hub in self.made if hub.name == worker.pool.hub), None)
        only = hub.groups[run.group].only if hub is not None else ()
        user = self.submissions[run.task].client.session.hello.user
        if only and user not in only:
            raise Violation("owner", f"{run.task} of {user} begins on {worker.name}, which runs tasks of {only} only")

    def _check_name(self, run: RunTask, worker: SimulatedWorker) -> None:
        """Checks that a call by name runs the function that its hub has under that name."""
        spec = self.submissions[run.task].spec
        function, arguments = ("", "") if spec.function else NAMED[spec.name]
        if run.function != (spec.function or function) or (arguments and run.constants != (arguments,)):
            raise Violation("name", f"{run} is begun on {worker.name}, and {spec.name} is another function")

    def steered(self, run: RunTask, item: int, command: Steer) -> None:
        """Checks that a user has asked for this command."""
        if (run.task, item) not in self.steers and (run.task, -1) not in self.steers:
            raise Violation("steer", f"no client has asked for {command} at {run.task}[{item}]")

    def produced(self, end: TaskFinished | ItemsFinished) -> None:
        first = end.first + (end.offset if isinstance(end, ItemsFinished) else 0)
        self.ledger.produced.setdefault((end.task, first, end.attempt), set()).add(end.items)

    def killed(self, run: RunTask, item: int) -> None:
        """Checks I7: a poisonous item kills max_crashes workers alone, one with others, and one per other fault."""
        times = self.kills[run.task, item] = self.kills.get((run.task, item), 0) + 1
        limit = self.core.policy.max_crashes if self.core is not None else 3
        company = 1 if run.split else 0
        lives = 1 + self.again.get(run.task, 0)
        if times > lives * limit + company + self.interruptions and self.orderly:
            raise Violation("I7", f"{run.task}[{item}] has killed {times} workers, {limit} were allowed")

    # ── the users ──

    def submitted(self, client: SimulatedClient, spec: SubmitTask) -> None:
        self.submissions[spec.task] = ObservedSubmission(spec, client)
        self.clients.add(client)

    def asked(self, client: SimulatedClient, message: Message) -> None:
        if isinstance(message, CancelTask):
            self._cancels[client.address, message.request] = message
            self.cancel_asked.update(
                s.spec.task
                for s in self.submissions.values()
                if s.spec.task == message.task or (message.job and s.spec.job == message.job)
            )
        elif isinstance(message, RetryFailed):
            self.again[message.task] = self.again.get(message.task, 0) + 1
        elif isinstance(message, (TurnKnob, StopAndKeep)):
            self.steers.add((message.task, message.item))
            if isinstance(message, StopAndKeep):
                self.kept_early.add(message.task)
        elif isinstance(message, ForgetJob):
            self._forgets[client.address, message.request] = message.job
            self.ledger.given_up.add(message.job)
            self.cancel_asked.update(s.spec.task for s in self.submissions.values() if s.spec.job == message.job)

    def saw_end(self, client: SimulatedClient, ended: TaskEnded, fresh: tuple[tuple[int, int], ...]) -> None:
        submission = self.submissions[ended.task]
        if submission.client is not client:
            return
        for first, items in fresh:
            for item in range(first, first + items):
                if submission.ended[item] is not None:
                    raise Violation("I4", f"{ended.task}[{item}] was settled twice")
                submission.ended[item] = ended
        if all(end is not None for end in submission.ended):
            self.ledger.collected.add(ended.task)

    def saw_reopened(self, client: SimulatedClient, message: TaskReopened) -> None:
        submission = self.submissions[message.task]
        if submission.client is client:
            for first, items in message.again:
                submission.ended[first : first + items] = [None] * items

    def saw_rejection(self, client: SimulatedClient, task: str, failure: Failure, first: int) -> None:
        submission = self.submissions[task]
        if submission.client is not client:
            return
        if not first:
            submission.rejected = failure
            return
        del submission.ended[first:]
        if all(end is not None for end in submission.ended):
            self.ledger.collected.add(task)


def came_to_nothing(parent: Kept, spec: SubmitTask) -> bool:
    """True if the attempt that submitted this nested task did not end as DONE."""
    item, attempt = spec.parent_item, spec.parent_attempt
    if parent.attempts[item] != attempt or (item, attempt) in parent.failed:
        return True
    return parent.states[item] not in (None, TaskState.DONE)


def _weight_before(record: Submission, wall: float) -> int:
    """The bytes of a submission's arguments, and of its results that ended before this time."""
    ends = {id(task.ended): task.ended for task in record.slices if task.ended is not None}
    results = (end.payload for end in ends.values() if end.ended_at < wall)
    return record.spec.payload.nbytes + sum(payload.nbytes for payload in results if payload is not None)


def _same_end(end: object, message: TaskEnded) -> bool:
    names = ("first", "items", "state", "attempt", "payload", "failure", "holes", "worker")
    return all(getattr(end, name) == getattr(message, name) for name in names)


def _contains(end: EndKept, message: TaskEnded) -> bool:
    """Return whether the message is the kept end for some of its items: those beside them run again."""
    first, items = end.first, end.items
    names = ("state", "attempt", "failure", "holes", "worker")
    return (
        message.payload is None
        and first <= message.first
        and message.first + message.items <= first + items
        and all(getattr(end, name) == getattr(message, name) for name in names)
    )
