"""The simulator works: each planted fault is found, at the seed that has shown it or near it."""

from __future__ import annotations

import pytest

from nblb.simulation import play
from nblb.simulation.story import History
from tests.simulation.mutants import HISTORIES, MUTANTS, SEEDS, find, planted

MOST = 300  # histories in which a fault must show after a change of the simulator; then write the seeds anew


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_planted_fault_is_found(name: str) -> None:
    found = find(name, MOST)
    assert found is not None, f"{name} was not seen; try `python -m tests.simulation.mutants --rewrite {name}`"
    assert found.rule in found.violation


@pytest.mark.parametrize("make", list(HISTORIES))
def test_without_a_fault_no_promise_is_broken(make: type[History]) -> None:
    bad = [outcome for seed in range(4) if (outcome := play(seed, make=make)).violation]
    assert not bad


def test_a_fault_ends_with_its_planting() -> None:
    with planted("ack_before_commit"):
        assert play(0).rule == "I4"
    assert not play(0).violation


def test_each_fault_has_a_seed_and_histories_name_only_faults() -> None:
    assert SEEDS.keys() == MUTANTS.keys()
    assert {name for names in HISTORIES.values() for name in names} <= MUTANTS.keys()
    assert all(make.__doc__ for make in MUTANTS.values())
