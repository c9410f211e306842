"""Planted faults: the simulator has to detect each.

A mutant is a function that returns the patches which make it. HISTORIES names the histories in which it is looked for,
where it is rare in those of all kinds, and SEEDS the seed that has shown it. `python -m tests.simulation.mutants` looks
for all of them, from that seed on and then from 0, and fails if one is not found within MOST_SEEDS. With `--rewrite` it
writes the seeds into this folder's seeds.json, which makes the next run a matter of seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter

from nblb.simulation.runner import first_bad
from nblb.simulation.story import History, HistoryResult, MixedLengths, play
from tests.simulation.core_mutants import CORE_MUTANTS
from tests.simulation.equipment_mutants import EQUIPMENT_MUTANTS
from tests.simulation.fairness_mutants import FAIRNESS_MUTANTS, TOLD_MUTANTS
from tests.simulation.full_disk_mutants import FULL_DISK_MUTANTS
from tests.simulation.histories import (
    Equipped,
    Flooded,
    Forgetful,
    ForgottenJobs,
    FullDisks,
    LongAbsences,
    Nested,
    People,
    PeopleWhoNest,
    Powerless,
    Scaled,
    SilentWaits,
)
from tests.simulation.long_task_mutants import LONG_TASK_MUTANTS
from tests.simulation.nested_mutants import NESTED_MUTANTS
from tests.simulation.party_mutants import PARTY_MUTANTS
from tests.simulation.people_mutants import PEOPLE_MUTANTS
from tests.simulation.planting import Patches

MOST_SEEDS = 2000
NEAR = 10  # seeds behind the one that has shown a fault: a small change of the simulator moves it
SEEDS_FILE = Path(__file__).with_name("seeds.json")
SEEDS: dict[str, int] = json.loads(SEEDS_FILE.read_text())
HISTORIES: dict[type[History], tuple[str, ...]] = {
    MixedLengths: (
        "work_ahead_goes_first",
        "work_ahead_of_equals",
        "work_ahead_stays",
        *(make.__name__ for make in FAIRNESS_MUTANTS),
    ),
    LongAbsences: ("late_reader_begins", "lease_longer_than_the_cores", "old_orders_are_run", "no_fencing"),
    FullDisks: (*(make.__name__ for make in FULL_DISK_MUTANTS),),
    Scaled: ("busy_ones_stay", "gone_before_it_has_let_go"),
    Nested: (*(make.__name__ for make in NESTED_MUTANTS),),
    SilentWaits: ("lent_slots_are_not_counted_again", "silent_waits_are_not_seen"),
    ForgottenJobs: ("forgotten_with_the_next_sweep", "forgotten_in_memory_alone"),
    Flooded: (
        "refused_beyond_the_bound",
        "a_part_is_kept_beyond_the_bound",
        "left_behind_the_bound",
        "restored_up_to_the_bound",
        "urgent_waits_behind_the_bound",
    ),
    Forgetful: ("claims_of_another_core",),
    Powerless: ("full_is_not_synced",),
    People: (*(make.__name__ for make in PEOPLE_MUTANTS if make.__name__ != "nested_tasks_wait_for_the_limit"),),
    Equipped: tuple(make.__name__ for make in EQUIPMENT_MUTANTS),
    PeopleWhoNest: ("nested_tasks_wait_for_the_limit",),
}
MUTANTS: dict[str, Callable[[], Patches]] = {
    make.__name__: make
    for make in (
        *CORE_MUTANTS,
        *FAIRNESS_MUTANTS,
        *TOLD_MUTANTS,
        *PARTY_MUTANTS,
        *NESTED_MUTANTS,
        *PEOPLE_MUTANTS,
        *EQUIPMENT_MUTANTS,
        *FULL_DISK_MUTANTS,
        *LONG_TASK_MUTANTS,
    )
}
_histories = {name: kind for kind, names in HISTORIES.items() for name in names}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While this lasts the machines have the fault."""
    with ExitStack() as stack:
        for each in MUTANTS[name]():
            stack.enter_context(each)
        yield


def find(name: str, most: int = MOST_SEEDS) -> HistoryResult | None:
    """The first history that shows this fault, among at most so many."""
    known = SEEDS.get(name, 0)
    seeds: Iterable[int] = chain(range(known, known + NEAR), range(most))
    with planted(name):
        return first_bad(seeds, partial(play, make=_histories.get(name, History)))


def main(arguments: Sequence[str]) -> int:
    """Look for these mutants, or for all; return how many were not found."""
    missed, seeds = 0, dict(SEEDS)
    names = [name for name in arguments if name != "--rewrite"]
    for name in names or MUTANTS:
        began = perf_counter()
        found = find(name)
        missed += found is None
        kind = _histories.get(name, History).__name__
        what = f"seed {found.seed}: {found.rule}" if found else "NOT FOUND"
        print(f"{name:<42} {kind:<13} {what:<20} {perf_counter() - began:6.1f} s", flush=True)
        if found is not None:
            seeds[name] = found.seed
        if "--rewrite" in arguments:
            kept = {known: seeds[known] for known in sorted(seeds) if known in MUTANTS}
            SEEDS_FILE.write_text(json.dumps(kept, indent=1) + "\n")
    return missed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
