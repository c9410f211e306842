"""The simulator works: each planted fault that shows often is found at once."""

from __future__ import annotations

import pytest

from nblb.simulation import play
from tests.simulation.mutants import FEW, MUTANTS, RARE, find, planted


@pytest.mark.parametrize("name", sorted(MUTANTS.keys() - RARE))
def test_a_planted_fault_is_found(name: str) -> None:
    found = find(name, range(FEW))
    assert found is not None, f"{name} was not seen in {FEW} histories"
    assert found.rule in found.violation


def test_a_fault_ends_with_its_planting() -> None:
    with planted("ack_before_commit"):
        assert play(0).rule == "I4"
    assert not play(0).violation


def test_there_are_enough_of_them_and_the_rare_ones_exist() -> None:
    assert len(MUTANTS) >= 12
    assert MUTANTS.keys() > RARE
    assert all(make.__doc__ for make in MUTANTS.values())
