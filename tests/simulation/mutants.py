"""Planted faults: the simulator has to notice each.

A mutant is a function that gives the patches which make it. KNOWN has a seed that shows it, for the fast test; the
slow one looks for the first such seed anew. When code changes, `python -m tests.simulation.mutants` prints the table
again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from nblb.simulation.runner import first_bad
from nblb.simulation.story import Outcome, play
from tests.simulation.core_mutants import CORE_MUTANTS
from tests.simulation.party_mutants import PARTY_MUTANTS
from tests.simulation.planting import Patches

MOST_SEEDS = 2000
MUTANTS: dict[str, Callable[[], Patches]] = {make.__name__: make for make in (*CORE_MUTANTS, *PARTY_MUTANTS)}
KNOWN: dict[str, int] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While this lasts the machines have the fault."""
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        yield


def find(name: str, seeds: range = range(MOST_SEEDS)) -> Outcome | None:
    """The first history that shows this fault."""
    with planted(name):
        return first_bad(seeds, play)


if __name__ == "__main__":
    for mutant in sys.argv[1:] or MUTANTS:
        found = find(mutant)
        seen = f"{found.seed},  # {found.rule}" if found is not None else "NOT FOUND"
        print(f'    "{mutant}": {seen}', flush=True)
