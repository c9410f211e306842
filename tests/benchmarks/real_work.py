"""Cases with work that people have: commands, a grid search, a sweep of simulations, tasks that print, pauses."""

from __future__ import annotations

from time import perf_counter, sleep
from typing import TYPE_CHECKING

from nblb.bench.system import Impossible
from nblb.bench.work import noop
from tests.benchmarks.work import Estimator, chatter, simulate

if TYPE_CHECKING:
    from nblb.bench.cases import Figures
    from tests.benchmarks.cases import Size
    from tests.benchmarks.peer import Peer

FIT_MS = (10, 100, 1000)
KIB = 1024


def paused(running: Peer, size: Size) -> Figures:
    """Run single tasks with a pause before each, as a person or a slow loop submits them."""
    times = []
    for number in range(size.warm + size.paused):
        sleep(size.pause_s)
        begun = perf_counter()
        running.run(noop, [number])
        times.append(perf_counter() - begun)
    times = sorted(times[size.warm :])
    return {"p50_us": times[len(times) // 2] * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6}


def commands(running: Peer, size: Size) -> Figures:
    """Run a command line many times; it does nothing."""
    running.commands(4 * running.workers)
    begun = perf_counter()
    running.commands(size.commands)
    return {"tasks_per_s": size.commands / (perf_counter() - begun)}


def functions(running: Peer, size: Size) -> Figures:
    """Run a few hundred Python functions once, as single submits."""
    running.functions(2 * running.workers)
    begun = perf_counter()
    running.functions(size.functions)
    return {"tasks_per_s": size.functions / (perf_counter() - begun)}


def grid_search(fit_ms: int, running: Peer, size: Size) -> Figures:
    """Search the best of several estimators of the digits through joblib, as a ratio to workers that never wait."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import GridSearchCV
    except ImportError:
        raise Impossible("needs scikit-learn") from None
    digits = load_digits()
    candidates = max(2, min(size.grid, round(size.grid_s / (fit_ms / 1000) / 2)))
    search = GridSearchCV(
        Estimator(), {"seconds": [fit_ms / 1000], "seed": list(range(candidates))}, cv=2, refit=False,
        n_jobs=running.workers, error_score="raise",
    )  # fmt: skip
    warm = GridSearchCV(Estimator(), {"seconds": [0.001], "seed": [1, 2]}, cv=2, refit=False, n_jobs=running.workers)
    with running.joblib():
        warm.fit(digits.data, digits.target)
        begun = perf_counter()
        search.fit(digits.data, digits.target)
        took = perf_counter() - begun
    if not all(search.cv_results_["mean_test_score"] > 0.5):
        raise AssertionError("an estimator did not learn the digits")
    return {"seconds": took, "of_ideal": took / (2 * candidates * fit_ms / 1000 / running.workers)}


def sweep(running: Peer, size: Size) -> Figures:
    """Run simulations of 0.1 to 1 s, each with a result of 1 MiB, as a ratio to workers that never wait."""
    seconds = [(0.1 + 0.9 * ((n * 7919) % 100) / 99) * size.sweep_scale for n in range(size.sweep)]
    running.run(simulate, [0.001] * (2 * running.workers))
    begun = perf_counter()
    results = running.run(simulate, seconds)
    took = perf_counter() - begun
    if [array[0] for array in results] != seconds or any(array.nbytes != KIB**2 for array in results):
        raise AssertionError("a result is not that of its simulation")
    return {"seconds": took, "of_ideal": took / (sum(seconds) / running.workers)}


def printing(running: Peer, size: Size) -> Figures:
    """Run tasks that print 1 KiB each, which the system collects, and the same tasks without the output."""
    if not running.collects_output:
        raise Impossible("does not collect output")
    rates = {}
    for name, text in (("silent_per_s", ""), ("tasks_per_s", "x" * (KIB - 1))):
        running.map(chatter, [text] * 50)
        begun = perf_counter()
        if running.map(chatter, [text] * size.printing) != [len(text)] * size.printing:
            raise AssertionError("a task printed another text")
        rates[name] = size.printing / (perf_counter() - begun)
    return {**dict(reversed(rates.items())), "of_silent": rates["tasks_per_s"] / rates["silent_per_s"]}
