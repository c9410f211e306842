"""Planted faults: the simulator has to detect each.

A mutant is a function that gives the patches which make it. Most show within FEW seeds, which is what the tests
try; `python -m tests.simulation.mutants` looks for all of them, RARE ones too, and fails if one is not found within
MOST_SEEDS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from nblb.simulation.runner import first_bad
from nblb.simulation.story import HistoryResult, play
from tests.simulation.core_mutants import CORE_MUTANTS
from tests.simulation.full_disk_mutants import FULL_DISK_MUTANTS
from tests.simulation.nested_mutants import NESTED_MUTANTS
from tests.simulation.party_mutants import PARTY_MUTANTS
from tests.simulation.planting import Patches

MOST_SEEDS = 2000
FEW = 80
RARE = frozenset(
    {
        "a_returning_hub_has_nobody_waiting",
        "blob_pieces_by_their_first_item",
        "forgotten_blobs_come_back",
        "promises_leave_a_full_disk",
        "stopped_orders_leave",
        "busy_ones_stay",
        "claims_of_another_core",
        "dropped_dependency_wake_up",
        "full_is_not_synced",
        "hub_forgets_parts",
        "gone_before_it_has_let_go",
        "late_reader_begins",
        "lease_longer_than_the_cores",
        "lent_slots_are_not_counted_again",
        "lost_parts_count_as_done",
        "narrow_band_first",
        "no_fencing",
        "old_orders_are_run",
        "refusal_ends_the_hub",
        "silent_waits_are_not_seen",
        "silent_workers",
        "steered_by_the_record",
        "wall_clock_lease",
        "work_ahead_goes_first",
        "work_ahead_of_equals",
        "work_ahead_stays",
    }
)
MUTANTS: dict[str, Callable[[], Patches]] = {
    make.__name__: make for make in (*CORE_MUTANTS, *PARTY_MUTANTS, *NESTED_MUTANTS, *FULL_DISK_MUTANTS)
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While this lasts the machines have the fault."""
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        yield


def find(name: str, seeds: range = range(MOST_SEEDS)) -> HistoryResult | None:
    """The first history that shows this fault."""
    with planted(name):
        return first_bad(seeds, play)


def main(names: Sequence[str]) -> int:
    """Look for these mutants, or for all; how many were not found."""
    missed = 0
    for name in names or MUTANTS:
        found = find(name)
        missed += found is None
        print(f"{name:<32} {f'seed {found.seed}: {found.rule}' if found else 'NOT FOUND'}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
