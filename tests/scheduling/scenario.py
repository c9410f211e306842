"""A runner of the stories in tests/scenarios: a command, ----, and the scheduler's messages.

A line of a command is a verb, words, and key=value; a block of lines up to ---- is one turn of the core's shell, at
the end of which it ticks. In the trace `<` came to the core, `>` was said by it, `+` was kept in the journal, `=` was
logged. What is the same everywhere (heartbeats, welcomes, blobs, acknowledgements of ends) is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import msgspec

from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AttemptFailed, AttemptKept, EndKept, JobForgotten, TaskForgotten, TaskKept
from nblb.protocol.messages import (
    Answer,
    CancelAnswer,
    CancelTask,
    CollectTask,
    FetchTask,
    ForgetJob,
    Group,
    Heartbeat,
    HubGone,
    JobChanged,
    Message,
    OpenJob,
    PutBlob,
    RetryFailed,
    RunTask,
    StopTask,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEnded,
    TaskFinished,
    TaskProgressed,
    TaskRejected,
    TaskStarted,
    TaskStopped,
    WorkerDied,
)
from nblb.scheduling.state import Policy
from tests.scheduling.world import ModelHub, World

Words = dict[str, str]
ENTRIES = (TaskKept, AttemptKept, EndKept, AttemptFailed, TaskForgotten, JobForgotten)


class Story:
    """One file."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.world = World(Policy(core="c", notice_s=0.1))
        self.kept = 0

    def run(self, text: str) -> str:
        """The text with each trace as it is now."""
        out: list[str] = []
        block: list[str] = []
        lines = iter([*text.splitlines(), ""])
        for line in lines:
            if line == "----":
                out += [*block, "----", *self.turn(block), ""]
                block = []
                for old in lines:  # the trace that was expected
                    if not old:
                        break
            elif line.startswith("#") or (not line and not block):
                out.append(line)
            else:
                block.append(line)
        while out and not out[-1]:
            out.pop()
        return "\n".join(out) + "\n"

    def turn(self, block: list[str]) -> list[str]:
        self.lines = []
        self.world.trace = self.note
        for line in block:
            verb, *words = shlex.split(line)
            plain = [word for word in words if "=" not in word]
            named = dict(word.split("=", 1) for word in words if "=" in word)
            getattr(self, f"do_{verb}")(*plain, **named)
        self.world.tick()
        self.world.check(ticked=True)
        self._note_kept()
        return self.lines or ["nothing"]

    def _note_kept(self) -> None:
        kept = self.world.journal[self.kept :]
        self.kept = len(self.world.journal)
        self.lines += [f"+ {text}" for entry in kept if (text := told_entry(entry))]

    def note(self, sign: str, who: str, what: object) -> None:
        self._note_kept()
        text = what if isinstance(what, str) else told(what)
        if text and sign != "=":
            self.lines.append(f"{sign} {who.split(':', 1)[-1]:6} {text}")

    # ── verbs ──

    def do_policy(self, **changed: str) -> None:
        policy = msgspec.structs.replace(self.world.policy, **{k: msgspec.json.decode(v) for k, v in changed.items()})
        trace, self.world = self.world.trace, World(policy)
        self.world.trace = trace

    def do_client(self, name: str) -> None:
        self.world.client(f"client:{name}", name)
        self.world.say(f"client:{name}", PutBlob(hash="f", payload=Payload((b"f",))))

    def do_hub(self, name: str, workers: str = "1", low: str = "0", high: str = "1000", **more: str) -> None:
        groups = [Group(int(workers), float(low), float(high))]
        if "second" in more:
            count, low, high = more["second"].split(",")
            groups.append(Group(int(count), float(low), float(high)))
        functions = tuple(more.get("functions", "").split())
        python = (3, int(more.get("python", "3.11").split(".")[1]))
        self.world.hub(name, groups, functions, python)

    def do_submit(self, who: str, *tasks: str, **fields: str) -> None:
        for task in tasks:
            values: dict[str, Any] = {"name": "work", "function": "f", "payload": Payload((b"x",))}
            for key, value in fields.items():
                if key in ("depends", "constants"):
                    values[key] = tuple(value.split(","))
                elif key == "python":
                    values[key] = (3, int(value.split(".")[1]))
                else:
                    values[key] = value if key in ("job", "name", "function", "cache") else msgspec.json.decode(value)
            if values.get("split"):
                values["payload"] = Payload((b"x" * values["items"],), [1] * values["items"])
            self.world.say(f"client:{who}", SubmitTask(task=task, **values))

    def do_job(self, who: str, job: str, **fields: str) -> None:
        self.world.say(f"client:{who}", OpenJob(job=job, name=job, items=int(fields.get("items", "0"))))

    def do_cancel(self, who: str, task: str = "", first: str = "0", items: str = "0", **more: str) -> None:
        message = CancelTask(
            request=1, task=task, first=int(first), items=int(items), job=more.get("job", ""), kill="kill" in more
        )
        self.world.say(f"client:{who}", message)

    def do_retry(self, who: str, task: str = "", job: str = "") -> None:
        self.world.say(f"client:{who}", RetryFailed(request=2, task=task, job=job))

    def do_collect(self, who: str, task: str) -> None:
        self.world.say(f"client:{who}", CollectTask(task=task))

    def do_fetch(self, who: str, task: str) -> None:
        self.world.say(f"client:{who}", FetchTask(task=task))

    def do_forget(self, who: str, job: str) -> None:
        self.world.say(f"client:{who}", ForgetJob(job=job))

    def _fence(self, name: str, task: str, first: str = "") -> tuple[ModelHub, tuple[str, int, int]]:
        hub = self.world.hubs[f"hub:{name}"]
        found = [f for f in hub.hands if f[0] == task and first in ("", str(f[1]))]
        assert found, f"{name} does not have {task}, it has {list(hub.hands)}"
        return hub, found[0]

    def do_start(self, name: str, *tasks: str, **more: str) -> None:
        for task in tasks:
            hub, fence = self._fence(name, task, more.get("first", ""))
            self.world.fact(hub, hub.start(fence))

    def do_progress(self, name: str, task: str, percent: str, note: str = "") -> None:
        hub, (task, first, attempt) = self._fence(name, task)
        self.world.fact(
            hub, TaskProgressed(task=task, first=first, attempt=attempt, progress=float(percent), note=note)
        )

    def do_finish(self, name: str, *tasks: str, **more: str) -> None:
        for task in tasks:
            hub, fence = self._fence(name, task, more.get("first", ""))
            bad = [int(n) for n in more.get("bad", "").split(",") if n]
            self.world.fact(hub, hub.finish(fence, bad, float(more.get("took", "1"))))

    def do_stopped(self, name: str, task: str, why: str = "cancel") -> None:
        hub, fence = self._fence(name, task)
        self.world.fact(hub, hub.stopped(fence, hub.stops.get(fence, why)))

    def do_die(self, name: str, task: str, reason: str = "killed by signal 9 (SIGKILL)") -> None:
        hub, fence = self._fence(name, task)
        for message in hub.die(hub.on[fence], reason):
            self.world.fact(hub, message)

    def do_leave(self, name: str) -> None:
        self.world.say(f"hub:{name}", HubGone(reason="stopped"))
        del self.world.hubs[f"hub:{name}"]

    def do_cut(self, name: str) -> None:
        """Nothing passes between this hub and the core any more."""
        self.world.hubs[f"hub:{name}"].connected = False

    def do_return(self, name: str) -> None:
        self.world.connect(self.world.hubs[f"hub:{name}"])

    def do_beat(self, *names: str) -> None:
        for name in names:
            self.world.say(f"hub:{name}" if f"hub:{name}" in self.world.hubs else f"client:{name}", Heartbeat())

    def do_wait(self, seconds: str) -> None:
        self.world.now += float(seconds)

    def do_restart(self) -> None:
        self.world.restart(grouped=True)
        for address, user in list(self.world.users.items()):
            self.world.client(address, user)

    def do_why(self, task: str, first: str = "0") -> None:
        self.lines.append(f"? {self.world.scheduler.why(task, int(first), self.world.now)}")

    def do_state(self, *tasks: str) -> None:
        for task in tasks:
            for one in self.world.scheduler.state.records[task].slices:
                self.lines.append(f"? {one.id}[{one.items}] {one.state} attempt {one.attempt}")


