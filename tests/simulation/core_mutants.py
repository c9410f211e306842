"""Planted faults in the scheduler: each breaks one of its rules."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from nblb.client.session.session import Session
from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import Collected, EndKept
from nblb.protocol.messages import TaskPrinted
from nblb.scheduling import dependencies, dispatch
from nblb.scheduling.attempt_reports import AttemptReports
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.cancelling import Cancelling
from nblb.scheduling.dispatch import Dispatch
from nblb.scheduling.fair_share import Band, FairShare
from nblb.scheduling.hubs import Hub
from nblb.scheduling.intake import Intake
from nblb.scheduling.liveness import Liveness
from nblb.scheduling.placement import Placement
from nblb.scheduling.recall import Recall
from nblb.scheduling.reporting.tallies import Tallies
from nblb.scheduling.restore import Restore
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission as LiveRecord
from tests.simulation.planting import Patches, nothing, swap


def no_fencing() -> Patches:
    """A fact is taken for whatever attempt is under way, from whichever hub."""

    def make(original: Any) -> Any:
        def held(self: AttemptReports, hub: Any, task: str, first: int, attempt: int, now: float) -> Any:
            for other in self.state.hubs.values():
                for each in other.in_flight.values():
                    if (each.record.id, each.first) == (task, first):
                        return each
            return original(self, hub, task, first, attempt, now)

        return held

    return [swap(AttemptReports, "_held", make)]


def no_idempotent_submit() -> Patches:
    """The same id once more is a new task."""

    def make(original: Any) -> Any:
        def submit(self: Intake, client: Any, spec: Any, now: float) -> None:
            self.state.records.pop(spec.task, None)
            original(self, client, spec, now)

        return submit

    return [swap(Intake, "submit_task", make)]


def no_poison_limit() -> Patches:
    """Deaths are not counted."""

    def make(original: Any) -> Any:
        def requeue(self: AttemptReports, task: Any, cause: str, reason: str, now: float, **how: bool) -> None:
            original(self, task, cause, reason, now, **{**how, "crashed": False})

        return requeue

    return [swap(AttemptReports, "_requeue", make)]


def retries_without_limit() -> Patches:
    """Attempts that raised are not counted."""

    def make(original: Any) -> Any:
        def requeue(self: AttemptReports, task: Any, cause: str, reason: str, now: float, **how: bool) -> None:
            original(self, task, cause, reason, now, **{**how, "raised": False})

        return requeue

    return [swap(AttemptReports, "_requeue", make)]


def adoption_ignored() -> Patches:
    """A restarted core sends away what its hubs still run."""
    return [patch.object(AttemptReports, "adopt", lambda *_: None)]


def lost_requeue_on_hub_loss() -> Patches:
    """What a lost hub had is forgotten."""

    def make(original: Any) -> Any:
        def lost(self: AttemptReports, held: Any, cause: str, reason: str, now: float) -> None:
            if cause != "HubSilent":
                original(self, held, cause, reason, now)

        return lost

    return [swap(AttemptReports, "attempt_lost", make)]


def lost_orphans() -> Patches:
    """Nobody waits for attempts that no hub brings back after a restart."""
    return [patch.object(AttemptReports, "orphan_lost", lambda self, orphan, *_: self.state.orphans.pop(orphan.fence))]


def cancel_forgotten() -> Patches:
    """A cancel that a hub has still to confirm is not kept."""

    def make(original: Any) -> Any:
        def given(self: Cancelling, *args: Any) -> int:
            with patch.object(State, "keep_end", nothing):
                return int(original(self, *args))

        return given

    return [swap(Cancelling, "_cancel_given", make)]


def result_after_cancel() -> Patches:
    """A result that comes after the cancel was acknowledged counts."""

    def make(original: Any) -> Any:
        def given(self: Cancelling, task: Any, first: int, items: int, kill: bool, now: float) -> int:
            unmoved = patch.object(type(task), "move", nothing)
            with patch.object(State, "stop", nothing), patch.object(State, "keep_end", nothing), unmoved:
                return int(original(self, task, first, items, kill, now)) if task.held else 0

        return given

    return [swap(Cancelling, "_cancel_given", make)]


def double_count_of_occupied() -> Patches:
    """A user's workers are counted twice."""

    def make(original: Any) -> Any:
        def assign(*args: Any) -> Any:
            held = original(*args)
            held.user.occupied += 1
            return held

        return assign

    return [swap(Dispatch, "_assign", make)]


def duplicate_end_accepted() -> Patches:
    """An end does not take the attempt out of the hub's hands."""

    def make(original: Any) -> Any:
        def let_go(self: State, held: Any, now: float, duration_s: float) -> Any:
            charged_s = original(self, held, now, duration_s)
            held.group.hub.in_flight[held.fence] = held
            return charged_s

        return let_go

    return [swap(State, "let_go", make)]


def dropped_dependency_wake_up() -> Patches:
    """Those that wait for a result are not told of it."""
    return [patch.object(dependencies, "wake", nothing)]


