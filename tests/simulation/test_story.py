"""Histories keep all promises; the same seed gives the same history. CI plays ten times more with `nblb simulate`."""

from __future__ import annotations

import pytest

from nblb.simulation import History, play
from nblb.simulation.runner import SimulationReport, explore, first_bad, replay_command

SEEDS = 600


@pytest.mark.timeout(900)  # a minute of a processor
def test_no_history_breaks_a_promise() -> None:
    report = explore(range(SEEDS), enough=3)
    assert not report.bad, "\n".join(f"{bad.violation}\n  see it: {replay_command(bad.seed)}" for bad in report.bad)
    assert report.histories == SEEDS
    assert report.tasks > 4 * SEEDS


def test_the_same_seed_is_the_same_history() -> None:
    one, other = play(11, tracing=True), play(11, tracing=True)
    assert one.trace == other.trace
    assert len(one.trace) > 50
    assert play(11).events == one.events
    assert play(12, tracing=True).trace != one.trace


def test_all_kinds_of_faults_and_of_ends_come_up() -> None:
    told: set[str] = set()
    words = (
        "core       crashes", "a write was torn", "is killed", "is full", "connection of hub", "is cut off", "loses",
        "'DONE'", "'FAILED'", "'CANCELLED'", "'LOST'", "JournalFull", "DependencyFailed",
        "worker='cache'", "TaskTimeout", "why='recall'", "loses the first word",
    )  # fmt: skip
    for seed in range(200):
        trace = "\n".join(play(seed, tracing=True).trace)
        told |= {word for word in words if word in trace}
        if told == set(words):
            return
    assert told == set(words)


class Flooded(History):
    """Every history has loops of `submit` far beyond the bound."""

    FLOODED = 0.0, 1.0


def test_no_call_beyond_the_bound_is_lost() -> None:
    behind = 0
    for seed in range(120):
        outcome = play(seed, tracing=seed < 5, make=Flooded)
        assert not outcome.violation, f"seed {seed}: {outcome.violation}"
        behind += outcome.tasks > 15
    assert behind > 80


def test_a_bug_in_a_machine_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from nblb.scheduling.attempt_reports import AttemptReports

    monkeypatch.setattr(AttemptReports, "task_finished", lambda *_: {}["a bug"])
    bad = first_bad(range(5), play)
    assert bad is not None
    assert bad.rule == "crash"
    assert "KeyError" in bad.violation
    assert "test_story.py" in bad.violation


def test_a_report_sums_up() -> None:
    report = SimulationReport()
    report.add(play(0))
    report.add(play(1))
    assert report.histories == 2
    assert report.virtual_s > 20
    assert replay_command(5) == "nblb simulate --seed 5"


def test_a_world_of_ones_own() -> None:
    class NoFaults(History):
        def __init__(self, seed: int, tracing: bool = False) -> None:
            super().__init__(seed, tracing)
            self.calm = True

    outcome = play(3, tracing=True, make=NoFaults)
    assert not outcome.violation
    assert not any("crashes" in line for line in outcome.trace)
