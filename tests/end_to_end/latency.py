"""The round-trip time of a single task while other work goes on."""

from __future__ import annotations

import statistics
import time

import nblb as lb


@lb.task
def ping(x: int) -> int:
    return x


def round_trips(times: int) -> list[float]:
    """Seconds of each of so many lone tasks, one after the other."""
    took = []
    for n in range(times):
        begun = time.perf_counter()
        assert ping.submit(n).result(60) == n
        took.append(time.perf_counter() - begun)
    return took


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[-1]


def in_words(quiet: list[float], busy: list[float]) -> str:
    """Middle and 99th percentile of both, and by how much the latter grew."""
    texts = [f"{statistics.median(took) * 1e3:.1f} and {p99(took) * 1e3:.1f} ms" for took in (quiet, busy)]
    return f"round trips (median and p99): {texts[0]} without, {texts[1]} with it: x{p99(busy) / p99(quiet):.2f}"
