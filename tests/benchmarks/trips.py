"""The code paths that every task takes, each alone and without a clock, so that instructions can be counted.

A workload is made once, and then called with the number of units to do; instructions.py counts them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nblb import payload
from nblb.broker.journal.journal import Journal
from nblb.client.session.session import Session
from nblb.hub.slots.slots import Slots, SlotSettings
from nblb.protocol.commands import GiveTask, Send, StartWorker
from nblb.protocol.framing import Codec, Payload
from nblb.protocol.journal_entries import AttemptKept, EndKept, TaskKept
from nblb.protocol.messages import (
    EndCommitted,
    Group,
    Hello,
    HoldBlob,
    HubHello,
    PutBlob,
    RunTask,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskState,
    Welcome,
    WorkerStarted,
    client_to_core,
    core_to_client,
    core_to_hub,
    hub_to_core,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.worker.capture import WorkerOutput
from nblb.worker.channel import Channel, pack, to_worker
from nblb.worker.control_page import ControlPage
from nblb.worker.main import WorkerLoop
from nblb.worker.process_state import ProcessState
from tests.hub.pool_rig import worker_settings

if TYPE_CHECKING:
    from typing import TypeAlias

    Work: TypeAlias = Callable[[int], object]

HUB, CLIENT = "hub:1", "client:1"
TURN = 50  # tasks in one message
CALL, RESULT = Payload((b"c" * 40,)), Payload((b"r" * 20,))
BLOB = PutBlob(hash="f" * 32, payload=Payload((b"function",)))
GREETING = HubHello(
    hub="h", name="hub", host="here", pid=1, python=(3, 11), cloudpickle="3", groups=(Group(workers=2),)
)


def _spec(number: int, items: int = 1) -> SubmitTask:
    whole = Payload((b"c" * 40 * items,), [40] * items) if items > 1 else CALL
    return SubmitTask(task=f"{number:032x}", name="f", function=BLOB.hash, payload=whole, items=items, split=items > 1)


def _run(number: int) -> RunTask:
    return RunTask(task=f"{number:032x}", attempt=1, name="f", function=BLOB.hash, payload=CALL)


def _finished(run: RunTask, duration_s: float = 0.001) -> TaskFinished:
    results = Payload((b"r" * 20 * run.items,), [20] * run.items) if run.items > 1 else RESULT
    return TaskFinished(
        task=run.task, attempt=run.attempt, first=run.first, items=run.items, payload=results, duration_s=duration_s,
        worker="w1",
    )  # fmt: skip


def _scheduler() -> Scheduler:
    scheduler = Scheduler(Policy(job_ttl_s=1e6))
    scheduler.handle(CLIENT, Hello(client="1", user="anna"), 0.0)
    scheduler.handle(HUB, GREETING, 0.0)
    for name in ("w1", "w2"):
        scheduler.handle(HUB, WorkerStarted(worker=name, group=0, pid=7), 0.0)
    scheduler.handle(CLIENT, BLOB, 0.0)
    scheduler.tick(0.0)
    return scheduler


def _served(scheduler: Scheduler, specs: list[SubmitTask], now: float, item_s: float) -> None:
    """Let these tasks arrive and run until all are dropped."""
    for spec in specs:
        scheduler.handle(CLIENT, spec, now)
    left = sum(spec.items for spec in specs)
    while left:
        said = [command.message for command in scheduler.tick(now) if type(command) is Send]
        for run in (message for message in said if type(message) is RunTask):
            scheduler.handle(HUB, _finished(run, item_s * run.items), now)
            left -= run.items


def scheduler_task() -> Work:
    """A workload of the scheduler: a single task is accepted, placed and ended."""
    scheduler, number = _scheduler(), 0

    def work(units: int) -> None:
        nonlocal number
        for _ in range(0, units, TURN):
            _served(scheduler, [_spec(number + n) for n in range(TURN)], 1.0, 0.001)
            number += TURN

    return work


def scheduler_map() -> Work:
    """A workload of the scheduler: a submission of 1,000 items of 0.2 ms is cut into slices."""
    scheduler, number = _scheduler(), 0

    def work(units: int) -> None:
        nonlocal number
        for _ in range(units):
            number += 1
            _served(scheduler, [_spec(number, 1000)], 1.0, 0.0002)

    return work


def _there_and_back(codec: Codec, messages: list[object]) -> Work:
    reader = codec.reader()

    def work(units: int) -> None:
        for _ in range(0, units, TURN):
            reader.decode(codec.encode(messages))

    return work


def frames_submit() -> Work:
    """Encode and decode SubmitTask messages, many in one frame."""
    return _there_and_back(client_to_core, [_spec(n) for n in range(TURN)])


def frames_run() -> Work:
    """Encode and decode RunTask messages."""
    return _there_and_back(core_to_hub, [_run(n) for n in range(TURN)])


def frames_finished() -> Work:
    """Encode and decode TaskFinished messages."""
    return _there_and_back(hub_to_core, [_finished(_run(n)) for n in range(TURN)])


def frames_ended() -> Work:
    """Encode and decode TaskEnded messages."""
    return _there_and_back(core_to_client, [_ended(n) for n in range(TURN)])


def _ended(number: int) -> TaskEnded:
    return TaskEnded(task=f"{number:032x}", state=TaskState.DONE, payload=RESULT, duration_s=0.001, worker="w1")


def session_task() -> Work:
    """The client's session for a single task: submitted, accepted, ended."""
    session, number = Session(Hello(client="1", user="anna")), 0
    session.line_up(0.0)
    session.handle("core", Welcome(core="c", epoch=1, name="lab"), 0.0)

    def work(units: int) -> None:
        nonlocal number
        for _ in range(0, units, TURN):
            specs = [_spec(number + n) for n in range(TURN)]
            for message in (BLOB, *specs):
                session.handle("user", message, 1.0)
            ends = [_ended(number + n) for n in range(TURN)]
            for message in (TaskAccepted(tasks=tuple(spec.task for spec in specs)), *ends):
                session.handle("core", message, 1.0)
            session.flush(1.0)
            number += TURN

    return work


