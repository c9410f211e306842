"""What a client and the core owe each other; pure, so the simulator and the tests can break the connection at will.

Events come from two senders: "user" (this process: the messages of FromClient, and Expect) and "core" (the messages
of ToClient); `line_up` and `line_down` tell of the connection. The rules:

- What has no answer yet is said again after each Welcome: jobs and blobs before the tasks that name them, then tasks,
  then questions. All of it has ids made here, so saying it twice is harmless.
- What was accepted and has not ended is fetched after each Welcome, since its end may have been told to nobody.
- An end counts once for each item, however often and in whatever order it arrives.
- Results of single tasks that have arrived are said to be collected, a little later and many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nblb.client.open_record import OpenRecord
from nblb.commands import Command, Deliver, Log, Reject, Send, Settle, Show
from nblb.messages import (
    Answer,
    Ask,
    BlobMissing,
    CancelAnswer,
    CancelTask,
    CollectTask,
    Failure,
    FetchTask,
    ForgetJob,
    Heartbeat,
    Hello,
    JobChanged,
    Message,
    OpenJob,
    Publish,
    PutBlob,
    Refused,
    ScaleHub,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEnded,
    TaskPrinted,
    TaskRejected,
    Welcome,
)

CORE = "core"
SILENT_BEATS = 5  # heartbeats without a word, after which the core counts as away
HELLO_AGAIN_S = (0.5, 1.0, 2.0, 4.0)
COLLECT_AFTER_S = 0.25
IDLE_BLOB_BYTES = 64 * 1024 * 1024  # blobs that no open task names are kept up to this, should they be wanted again


class Expect(Message, frozen=True):
    """From the user's side: the ends of a record that was submitted before, perhaps by a process that is gone."""

    task: str
    items: int = 1
    job: str = ""


class Told(Command, frozen=True):
    """Something to show: JobChanged or TaskPrinted."""

    message: Message


