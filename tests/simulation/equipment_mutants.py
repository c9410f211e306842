"""Faults of what tasks need and workers have."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from nblb.protocol.equipment import PLAIN, Equipment
from nblb.scheduling import attempt_reports
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.state import State
from tests.simulation.planting import Patches, swap


def needs_are_ignored() -> Patches:
    """Any worker runs any task."""

    def takes(self: Equipment, needs: object) -> bool:
        return True

    return [patch.object(Equipment, "takes", takes), patch.object(GroupOfWorkers, "has_needs", takes)]


def reserved_workers_run_everything() -> Patches:
    """Workers that are kept for tasks that need them run others, too."""

    def band(original: Any) -> Any:
        def init(self: Band, *args: Any, has: Equipment = PLAIN, **kwargs: Any) -> None:
            original(self, *args, has=msgspec.structs.replace(has, reserved=False), **kwargs)

        return init

    def group(original: Any) -> Any:
        def init(self: GroupOfWorkers, *args: Any) -> None:
            original(self, *args)
            self.takes_all = True

        return init

    return [swap(Band, "__init__", band), swap(GroupOfWorkers, "__init__", group)]


def one_class_of_workers() -> Patches:
    """Occupied workers of all classes count in each turn."""

    def make(original: Any) -> Any:
        def init(self: Band, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.worker_class = ""

        return init

    return [swap(Band, "__init__", make)]


def turns_of_other_classes_stay() -> Patches:
    """A slice that goes to a worker of one class stays the next one for those of another."""

    def make(original: Any) -> Any:
        def of_class(self: UserQueue, worker_class: str) -> Any:
            was = self.is_special
            use = original(self, worker_class)
            self.is_special = was
            return use

        return of_class

    return [swap(UserQueue, "_class", make)]


def needed_memory_is_not_kept() -> Patches:
    """After a restart a task needs no more memory than before the death of its worker."""
    original = attempt_reports.need_more_memory

    def forgets(state: State, held: Assignment) -> int:
        original(state, held)
        return 0

    return [patch.object(attempt_reports, "need_more_memory", forgets)]


EQUIPMENT_MUTANTS = (
    needs_are_ignored,
    reserved_workers_run_everything,
    one_class_of_workers,
    turns_of_other_classes_stay,
    needed_memory_is_not_kept,
)
