"""Runs many histories on all cores and reports the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import ceil
from multiprocessing import get_context

import msgspec

from nblb.simulation.story import HistoryResult, MixedLengths, play

CHUNK = 25  # histories given to a process at once


class SimulationReport(msgspec.Struct):
    """The result of a run of many seeds."""

    histories: int = 0
    events: int = 0
    tasks: int = 0
    virtual_s: float = 0.0
    bad: list[HistoryResult] = []

    def add(self, outcome: HistoryResult) -> None:
        self.histories += 1
        self.events += outcome.events
        self.tasks += outcome.tasks
        self.virtual_s += outcome.seconds
        if outcome.violation:
            self.bad.append(outcome)


def explore(seeds: Sequence[int], processes: int = 1, enough: int = 10, mixed: bool = False) -> SimulationReport:
    """Plays these seeds; ends early once `enough` of them have failed. `mixed`: calls of all lengths in each."""
    report = SimulationReport()
    for outcome in _outcomes(seeds, processes, mixed):
        report.add(outcome)
        if len(report.bad) >= enough:
            break
    return report


def _outcomes(seeds: Sequence[int], processes: int, mixed: bool) -> Iterator[HistoryResult]:
    play_one = partial(play, make=MixedLengths) if mixed else play
    processes = min(processes, ceil(len(seeds) / CHUNK))
    if processes <= 1:
        yield from map(play_one, seeds)
        return
    # Spawned, not forked: the caller may be a kernel with threads.
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(play_one, seeds, CHUNK)


def first_bad(seeds: Iterable[int], play_one: Callable[[int], HistoryResult]) -> HistoryResult | None:
    """Returns the first result with a violation, as a planted fault should have."""
    return next((outcome for seed in seeds if (outcome := play_one(seed)).violation), None)


def replay_command(seed: int, mixed: bool = False) -> str:
    """The command that plays a history again."""
    return f"nblb simulate --seed {seed}{' --mixed' * mixed}"
