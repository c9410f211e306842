"""Planted faults in the core's shell, the disk, hubs and clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from nblb.broker.dead_hubs import DeadHubs
from nblb.client.session.open_tasks import OpenRecord
from nblb.client.session.session import Session
from nblb.hub.slots.blob_cache import BlobCache
from nblb.hub.slots.in_flight import InFlight
from nblb.hub.slots.lease import CoreLease
from nblb.hub.slots.slots import Slots
from nblb.hub.slots.workers import WorkerTable
from nblb.protocol.commands import Record, Send
from nblb.protocol.journal_entries import AttemptFailed, AttemptKept, BlobKept, EndKept
from nblb.protocol.messages import EndCommitted, HubGone, Refused, RunTask, TaskAccepted, TaskEnded, Welcome
from nblb.simulation.disk import Disk
from nblb.simulation.simulated_core import SimulatedCore
from tests.simulation.planting import Patches, nothing, swap

# ── the core's shell and its disk ──


def ack_before_commit() -> Patches:
    """A task is acknowledged before it is on the disk."""
    return [_spoken_early(TaskAccepted)]


def end_shown_before_commit() -> Patches:
    """A user is told of an end that is not on the disk."""
    return [_spoken_early(TaskEnded)]


def end_acked_before_commit() -> Patches:
    """A hub is let go of a result that is not on the disk."""
    return [_spoken_early(EndCommitted)]


def order_before_commit() -> Patches:
    """An attempt is ordered that is not on the disk."""
    return [_spoken_early(RunTask)]


def _spoken_early(kind: type) -> Any:
    """Words of this kind leave before the records that they depend on are on the disk."""

    def make(original: Any) -> Any:
        def perform(self: SimulatedCore, commands: Any) -> None:
            early = [c for c in commands if type(c) is Send and type(c.message) is kind]
            self._speak([(c.to, c.message) for c in early])
            original(self, [c for c in commands if c not in early])

        return perform

    return swap(SimulatedCore, "_perform", make)


def wall_clock_lease() -> Patches:
    """Leases are measured on a clock that somebody may set."""
    return [patch.object(SimulatedCore, "clock", lambda self: self.simulator.now + self._skew + self.wall_jump)]


def torn_batch_replayed() -> Patches:
    """Entries of a batch that was never committed are taken for kept."""

    def make(_original: Any) -> Any:
        def replay(self: Disk, in_tables: bool = False) -> list[Any]:
            return [entry for entry in self.pages if entry is not None]

        return replay

    return [swap(Disk, "replay", make)]


# ── the hub ──


def hub_forgets_ends() -> Patches:
    """Ends that the core has not committed are not said again."""
    return _welcome_without("ends")


def hub_forgets_parts() -> Patches:
    """What it has told of slices that go on is not said again to a core that has not committed it."""
    return _welcome_without("parts")


def _welcome_without(name: str) -> Patches:
    """A hub that is welcomed has nothing of these to say."""

    def make(original: Any) -> Any:
        def welcome(self: Slots, message: Any, now: float) -> None:
            kept = getattr(self._in_flight, name)
            setattr(self._in_flight, name, {})
            original(self, message, now)
            setattr(self._in_flight, name, kept)

        return welcome

    return [patch.object(Slots, "__init__", _with_welcome(make))]


def _with_welcome(make: Callable[[Any], Any]) -> Any:
    original = Slots.__init__

    def begin(self: Slots, *args: Any) -> None:
        original(self, *args)
        welcome = make(Slots._welcome)
        self._from_core[Welcome] = lambda message, now: welcome(self, message, now)

    return begin


def _with_order(make: Callable[[Any], Any]) -> Any:
    original = Slots.__init__

    def begin(self: Slots, *args: Any) -> None:
        original(self, *args)
        run_task = make(Slots._run_task)
        self._from_core[RunTask] = lambda message, now: run_task(self, message, now)

    return begin


def hub_keeps_ends_for_ever() -> Patches:
    """EndCommitted is not heeded."""
    original = Slots.__init__

    def begin(self: Slots, *args: Any) -> None:
        original(self, *args)
        self._from_core[EndCommitted] = nothing

    return [patch.object(Slots, "__init__", begin)]


def interrupt_without_kill() -> Patches:
    """A task that takes no notice of its interrupt is left alone."""

    def make(original: Any) -> Any:
        def time_is_up(self: InFlight, slice_: Any, now: float) -> None:
            if not slice_.stop:
                original(self, slice_, now)

        return time_is_up

    return [swap(InFlight, "_time_is_up", make)]


def blob_pieces_by_their_first_item() -> Patches:
    """Two pieces of a result that begin at one item are taken for one. (A fault that the simulator has found.)"""

    def make(original: Any) -> Any:
        def wants(self: BlobCache, message: Any) -> bool:
            pieces = self._pieces.get(message.hash)
            seen = {first for first, _, _ in pieces.seen} if pieces is not None else set()
            return bool(original(self, message)) and message.first not in seen

        return wants

    return [swap(BlobCache, "wants", make)]


def silent_workers() -> Patches:
    """Workers that start between a hub's hello and its welcome are never told. (Found by the simulator.)"""
    return [patch.object(Slots, "_catch_up", nothing)]


