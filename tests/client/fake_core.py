"""A core with workers, without sockets and processes: it answers each message before `send` returns.

Tasks are really unpacked and called. With `hold=True` they wait for `core.run()`; `hang_up()` and `dial` play a core
that goes and comes back, with or without what it knew.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from nblb import payload
from nblb.protocol.messages import (
    AdaptWorkers,
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
    Message,
    OpenJob,
    Publish,
    PutBlob,
    RetryFailed,
    RunTask,
    ScaleHub,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEnded,
    TaskRejected,
    TaskReopened,
    TaskState,
    Welcome,
    client_to_core,
    core_to_client,
)


class FakeLine:
    """One connection; both directions pass through the codec, as on the wire."""

    def __init__(self, core: FakeCore, address: str) -> None:
        self.address = address
        self.connected = False
        self.connections = 0
        self.ready: list[int] = []
        self.unsent_bytes = 0
        self._core = core
        self._arrived: deque[list[Any]] = deque()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]:
        poll = select.poll()
        for fd in (self._read.fileno(), *fds):
            poll.register(fd, select.POLLIN)
        if not self._arrived:
            poll.poll(None if timeout_s is None else timeout_s * 1000 + 1)
        try:
            while self._read.recv(4096):
                pass
        except BlockingIOError:
            pass
        self._core.look(self)
        messages: list[Any] = []
        while self._arrived:
            messages += core_to_client.decode(self._arrived.popleft())
        return messages

    def send(self, messages: Sequence[Message]) -> None:
        if self.connected:
            self._core.hear(self, client_to_core.decode(client_to_core.encode(messages)))

    def send_ahead(self, message: Message) -> None:
        self.send([message])

    def tell(self, *messages: Message) -> None:
        self._arrived.append(core_to_client.encode(messages))
        self.wake()

    def wake(self) -> None:
        try:
            self._write.send(b"x")
        except OSError:
            pass

    def close(self) -> None:
        self._read.close()
        self._write.close()


class FakeCore:
    """Knows blobs, jobs and records; runs tasks in the thread that submits them."""

    def __init__(self, hold: bool = False) -> None:
        self.hold = hold
        self.up = True
        self.address = ""  # where it is; "" is anywhere
        self.epoch = 1
        self.heard: list[Message] = []
        self.blobs: dict[str, Any] = {}
        self.jobs: dict[str, OpenJob] = {}
        self.specs: dict[str, SubmitTask] = {}
        self.ends: dict[str, list[TaskEnded]] = {}
        self.again: dict[str, set[int]] = {}  # items that RetryFailed asked for and that have not run since
        self.reopened = 0
        self.codes: dict[tuple[str, int], str] = {}  # functions that items run instead of their record's
        self.published: dict[str, str] = {}
        self.refuse: Callable[[SubmitTask], str] = lambda spec: ""  # kind of the error
        self.deaf = False  # hears, and answers nothing
        self.slices = 1_000_000  # items that end together
        self.room: int | None = None  # for so many items of a record
        self.status: dict[str, Any] = {}  # what it says of itself beside
        self.lines: list[FakeLine] = []
        self._lock = threading.RLock()
        self._on: dict[type, Callable[[FakeLine, Any], None]] = {
            Hello: self._hello,
            Heartbeat: lambda line, message: line.tell(Heartbeat()),
            PutBlob: lambda line, message: self.blobs.__setitem__(message.hash, message.payload),
            OpenJob: self._open_job,
            SubmitTask: self._submit,
            CancelTask: self._cancel,
            FetchTask: self._fetch,
            RetryFailed: self._retry,
            Ask: self._ask,
            Publish: lambda line, message: self.published.__setitem__(message.name, message.hash),
            ForgetJob: self._forget_job,
            CollectTask: lambda line, message: None,
            StopCore: lambda line, message: line.tell(Answer(request=message.request, value=True)),
            AdaptWorkers: lambda line, message: line.tell(
                Answer(request=message.request, value={"adapts": None, "has_hubs": True})
            ),
            ScaleHub: lambda line, message: line.tell(Answer(request=message.request, value=message.workers)),
        }

    # ── the line ──

    def dial(self, address: str) -> FakeLine:
        line = FakeLine(self, address)
        self.lines.append(line)
        line.wake()
        return line

    def look(self, line: FakeLine) -> None:
        """As the socket's monitor: whether the connection stands."""
        if self.up and not line.connected and self.address in ("", line.address):
            line.connected, line.connections = True, line.connections + 1
        elif not self.up:
            line.connected = False

    def hang_up(self, forget: bool = False) -> None:
        with self._lock:
            self.up = False
            if forget:
                self.specs.clear()
                self.ends.clear()
                self.jobs.clear()
                self.blobs.clear()
            for line in self.lines:
                line.connected = False
        for line in self.lines:
            line.wake()

    def come_back(self) -> None:
        with self._lock:
            self.epoch += 1
            self.up = True
        for line in self.lines:
            line.wake()

    def hear(self, line: FakeLine, messages: list[Message]) -> None:
        with self._lock:
            for message in messages:
                self.heard.append(message)
                if not self.deaf:
                    self._on[type(message)](line, message)

    def tell(self, *messages: Message) -> None:
        for line in self.lines:
            if line.connected:
                line.tell(*messages)

    def said(self, kind: type) -> list[Any]:
        with self._lock:
            return [message for message in self.heard if type(message) is kind]

    # ── answers ──

    def _hello(self, line: FakeLine, message: Hello) -> None:
        line.tell(Welcome(core="c" * 32, epoch=self.epoch, name="fake", user=message.user, pid=1))

    def _open_job(self, line: FakeLine, message: OpenJob) -> None:
        holder = self._job({"name": message.name})
        if message.request and message.job not in self.jobs and holder and holder["job"] != message.replaces:
            line.tell(Answer(request=message.request, value=holder))
            return
        self.jobs.setdefault(message.job, message)
        if message.request:
            line.tell(Answer(request=message.request))

    def _forget_job(self, line: FakeLine, message: ForgetJob) -> None:
        known = self.jobs.pop(message.job, None) is not None
        if message.request:
            line.tell(Answer(request=message.request, value=known))

    def _submit(self, line: FakeLine, spec: SubmitTask) -> None:
        if spec.task in self.specs:
            line.tell(TaskAccepted(task=spec.task), *self.ends.get(spec.task, ()))
            return
        missing = next((name for name in (spec.function, *spec.constants) if name not in self.blobs), None)
        if missing is not None:
            line.tell(BlobMissing(hash=missing))
            return
        if self.room is not None and spec.items > self.room:
            line.tell(TaskAccepted(task=spec.task, items=self.room, reason="full"))
            spec = replace(spec, items=self.room, payload=spec.payload.slice(0, self.room))
        kind = self.refuse(spec)
        if kind:
            line.tell(TaskRejected(task=spec.task, kind=kind, reason=f"refused: {kind}"))
            return
        self.specs[spec.task] = spec
        line.tell(TaskAccepted(task=spec.task))
        if not self.hold:
            self.run(spec.task)

    def run(self, *tasks: str) -> None:
        """Run these records (all that wait, without a name) and tell their ends."""
        with self._lock:
            for task in tasks or [name for name in self.specs if name not in self.ends or name in self.again]:
                ends = self._call(self.specs[task], self.again.pop(task, None))
                self.ends.setdefault(task, []).extend(ends)
                self.tell(*ends)

    def _retry(self, line: FakeLine, message: RetryFailed) -> None:
        tasks = [message.task] if message.task else [n for n, s in self.specs.items() if s.job == message.job]
        count = 0
        for task in tasks:
            bad = [end for end in self.ends.get(task, ()) if end.state in (TaskState.FAILED, TaskState.LOST)]
            items = {n for end in bad for n in range(end.first, end.first + end.items)}
            index = self.specs[task].index if message.job else 0
            if message.items:
                items &= {n - index for n in message.items}
                bad = [end for end in bad if items & {*range(end.first, end.first + end.items)}]
            if items:
                self.ends[task] = [end for end in self.ends[task] if end not in bad]
                self.again.setdefault(task, set()).update(items)
                count += len(items)
                spec, self.reopened = self.specs[task], self.reopened + 1
                again = tuple((n, 1) for n in sorted(items))
                message_ = TaskReopened(
                    task=task,
                    again=again,
                    items=spec.items,
                    job=spec.job,
                    function=message.function,
                    number=self.reopened,
                )
                self.codes.update({(task, n): message.function for n in items if message.function})
                for each in {id(one): one for one in (line, *self.lines) if one is line or one.connected}.values():
                    each.tell(message_)
        line.tell(Answer(request=message.request, value=count))
        if not self.hold:
            self.run(*[task for task in tasks if task in self.again])

    def _call(self, spec: SubmitTask, only: set[int] | None = None) -> list[TaskEnded]:
        code = next((self.codes[spec.task, n] for n in only or () if (spec.task, n) in self.codes), "")
        function = payload.load_function(self.blobs[code or spec.function])
        run = RunTask(
            task=spec.task,
            attempt=1,
            name=spec.name,
            function=spec.function,
            payload=spec.payload,
            items=spec.items,
            split=spec.split,
        )
        constants = {name: payload.load_constant(self.blobs[name]) for name in spec.constants}
        inputs = {name: self._results(name) for name in spec.depends}
        calls = payload.unpack_calls(run, inputs, constants)
        ends: list[TaskEnded] = []
        for first in range(0, spec.items, self.slices):
            items = min(self.slices, spec.items - first)
            results: list[Any] = []
            holes: list[int] = []
            for offset in range(items):
                if only is not None and first + offset not in only:
                    results.append(None)
                    holes.append(offset)
                    continue
                try:
                    args, kwargs = calls[first + offset]
                    results.append(function(*args, **kwargs))
                except BaseException as error:
                    results.append(None)
                    holes.append(offset)
                    ends.append(
                        TaskEnded(
                            task=spec.task,
                            state=TaskState.FAILED,
                            first=first + offset,
                            failure=payload.pack_exception(error),
                            function=code,
                        )
                    )
            if len(holes) < items:
                ends.append(
                    TaskEnded(
                        task=spec.task,
                        state=TaskState.DONE,
                        first=first,
                        items=items,
                        payload=payload.pack_results(results),
                        holes=tuple(holes),
                        host="lab1",
                        worker="w1",
                        attempt=1,
                        function=code,
                    )
                )
        return ends

    def _results(self, name: str) -> list[Any]:
        task, _, item = name.partition(".")
        results: list[Any] = [None] * self.specs[task].items
        for ended in self.ends[task]:
            if ended.payload is None:
                continue
            results[ended.first : ended.first + ended.items] = payload.unpack_results(ended.payload)
        return [results[int(item)]] if item else results

    def _cancel(self, line: FakeLine, message: CancelTask) -> None:
        tasks = [message.task] if message.task else [n for n, s in self.specs.items() if s.job == message.job]
        cancelled = 0
        for task in tasks:
            spec = self.specs.get(task)
            if spec is not None and task not in self.ends:
                first, items = (message.first, message.items) if message.items else (0, spec.items)
                cancelled += items
                failure = Failure(kind="TaskCancelled", message="cancelled")
                end = TaskEnded(task=task, state=TaskState.CANCELLED, first=first, items=items, failure=failure)
                if items == spec.items:
                    self.ends[task] = [end]
                self.tell(end)
        line.tell(CancelAnswer(request=message.request, cancelled=cancelled, source="queue" if cancelled else ""))

    def _fetch(self, line: FakeLine, message: FetchTask) -> None:
        tasks = [message.task] if message.task else [n for n, s in self.specs.items() if s.job == message.job]
        for task in tasks:
            if task not in self.specs:
                line.tell(TaskRejected(task=task, kind="UnknownTask", reason=f"the core does not know task {task}"))
            line.tell(*self.ends.get(task, ()))

    def _ask(self, line: FakeLine, message: Ask) -> None:
        value: Any = None
        if message.topic == "job":
            value = self._job(message.about)
        elif message.topic == "jobs":
            value = [self._about(job) for job in self.jobs.values()]
        elif message.topic == "published":
            value = self.published
        elif message.topic == "status":
            value = {"name": "fake", "core": "c" * 32, "epoch": self.epoch, "pid": 1, "addresses": {}, "counts": {}}
            value |= self.status
        elif message.topic == "hubs":
            value = [{"hub": "h1", "name": "lab1", "host": "lab1", "pid": 2, "workers": 2, "busy": 1, "state": "up"}]
        elif message.topic == "task":
            value = {"stdout": "printed\n", "stderr": "", "story": [[1.0, "SubmitTask", "", "QUEUED"]]}
        elif message.topic == "why":
            value = "it is the next one"
        line.tell(Answer(request=message.request, value=value))

    def _job(self, about: dict[str, Any]) -> dict[str, Any] | None:
        for job in reversed(self.jobs.values()):
            if about.get("job") == job.job or ("name" in about and about["name"] == job.name):
                return self._about(job)
        return None

    def _about(self, job: OpenJob) -> dict[str, Any]:
        specs = [spec for spec in self.specs.values() if spec.job == job.job]
        counts: dict[str, int] = {}
        for spec in specs:
            for ended in self.ends.get(spec.task, ()):
                number = ended.items - len(ended.holes)
                counts[ended.state.value] = counts.get(ended.state.value, 0) + number
        return {
            "job": job.job,
            "name": job.name,
            "task_name": job.task_name,
            "items": job.items,
            "fingerprint": job.fingerprint,
            "code": job.code,
            "marks": job.marks,
            "counts": counts,
            "records": [{"task": s.task, "index": s.index, "items": s.items} for s in specs],
            "state": "running",
            "user": "me",
        }

    def running(self, task: str, progress: float = 0.0, first: int = 0, items: int = 1) -> None:
        """Say that a slice runs."""
        self.tell(
            TaskChanged(
                task=task,
                state=TaskState.RUNNING,
                first=first,
                items=items,
                progress=progress,
                worker="w1",
                host="lab1",
            )
        )