def told_entry(entry: object) -> str:
    match entry:
        case TaskKept(spec=spec):
            return f"kept {_which(spec.task, 0, spec.items)} of {spec.user}"
        case AttemptKept():
            return f"attempt {entry.attempt} of {_which(entry.task, entry.first, entry.items)} at {entry.hub[3:]}"
        case AttemptFailed():
            again = "is void: again" if entry.again else f"came to nothing: {entry.reason or 'handed back'}"
            return f"attempt {entry.attempt} of {_which(entry.task, entry.first, entry.items)} {again}"
        case EndKept():
            holes = f" without {list(entry.holes)}" if entry.holes else ""
            return f"end of {_which(entry.task, entry.first, entry.items)} {entry.state}{holes}"
        case TaskForgotten(task=task):
            return f"forgotten {task}"
        case JobForgotten(job=job):
            return f"forgotten job {job}"
    return ""


def _which(task: str, first: int, items: int) -> str:
    return task if (first, items) == (0, 1) else f"{task}[{first}:{first + items}]"


TOLD: dict[type[Message], Callable[[Any], str]] = {
    SubmitTask: lambda m: f"SubmitTask {_which(m.task, 0, m.items)}",
    CancelTask: lambda m: f"CancelTask {m.task or 'job ' + m.job}",
    RetryFailed: lambda m: f"RetryFailed {m.task or 'job ' + m.job}",
    TaskAccepted: lambda m: f"TaskAccepted {m.task}",
    TaskRejected: lambda m: f"TaskRejected {m.task} {m.kind}: {m.reason}",
    TaskChanged: lambda m: (
        f"TaskChanged {_which(m.task, m.first, m.items)} {m.state} {m.progress:g}% {m.note}".rstrip()
    ),
    TaskEnded: lambda m: (
        f"TaskEnded {_which(m.task, m.first, m.items)} {m.state}"
        + (f" {bytes(m.payload.buffers[0]).decode()}" if m.payload else "")
        + (f" without {list(m.holes)}" if m.holes else "")
        + (f" {m.failure.kind}: {m.failure.message}" if m.failure else "")
    ),
    JobChanged: lambda m: f"JobChanged {m.job} {m.counts}",
    CancelAnswer: lambda m: f"CancelAnswer {m.cancelled} from {m.source or 'nowhere'}",
    Answer: lambda m: f"Answer {m.value}",
    RunTask: lambda m: f"RunTask {_which(m.task, m.first, m.items)} attempt {m.attempt}",
    StopTask: lambda m: f"StopTask {m.task} from {m.first} attempt {m.attempt} {m.why}{' kill' * m.kill}",
    TaskStarted: lambda m: f"TaskStarted {m.task} on {m.worker}",
    TaskProgressed: lambda m: f"TaskProgressed {m.task} {m.progress:g}% {m.note}".rstrip(),
    TaskFinished: lambda m: (
        f"TaskFinished {_which(m.task, m.first, m.items)}"
        + (f" failed {[f.offset for f in m.failures]}" if m.failures else "")
    ),
    TaskStopped: lambda m: f"TaskStopped {m.task} {m.why}{' ran' * m.ran}",
    WorkerDied: lambda m: f"WorkerDied {m.worker}: {m.reason}",
    HubGone: lambda m: f"HubGone {m.reason}",
}


def told(message: object) -> str:
    teller = TOLD.get(type(message))  # type: ignore[arg-type]
    return teller(message) if teller is not None else ""
