"""The performance goals of nblb beside its peers, as ratios within one run, which vary less than times."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.results import Results

LESS, MORE = operator.le, operator.ge
POOLS = ("processpool", "loky", "joblib", "mpire")
BROKERS = ("dask", "ipyparallel", "ray")


@dataclass(frozen=True)
class Goal:
    """A goal; `measure` returns a number, or None if the run lacks the figures."""

    text: str
    measure: Callable[[Results], float | None]
    holds: Callable[[float, float], bool]
    bound: float

    def judge(self, results: Results) -> tuple[str, str]:
        """The measured number, and whether the goal was reached."""
        found = self.measure(results)
        if found is None:
            return "", "not measured"
        return f"{found:,.3g}", "reached" if self.holds(found, self.bound) else "**not reached**"


def _ours(case: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(case, "nblb", figure)


def _of(case: str, figure: str, *peers: str) -> Callable[[Results], float | None]:
    """nblb's figure divided by the peer's; of several peers, by the largest."""

    def measure(results: Results) -> float | None:
        ours = results.median(case, "nblb", figure)
        theirs = [found for peer in peers if (found := results.median(case, peer, figure))]
        return None if ours is None or not theirs else ours / max(theirs)

    return measure


def _of_least(case: str, figure: str, *peers: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        ours = results.median(case, "nblb", figure)
        theirs = [found for peer in peers if (found := results.median(case, peer, figure))]
        return None if ours is None or not theirs else ours / min(theirs)

    return measure


def _growth(figure: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        few, many = (results.median(f"backlog_{queued}", "nblb", figure) for queued in (10_000, 1_000_000))
        return many / few if few and many else None

    return measure


GOALS = (
    Goal("round trip at most 2.5 × bare pyzmq", _of("latency", "p50_us", "bare"), LESS, 2.5),
    Goal("round trip at most 3 × ProcessPoolExecutor", _of("latency", "p50_us", "processpool"), LESS, 3.0),
    Goal("round trip at most 1/5 of ipyparallel", _of("latency", "p50_us", "ipyparallel"), LESS, 0.2),
    Goal("round trip at most 1/10 of Dask", _of("latency", "p50_us", "dask"), LESS, 0.1),
    Goal("single submits 3 × ProcessPoolExecutor", _of("submit", "tasks_per_s", "processpool"), MORE, 3.0),
    Goal("single submits 50 × ipyparallel and Dask", _of("submit", "tasks_per_s", "ipyparallel", "dask"), MORE, 50.0),
    Goal("map as it is above every peer", _of("map_default", "items_per_s", *POOLS, *BROKERS), MORE, 1.0),
    Goal("map with a chunk size, items/s", _ours("map_chunked", "items_per_s"), MORE, 1e6),
    Goal("64 MiB both ways 3 × Dask", _of("array_both_ways", "MiB_per_s", "dask"), MORE, 3.0),
    Goal("64 MiB both ways 1.2 × Ray", _of("array_both_ways", "MiB_per_s", "ray"), MORE, 1.2),
    Goal("64 MiB in 20 tasks as argument: of moving it once", _ours("constant_argument", "of_once"), LESS, 1.5),
    Goal("64 MiB in 20 tasks in the closure: of moving it once", _ours("constant_closure", "of_once"), LESS, 1.5),
    Goal("64 MiB in 20 tasks put: of moving it once", _ours("constant_put", "of_once"), LESS, 1.5),
    Goal("closure of 1 MiB 3 × joblib", _of("closure", "tasks_per_s", "joblib"), MORE, 3.0),
    Goal("uneven tasks, of the ideal", _ours("imbalance", "of_ideal"), LESS, 1.05),
    Goal("uneven tasks not worse than ipyparallel", _of("imbalance", "of_ideal", "ipyparallel"), LESS, 1.0),
    Goal("submit at 1,000,000 of that at 10,000 queued", _growth("submit_us"), LESS, 1.2),
    Goal("core's accepting at 1,000,000 of that at 10,000", _growth("accept_core_us"), LESS, 1.2),
    Goal("core's dispatch at 1,000,000 of that at 10,000", _growth("dispatch_core_us"), LESS, 1.2),
    Goal("KiB of the core a task, 1,000,000 queued", _ours("backlog_1000000", "core_KiB"), LESS, 1.0),
    Goal("start-up, s", _ours("startup", "seconds"), LESS, 1.0),
    Goal("start-up below every peer with a broker", _of_least("startup", "seconds", *BROKERS), LESS, 1.0),
    Goal("idle, % of a core", _ours("idle", "percent"), LESS, 0.5),
    Goal("round trip, 99 of 100, at most 2 × bare pyzmq", _of("latency", "p99_us", "bare"), LESS, 2.0),
    Goal("after a pause at most 2 × ProcessPoolExecutor", _of("paused", "p50_us", "processpool"), LESS, 2.0),
    Goal("commands faster than HyperQueue", _of("commands", "tasks_per_s", "hyperqueue"), MORE, 1.0),
    Goal("200 functions faster than HyperQueue", _of("functions", "tasks_per_s", "hyperqueue"), MORE, 1.0),
    Goal("grid search of 10 ms not slower than loky", _of("grid_search_10ms", "seconds", "joblib"), LESS, 1.0),
    Goal("grid search of 100 ms not slower than loky", _of("grid_search_100ms", "seconds", "joblib"), LESS, 1.0),
    Goal("grid search of 1 s not slower than loky", _of("grid_search_1000ms", "seconds", "joblib"), LESS, 1.0),
    Goal("printing 1 KiB each, of the rate without", _ours("printing", "of_silent"), MORE, 0.9),
)


class _Asked(Results):
    """Results that record which figures are read."""

    def __init__(self) -> None:
        super().__init__("", {}, {})
        self.asked: set[tuple[str, str]] = set()

    def median(self, case: str, system: str, figure: str) -> float | None:
        self.asked.add((case, system))
        return 1.0


def needed() -> set[tuple[str, str]]:
    """The (case, system) pairs that the goals compare."""
    results = _Asked()
    for goal in GOALS:
        goal.measure(results)
    return results.asked
