"""The session of a client with the core; pure, so that the simulator and the tests can break the connection at will.

Events come from two senders: "user" (this process: the messages of FromClient, and Expect) and "core" (the messages
of ToClient); `line_up` and `line_down` report changes of the connection. The rules:

- Messages without an answer are sent again after each Welcome: jobs and blobs before the tasks that name them, then
  tasks, then requests. All have ids made by the client, so sending one twice is harmless.
- Tasks that were accepted and have not ended are fetched after each Welcome, because their ends may have been lost.
- The end of an item counts once, however often and in whatever order it arrives. If items run again because a kernel
  has sent RetryFailed, they are open again from the core's TaskReopened on: later messages belong to the new run.
- Results of single tasks that have arrived are reported as collected, a little later and many at a time.
- If a task was refused and the core accepts a late copy of it, the copy is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from nblb.client.session.open_tasks import Expect, OpenTasks
from nblb.client.session.refused import RefusedTasks
from nblb.protocol.commands import BlobReceived, Command, Deliver, Log, Reject, Send, Settle, Show
from nblb.protocol.messages import (
    AdaptWorkers,
    Answer,
    Ask,
    BlobMissing,
    CallTold,
    CancelAnswer,
    CancelTask,
    CollectTask,
    Failure,
    FetchCall,
    FetchOutput,
    FetchTask,
    ForgetJob,
    Heartbeat,
    Hello,
    JobChanged,
    JobNamed,
    KnobOffered,
    Message,
    OpenJob,
    OutputTold,
    Publish,
    PutBlob,
    Refused,
    RetryFailed,
    ScaleHub,
    StopAndKeep,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEmitted,
    TaskEnded,
    TaskPrinted,
    TaskRejected,
    TaskReopened,
    TaskState,
    TurnKnob,
    Welcome,
)

CORE = "core"
#: Messages with a request id.
QUESTIONS = (
    CancelTask, RetryFailed, Ask, ScaleHub, AdaptWorkers, StopCore, TurnKnob, StopAndKeep, FetchCall, FetchOutput,
)  # fmt: skip
NEWS = (TaskPrinted, TaskEmitted, KnobOffered, JobChanged, JobNamed)
SILENT_BEATS = 5  # heartbeats without a message, after which the core counts as away
HELLO_AGAIN_S = (0.5, 1.0, 2.0, 4.0)
COLLECT_AFTER_S = 0.25
MOST_COLLECTED = 1000  # most tasks in one message


class Session:
    """One client's exchange with one cluster, across any number of connections and restarts of the core."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.now = 0.0
        self.welcome: Welcome | None = None  # the latest one received
        self.open = False  # the core has sent a Welcome and is not known to be away
        self.refusal: Refused | None = None
        self._tasks = tasks = OpenTasks()
        self.unaccepted, self.records, self.jobs, self.blobs = tasks.unaccepted, tasks.records, tasks.jobs, tasks.blobs
        self.questions: dict[int, Message] = {}
        self._unwanted = RefusedTasks()
        self._reopenings: dict[str, int] = {}  # submission -> number of its latest reopening
        self._unsaid: list[Message] = []  # messages without an answer, from while the core was away
        self._collected: list[str] = []
        self._collect_at: float | None = None
        self._line = False
        self._hello_at: float | None = None  # when to send the next Hello
        self._hellos = 0
        self._came_at: float | None = None  # when the first Hello was sent
        self._received_at = self._said_at = self._beat_at = 0.0
        self._on: dict[tuple[str, type], Callable[[Any], list[Command]]] = {
            ("user", PutBlob): self._put_blob,
            ("user", OpenJob): self._open_job,
            ("user", SubmitTask): self._submit,
            ("user", Expect): self._expect,
            ("user", FetchTask): self._send,
            ("user", Publish): self._send,
            ("user", CollectTask): self._send,
            **{("user", kind): self._question for kind in QUESTIONS},
            ("user", RetryFailed): self._retry_failed,
            ("user", ForgetJob): self._forget_job,
            ("core", Welcome): self._welcomed,
            ("core", Refused): self._refused,
            ("core", TaskAccepted): self._accepted,
            ("core", TaskRejected): self._rejected,
            ("core", BlobMissing): self._blob_missing,
            ("core", TaskChanged): self._changed,
            ("core", TaskEnded): self._ended,
            ("core", TaskReopened): self._reopened,
            **{("core", kind): lambda message: [BlobReceived(message)] for kind in NEWS},
            ("core", CancelAnswer): self._cancel_answer,
            ("core", Answer): self._answer,
            ("core", CallTold): self._answer_received,
            ("core", OutputTold): self._answer_received,
            ("core", Heartbeat): lambda _: [],
        }

    # ── the methods of every machine ──

    def handle(self, sender: str, message: Message, now: float) -> list[Command]:
        self.now = now
        if sender == CORE:
            self._received_at = now
        return self._on[sender, type(message)](message)

    def line_up(self, now: float) -> list[Command]:
        """Handle a new connection; the Welcome will show whether the core is the same as before."""
        self.now = now
        self._line, self.open, self._hellos = True, False, 0
        return self._greet()

    def line_down(self, now: float) -> list[Command]:
        self.now = now
        was_open, self.open, self._line, self._hello_at = self.open, False, False, None
        return [Log("warning", "the core has closed the connection")] if was_open else []

    def tick(self, now: float) -> list[Command]:
        self.now = now
        out: list[Command] = []
        if self._hello_at is not None and now >= self._hello_at:
            out += self._greet()
        if self.open:
            if now - self._received_at > SILENT_BEATS * self._heartbeat_s:
                self.open, self._hellos = False, 0
                out += [Log("warning", f"no message from the core for {now - self._received_at:.0f} s"), *self._greet()]
            elif now >= self._beat_due():
                self._beat_at = now
                out.append(Send(CORE, Heartbeat()))
        if self._collect_at is not None and now >= self._collect_at:
            out += self.flush(now)
        return out

    def flush(self, now: float) -> list[Command]:
        """Send messages that were delayed; called last before the client closes."""
        self.now = now
        collected, self._collected, self._collect_at = self._collected, [], None
        parts = [tuple(collected[at : at + MOST_COLLECTED]) for at in range(0, len(collected), MOST_COLLECTED)]
        return [command for part in parts for command in self._send(CollectTask(tasks=part))]

    def next_deadline(self) -> float | None:
        if self.open:
            due = min(self._beat_due(), self._received_at + SILENT_BEATS * self._heartbeat_s + 0.001)
            return due if self._collect_at is None else min(due, self._collect_at)
        return min((time for time in (self._hello_at, self._collect_at) if time is not None), default=None)

    @property
    def _heartbeat_s(self) -> float:
        return self.welcome.heartbeat_s if self.welcome is not None else 1.0

    def _beat_due(self) -> float:
        # The core answers each heartbeat, so one is due if nothing was sent or nothing was received for a while.
        return max(min(self._said_at, self._received_at), self._beat_at) + self._heartbeat_s

    # ── greeting ──

    def _greet(self) -> list[Command]:
        self._hello_at = self.now + HELLO_AGAIN_S[min(self._hellos, len(HELLO_AGAIN_S) - 1)] if self._line else None
        self._hellos += 1
        if self._came_at is None:
            self._came_at = self.now
        return [Send(CORE, replace(self.hello, here_s=max(0.0, self.now - self._came_at)))]

    def _welcomed(self, message: Welcome) -> list[Command]:
        known = self.welcome
        same = known is not None and (known.core, known.epoch) == (message.core, message.epoch)
        self.welcome, self.refusal, self._hello_at = message, None, None
        if self.open and same:
            return []
        self.open = True
        self._tasks.sent_blobs.clear()
        self._said_at = self._beat_at = self.now
        return [Log("good", "the core is here"), *map(self._to_core, self._unsent(known, message))]

    def _unsent(self, before: Welcome | None, welcome: Welcome) -> Iterator[Message]:
        """The messages to send after a Welcome: those that the core may have missed, and fetches of missed ends."""
        yield from self.jobs.values()
        for spec in self.unaccepted.values():
            for name in (spec.function, *spec.constants):
                if name in self.blobs and name not in self._tasks.sent_blobs:
                    self._tasks.sent_blobs.add(name)
                    yield self.blobs[name]
            yield spec
        for task in self.records:
            if task not in self.unaccepted:
                yield FetchTask(task=task)
        unsaid, self._unsaid = self._unsaid, []
        yield from (*unsaid, *self._unwanted.unsent)
        for request, question in list(self.questions.items()):
            if isinstance(question, StopCore) and before is not None and before.epoch != welcome.epoch:
                del self.questions[request]  # it was meant for the core before the restart
            else:
                name = question.function if isinstance(question, RetryFailed) else ""
                if name in self.blobs and name not in self._tasks.sent_blobs:
                    self._tasks.sent_blobs.add(name)
                    yield self.blobs[name]
                yield question

    def _refused(self, message: Refused) -> list[Command]:
        if message.kind == "UnknownParty":  # it has restarted, or dropped this client: send Hello
            if self._hello_at is not None:
                return []  # a Hello is under way already
            self.open, self._hellos = False, 0
            return self._greet()
        if message.is_for_now and self.welcome is not None:
            return []  # the line dials again, and what was submitted waits
        self.open, self.refusal, self._hello_at = False, message, None
        failure = Failure(kind=message.kind, message=message.reason)
        out: list[Command] = [Log("error", message.reason)]
        out += [Reject(task, failure, self.unaccepted.get(task)) for task in self.records]
        out += [Deliver(request, error=message.reason, kind=message.kind) for request in self.questions]
        for task in list(self.records):
            self._tasks.close(task)
        self.unaccepted.clear()
        self.questions.clear()
        return out

    # ── messages of the user ──

    def _to_core(self, message: Message) -> Command:
        return Send(CORE, message)

    def _send(self, message: Message) -> list[Command]:
        if not self.open:
            self._unsaid.append(message)
            return []
        self._said_at = self.now
        return [Send(CORE, message)]

    def _put_blob(self, message: PutBlob) -> list[Command]:
        self.blobs.put(message)
        if not self.open or message.hash in self._tasks.sent_blobs:
            return []  # if the core is away, the blob is sent before the first task that names it
        self._tasks.sent_blobs.add(message.hash)
        self._said_at = self.now
        return [Send(CORE, message)]

    def _open_job(self, message: OpenJob) -> list[Command]:
        if message.request:  # the core may refuse to open it
            return self._question(message)
        self.jobs[message.job] = message
        return self._now(message)

    def _submit(self, message: SubmitTask) -> list[Command]:
        if message.task in self.records:
            return []
        self.unaccepted[message.task] = message
        self._tasks.enter(message)
        return self._now(message)

    def _expect(self, message: Expect) -> list[Command]:
        record = self.records.get(message.task)
        known = record is not None
        if record is None:
            record = self._tasks.enter(SubmitTask(task=message.task, name="", items=message.items, job=message.job))
        if message.again:
            record.reopen(message.again, others=known)
        return []

    def _forget_job(self, message: ForgetJob) -> list[Command]:
        """Stop sending the job, so that no late copy restores it, and cancel here what was not accepted yet."""
        self.jobs.pop(message.job, None)
        for request, question in list(self.questions.items()):
            if isinstance(question, OpenJob) and question.job == message.job:
                del self.questions[request]
        out: list[Command] = []
        for spec in [spec for spec in self.unaccepted.values() if spec.job == message.job]:
            record = self.records[spec.task]
            ended = TaskEnded(task=spec.task, items=spec.items, state=TaskState.CANCELLED)
            fresh = record.fresh(ended)
            self._tasks.close(spec.task)
            out.append(Settle(ended, fresh))
        return [*out, *(self._question(message) if message.request else self._send(message))]

    def _retry_failed(self, message: RetryFailed) -> list[Command]:
        """Send the request, and keep the blob of a new function that it names until the core has answered."""
        if message.function:
            self.blobs.use((message.function,))
        return self._question(message)

    def _question(self, message: Any) -> list[Command]:
        self.questions[message.request] = message
        return self._now(message)

    def _now(self, message: Message) -> list[Command]:
        """Send at once if the core is connected, else after the next Welcome."""
        if not self.open:
            return []
        self._said_at = self.now
        return [Send(CORE, message)]

    # ── messages of the core ──

    def _accepted(self, message: TaskAccepted) -> list[Command]:
        out: list[Command] = []
        for task in message.tasks or (message.task,):
            if self.unaccepted.pop(task, None) is None and task not in self.records:
                out += map(self._to_core, self._unwanted.accepted(task))
        record = self.records.get(message.task) if message.items else None
        if record is None or not record.refused(message.items):
            return out
        self._close_ended(message.task)
        failure = Failure(kind="TooManyQueuedTasks", message=message.reason)
        return [*out, Reject(message.task, failure, first=message.items)]

    def _rejected(self, message: TaskRejected) -> list[Command]:
        if message.task not in self.records:
            return []
        spec = self.unaccepted.get(message.task)
        self._tasks.close(message.task)
        self._unwanted.refused(message.task)
        return [Reject(message.task, Failure(kind=message.kind, message=message.reason), spec)]

    def _blob_missing(self, message: BlobMissing) -> list[Command]:
        blob = self.blobs.get(message.hash)
        if blob is not None:
            self._said_at = self.now
            asked = [q for q in self.questions.values() if isinstance(q, RetryFailed) and q.function == blob.hash]
            return [Send(CORE, blob), *map(self._to_core, asked)]
        failure = Failure(kind="TaskRejected", message=f"neither the core nor this process has blob {message.hash}")
        waiting = [spec for spec in self.unaccepted.values() if message.hash in (spec.function, *spec.constants)]
        for spec in waiting:
            self._tasks.close(spec.task)
        return [Reject(spec.task, failure, spec) for spec in waiting]

    def _changed(self, message: TaskChanged) -> list[Command]:
        return [Show(message)] if message.task in self.records else []

    def _ended(self, message: TaskEnded) -> list[Command]:
        record = self.records.get(message.task)
        if record is None:
            return []
        if record.items == 1:  # the core may have accepted only the first of several items; TaskAccepted tells
            self.unaccepted.pop(message.task, None)
        fresh = record.fresh(message)
        if not fresh:
            return []
        self._close_ended(message.task)
        return [Settle(message, fresh)]

    def _reopened(self, message: TaskReopened) -> list[Command]:
        """Open items of a job again, whichever kernel has asked for it; the future of a single task keeps its end."""
        if not message.job or message.number <= self._reopenings.get(message.task, -1):
            return []
        self._reopenings[message.task] = message.number
        self._expect(Expect(task=message.task, items=message.items, job=message.job, again=message.again))
        return [BlobReceived(message)]

    def _close_ended(self, task: str) -> None:
        """Close the submission if all of it has ended; the core may then drop the result of a single task."""
        record = self.records[task]
        if record.items > 1 and record.left:
            return
        self._tasks.close(task)
        if not record.job:
            self._collected.append(task)
            if self._collect_at is None:
                self._collect_at = self.now + COLLECT_AFTER_S

    def _blob_received(self, message: Message) -> list[Command]:
        return [BlobReceived(message)]

    def _cancel_answer(self, message: CancelAnswer) -> list[Command]:
        self._unwanted.answered(message.request)
        known = self.questions.pop(message.request, None) is not None
        return [Deliver(message.request, (message.cancelled, message.source))] if known else []

    def _answer_received(self, message: CallTold | OutputTold) -> list[Command]:
        known = self.questions.pop(message.request, None) is not None
        return [Deliver(message.request, message)] if known else []

    def _answer(self, message: Answer) -> list[Command]:
        question = self.questions.pop(message.request, None)
        if question is None:
            return []
        if isinstance(question, RetryFailed) and question.function:
            self.blobs.release((question.function,))
        if isinstance(question, OpenJob) and message.value is None and not message.error:
            self.jobs[question.job] = replace(question, request=0, replaces="")
        return [Deliver(message.request, message.value, message.error, message.kind)]
