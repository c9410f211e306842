"""The work that every system is given. Each case takes a started system and returns figures by name."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.systems import SYSTEMS, System

Figures = dict[str, float]


def noop(x: Any) -> Any:
    return x


def pid(_: Any) -> int:
    time.sleep(0.02)
    return os.getpid()


def spin(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def total(array: Any) -> float:
    return float(array[0]) + float(array[-1])


def latency(system: System) -> Figures:
    """300 tasks one after the other."""
    times = []
    for number in range(330):
        begun = time.perf_counter()
        system.gather([system.submit(noop, number)])
        times.append(time.perf_counter() - begun)
    times = sorted(times[30:])
    return {"p50_us": times[150] * 1e6, "p99_us": times[297] * 1e6}


def submit(system: System) -> Figures:
    """5,000 single submits, then all results."""
    system.gather([system.submit(noop, n) for n in range(50)])
    begun = time.perf_counter()
    futures = [system.submit(noop, n) for n in range(5000)]
    submitted = time.perf_counter()
    assert list(system.gather(futures)) == list(range(5000))
    return {"tasks_per_s": 5000 / (time.perf_counter() - begun), "submit_us": (submitted - begun) / 5000 * 1e6}


def map_default(system: System) -> Figures:
    return _map(system, None, 5000 if type(system).__name__ in ("Dask", "Ipyparallel", "Ray") else 50_000)


def map_chunked(system: System) -> Figures:
    return max((_map(system, chunk, 50_000) for chunk in (512, 4096)), key=lambda f: f["items_per_s"])


def _map(system: System, chunk: int | None, items: int) -> Figures:
    system.map(noop, range(100))
    begun = time.perf_counter()
    assert list(system.map(noop, range(items), chunk)) == list(range(items))
    return {"items_per_s": items / (time.perf_counter() - begun)}


def echo(system: System) -> Figures:
    """A 64 MiB array there and back; its bytes counted once each way."""
    rates = []
    for number in range(5):
        array = np.full(8 * 1024 * 1024, float(number))
        begun = time.perf_counter()
        back = system.gather([system.submit(noop, array)])[0]
        assert back[0] == number
        assert back.nbytes == array.nbytes
        rates.append(128 / (time.perf_counter() - begun))
    return {"MiB_per_s": statistics.median(rates)}


def constant_argument(system: System) -> Figures:
    """20 tasks that all take the same 64 MiB."""
    array = np.random.default_rng(1).random(8 * 1024 * 1024)
    system.gather([system.submit(noop, n) for n in range(4)])
    begun = time.perf_counter()
    system.gather([system.submit(total, array) for _ in range(20)])
    return {"seconds": time.perf_counter() - begun}


def constant_put(system: System) -> Figures:
    array = np.random.default_rng(2).random(8 * 1024 * 1024)
    system.gather([system.submit(noop, n) for n in range(4)])
    begun = time.perf_counter()
    handle = system.put(array)
    system.gather([system.submit(total, handle) for _ in range(20)])
    return {"seconds": time.perf_counter() - begun}


def closure(system: System) -> Figures:
    """500 tasks whose function closes over 1 MiB."""
    weights = np.random.default_rng(3).random(128 * 1024)

    def weigh(n: int) -> float:
        return float(weights[n])

    system.gather([system.submit(noop, n) for n in range(4)])
    begun = time.perf_counter()
    try:
        results = system.gather([system.submit(weigh, n) for n in range(500)])
    except NotImplementedError:
        results = system.map(weigh, range(500))
    assert results == [weights[n] for n in range(500)]
    return {"tasks_per_s": 500 / (time.perf_counter() - begun)}


def imbalance(system: System) -> Figures:
    """200 tasks of 1 to 20 ms against the ideal of two workers."""
    seconds = [0.001 * (1 + (n * 7919) % 20) for n in range(200)]
    system.gather([system.submit(spin, 0.001) for _ in range(10)])
    begun = time.perf_counter()
    system.gather([system.submit(spin, s) for s in seconds])
    return {"of_ideal": (time.perf_counter() - begun) / (sum(seconds) / 2)}


def backlog(system: System) -> Figures:
    """Submit while the workers are busy: what the thousandth and the hundred-thousandth cost."""
    blockers = [system.submit(time.sleep, 20.0 if type(system).__name__ in ("Dask", "Ipyparallel") else 4.0)] * 2
    figures: Figures = {}
    futures: list[Any] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for upto in (1_000, 10_000) if type(system).__name__ in ("Dask", "Ipyparallel") else (1_000, 10_000, 100_000):
        begun, count = time.perf_counter(), upto - len(futures)
        futures += [system.submit(noop, n) for n in range(count)]
        figures[f"submit_us_at_{upto}"] = (time.perf_counter() - begun) / count * 1e6
    figures["client_KiB_per_task"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / len(futures)
    system.gather(blockers)
    begun = time.perf_counter()
    system.gather(futures)
    figures["drain_per_s"] = len(futures) / (time.perf_counter() - begun)
    return figures


def startup(name: str) -> Figures:
    """From nothing to a result from each of two workers, imports included."""
    begun = time.perf_counter()
    system = SYSTEMS[name]()
    try:
        seen: set[int] = set()
        while len(seen) < 2:
            try:
                seen |= set(system.gather([system.submit(pid, n) for n in range(2)]))
            except NotImplementedError:
                seen |= set(system.map(pid, range(2)))
        return {"seconds": time.perf_counter() - begun}
    finally:
        system.close()


CASES: dict[str, Callable[[System], Figures]] = {
    case.__name__: case
    for case in (latency, submit, map_default, map_chunked, echo, constant_argument, constant_put, closure,
                 imbalance, backlog)
}  # fmt: skip
