"""Forwards output, displays and knobs from running tasks to watchers, and knob values and stops back to the tasks."""

from __future__ import annotations

from nblb.protocol.commands import KeepOutput, TellOutput
from nblb.protocol.framing import PIECE
from nblb.protocol.messages import (
    Answer,
    CallTold,
    FetchCall,
    FetchOutput,
    HoldBlob,
    KnobOffered,
    Message,
    OutputKept,
    StopAndKeep,
    TaskEmitted,
    TaskPrinted,
    TaskState,
    TurnKnob,
)
from nblb.scheduling.hubs import Assignment, Hub
from nblb.scheduling.state import ConnectedClient, State
from nblb.scheduling.submission import Submission

MOST_TURNED = 1000  # knob values kept per submission or job for calls that begin later


class Steering:
    """Handles TaskPrinted, OutputKept, FetchOutput, TaskEmitted, KnobOffered, TurnKnob, StopAndKeep and FetchCall."""

    def __init__(self, state: State) -> None:
        self.state = state

    # ── from the task ──

    def task_printed(self, _hub: Hub, message: TaskPrinted, now: float) -> None:
        """Keep the tail of the output, and forward it to watchers."""
        record = self._current(message)
        if record is not None:
            self.state.live.printed(message)
            if message.stream == "display":
                self.state.send_if_active(record.watchers, message, now)
            else:
                self.state.notify(record.watchers, message)

    def output_kept(self, hub: Hub, message: OutputKept, _now: float) -> None:
        """Have the whole output of a slice stored, which its hub cannot put into the core's folder itself."""
        fence = message.task, message.first, message.attempt
        orphan = self.state.orphans.get(fence)
        if fence in hub.in_flight or (orphan is not None and orphan.hub == hub.id):
            self.state.out.append(KeepOutput(message))
        else:
            self.state.late_facts += 1

    def fetch_output(self, client: ConnectedClient, message: FetchOutput, _now: float) -> None:
        """Have the whole output of an item sent to a client that does not see the folder."""
        if message.task in self.state.records:
            self.state.out.append(TellOutput(client.address, message))
            return
        kind, error = self.state.dropped.answer(message.task)
        self.state.send(client.address, Answer(request=message.request, error=error, kind=kind))

    def task_emitted(self, _hub: Hub, message: TaskEmitted, now: float) -> None:
        record = self._current(message)
        if record is not None:
            self.state.live.emitted(message)
            self.state.send_if_active(record.watchers, message, now)

    def knob_offered(self, hub: Hub, message: KnobOffered, _now: float) -> None:
        """Handle a knob that is new or has a new value; a value that was set before it existed is sent now."""
        record = self._current(message)
        if record is None or not self.state.live.offered(message):
            return
        self.state.notify(record.watchers, message)
        item, name = message.first + message.offset, message.name
        turned = record.turned or {}
        of_job = record.job.turned if record.job is not None else {}
        wanted = turned.get((item, name), turned.get((-1, name), of_job.get(name)))
        if wanted is not None and message.value == message.default and wanted != message.value:
            order = TurnKnob(
                name=name,
                value=wanted,
                task=message.task,
                item=message.offset,
                attempt=message.attempt,
                first=message.first,
            )
            self.state.send(hub.address, order)

    def _current(self, message: TaskPrinted | TaskEmitted | KnobOffered) -> Submission | None:
        """Return its submission; a message may follow the end of its attempt, but not come from a replaced attempt."""
        record = self.state.records.get(message.task)
        if record is None or not (message.first >= 0 and message.offset >= 0):
            return None
        item = message.first + message.offset
        return record if item < record.items and record.at(item).attempt <= message.attempt else None

    # ── to the task ──

    def turn_knob(self, client: ConnectedClient, message: TurnKnob, _now: float) -> None:
        state = self.state
        if message.job:
            job = state.jobs.get(message.job)
            if job is not None and (message.name in job.turned or len(job.turned) < MOST_TURNED):
                job.turned[message.name] = message.value
        else:
            record = state.records.get(message.task)
            if record is not None:
                record.turned = record.turned or {}
                key = message.item, message.name
                if key in record.turned or len(record.turned) < MOST_TURNED:
                    record.turned[key] = message.value
        told = self._held(message)
        for held in told:
            item = message.item if message.item < 0 else message.item - held.first
            order = TurnKnob(
                name=message.name,
                value=message.value,
                task=held.record.id,
                item=item,
                attempt=held.attempt,
                first=held.first,
            )
            state.send(held.group.hub.address, order)
        state.send(client.address, Answer(request=message.request, value=len(told)))

    def stop_and_keep(self, client: ConnectedClient, message: StopAndKeep, _now: float) -> None:
        state = self.state
        told = [held for held in self._held(message) if self._runs(held)]
        for held in told:
            item = message.item if message.item < 0 else message.item - held.first
            order = StopAndKeep(task=held.record.id, item=item, attempt=held.attempt, first=held.first)
            state.send(held.group.hub.address, order)
        error = "" if told else self._why_not(message)
        state.send(client.address, Answer(request=message.request, value=len(told), error=error, kind="NblbError"))

    def _runs(self, held: Assignment) -> bool:
        """Return whether a worker runs it; the task's own messages may arrive before its hub reports the start."""
        live = self.state.live
        return any(
            task.state is TaskState.RUNNING
            or any(live.get(held.record.id, n) for n in range(task.first, task.first + task.items))
            for task in held.tasks
            if task.state in (TaskState.ASSIGNED, TaskState.RUNNING)
        )

    def _why_not(self, message: StopAndKeep) -> str:
        """Return a sentence about why nothing can be stopped early."""
        if message.job:
            return "nothing of this job runs at present: there is nothing to stop early"
        record = self.state.records.get(message.task)
        if record is None:
            return f"the core does not know task {message.task}"
        state = record.at(max(0, min(message.item, record.items - 1))).state
        if state.ended:
            return f"{record.spec.name} has ended already ({state})"
        return f"{record.spec.name} does not run yet ({state}): it has nothing to keep; cancel() takes it back"

    def _held(self, message: TurnKnob | StopAndKeep) -> list[Assignment]:
        """Return the attempts at hubs that the message addresses."""
        state = self.state
        if message.job:
            job = state.jobs.get(message.job)
            return [
                held
                for hub in state.hubs.values()
                for held in hub.in_flight.values()
                if job is not None and held.record.job is job
            ]
        record = state.records.get(message.task)
        if record is None or message.item >= record.items:
            return []
        tasks = record.slices if message.item < 0 else [record.at(message.item)]
        return list({id(task.held): task.held for task in tasks if task.held is not None}.values())

    # ── later watchers ──

    def retell(self, client: ConnectedClient, record: Submission) -> None:
        """Send the latest live data of the items that still run; clients request that of ended items themselves."""
        for item, live in self.state.live.of_record(record.id):
            words: list[Message] = [*live.knobs.values()]
            if live.emitted is not None:
                words.append(live.emitted)
            if record.items == 1 or not record.at(item).state.ended:
                for word in words:
                    self.state.send(client.address, word)

    def fetch_call(self, client: ConnectedClient, message: FetchCall, _now: float) -> None:
        """Send the call itself to a client that wants to run it under a debugger."""
        state = self.state
        record = state.records.get(message.task)
        if record is None:
            kind, error = state.dropped.answer(message.task)
        else:
            kind, error = "UnknownTask", self._no_call(record, message)
        if record is None or error:
            state.send(client.address, Answer(request=message.request, error=error, kind=kind))
            return
        spec, payload, item, items = record.spec, record.spec.payload, message.item, record.items
        if spec.split:
            alone = len(payload.sizes) == record.items
            payload, item = payload.part(item, 1, items), 0 if alone else item % PIECE
            items = 1 if alone else PIECE
        held: list[HoldBlob] = []
        function = record.at(message.item).function
        for name in dict.fromkeys((function, *spec.constants, *spec.depends)):
            held += state.pieces(name)
        told = CallTold(
            request=message.request,
            name=spec.name,
            payload=payload,
            function=function,
            item=item,
            items=items,
            split=spec.split,
            call=spec.call,
            held=tuple(held),
        )
        state.send(client.address, told)

    def _no_call(self, record: Submission, message: FetchCall) -> str:
        if not 0 <= message.item < record.items:
            return f"task {message.task} has {record.items} items, and {message.item} is not one of them"
        if record.arguments_released:
            return f"the arguments of {record.spec.name} were dropped when it was done"
        if not record.spec.function:
            return f"{record.spec.name} runs a function that only its hub has"
        return ""
