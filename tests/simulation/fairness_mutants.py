"""Faults of the shares of users whose tasks have unlike lengths, and of what users are told about their place."""

from __future__ import annotations

import itertools
from typing import Any
from unittest.mock import patch

from nblb.hub.slots.in_flight import InFlight
from nblb.scheduling.dispatch import Dispatch
from nblb.scheduling.fair_share import Band
from nblb.scheduling.recall import Recall
from nblb.scheduling.reporting import place_in_line
from tests.simulation.planting import Patches, nothing, swap


def long_slices_run_to_their_end() -> Patches:
    """A slice that was cut too long is not recalled, whoever waits."""
    return [patch.object(Recall, "_recall_from_long_ones", nothing)]


def hubs_hand_back_no_running_slice() -> Patches:
    """A hub ignores the recall of a slice that has begun."""
    return [patch.object(InFlight, "hand_back", nothing)]


def stuck_behind_long_slices() -> Patches:
    """What was sent ahead behind long slices waits for their end. (Found.)"""

    return [swap(Recall, "_recall_behind_long_ones", lambda _original: nothing)]


def next_slot_goes_to_anybody() -> Patches:
    """Work is sent ahead for users with more workers while another waits for the next slot."""
    return [patch.object(Dispatch, "_too_long_of_equals", lambda *_: []), patch.object(Recall, "make_way", nothing)]


def turns_of_the_busiest() -> Patches:
    """The next worker goes to the user who has the most."""

    def make(original: Any) -> Any:
        def first(self: Band) -> Any:
            true = original(self)
            if true is None:
                return None
            entry = max(self.entries.values(), key=lambda entry: (entry[3].occupied, -entry[2]))
            turn = entry[3].turn(self)
            if turn is None:
                return true
            self.line.remove(entry)
            self.entries[entry[3]] = turn
            self.line.insert(0, turn)
            return turn

        return first

    return [swap(Band, "first", make)]


def why_counts_submissions() -> Patches:
    """The place in line is counted in slices, not in calls."""

    def make(original: Any) -> Any:
        def in_front(state: Any, task: Any, item: int, takers: Any) -> Any:
            before = itertools.takewhile(lambda other: other is not task, state.share.user(task.record.user).tasks())
            return original(state, task, item, takers)._replace(calls=sum(1 for _ in before))

        return in_front

    return [swap(place_in_line, "in_front", make)]


def why_names_no_worker() -> Patches:
    """Workers that are there are overlooked in `why()`."""
    return [patch.object(place_in_line, "describe", lambda *_: "waiting: no hub has a worker")]


TOLD_MUTANTS = (why_counts_submissions, why_names_no_worker)
FAIRNESS_MUTANTS = (
    long_slices_run_to_their_end,
    hubs_hand_back_no_running_slice,
    stuck_behind_long_slices,
    next_slot_goes_to_anybody,
    turns_of_the_busiest,
)
