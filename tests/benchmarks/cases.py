"""Cases that need more than running tasks: the start of a system, its processes, a backlog, other clients.

The cases that only run tasks are in nblb.bench.cases; `nblb bench` runs them on a running cluster as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from nblb.bench import cases as shared
from nblb.bench import meters, system
from nblb.bench.system import Impossible
from nblb.bench.work import noop, pid
from tests.benchmarks import real_work
from tests.benchmarks.peer import Peer
from tests.benchmarks.work import wait_for

if TYPE_CHECKING:
    from typing import TypeAlias

    from nblb.bench.cases import Figures

    Start: TypeAlias = Callable[..., Peer]

KIB = 1024


@dataclass(frozen=True)
class Size(system.Size):
    """The sizes of the shared cases, and of those in this module."""

    say_s: float = 6.0  # longest time in which a peer may submit a backlog
    say_ours_s: float = 90.0
    dispatched: int = 5_000  # tasks of the backlog to dispatch
    idle_s: float = 4.0
    clients: int = 20
    tasks_a_client: int = 300
    hubs: int = 20
    paused: int = 100
    pause_s: float = 0.02
    commands: int = 2_000
    functions: int = 200
    grid: int = 100  # candidates of a grid search, each fitted twice …
    grid_s: float = 12.0  # … but not for longer than this in all
    sweep: int = 40
    sweep_scale: float = 1.0
    printing: int = 10_000


FULL = Size(submits=5_000, items_one_by_one=1_500)
QUICK = replace(
    FULL, lone=100, submits=1_500, items=20_000, items_one_by_one=500, echoes=3, closures=200, uneven=60, say_s=3.0,
    dispatched=2_000, idle_s=2.0, clients=5, hubs=5, paused=40, commands=300, functions=50, grid_s=4.0, sweep=12,
    printing=2_000,
)  # fmt: skip
TINY = Size(
    **{name: getattr(system.TINY, name) for name in system.TINY.__dataclass_fields__},
    dispatched=20, idle_s=0.2, clients=2, tasks_a_client=10, hubs=2, paused=3, pause_s=0.001, commands=6, functions=4,
    grid=2, grid_s=0.1, sweep=4, sweep_scale=0.05, printing=20,
)  # fmt: skip
SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}


def startup(start: Start, size: Size) -> Figures:
    """Measure the time from nothing, imports included, to a result from each of two workers."""
    begun = perf_counter()
    running = start()
    try:
        _see(running, 2)
        return {"seconds": perf_counter() - begun}
    finally:
        running.close()


def _see(running: Peer, workers: int) -> None:
    """Wait until this many workers have returned results."""
    seen: set[int] = set()
    while len(seen) < workers:
        seen |= set(running.run(pid, range(workers)))


def idle(start: Start, size: Size) -> Figures:
    """Measure the CPU time and memory of all processes while there is no work."""
    running = start()
    try:
        running.run(noop, range(20))
        sleep(min(1.0, size.idle_s))
        processes = running.processes()
        begun, before, own = perf_counter(), _computed(processes), _computed([os.getpid()])
        sleep(size.idle_s)
        took = perf_counter() - begun
        return {
            "percent": 100 * (_computed(processes) - before) / took,
            "client_percent": 100 * (_computed([os.getpid()]) - own) / took,
            "processes": float(len(processes)),
            "MiB": meters.memory_bytes(processes) / KIB**2,
        }
    finally:
        running.close()


def _computed(pids: list[int]) -> float:
    return sum(meters.clock(pid).cpu_s for pid in pids)


def backlog(queued: int, start: Start, size: Size) -> Figures:
    """Submit tasks while the workers are blocked, then release them: time and memory per task in a backlog."""
    running = start()
    if not running.single:
        raise Impossible("no single submits")
    with tempfile.TemporaryDirectory(prefix="nblb-bench-gate-") as folder:
        gate = Path(folder) / "gate"
        try:
            running.run(noop, range(20))
            blockers = [running.submit(wait_for, str(gate), str(n)) for n in range(running.workers)]
            until = perf_counter() + 20
            while len(list(Path(folder).iterdir())) < running.workers and perf_counter() < until:
                sleep(0.01)
            figures, futures = _queue(running, queued, size)
            some = futures[: size.dispatched]
            computed, begun = _computed(running.brokers()), perf_counter()
            gate.touch()
            running.gather(blockers)
            running.gather(some)
            figures["dispatch_us"] = (perf_counter() - begun) / len(some) * 1e6
            if running.brokers():
                figures["dispatch_core_us"] = (_computed(running.brokers()) - computed) / len(some) * 1e6
        finally:
            gate.touch()
            running.abandon()
    return figures


def _queue(running: Peer, queued: int, size: Size) -> tuple[Figures, list[object]]:
    brokers = running.brokers()
    held, own, computed = meters.memory_bytes(brokers), meters.memory_bytes([os.getpid()]), _computed(brokers)
    ours = type(running).__name__ == "Nblb"
    until = perf_counter() + (size.say_ours_s if ours else size.say_s)
    futures: list[object] = []
    last_begun = perf_counter()
    last_from, last = 0, max(1, queued // 10)  # the last tenth shows the cost behind all the others
    while len(futures) < queued and perf_counter() < until:
        if len(futures) - last_from >= last:
            last_from, last_begun = len(futures), perf_counter()
        portion = min(last, 500, queued - len(futures))
        futures += [running.submit(noop, n) for n in range(portion)]
    last_us = (perf_counter() - last_begun) / max(1, len(futures) - last_from) * 1e6
    _settle(brokers)
    figures = {
        "reached": float(len(futures)),
        "submit_us": last_us,
        "client_KiB": (meters.memory_bytes([os.getpid()]) - own) / KIB / len(futures),
    }
    if brokers:
        figures["core_KiB"] = (meters.memory_bytes(brokers) - held) / KIB / len(futures)
        figures["accept_core_us"] = (_computed(brokers) - computed) / len(futures) * 1e6
    return figures, futures


def _settle(brokers: list[int]) -> None:
    """Wait, at most a minute, until the broker is idle, so that it has accepted everything."""
    quiet, until = 0, perf_counter() + 60
    while brokers and quiet < 3 and perf_counter() < until:
        before = _computed(brokers)
        sleep(0.1)
        quiet = quiet + 1 if _computed(brokers) - before < 0.01 else 0


def clients(start: Start, size: Size) -> Figures:
    """Let other processes, each as a separate user, submit single tasks at the same time.

    Twice: empty tasks, for the total rate; and tasks that take a while without using the CPU, for the fairness between
    clients, since the operating system decides between processes that all need the CPU.
    """
    running = start()
    others: list[subprocess.Popen[str]] = []
    try:
        command = [sys.executable, "-m", "tests.benchmarks.one", "--attach", running.address()]
        command += [type(running).__name__.lower(), str(size.tasks_a_client)]
        for number in range(size.clients):
            pipe, words = subprocess.PIPE, [*command, f"user{number}"]
            others.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True))
        whole, _ = _all_at_once(others)
        _, took = _all_at_once(others)
        return {"tasks_per_s": size.clients * size.tasks_a_client / whole, "slowest_of_swiftest": max(took) / min(took)}
    finally:
        for other in others:
            other.kill()
            other.communicate()
        running.close()


def _all_at_once(others: list[subprocess.Popen[str]]) -> tuple[float, list[float]]:
    """The time in seconds until all clients have finished, and the time of each."""
    for other in others:
        if _line(other) != "READY":
            raise RuntimeError("one of the clients could not connect")
    begun = perf_counter()
    for other in others:
        print("GO", file=other.stdin, flush=True)
    took = [float(_line(other)) for other in others]
    return perf_counter() - begun, took


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def hubs(start: Start, size: Size) -> Figures:
    """Start many hubs with one worker each on this machine, wait for a result from each, then submit single tasks."""
    begun = perf_counter()
    running = start.with_hubs(size.hubs)  # type: ignore[attr-defined]
    try:
        _see(running, size.hubs)
        started = perf_counter() - begun
        few = replace(size, submits=size.submits // 5)
        rate = shared.submit(running, few)["tasks_per_s"]
        processes = running.processes()
        return {
            "seconds": started,
            "tasks_per_s": rate,
            "processes": float(len(processes)),
            "MiB": meters.memory_bytes(processes) / KIB**2,
        }
    finally:
        running.close()


def with_system(case: Callable[[Peer, Size], Figures], start: Start, size: Size) -> Figures:
    """Run a case of `nblb bench` on a system that is started for it."""
    running = start()
    try:
        return on_running(case, running, size)
    finally:
        running.close()


def on_running(case: Callable[[Peer, Size], Figures], running: Peer, size: Size) -> Figures:
    return case(running, replace(size, submits=int(size.submits * running.portion)))


REAL_WORK: dict[str, Callable[[Peer, Size], Figures]] = {
    "paused": real_work.paused,
    "commands": real_work.commands,
    "functions": real_work.functions,
    **{f"grid_search_{ms}ms": partial(real_work.grid_search, ms) for ms in real_work.FIT_MS},
    "sweep": real_work.sweep,
    "printing": real_work.printing,
}
BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
CASES: dict[str, Callable[[Start, Size], Figures]] = {
    "startup": startup,
    **{name: partial(with_system, case) for name, case in shared.CASES.items()},  # type: ignore[arg-type]
    "idle": idle,
    **{f"backlog_{queued}": partial(backlog, queued) for queued in BACKLOGS},
    "clients": clients,
    "hubs": hubs,
    **{name: partial(with_system, case) for name, case in REAL_WORK.items()},
}
