"""The hub's process against a scripted core: everything except the scheduler."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from nblb import payload
from nblb.errors import NblbError
from nblb.hub.worker_hub import WorkerHub
from nblb.parameters import Parameters, load
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    EndCommitted,
    Heartbeat,
    HubGone,
    RunTask,
    ScaleHub,
    StopHub,
    StopTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStarted,
    TaskStopped,
    WorkerDied,
)
from nblb.shared_files.transfer import process_name
from nblb.system import machine
from nblb.system.private_folder import runtime_folder
from nblb.transport.dialing import local_address
from tests.hub.fake_core import FakeCore
from tests.waiting import wait_until


class Running:
    """A WorkerHub in a thread of its own."""

    def __init__(self, parameters: Parameters, core: str = "") -> None:
        self.hub = WorkerHub(parameters, core=core)
        self.thread = threading.Thread(target=self.hub.startWKHUB)

    def start(self) -> Running:
        self.thread.start()
        return self

    def stop(self) -> None:
        self.hub.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.hub.bugs == 0


@pytest.fixture
def core(parameters: Parameters) -> Iterator[FakeCore]:
    core = FakeCore(parameters)
    yield core
    core.close()


@pytest.fixture
def running(parameters: Parameters, core: FakeCore) -> Iterator[Running]:
    running = Running(parameters).start()
    core.wait_workers(2)
    yield running
    running.stop()


def double(x: Any) -> Any:
    return 2 * x


def spin(file: str) -> None:
    Path(file).touch()
    while True:
        time.sleep(0.001)


def test_it_says_what_it_has(core: FakeCore, running: Running) -> None:
    hello = core.hellos[0]
    assert hello.pid == os.getpid()
    assert [group.workers for group in hello.groups] == [2]
    assert hello.python >= (3, 10)
    assert core.result(double, 4) == 8


def test_two_calls_run_beside_each_other(core: FakeCore, running: Running, tmp_path: Path) -> None:
    def meet(mine: str, other: str) -> bool:
        Path(mine).touch()
        end = time.monotonic() + 10
        while time.monotonic() < end and not Path(other).exists():
            time.sleep(0.001)
        return Path(other).exists()

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    runs = [core.run(meet, a, b), core.run(meet, b, a)]
    for run in runs:
        end = core.end_of(run)
        assert end.payload is not None
        assert payload.unpack_results(end.payload) == [True]


def test_many_short_calls(core: FakeCore, running: Running) -> None:
    runs = [core.run(double, n) for n in range(500)]
    for n, run in enumerate(runs):
        end = core.end_of(run)
        assert end.payload is not None
        assert payload.unpack_results(end.payload) == [2 * n]
    assert not [m for m in core.heard if isinstance(m, TaskStopped)]


def test_news_of_a_long_one(core: FakeCore, running: Running) -> None:
    def talk() -> None:
        import nblb

        print("hello")
        nblb.progress(40, "half way")
        time.sleep(0.2)

    run = core.run(talk)
    core.end_of(run)
    kinds = [type(m) for m in core.heard if getattr(m, "task", "") == run.task]
    assert kinds.count(TaskStarted) == 1
    assert kinds[-1] is TaskFinished
    progressed = core.wait(TaskProgressed)
    assert (progressed.progress, progressed.note) == (40.0, "half way")
    assert core.wait(TaskPrinted).text == "hello\n"


def test_the_place_of_a_cancelled_worker_is_soon_filled(core: FakeCore, running: Running, tmp_path: Path) -> None:
    def stubborn(file: str) -> None:
        Path(file).touch()
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass

    before = set(core.workers)
    run = core.run(stubborn, str(tmp_path / "begun"))
    core.until((tmp_path / "begun").exists)
    started = time.monotonic()
    core.say(StopTask(task=run.task, attempt=1))
    stopped = core.wait(TaskStopped)
    assert (stopped.why, stopped.ran) == ("cancel", True)
    core.until(lambda: len(core.workers) == 2 and core.workers != before)
    assert time.monotonic() - started < 30  # a minute later the task would still sleep
    assert [m.task for m in core.heard if isinstance(m, WorkerDied)] == [""]


def test_a_willing_task_is_cancelled_without_a_kill(core: FakeCore, running: Running, tmp_path: Path) -> None:
    run = core.run(spin, str(tmp_path / "begun"))
    core.until((tmp_path / "begun").exists)
    core.say(StopTask(task=run.task, attempt=1))
    assert core.wait(TaskStopped).ran
    assert not [m for m in core.heard if isinstance(m, WorkerDied)]


def test_a_timeout(core: FakeCore, running: Running, tmp_path: Path) -> None:
    core.run(spin, str(tmp_path / "begun"), timeout_s=0.5)
    stopped = core.wait(TaskStopped)
    assert stopped.why == "timeout"
    assert stopped.ran or not (tmp_path / "begun").exists(), "a busy worker may not have begun it"


def test_a_dead_worker_is_blamed_and_replaced(core: FakeCore, running: Running) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    run = core.run(die)
    died = core.wait(WorkerDied)
    assert (died.task, died.attempt) == (run.task, 1)
    assert "SIGKILL" in died.reason
    core.wait_workers(2)
    assert core.result(double, 4) == 8


def test_a_dead_nursery_costs_its_workers_and_nothing_else(core: FakeCore, running: Running) -> None:
    pool = running.hub._pool
    os.kill(pool._fork_server._process.pid, signal.SIGKILL)
    core.until(lambda: len([m for m in core.heard if isinstance(m, WorkerDied)]) == 2)
    core.wait_workers(2)
    assert core.result(double, 4) == 8


def test_results_wait_for_a_core_that_was_away(parameters: Parameters, core: FakeCore, tmp_path: Path) -> None:
    def wait_for(file: str) -> str:
        while not Path(file).exists():
            time.sleep(0.001)
        return "result"

    running = Running(parameters).start()
    try:
        core.wait_workers(2)
        known = core.run(double, 4)
        core.wait(TaskFinished)  # not committed
        begun, late = tmp_path / "begun", core.run(spin, str(tmp_path / "begun"))
        kept = core.run(wait_for, str(tmp_path / "go"))
        core.until(begun.exists)
        core.close()
        (tmp_path / "go").touch()  # so it ends while nobody is there
        time.sleep(0.05)
        again = FakeCore(parameters, epoch=2)
        try:
            again.until(lambda: again.hellos)
            hello = again.hellos[0]
            assert hello.core == "core"
            assert {r.task for r in hello.running} == {known.task, late.task, kept.task}
            assert again.end_of(known).payload is not None
            end = again.end_of(kept)
            assert end.payload is not None
            assert payload.unpack_results(end.payload) == ["result"]
            assert again.result(double, 5) == 10
            again.say(StopTask(task=late.task, attempt=1))
            again.wait(TaskStopped)
        finally:
            again.close()
    finally:
        running.stop()


def test_a_hub_that_is_cut_off_stops_its_work(settings: dict[str, Any], tmp_path: Path) -> None:
    parameters = load({**settings, "LB_HEARTBEAT_S": 0.2, "LB_SUSPECT_S": 1.5, "LB_LEASE_S": 3.0})
    core = FakeCore(parameters)
    running = Running(parameters).start()
    try:
        core.wait_workers(2)
        run = core.run(spin, str(tmp_path / "begun"))
        core.until((tmp_path / "begun").exists)
        core.is_silent = True
        slots = running.hub._slots
        core.until(lambda: 0 not in slots.states().values(), what="the end of the work")
        core.is_silent = False
        stopped = core.wait(TaskStopped, lambda m: m.task == run.task)
        assert (stopped.why, stopped.ran) == ("recall", True)
    finally:
        running.stop()
        core.close()


def test_a_hub_that_has_slept_stops_what_a_core_elsewhere_has_given_to_others(
    core: FakeCore, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = core.run(spin, str(tmp_path / "begun"))
    core.until((tmp_path / "begun").exists)
    core.wait(Heartbeat)
    core.until(lambda: running.hub._slots._lease.leased_at, what="a lease")
    slept_s = machine.slept_s
    monkeypatch.setattr(machine, "slept_s", lambda now: slept_s(now) + 3600.0)
    stopped = core.wait(TaskStopped, lambda m: m.task == run.task)
    assert (stopped.why, stopped.ran) == ("recall", True)


def test_a_hub_behind_a_tunnel_stops_its_work_though_the_core_lives_here(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """ssh to another account of this computer: the core's process can be seen, and the tunnel may be dead."""
    parameters = load({**settings, "LB_HEARTBEAT_S": 0.2, "LB_SUSPECT_S": 1.5, "LB_LEASE_S": 3.0})
    core = FakeCore(parameters)
    core.process = process_name()
    running = Running(parameters, local_address(runtime_folder(parameters), "hubs")).start()
    try:
        core.wait_workers(2)
        hello = core.hellos[-1]
        assert (hello.address, hello.hc_port) == ("", 0)
        core.run(spin, str(tmp_path / "begun"))
        core.until((tmp_path / "begun").exists)
        core.is_silent = True
        slots = running.hub._slots
        core.until(lambda: 0 not in slots.states().values(), what="the end of the work")
        assert running.hub._connections > 1  # it has dialled again
    finally:
        running.stop()
        core.close()


