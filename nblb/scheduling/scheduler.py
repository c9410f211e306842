"""The Load Balancer's decisions: messages and ticks in, commands out; no clock, no socket, no file.

The parts share one State: intake (requests of clients), attempt_reports (reports of hubs), liveness (connected
parties), dispatch (what runs next), retention (notices and expiry). `handle` does not dispatch: the shell passes in all
messages that have arrived and then calls `tick`, so the backlog is processed once for the whole turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nblb.access.limits import Limits
from nblb.protocol.commands import Command, Halt, NameFiles, Record, Send
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AnyEntry
from nblb.protocol.messages import (
    Administer,
    Answer,
    Ask,
    BlobMissing,
    BlobWanted,
    CancelTask,
    CollectTask,
    Failure,
    FetchCall,
    FetchOutput,
    FetchTask,
    FilesSeen,
    ForgetJob,
    Heartbeat,
    Hello,
    HubGone,
    HubHello,
    HubLeaves,
    ItemsFinished,
    KnobOffered,
    Message,
    OpenJob,
    OutputKept,
    Publish,
    PutBlob,
    ResumeTask,
    RetryFailed,
    RunTask,
    StopAndKeep,
    StopCore,
    StopHub,
    SubmitTask,
    TaskCheckpointed,
    TaskEmitted,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskRejected,
    TaskStarted,
    TaskState,
    TaskStopped,
    TurnKnob,
    WaitBegan,
    WaitEnded,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling.adapting.idle_end import IdleEnd
from nblb.scheduling.administration import Administration
from nblb.scheduling.attempt_reports import AttemptReports
from nblb.scheduling.cancelling import Cancelling
from nblb.scheduling.dispatch import Dispatch
from nblb.scheduling.hubs import Hub
from nblb.scheduling.intake import Intake
from nblb.scheduling.liveness import Liveness
from nblb.scheduling.long_tasks.deadlines import Deadlines
from nblb.scheduling.long_tasks.failure_limit import FailureLimits
from nblb.scheduling.nesting.stalled import StalledGroups
from nblb.scheduling.recall import Recall
from nblb.scheduling.reporting import quotas
from nblb.scheduling.restore import Restore
from nblb.scheduling.retention import Notices, Retention
from nblb.scheduling.state import ConnectedClient, Policy, State
from nblb.scheduling.steering import Steering
from nblb.scheduling.unreadable import Unreadable

ChangeAccess = Callable[[str, Administer, float], "tuple[Any, list[Command]]"]  # user, message, now
Judge = Callable[[ConnectedClient, Message], str]  # why this connection may not send it; "" if it may
Answers = Callable[["Scheduler", str, dict[str, Any], float], Any]


class TaskView:
    """The properties of a task that the JSON door needs."""

    __slots__ = ("failure", "note", "payload", "progress", "state")

    def __init__(self, state: TaskState, progress: float, payload: Payload | None, failure: Failure | None) -> None:
        self.state, self.progress, self.payload, self.failure = state, progress, payload, failure


class Scheduler:
    """The scheduler's state machine; `answers` computes the answer to an Ask (broker/queries.py)."""

    def __init__(self, policy: Policy, answers: Answers | None = None) -> None:
        self.policy, self.answers, self.state = policy, answers, State(policy)
        self.administer: ChangeAccess | None = None  # changes who may connect (broker/access/key_changes.py)
        self.judge: Judge | None = None  # judges a client whose Hello has a role (broker/access/rights.py)
        self.steering = steering = Steering(self.state)
        self.intake = Intake(self.state, steering)
        self.outcome = AttemptReports(self.state)
        self.unreadables = Unreadable(self.state, self.outcome)
        self.liveness = Liveness(self.state, self.outcome)
        self.dispatch, self.notices = Dispatch(self.state), Notices(self.state)
        self.retention = Retention(self.state)
        self.recall, self.stalled = Recall(self.state), StalledGroups(self.state)
        self.cancelling = cancelling = Cancelling(self.state, self.retention)
        self.failure_limits, self.deadlines = FailureLimits(self.state, cancelling), Deadlines(self.state)
        self.administration = Administration(self.state)
        self.idle_end = IdleEnd(self.state)
        intake, outcome, liveness = self.intake, self.outcome, self.liveness
        self._from_client: dict[type, Callable[[ConnectedClient, Any, float], None]] = {
            PutBlob: intake.put_blob,
            OpenJob: self._open_job,
            SubmitTask: intake.submit_task,
            CancelTask: cancelling.cancel_task,
            RetryFailed: intake.retry_failed,
            CollectTask: intake.collect_task,
            FetchTask: intake.fetch_task,
            ForgetJob: cancelling.forget_job,
            Publish: intake.publish,
            Ask: self._ask,
            **self.administration.handlers,
            StopCore: self._stop_core,
            TurnKnob: steering.turn_knob,
            StopAndKeep: steering.stop_and_keep,
            FetchCall: steering.fetch_call,
            FetchOutput: steering.fetch_output,
            Administer: self._administer,
            FilesSeen: self._files_seen,
            Heartbeat: self._client_heartbeat,
        }
        self._from_hub: dict[type, Callable[[Hub, Any, float], None]] = {
            Heartbeat: liveness.heartbeat,
            WorkerStarted: outcome.worker_started,
            WorkerDied: outcome.worker_died,
            TaskStarted: outcome.task_started,
            WaitBegan: outcome.wait_began,
            WaitEnded: outcome.wait_ended,
            TaskProgressed: outcome.task_progressed,
            TaskCheckpointed: outcome.task_checkpointed,
            TaskFinished: outcome.task_finished,
            ItemsFinished: outcome.items_finished,
            TaskStopped: outcome.task_stopped,
            TaskPrinted: steering.task_printed,
            OutputKept: steering.output_kept,
            TaskEmitted: steering.task_emitted,
            KnobOffered: steering.knob_offered,
            BlobWanted: self._blob_wanted,
            FilesSeen: self._files_seen,
            HubLeaves: liveness.hub_leaves,
        }

    @property
    def wall_offset(self) -> float:
        return self.state.wall_offset

    @wall_offset.setter
    def wall_offset(self, seconds: float) -> None:
        self.state.clock.begin(seconds)

    def update_clocks(self, now: float, wall: float, slept_s: float = 0.0) -> None:
        """Take the reading of the wall clock, which may have been set; `slept_s` is the total sleep since boot."""
        self.state.clock.update(now, wall, slept_s)

    # ── the three methods of every machine ──

    def restore(self, entries: Iterable[AnyEntry], now: float) -> list[Command]:
        """Restore the state from a journal's entries; once, before the first event."""
        Restore(self.state, now).play(entries)
        if self.policy.epoch > 1:
            self.state.judges_from = now + self.policy.suspect_s
        return self._taken()

    def handle(self, sender: str, message: Message, now: float) -> list[Command]:
        """Return the commands that follow from a message; call `tick` after the last one of a turn.

        Raises
        ------
        InvalidTransition
            A bug. The commands made before it stay in the state, and the next call returns them.
        """
        kind = type(message)
        hub = self.state.hubs.get(sender)
        if hub is not None:
            if kind is not HubHello and (now > hub.received_at or hub.suspect or hub.greetings):
                self.liveness.note_message(hub, now)
            on_hub = self._from_hub.get(kind)
            if on_hub is not None:
                on_hub(hub, message, now)
                return self._taken()
        if kind is HubHello:
            self.liveness.hub_hello(sender, message, now)  # type: ignore[arg-type]
        elif kind is HubGone:
            self.liveness.hub_gone(sender, message, now)  # type: ignore[arg-type]
        elif kind is Hello:
            self.liveness.hello(sender, message, now)  # type: ignore[arg-type]
        else:
            self._handle_client(sender, message, now)
        return self._taken()

    def _handle_client(self, sender: str, message: Message, now: float) -> None:
        client = self.state.clients.get(sender)
        on_client = self._from_client.get(type(message))
        if client is None or on_client is None:
            self.liveness.stranger(sender)
            return
        client.received_at = now
        if client.role and not self._allows(client, message):
            return
        on_client(client, message, now)

    def _allows(self, client: ConnectedClient, message: Message) -> bool:
        """Return True if the role of this connection may send the message; answer it otherwise."""
        refusal = "this core knows no roles" if self.judge is None else self.judge(client, message)
        request = getattr(message, "request", 0)
        if refusal and request:
            self.state.send(client.address, Answer(request=request, error=refusal, kind="NotAllowed"))
        elif refusal and isinstance(message, SubmitTask):
            self.state.send(client.address, TaskRejected(task=message.task, kind="NotAllowed", reason=refusal))
        return not refusal

    def tick(self, now: float) -> list[Command]:
        """Return the commands that follow from the time, and the assignments that the turn's events made possible."""
        self.liveness.tick(now)
        self.deadlines.tick(now)
        self.failure_limits.tick(now)
        self.cancelling.tick(now)
        self.administration.tick(now)
        self.state.end_delays(now)
        self.administration.adaptation.tick(now)
        self.idle_end.tick(now)
        self.dispatch.run(now)
        self.recall.make_way(self.dispatch.waiting, now)
        self.recall.tick(now, self.dispatch.held)
        self.stalled.tick(now)
        self.notices.tick(now)
        self.retention.tick(now)
        return self._taken()

    def next_deadline(self) -> float | None:
        """Return the latest time for the next call of `tick`."""
        if self.state.dispatch_due and not self.dispatch.held:
            return 0.0
        times = (
            self.liveness.next_deadline(),
            self.recall.next_deadline(),
            self.stalled.next_deadline(),
            self.state.notice_at,
            self.state.delayed.next_deadline(),
            self.deadlines.next_deadline(),
            self.retention.next_deadline(),
            self.administration.adaptation.next_deadline(),
            self.idle_end.next_deadline(),
        )
        return min((time for time in times if time is not None), default=None)

    # ── other calls of the shell ──

    def gone(self, address: str, now: float, dead: bool = False) -> list[Command]:
        """Handle a party to which nothing can be sent; `dead` if its process is known to have ended."""
        self.liveness.unreachable(address, now, dead)
        return self._taken()

    def hub_dead(self, hub: str, now: float) -> list[Command]:
        """Handle a hub incarnation whose process is known to have ended: it will not return."""
        self.liveness.hub_dead(hub, now)
        return self._taken()

    def stood_still(self, seconds: float) -> None:
        """Handle that the core's process has not run for so long, or has waited for its disk."""
        self.liveness.stood_still(seconds)

    def pause_starts(self, held: bool) -> None:
        """Stop or resume starting slices: on a nearly full disk, what runs needs the remaining space."""
        self.dispatch.held = held

    def is_given(self, address: str, order: RunTask | ResumeTask) -> bool:
        """Return whether this order, whose sending was delayed, is still valid."""
        hub = self.state.hubs.get(address)
        held = hub.in_flight.get((order.task, order.first, order.attempt)) if hub is not None else None
        return held is not None and (type(order) is RunTask or not held.wait)  # a hub that came back reported the wait

    def refuse(self, tasks: Iterable[str], kind: str, reason: str, now: float) -> list[Command]:
        """Undo submissions accepted in a turn whose commit failed; the turn's messages about them must not be sent."""
        self.cancelling.refuse(tasks, kind, reason, now)
        return [command for command in self._taken() if type(command) is Send]

    def blob_lost(self, name: str, reason: str) -> list[Command]:
        """Reject what waits for a blob whose bytes cannot be read."""
        self.intake.blob_lost(name, reason)
        return self._taken()

    def has_blob(self, name: str) -> bool:
        """True if the core has the function or constant of this name."""
        return name in self.state.blobs

    def blob_forged(self, sender: str, name: str, reason: str) -> list[Command]:
        """Refuse bytes that do not have the hash that names them, and what the sender has waiting for them."""
        self.intake.blob_forged(sender, name, reason)
        return self._taken()

    def unreadable(self, address: str, message: Message, reason: str, now: float) -> list[Command]:
        """Handle a message that cannot be sent, because its payload can no longer be read."""
        self.unreadables.unreadable(address, message, reason, now)
        return self._taken()

    def lost_entries(self, reason: str, now: float) -> list[Command]:
        """Handle a journal that has lost entries, once its state is restored."""
        self.unreadables.may_have_begun(reason, now)
        return self._taken()

    def task_view(self, task_id: str) -> TaskView | None:
        """Return state, progress, result and failure of one task, by the id that users see; None if unknown."""
        record = self.state.records.get(task_id)
        item = 0
        if record is None and "." in task_id:
            name, _, number = task_id.rpartition(".")
            record = self.state.records.get(name)
            item = int(number) if number.isdecimal() else -1
        if record is None or not 0 <= item < record.items:
            return None
        task = record.at(item)
        ended = task.ended
        return TaskView(
            task.state,
            100.0 if task.state is TaskState.DONE else task.progress,
            ended.payload if ended is not None else None,
            ended.failure if ended is not None else None,
        )

    def why(self, task_id: str, first: int, now: float) -> str:
        """Return a sentence for the owner about why this call of a submission still waits."""
        record = self.state.records.get(task_id)
        if record is None or not 0 <= first < record.items:
            return "the core does not know this task"
        return self.dispatch.why(record.at(first), first, now)

    def is_full(self, user: str) -> bool:
        """Return whether as many calls of this user as may wait outside jobs: the JSON door refuses one more."""
        return self.full_queue(user)[0] > 0

    def full_queue(self, user: str) -> tuple[int, str]:
        """Return the limit that this user's calls outside jobs have reached, and which it is; (0, "") if none."""
        queue = self.state.share.users.get(user)
        return (0, "") if queue is None else quotas.full_queue(self.state, queue)

    def limit(self, limits: Iterable[Limits]) -> None:
        """Replace the shares and the limits of all users and groups, from now on."""
        self.state.share.limit(limits)
        self.recall.look_again()
        self.state.dispatch_due = True

    # ── small requests ──

    def _client_heartbeat(self, client: ConnectedClient, _message: Heartbeat, now: float) -> None:
        self.state.send(client.address, Heartbeat(at=self.state.wall(now)))

    def _files_seen(self, party: ConnectedClient | Hub, message: FilesSeen, _now: float) -> None:
        if self.policy.token and message.token == self.policy.token:
            self.state.out.append(NameFiles(party.address))

    def _open_job(self, client: ConnectedClient, message: OpenJob, now: float) -> None:
        other = self.intake.open_job(client, message, now)
        if other is not None:
            self._ask(client, Ask(request=message.request, topic="job", about={"job": other.id}), now, committed=True)
        elif message.request:
            self.state.send(client.address, Answer(request=message.request, committed=True))

    def _ask(self, client: ConnectedClient, message: Ask, now: float, committed: bool = False) -> None:
        try:
            if self.answers is None:
                raise LookupError("this scheduler was made without `answers`, so it answers no Ask")
            value = self.answers(self, message.topic, message.about, now)
            answer = Answer(request=message.request, value=value, committed=committed)
        except Exception as error:  # no query may stop the core
            text = str(error.args[0]) if error.args else type(error).__name__
            answer = Answer(request=message.request, error=text, kind="NblbError")
        self.state.send(client.address, answer)

    def _administer(self, client: ConnectedClient, message: Administer, now: float) -> None:
        try:
            if self.administer is None:
                raise LookupError(
                    "this core listens on this computer only, so it has no keys; start it with 'nblb start --listen'"
                )
            value, commands = self.administer(client.user, message, now)
            self.state.out += commands
            answer = Answer(request=message.request, value=value)
        except Exception as error:  # a wrong request must not stop the core
            text = str(error.args[0]) if error.args else type(error).__name__
            answer = Answer(request=message.request, error=text, kind="NblbError")
        self.state.send(client.address, answer)

    def _stop_core(self, client: ConnectedClient, message: StopCore, _now: float) -> None:
        state = self.state
        if message.hubs:
            for hub in state.hubs.values():
                state.send(hub.address, StopHub(reason=f"{client.user} stopped the cluster"))
        state.send(client.address, Answer(request=message.request, value=True))
        state.out.append(Halt(f"{client.user} asked for it"))

    def _blob_wanted(self, hub: Hub, message: BlobWanted, _now: float) -> None:
        hub.holds.discard(message.hash)
        if not self.state.supply(hub, message.hash):
            self.state.send(hub.address, BlobMissing(hash=message.hash))

    def _taken(self) -> list[Command]:
        state = self.state
        if state.tallies.is_changed:
            state.out += map(Record, state.tallies.changed())
        out, state.out = state.out, []
        return out