def at_most_once_ignored() -> Patches:
    """A task that may not run again does."""

    def make(_original: Any) -> Any:
        def again(self: AttemptReports, task: Any, reason: str, now: float) -> None:
            self._requeue(task, "HubSilent", reason, now)

        return again

    return [swap(AttemptReports, "_may_not_again", make)]


def unfair_turns() -> Patches:
    """Whoever came first is served first, however many workers they have."""

    def make(original: Any) -> Any:
        def first(self: Band) -> Any:
            true = original(self)
            for entry in sorted(self.entries.values(), key=lambda entry: entry[2]):
                if entry[3].turn(self) is not None:
                    self.line.remove(entry)
                    self.line.insert(0, entry)
                    return entry[3].turn(self)
            return true

        return first

    return [swap(Band, "first", make)]


def priority_upside_down() -> Patches:
    """The least urgent of a user's tasks goes first."""

    def make(original: Any) -> Any:
        def best(self: UserQueue, low: float, high: float) -> Any:
            for priority in self.priorities:
                task = original(self, priority, priority) if low <= priority <= high else None
                if task is not None:
                    return task
            return None

        return best

    return [swap(UserQueue, "best", make)]


def wrong_slice() -> Patches:
    """A slice is given the arguments of its neighbours."""

    def make(original: Any) -> Any:
        def payload_of(self: LiveRecord, task: Any) -> Any:
            if self.spec.split and task.items < self.items and task.first > 0:
                return self.spec.payload.slice(task.first - 1, task.items)
            return original(self, task)

        return payload_of

    return [swap(LiveRecord, "payload_of", make)]


def restore_forgets_ends() -> Patches:
    """A replay takes failures for open tasks."""

    def make(original: Any) -> Any:
        def end(self: Restore, entry: EndKept) -> None:
            if entry.failure is None:
                original(self, entry)

        return end

    return [swap(Restore, "_end", make)]


def strangers_are_ignored() -> Patches:
    """A core that has restarted does not tell its old clients that it does not know them; hubs are told."""
    return [patch.object(Liveness, "stranger", nothing), patch.object(Session, "line_up", lambda *_: [])]


def time_is_not_charged() -> Patches:
    """Who has used the workers is not counted: of those who have equally many now, the older task goes first."""
    return [patch.object(FairShare, "charge", lambda self, user, *_: self.standing_changed(user))]


def by_name_anywhere() -> Patches:
    """A task by name is sent to hubs that do not have it."""
    return [patch.object(Hub, "runs", lambda *_: True)]


def output_to_everybody() -> Patches:
    """What a task prints is told to all clients."""

    def make(original: Any) -> Any:
        def tell(self: State, watchers: Any, message: Any) -> None:
            original(self, tuple(self.clients) if type(message) is TaskPrinted else watchers, message)

        return tell

    return [swap(State, "notify", make)]


def claims_of_another_core() -> Patches:
    """A core of another life sends away what its hubs had from the one before, though they have dropped it. (Found.)"""

    def make(original: Any) -> Any:
        def claims(self: Liveness, message: Any) -> Any:
            return original(self, msgspec.structs.replace(message, core=""))

        return claims

    return [swap(Liveness, "_claims", make)]


def forgotten_with_the_next_sweep() -> Patches:
    """A job that was forgotten is found until its last record goes. (Found by users: the same map had old results.)"""

    def make(_original: Any) -> Any:
        def forget(self: Cancelling, job: Any, now: float) -> None:
            state = self.state
            for record in list(job.records.values()):
                self.cancel(record, 0, 0, False, now)
                record.expires = now
                if record.closed:
                    state.expire_at(record, now)
                state.out.append(Record(Collected(record.id, state.wall(now))))

        return forget

    return [swap(Cancelling, "_forget", make)]


def forgotten_in_memory_alone() -> Patches:
    """That a job was forgotten is not journaled: it is back after a restart."""

    def make(original: Any) -> Any:
        def forget(self: Cancelling, job: Any, now: float) -> None:
            original(self, job, now)
            self.state.out.pop()

        return forget

    return [swap(Cancelling, "_forget", make)]


def lost_parts_count_as_done() -> Patches:
    """Calls of a slice whose ends were told and never came are not run again."""
    return [patch.object(AttemptReports, "_untold", nothing)]


def parts_by_their_first_item() -> Patches:
    """Results that are told before their slice's end are taken for those of its first items."""

    def make(original: Any) -> Any:
        def items_finished(self: AttemptReports, held: Any, message: Any, now: float) -> None:
            original(self, held, msgspec.structs.replace(message, offset=0), now)

        return items_finished

    return [swap(AttemptReports, "_items_finished", make)]


def refused_beyond_the_bound() -> Patches:
    """A user of whom LB_QUEING_MAXPERUSER calls wait is refused one more. (Found: so it was until 0.1.)"""

    def make(original: Any) -> Any:
        def refusal(self: Intake, spec: Any) -> Any:
            limit, waiting = self.state.policy.max_queued, self.state.share.user(spec.user).single
            if not spec.job and waiting + spec.items > limit:
                return "TooManyQueuedTasks", f"{waiting} wait already"
            return original(self, spec)

        return refusal

    return [swap(Intake, "_refusal", make)]