def test_it_stops_when_it_is_told_to(core: FakeCore, parameters: Parameters, tmp_path: Path) -> None:
    running = Running(parameters).start()
    core.wait_workers(2)
    run = core.run(spin, str(tmp_path / "begun"))
    core.until((tmp_path / "begun").exists)
    core.say(StopHub(reason="enough"))
    assert core.wait(HubGone).reason == "enough"
    assert core.wait(TaskStopped).task == run.task
    running.thread.join(5)
    assert not running.thread.is_alive()
    assert not list(parameters.runtime_dir.glob("*.health"))


def test_it_starts_before_there_is_a_core(parameters: Parameters) -> None:
    running = Running(parameters).start()
    try:
        wait_until(lambda: list(running.hub._slots.states().values()) == [100, 100], what="workers")
        core = FakeCore(parameters)
        try:
            core.wait_workers(2)
            assert core.result(double, 4) == 8
        finally:
            core.close()
    finally:
        running.stop()


def test_scale(core: FakeCore, running: Running) -> None:
    core.say(ScaleHub(hub="h", workers=4))
    core.wait_workers(4)
    core.say(ScaleHub(hub="h", workers=1))
    core.wait_workers(1)
    assert core.result(double, 4) == 8


# ── tasks by name ──


def greet(**kwargs: Any) -> str:
    task = kwargs["task"]
    return f"Hello {task['firstName']} {task['lastName']} {kwargs['arguments'].get('mark', '')}"