class Session:
    """One client's talk with one cluster, over any number of connections and of cores that come and go."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.now = 0.0
        self.welcome: Welcome | None = None  # the latest
        self.open = False  # greeted and not known to be away
        self.refusal: Refused | None = None
        self.unaccepted: dict[str, SubmitTask] = {}
        self.records: dict[str, OpenRecord] = {}
        self.jobs: dict[str, OpenJob] = {}
        self.blobs: dict[str, PutBlob] = {}
        self.questions: dict[int, Message] = {}
        self._job_records: dict[str, int] = {}  # open records of each job
        self._blob_uses: dict[str, int] = {}  # open records that name it
        self._idle_bytes = 0
        self._told_blobs: set[str] = set()  # on this connection
        self._unsaid: list[Message] = []  # said while the core was away, and answered by nothing
        self._collected: list[CollectTask] = []
        self._collect_at: float | None = None
        self._line = False
        self._hello_at: float | None = None  # when to greet (again)
        self._hellos = 0
        self._heard_at = self._said_at = self._beat_at = 0.0
        self._on: dict[tuple[str, type], Callable[[Any], list[Command]]] = {
            ("user", PutBlob): self._put_blob,
            ("user", OpenJob): self._open_job,
            ("user", SubmitTask): self._submit,
            ("user", Expect): self._expect,
            ("user", FetchTask): self._say,
            ("user", ForgetJob): self._forget_job,
            ("user", Publish): self._say,
            ("user", CollectTask): self._say,
            ("user", CancelTask): self._question,
            ("user", Ask): self._question,
            ("user", ScaleHub): self._question,
            ("user", StopCore): self._question,
            ("core", Welcome): self._welcomed,
            ("core", Refused): self._refused,
            ("core", TaskAccepted): self._accepted,
            ("core", TaskRejected): self._rejected,
            ("core", BlobMissing): self._blob_missing,
            ("core", TaskChanged): self._changed,
            ("core", TaskEnded): self._ended,
            ("core", TaskPrinted): self._told,
            ("core", JobChanged): self._told,
            ("core", CancelAnswer): self._cancel_answer,
            ("core", Answer): self._answer,
            ("core", Heartbeat): self._heartbeat,
        }

    # ── the methods of every machine ──

    def handle(self, sender: str, message: Message, now: float) -> list[Command]:
        self.now = now
        if sender == CORE:
            self._heard_at = now
        return self._on[sender, type(message)](message)

    def line_up(self, now: float) -> list[Command]:
        """A connection stands; whether the core is the one from before, its Welcome will say."""
        self.now = now
        self._line, self.open, self._hellos = True, False, 0
        return self._greet()

    def line_down(self, now: float) -> list[Command]:
        self.now = now
        was_open, self.open, self._line, self._hello_at = self.open, False, False, None
        return [Log("warning", "the core has hung up")] if was_open else []

    def tick(self, now: float) -> list[Command]:
        self.now = now
        out: list[Command] = []
        if self._hello_at is not None and now >= self._hello_at:
            out += self._greet()
        if self.open:
            if now - self._heard_at > SILENT_BEATS * self._heartbeat_s:
                self.open, self._hellos = False, 0
                out += [Log("warning", f"the core says nothing for {now - self._heard_at:.0f} s"), *self._greet()]
            elif now >= self._beat_due():
                self._beat_at = now
                out.append(Send(CORE, Heartbeat()))
        if self._collect_at is not None and now >= self._collect_at:
            out += self.flush(now)
        return out

    def flush(self, now: float) -> list[Command]:
        """Say now what may wait; the last thing before the client goes."""
        self.now = now
        collected, self._collected, self._collect_at = self._collected, [], None
        return [command for message in collected for command in self._say(message)]

    def next_deadline(self) -> float | None:
        times = [time for time in (self._hello_at, self._collect_at) if time is not None]
        if self.open:
            times += [self._beat_due(), self._heard_at + SILENT_BEATS * self._heartbeat_s + 0.001]
        return min(times, default=None)

    @property
    def _heartbeat_s(self) -> float:
        return self.welcome.heartbeat_s if self.welcome is not None else 1.0

    def _beat_due(self) -> float:
        # The core answers each one: so it is sent when nothing was said, and also when nothing was heard.
        return max(min(self._said_at, self._heard_at), self._beat_at) + self._heartbeat_s

    # ── greeting ──

    def _greet(self) -> list[Command]:
        self._hello_at = self.now + HELLO_AGAIN_S[min(self._hellos, len(HELLO_AGAIN_S) - 1)] if self._line else None
        self._hellos += 1
        return [Send(CORE, self.hello)]

    def _welcomed(self, message: Welcome) -> list[Command]:
        known = self.welcome
        same = known is not None and (known.core, known.epoch) == (message.core, message.epoch)
        self.welcome, self.refusal, self._hello_at = message, None, None
        if self.open and same:
            return []
        self.open = True
        self._told_blobs.clear()
        self._said_at = self._beat_at = self.now
        return [Log("good", "the core is here"), *map(self._to_core, self._owed(known, message))]

    def _owed(self, before: Welcome | None, welcome: Welcome) -> Iterator[Message]:
        """All that the core may not have heard, and all that we may not have heard from it."""
        yield from self.jobs.values()
        for spec in self.unaccepted.values():
            for name in (spec.function, *spec.constants):
                if name in self.blobs and name not in self._told_blobs:
                    self._told_blobs.add(name)
                    yield self.blobs[name]
            yield spec
        for task in self.records:
            if task not in self.unaccepted:
                yield FetchTask(task=task)
        unsaid, self._unsaid = self._unsaid, []
        yield from unsaid
        for request, question in list(self.questions.items()):
            if isinstance(question, StopCore) and before is not None and before.epoch != welcome.epoch:
                del self.questions[request]  # it was meant for the core that is gone
            else:
                yield question

    def _refused(self, message: Refused) -> list[Command]:
        if message.kind == "UnknownParty":  # it has restarted, or forgot us: greet it
            if self._hello_at is not None:
                return []  # under way
            self.open, self._hellos = False, 0
            return self._greet()
        self.open, self.refusal, self._hello_at = False, message, None
        failure = Failure(kind=message.kind, message=message.reason)
        out: list[Command] = [Log("error", message.reason)]
        out += [Reject(task, failure) for task in self.records]
        out += [Deliver(request, error=message.reason, kind=message.kind) for request in self.questions]
        for task in list(self.records):
            self._close(task)
        self.unaccepted.clear()
        self.questions.clear()
        return out

    # ── what the user asks ──

    def _to_core(self, message: Message) -> Command:
        return Send(CORE, message)

    def _say(self, message: Message) -> list[Command]:
        if not self.open:
            self._unsaid.append(message)
            return []
        self._said_at = self.now
        return [Send(CORE, message)]

    def _put_blob(self, message: PutBlob) -> list[Command]:
        name = message.hash
        if name not in self.blobs:
            self.blobs[name] = message
            self._idle_bytes += message.payload.nbytes
            self._drop_idle_blobs(name)
        if not self.open or name in self._told_blobs:
            return []  # if the core is away, it goes with the first task that names it
        self._told_blobs.add(name)
        self._said_at = self.now
        return [Send(CORE, message)]

    def _drop_idle_blobs(self, but: str) -> None:
        while self._idle_bytes > IDLE_BLOB_BYTES:
            idle = next((name for name in self.blobs if not self._blob_uses.get(name) and name != but), None)
            if idle is None:
                return
            self._idle_bytes -= self.blobs.pop(idle).payload.nbytes

    def _open_job(self, message: OpenJob) -> list[Command]:
        self.jobs[message.job] = message
        return self._now(message)

    def _submit(self, message: SubmitTask) -> list[Command]:
        if message.task in self.records:
            return []
        blobs = (message.function, *message.constants) if message.function else message.constants
        self.unaccepted[message.task] = message
        self._enter(message.task, OpenRecord(message.items, message.job, blobs))
        return self._now(message)

    def _expect(self, message: Expect) -> list[Command]:
        if message.task not in self.records:
            self._enter(message.task, OpenRecord(message.items, message.job, ()))
        return []

    def _forget_job(self, message: ForgetJob) -> list[Command]:
        self.jobs.pop(message.job, None)
        return self._say(message)

    def _question(self, message: Any) -> list[Command]:
        self.questions[message.request] = message
        return self._now(message)

    def _now(self, message: Message) -> list[Command]:
        """Said at once if the core is here; else with all that is owed."""
        if not self.open:
            return []
        self._said_at = self.now
        return [Send(CORE, message)]

    def _enter(self, task: str, record: OpenRecord) -> None:
        self.records[task] = record
        self._job_records[record.job] = self._job_records.get(record.job, 0) + 1
        for name in record.blobs:
            uses = self._blob_uses[name] = self._blob_uses.get(name, 0) + 1
            if uses == 1 and name in self.blobs:
                self._idle_bytes -= self.blobs[name].payload.nbytes

    def _close(self, task: str) -> None:
        """Nothing more can come of this record."""
        record = self.records.pop(task)
        self.unaccepted.pop(task, None)
        for name in record.blobs:
            self._blob_uses[name] -= 1
            if not self._blob_uses[name]:
                del self._blob_uses[name]
                if name in self.blobs:
                    self._idle_bytes += self.blobs[name].payload.nbytes
                    self._drop_idle_blobs("")
        self._job_records[record.job] -= 1
        if not self._job_records[record.job]:
            del self._job_records[record.job]
            job = self.jobs.get(record.job)
            if job is not None and job.items:  # an executor's job has an open end
                del self.jobs[record.job]

    # ── what the core says ──

    def _accepted(self, message: TaskAccepted) -> list[Command]:
        self.unaccepted.pop(message.task, None)
        return []

    def _rejected(self, message: TaskRejected) -> list[Command]:
        if message.task not in self.records:
            return []
        self._close(message.task)
        return [Reject(message.task, Failure(kind=message.kind, message=message.reason))]

    def _blob_missing(self, message: BlobMissing) -> list[Command]:
        blob = self.blobs.get(message.hash)
        if blob is not None:
            self._said_at = self.now
            return [Send(CORE, blob)]
        failure = Failure(kind="TaskRejected", message=f"the core does not hold blob {message.hash}, nor do we")
        waiting = [t for t, s in self.unaccepted.items() if message.hash in (s.function, *s.constants)]
        for task in waiting:
            self._close(task)
        return [Reject(task, failure) for task in waiting]

    def _changed(self, message: TaskChanged) -> list[Command]:
        return [Show(message)] if message.task in self.records else []

    def _ended(self, message: TaskEnded) -> list[Command]:
        record = self.records.get(message.task)
        if record is None:
            return []
        self.unaccepted.pop(message.task, None)
        fresh = record.fresh(message)
        if not fresh:
            return []
        if not record.left:
            self._close(message.task)
            if not record.job:
                self._collected.append(CollectTask(task=message.task, items=record.items))
                if self._collect_at is None:
                    self._collect_at = self.now + COLLECT_AFTER_S
        return [Settle(message, fresh)]

    def _told(self, message: Message) -> list[Command]:
        return [Told(message)]

    def _cancel_answer(self, message: CancelAnswer) -> list[Command]:
        if self.questions.pop(message.request, None) is None:
            return []
        return [Deliver(message.request, (message.cancelled, message.source))]

    def _heartbeat(self, _: Heartbeat) -> list[Command]:
        return []

    def _answer(self, message: Answer) -> list[Command]:
        if self.questions.pop(message.request, None) is None:
            return []
        return [Deliver(message.request, message.value, message.error, message.kind)]