def lease_longer_than_the_cores() -> Patches:
    """A hub stops its work after the core has given it to others."""

    def make(original: Any) -> Any:
        def agree(self: CoreLease, _lease_s: float, suspect_s: float) -> None:
            original(self, 7.0, suspect_s)

        return agree

    return [swap(CoreLease, "agree", make)]


def old_orders_are_run() -> Patches:
    """An order that was said before the hub's last hello is begun. (Found by the simulator.)"""

    def make(original: Any) -> Any:
        def run_task(self: Slots, run: Any, now: float) -> None:
            was_up, was_over, self._lease.is_up, self._lease.is_over = (
                self._lease.is_up,
                self._lease.is_over,
                True,
                False,
            )
            original(self, run, now)
            self._lease.is_up, self._lease.is_over = was_up, was_over

        return run_task

    return [patch.object(Slots, "__init__", _with_order(make))]


def late_reader_begins() -> Patches:
    """A hub that stood still begins what it reads before it looks at its lease. (Found by the simulator.)"""

    def make(original: Any) -> Any:
        def handle(self: Slots, *event: Any) -> Any:
            with patch.object(CoreLease, "has_lapsed", lambda *_: False):
                return original(self, *event)

        return handle

    return [swap(Slots, "handle", make)]


def refusal_ends_the_hub() -> Patches:
    """A hub takes "say hello first" for the end. (Found by the simulator.)"""
    original = Slots.__init__

    def begin(self: Slots, *args: Any) -> None:
        original(self, *args)
        self._from_core[Refused] = lambda message, now: self._leave(message.reason, now)

    return [patch.object(Slots, "__init__", begin)]


def steered_by_the_record() -> Patches:
    """Which item is to be turned or to stop early is counted from the record's first, not from the slice's."""

    def make(original: Any) -> Any:
        def steer(slice_: Any, item: int, **what: Any) -> Any:
            return original(slice_, item + slice_.run.first if item >= 0 else item, **what)

        return staticmethod(steer)

    return [swap(InFlight, "_steer", make)]


def busy_ones_stay() -> Patches:
    """A hub that shall have fewer workers keeps those that are at something."""

    def make(original: Any) -> Any:
        def free(self: WorkerTable, worker: Any, now: float) -> Any:
            worker.leaves = worker.leaves and worker.is_spent
            return original(self, worker, now)

        return free

    return [swap(WorkerTable, "free", make)]


def gone_before_it_has_let_go() -> Patches:
    """A hub that is stopped says that it is gone while its workers are still at something."""

    def make(original: Any) -> Any:
        def leave(self: Slots, reason: str, now: float) -> None:
            self._send(HubGone(reason=reason))
            original(self, reason, now)

        return leave

    return [swap(Slots, "_leave", make)]


def dead_hubs_are_waited_for() -> Patches:
    """A core does not look whether a hub of its own machine is gone."""
    return [patch.object(DeadHubs, "check", lambda *_: [])]


def living_hubs_taken_for_dead() -> Patches:
    """Any hub that is not back at once is taken for one whose process has ended."""

    def make(original: Any) -> Any:
        def look(self: DeadHubs, now: float) -> Any:
            self._has_ended = lambda _hub: True
            return original(self, now)

        return look

    return [swap(DeadHubs, "check", make)]


def full_is_not_synced() -> Patches:
    """LB_DURABILITY "full" is no better than "process"."""
    return [patch.object(Disk, "sync", nothing)]


# ── the client ──


def client_does_not_ask_again() -> Patches:
    """What has no answer is not said again after a new connection."""
    return [patch.object(Session, "_unsent", lambda *_: iter(()))]


def settled_twice() -> Patches:
    """Each telling of an end counts."""
    return [patch.object(OpenRecord, "fresh", lambda _self, message: ((message.first, message.items),))]


def blob_not_kept() -> Patches:
    """Functions are not journaled."""
    return [_unkept(BlobKept)]


def crash_not_kept() -> Patches:
    """That an attempt killed its worker is not journaled."""
    return [_unkept(AttemptFailed)]


def attempt_not_kept() -> Patches:
    """The attempt is not journaled before it is sent."""
    return [_unkept(AttemptKept)]


def end_not_kept() -> Patches:
    """Ends are not journaled."""
    return [_unkept(EndKept)]


def _unkept(kind: type) -> Any:
    def make(original: Any) -> Any:
        def perform(self: SimulatedCore, commands: Any) -> None:
            original(self, [c for c in commands if not (type(c) is Record and type(c.entry) is kind)])

        return perform

    return swap(SimulatedCore, "_perform", make)


PARTY_MUTANTS = (
    steered_by_the_record,
    busy_ones_stay,
    gone_before_it_has_let_go,
    dead_hubs_are_waited_for,
    living_hubs_taken_for_dead,
    full_is_not_synced,
    ack_before_commit,
    end_shown_before_commit,
    end_acked_before_commit,
    order_before_commit,
    wall_clock_lease,
    torn_batch_replayed,
    hub_forgets_ends,
    hub_forgets_parts,
    hub_keeps_ends_for_ever,
    interrupt_without_kill,
    blob_pieces_by_their_first_item,
    silent_workers,
    refusal_ends_the_hub,
    client_does_not_ask_again,
    settled_twice,
    lease_longer_than_the_cores,
    old_orders_are_run,
    late_reader_begins,
    blob_not_kept,
    crash_not_kept,
    attempt_not_kept,
    end_not_kept,
)