def test_tasks_by_name_in_the_seeds_way(core: FakeCore, parameters: Parameters, capsys: Any) -> None:
    running = Running(parameters)
    running.hub.addTask("HELLO", greet, mark="!")
    running.hub.addTask("HELLO", greet)
    assert "TASK HELLO ALREADY EXISTS, SKIPPING addTask" in capsys.readouterr().out
    running.hub.addTask("SET", lambda task, arguments: {1, 2})
    running.start()
    try:
        core.wait_workers(2)
        assert core.hellos[-1].functions == ("HELLO", "SET")
        end = core.end_of(core.run("HELLO", b'{"firstName": "John", "lastName": "Doe"}', call="json"))
        assert end.payload is not None
        assert json.loads(bytes(end.payload.buffers[0])) == "Hello John Doe !"
        end = core.end_of(core.run("SET", b"{}", call="json"))
        assert "must be JSON" in end.failures[0].message
        end = core.end_of(core.run("NOBODY", b"{}", call="json"))
        assert "no task named 'NOBODY'" in end.failures[0].message
        running.hub.rmvTask("SET")
        core.until(lambda: core.hellos[-1].functions == ("HELLO",))
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda task: task["x"], 3),
        (lambda **kwargs: sorted(kwargs), ["arguments", "task"]),
        (lambda x, y: x + y, 7),
        (lambda record: record["y"], 4),
    ],
)
def test_published_functions_get_the_dict_as_they_want_it(
    core: FakeCore, running: Running, function: Any, expected: Any
) -> None:
    blob, packed = payload.dump_function(function)
    from nblb.protocol.messages import HoldBlob

    core.say(HoldBlob(hash=blob, payload=packed))
    run = RunTask(task="t", attempt=1, name="f", function=blob, call="json", payload=Payload((b'{"x": 3, "y": 4}',)))
    core.say(run)
    end = core.end_of(run)
    assert end.payload is not None, end.failures
    assert json.loads(bytes(end.payload.buffers[0])) == expected


