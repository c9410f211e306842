"""The benchmark cases for nblb and its peers: each takes a running system and returns figures by name.

A name ends in its unit. Every case warms up with the work that it measures, and checks its results.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nblb.bench.system import Impossible, Size, System
from nblb.bench.work import ends, noop, spin

if TYPE_CHECKING:
    from typing import TypeAlias

    Figures: TypeAlias = dict[str, float]
    Case: TypeAlias = Callable[[System, Size], Figures]

CONSTANTS = 5  # pairs of measurements: one task, and many that share an array


def _warm(system: System, tasks: int = 10) -> None:
    if system.run(noop, range(tasks)) != list(range(tasks)):
        raise AssertionError("a task's result is not its argument")


def _warm_arrays(system: System) -> None:
    """Makes every worker import numpy, which takes longer than the measured work."""
    array = _numpy().ones(4)
    for _ in range(2):
        system.run(ends, [array] * (4 * system.workers))


def latency(system: System, size: Size) -> Figures:
    """Single tasks, each submitted after the result of the one before: the wait of a cell with one call."""
    times = []
    for number in range(size.warm + size.lone):
        begun = perf_counter()
        system.run(noop, [number])
        times.append(perf_counter() - begun)
    times = sorted(times[size.warm :])
    return {"p50_us": times[len(times) // 2] * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6}


def submit(system: System, size: Size) -> Figures:
    """Single submits as fast as possible, then all results."""
    _warm(system, 50)
    count = size.submits
    begun = perf_counter()
    futures = [system.submit(noop, n) for n in range(count)]
    said = perf_counter()
    results = system.gather(futures)
    took = perf_counter() - begun
    if results != list(range(count)):
        raise AssertionError("results are not those of the tasks, or not in their order")
    return {"tasks_per_s": count / took, "submit_us": (said - begun) / count * 1e6}


def map_default(system: System, size: Size) -> Figures:
    """A map of many tiny items with the system's default chunks."""
    return _map(system, None, size.items if system.batches else size.items_one_by_one)


def map_chunked(system: System, size: Size) -> Figures:
    """A map with a chunk size: the better of the given ones."""
    return max((_map(system, chunk, size.items) for chunk in size.chunks), key=lambda found: found["items_per_s"])


def _map(system: System, chunk: int | None, items: int) -> Figures:
    system.map(noop, range(min(100, items)))
    begun = perf_counter()
    results = system.map(noop, range(items), chunk)
    took = perf_counter() - begun
    if results != list(range(items)):
        raise AssertionError("results are not those of the items, or not in their order")
    return {"items_per_s": items / took, **({"chunk": float(chunk)} if chunk else {})}


def array_both_ways(system: System, size: Size) -> Figures:
    """A new array each time as argument and result; its bytes count once each way."""
    numpy = _numpy()
    _warm_arrays(system)
    rates = []
    for number in range(size.echoes):
        array = numpy.full(size.mib * 131_072, float(number))
        begun = perf_counter()
        back = system.run(noop, [array])[0]
        rates.append(2 * size.mib / (perf_counter() - begun))
        if back.nbytes != array.nbytes or back[0] != number or back[-1] != number:
            raise AssertionError("the array that came back is not the one that was sent")
    return {"MiB_per_s": statistics.median(rates)}


def constant_argument(system: System, size: Size) -> Figures:
    """Many tasks with the same large array as argument."""
    return _constant(system, size, lambda array: system.run(ends, [array] * size.sharing))


def constant_closure(system: System, size: Size) -> Figures:
    """Many tasks whose function closes over the same large array."""

    def run_all(array: Any) -> list[Any]:
        def both(_: int) -> float:
            return float(array[0]) + float(array[-1])

        return system.run(both, range(size.sharing))

    system.check_closures()
    return _constant(system, size, run_all)


def constant_put(system: System, size: Size) -> Figures:
    """Many tasks that use the same large array, sent to the workers' side with put first."""

    return _constant(system, size, lambda array: system.run(ends, [system.put(array)] * size.sharing))


def _constant(system: System, size: Size, run_all: Callable[[Any], list[Any]]) -> Figures:
    """Seconds for all tasks, and their ratio to one task with such an array.

    Both are medians of alternating measurements: an array that fits into memory already mapped takes a fifth of the
    time of one for which the machine must find memory, and that changes from one measurement to the next.
    """
    numpy = _numpy()
    _warm_arrays(system)
    once: list[float] = []
    many: list[float] = []
    for pair in range(min(CONSTANTS, size.echoes)):
        for seed, times in ((2 * pair, once), (2 * pair + 1, many)):
            array = numpy.random.default_rng(seed).random(size.mib * 131_072)
            begun = perf_counter()
            results = system.run(ends, [array]) if times is once else run_all(array)
            times.append(perf_counter() - begun)
            if results != [ends(array)] * (1 if times is once else size.sharing):
                raise AssertionError("the tasks saw another array")
    took, once_s = statistics.median(many), statistics.median(once)
    return {"seconds": took, "of_once": took / once_s, "once_s": once_s}


def closure(system: System, size: Size) -> Figures:
    """Many tasks whose function closes over a medium array: single submits or one map, whichever is faster."""
    system.check_closures()
    _warm_arrays(system)
    rates = [_closed_over(size, 3, system.map)]
    if system.single:
        rates.append(_closed_over(size, 4, system.run))
    return {"tasks_per_s": max(rates), **({"singly_per_s": rates[1]} if system.single else {})}


def _closed_over(size: Size, seed: int, run: Callable[..., list[Any]]) -> float:
    """Tasks per second with an array that is new to the system."""
    weights = _numpy().random.default_rng(seed).random(size.closure_kib * 128)
    count = min(size.closures, len(weights))

    def weigh(n: int) -> float:
        return float(weights[n])

    begun = perf_counter()
    results = run(weigh, range(count))
    took = perf_counter() - begun
    if results != [weights[n] for n in range(count)]:
        raise AssertionError("the tasks saw other values")
    return count / took


def imbalance(system: System, size: Size) -> Figures:
    """Tasks of 1 to 20 ms in random order, as a ratio to the time of workers that never wait."""
    seconds = [0.001 * (1 + (n * 7919) % 20) for n in range(size.uneven)]
    system.run(spin, [0.001] * (5 * system.workers))
    begun = perf_counter()
    system.run(spin, seconds)
    return {"of_ideal": (perf_counter() - begun) / (sum(seconds) / system.workers)}


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError:
        raise Impossible("needs numpy") from None
    return np


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (latency, submit, map_default, map_chunked, array_both_ways, constant_argument, constant_closure,
                 constant_put, closure, imbalance)
}  # fmt: skip