def a_part_is_kept_beyond_the_bound() -> Patches:
    """Of calls that came together as many are kept as the bound has room for; the others end nowhere."""

    def make(original: Any) -> Any:
        def submit(self: Intake, client: Any, spec: Any, now: float) -> None:
            room = self.state.policy.max_queued - self.state.share.user(spec.user).single
            if spec.split and not spec.job and 0 < room < spec.items:
                spec = msgspec.structs.replace(spec, items=room, payload=spec.payload.slice(0, room))
            original(self, client, spec, now)

        return submit

    return [swap(Intake, "submit_task", make)]


def left_behind_the_bound() -> Patches:
    """What is accepted beyond the bound never gets a place in its user's line."""

    def make(original: Any) -> Any:
        def enqueue(self: State, task: Any) -> None:
            if self.share.user(task.record.user).single < self.policy.max_queued:
                original(self, task)

        return enqueue

    return [swap(State, "enqueue", make)]


def restored_up_to_the_bound() -> Patches:
    """A core that restarts queues no more of a user's calls than the bound."""

    def make(original: Any) -> Any:
        def resume(self: Restore, record: LiveRecord) -> None:
            if self.state.share.user(record.user).single < self.state.policy.max_queued:
                original(self, record)

        return resume

    return [swap(Restore, "_resume_open", make)]


def urgent_waits_behind_the_bound() -> Patches:
    """Of more calls than the bound the oldest goes first, whatever its priority."""

    def make(original: Any) -> Any:
        def best(self: UserQueue, low: float, high: float) -> Any:
            if self.single > SMALL_BOUND:
                within = [priority for priority in self.priorities if low <= priority <= high]
                return min((task for p in within if (task := original(self, p, p)) is not None), default=None)
            return original(self, low, high)

        return best

    return [swap(UserQueue, "best", make)]


def work_ahead_goes_first() -> Patches:
    """Short work is sent ahead though somebody with fewer workers waits for the next slot. (Found.)"""

    def make(original: Any) -> Any:
        def may_take(self: Placement, group: Any, record: Any, ahead_s: Any, _closed: Any) -> bool:
            return bool(original(self, group, record, ahead_s, ()))

        return may_take

    return [swap(Placement, "_may_take", make), patch.object(Placement, "is_closed", lambda *_: False)]


def work_ahead_of_equals() -> Patches:
    """Short work is sent ahead though somebody with as many workers has only tasks that wait for a free one."""
    return [patch.object(Dispatch, "_too_long_of_equals", lambda *_: [])]


def work_ahead_stays() -> Patches:
    """What was sent ahead is not called back for somebody who has come to wait."""
    return [patch.object(Recall, "make_way", nothing), patch.object(Recall, "_better_elsewhere", lambda *_: False)]


def narrow_band_first() -> Patches:
    """Whoever's turn it is in a narrow band is given workers of wider ones, whoever waits there. (Found.)"""
    return [patch.object(dispatch, "_is_next", lambda *_: True)]


SMALL_BOUND = 6


def statistics_begin_anew() -> Patches:
    """A core that is started again does not count the calls that have ended."""
    return [patch.object(Restore, "_count_ends", nothing)]


def forgotten_tasks_leave_the_statistics() -> Patches:
    """What was forgotten counts until the next restart."""
    return [patch.object(Tallies, "retire", nothing)]


def attempts_without_an_end_are_free() -> Patches:
    """The use of workers by attempts that came to nothing is charged, and lost in a restart."""
    return [patch.object(Tallies, "spend", nothing)]


def retried_failures_count_twice() -> Patches:
    """A call that is tried again goes on being counted as one that has failed."""
    return [patch.object(Tallies, "uncount", nothing)]


def restart_is_the_time_of_all() -> Patches:
    """Stories begin anew: what an earlier core did has the time of the restart."""
    return [patch.object(Restore, "_time", lambda self, _wall: self.now)]


CORE_MUTANTS = (
    refused_beyond_the_bound,
    a_part_is_kept_beyond_the_bound,
    left_behind_the_bound,
    restored_up_to_the_bound,
    urgent_waits_behind_the_bound,
    forgotten_with_the_next_sweep,
    forgotten_in_memory_alone,
    work_ahead_goes_first,
    work_ahead_of_equals,
    work_ahead_stays,
    narrow_band_first,
    statistics_begin_anew,
    forgotten_tasks_leave_the_statistics,
    attempts_without_an_end_are_free,
    retried_failures_count_twice,
    restart_is_the_time_of_all,
    lost_parts_count_as_done,
    parts_by_their_first_item,
    time_is_not_charged,
    by_name_anywhere,
    output_to_everybody,
    claims_of_another_core,
    no_fencing,
    no_idempotent_submit,
    no_poison_limit,
    retries_without_limit,
    adoption_ignored,
    lost_requeue_on_hub_loss,
    lost_orphans,
    cancel_forgotten,
    result_after_cancel,
    double_count_of_occupied,
    duplicate_end_accepted,
    dropped_dependency_wake_up,
    at_most_once_ignored,
    unfair_turns,
    priority_upside_down,
    wrong_slice,
    restore_forgets_ends,
    strangers_are_ignored,
)