# ── probes ──


def test_probes_get_an_answer_whatever_they_ask(core: FakeCore, running: Running) -> None:
    worker = next(iter(core.workers))
    context = zmq.Context()
    try:
        for asked, expected in (
            ({"HEALTH": "CHECKWORKERS", "workerid": [worker, "nobody"]}, {worker: 100, "nobody": -1}),
            ({"HEALTH": "WHAT"}, None),
            ("garbage", None),
            ({"HEALTH": "CHECKWORKERS"}, None),
        ):
            with context.socket(zmq.REQ) as probe:
                probe.setsockopt(zmq.LINGER, 0)
                probe.setsockopt(zmq.RCVTIMEO, 5000)
                probe.connect(core.hellos[0].address)
                probe.send_string(json.dumps(asked))
                answer = probe.recv_json()
            assert answer == expected or (expected is None and "error" in answer)
    finally:
        context.term()


def test_another_number_of_workers_leaves_limits_and_environment(settings: dict[str, Any]) -> None:
    low = {"nWorkers": 2, "minP": 0, "maxP": 9, "processP": 3, "env": {"A": "b"}, "memory_mb": 99, "max_rss_mb": 88}
    high = {"nWorkers": 2, "minP": 10, "maxP": 99}
    hub = WorkerHub({**settings, "WKHUB_WORKERS": [low, high]}, workers=1)
    assert [(group.workers, group.minP, group.maxP) for group in hub._groups] == [(1, 0, 9), (0, 10, 99)]
    first, second = hub._worker_settings()
    assert [first.niceness, first.env, first.memory_mb, first.max_rss_mb] == [3, {"A": "b"}, 99, 88]
    assert [second.niceness, second.env, second.memory_mb, second.max_rss_mb] == [0, {}, 0, 0]


def test_engines_that_it_does_not_have_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NblbError, match="engine is 'dask'"):
        WorkerHub({**settings, "WKHUB_WORKERS": [{"nWorkers": 1, "engine": "dask"}]})


def test_a_bug_meets_one_message_only(core: FakeCore, running: Running, capfd: Any) -> None:
    core.say(EndCommitted(task="x", attempt=1), Heartbeat())
    running.hub._slots._from_core[Heartbeat] = lambda *_: 1 / 0  # type: ignore[assignment]
    core.say(Heartbeat())
    core.until(lambda: running.hub.bugs)
    assert core.result(double, 4) == 8
    assert "ZeroDivisionError" in capfd.readouterr().out
    running.hub.bugs = 0
    running.hub._slots._from_core[Heartbeat] = lambda *_: None


def test_an_idle_hub_does_nothing(core: FakeCore, running: Running) -> None:
    clock = time.pthread_getcpuclockid(running.thread.ident or 0)
    before = time.clock_gettime(clock)
    end = time.monotonic() + 1.0
    core.until(lambda: time.monotonic() > end)
    assert time.clock_gettime(clock) - before < 0.03