def slots_slice() -> Work:
    """The hub's decisions for a slice: given to a worker, ended, acknowledged."""
    slots, number = Slots(GREETING, SlotSettings(), iter(("w1", "w2")).__next__), 0
    names = [command.worker for command in slots.start(0.0) if type(command) is StartWorker]
    slots.line_up(0.0)
    slots.tick(0.0)
    slots.handle("core", Welcome(core="c", epoch=1, name="lab"), 0.0)
    for name in names:
        slots.handle(name, WorkerStarted(worker=name, group=0, pid=7), 0.0)
    slots.handle("core", HoldBlob(hash=BLOB.hash, payload=BLOB.payload), 0.0)

    def work(units: int) -> None:
        nonlocal number
        for _ in range(units):
            number += 1
            run = _run(number)
            given = [command for command in slots.handle("core", run, 1.0) if type(command) is GiveTask]
            slots.handle(given[0].worker, _finished(run), 1.0)
            slots.handle("core", EndCommitted(task=run.task, attempt=1, first=0), 1.0)
            slots.tick(1.0)

    return work


def journal_turn() -> Work:
    """The journal in a turn of the core with as many new tasks as ends: all their entries, in two commits."""
    folder = tempfile.TemporaryDirectory(prefix="nblb-trip-")
    journal, number = Journal(Path(folder.name)), 0

    def work(units: int) -> Path:
        nonlocal number
        for _ in range(units):
            specs = [_spec(number + n) for n in range(TURN)]
            number += TURN
            for spec in specs:
                journal.append(TaskKept(spec, 1.0))
                journal.append(AttemptKept(spec.task, 0, 1, 1, "h"))
            journal.commit()
            for spec in specs:
                journal.append(EndKept(spec.task, 0, 1, 1, TaskState.DONE, 2.0, payload=RESULT))
            journal.commit()
        return Path(folder.name)

    return work


def worker_call() -> Work:
    """A worker's path for a slice of one call, from its receipt to the sending of its end."""
    near, far = Channel.pair()
    pipes = os.pipe(), os.pipe(), os.pipe()
    for read, _ in pipes[:2]:
        os.set_blocking(read, False)
    cell = ControlPage(ControlPage.make()[1])
    output = WorkerOutput(pipes[0][0], pipes[1][0])
    settings = worker_settings(max_message_mb=64)
    worker = WorkerLoop("w1", Channel.of_worker(far.detach()), cell, output, settings, pipes[2][0])
    worker._state = ProcessState(worker._on_interrupt)  # as `serve` begins
    worker._blobs.take(pack(to_worker, 0, HoldBlob(hash=BLOB.hash, payload=payload.dump_function(len)[1])).datagram, -1)
    call = payload.pack_call(("four",), {}).payload

    def work(units: int) -> None:
        for number in range(1, units + 1):
            run = RunTask(task=f"{number:032x}", attempt=1, name="f", function=BLOB.hash, payload=call)
            worker._run_slice(number, run)
            answer = near.receive()
            assert answer is not None
            assert answer[1].payload is not None

    return work


def pack_call() -> Work:
    """Pack a call with two small arguments, and unpack a result."""
    results = payload.pack_results([12.5])

    def work(units: int) -> None:
        for number in range(units):
            payload.pack_call((number, "some text"), {})
            payload.unpack_results(results)

    return work


WORKLOADS: dict[str, tuple[Callable[[], Work], int]] = {  # constructor of each workload, and enough units to measure it
    make.__name__: (make, units)
    for make, units in (
        (scheduler_task, 200), (scheduler_map, 4), (frames_submit, 400), (frames_run, 400), (frames_finished, 400),
        (frames_ended, 400), (session_task, 400), (slots_slice, 200), (journal_turn, 8), (worker_call, 100),
        (pack_call, 200),
    )
}  # fmt: skip
