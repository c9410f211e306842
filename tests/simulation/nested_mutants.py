"""Planted faults in the handling of nested tasks by core and hub."""

from __future__ import annotations

from typing import Any

from nblb.hub.slots.attempts import WorkerSlot
from nblb.hub.slots.waits import Waits
from nblb.hub.slots.workers import WorkerTable
from nblb.protocol.commands import ResumeWorker
from nblb.protocol.messages import WaitEnded
from nblb.scheduling.attempt_reports import AttemptReports
from nblb.scheduling.nesting import following, parents, waits
from nblb.scheduling.nesting.stalled import StalledGroups
from nblb.scheduling.reporting.tallies import Tallies
from tests.simulation.planting import Patches, nothing, swap


def children_outlive_their_parent() -> Patches:
    """Nested tasks of an attempt that came to nothing go on."""
    return [swap(parents, "leave_children", lambda _original: nothing)]


def waits_use_slots() -> Patches:
    """The core counts a worker that waits as one that works."""
    return [swap(waits, "enter_wait", lambda _original: nothing)]


def nested_tasks_are_whose_they_say() -> Patches:
    """A nested task counts as the user's that it names."""
    return [swap(parents, "completed", lambda _original: lambda _state, spec: spec)]


def who_has_waited_goes_first() -> Patches:
    """A worker that has waited goes on whoever's turn it is."""

    def make(original: Any) -> Any:
        return lambda state, band, _entry, now: original(state, band, None, now)

    return [swap(waits, "resume_next", make)]


def a_returning_hub_has_nobody_waiting() -> Patches:
    """What a hub says of waits when it says hello is not read."""
    return [swap(waits, "claimed", lambda _original: nothing)]


def stand_ins_are_slots() -> Patches:
    """A stand-in counts as one worker more."""

    def make(original: Any) -> Any:
        def started(self: AttemptReports, hub: Any, message: Any, now: float) -> None:
            original(self, hub, type(message)(worker=message.worker, group=message.group, pid=message.pid), now)

        return started

    return [swap(AttemptReports, "worker_started", make)]


def goes_on_without_a_slot() -> Patches:
    """A worker whose wait is over goes on at once."""

    def make(original: Any) -> Any:
        def ended(self: Waits, worker: WorkerSlot, message: WaitEnded, now: float) -> None:
            original(self, worker, message, now)
            slice_ = self._in_flight.slices.get((message.task, message.first, message.attempt))
            if slice_ is not None and slice_.wait:
                self._in_flight.out.append(ResumeWorker(worker.id))

        return ended

    return [swap(Waits, "_ended", make)]


def all_may_wait_with_their_slots() -> Patches:
    """A wait is never refused."""
    return [swap(Waits, "_others_run", lambda _original: staticmethod(lambda _worker: True))]


def nobody_is_parked() -> Patches:
    """Workers that stood in go on beside those that have waited."""
    return [swap(WorkerTable, "surplus", lambda original: staticmethod(lambda group: min(0, original(group))))]


def followers_are_forgotten() -> Patches:
    """A call that has returned a task is not told of its end."""
    return [
        swap(following, "followed_ended", lambda _original: lambda state, record, _now: state.followers.pop(record.id))
    ]


def silent_waits_are_not_seen() -> Patches:
    """Only those who say that they wait lend their slots."""
    return [swap(StalledGroups, "_lend", lambda _original: nothing)]


def lent_slots_are_not_counted_again() -> Patches:
    """Who was asked to lend its slot is never counted again, though what it waits for is over."""

    def make(_original: Any) -> Any:
        return lambda state, held, _now: setattr(held, "lent", False)

    return [swap(waits, "use_again", make)]


def a_restart_charges_waits() -> Patches:
    """It is not kept that the end of a call tells of its waits as well."""

    def make(original: Any) -> Any:
        return lambda self, user, seconds, at: original(self, user, max(0.0, seconds), at)

    return [swap(Tallies, "spend", make)]


NESTED_MUTANTS = (
    a_restart_charges_waits,
    silent_waits_are_not_seen,
    lent_slots_are_not_counted_again,
    children_outlive_their_parent,
    waits_use_slots,
    nested_tasks_are_whose_they_say,
    who_has_waited_goes_first,
    a_returning_hub_has_nobody_waiting,
    stand_ins_are_slots,
    goes_on_without_a_slot,
    all_may_wait_with_their_slots,
    nobody_is_parked,
    followers_are_forgotten,
)
