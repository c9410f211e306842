"""Checks at the end of a history: every task has ended as it had to, and nothing is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.messages import TaskState
from nblb.simulation.referee import Referee, came_to_nothing
from nblb.simulation.simulator import Violation
from nblb.simulation.submission_log import Kept
from nblb.simulation.workload import may_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nblb.protocol.messages import Group
    from nblb.simulation.simulated_hub import SimulatedHub
    from nblb.simulation.story import History

FAILED, DONE, LOST, CANCELLED = TaskState.FAILED, TaskState.DONE, TaskState.LOST, TaskState.CANCELLED


def unresolved(history: History) -> str:
    """Describes what is still open; "" when everything is resolved."""
    scheduler = history.core.scheduler
    if scheduler is None:
        return "the core is not there"
    if history.core.takes_disk_for_full:
        return "the core takes its disk for full"
    if not history.disk.pending.is_empty:
        return "the core has something to write"
    for task, kept in history.referee.ledger.tasks.items():
        if kept.open_items and not kept.forgotten:
            record = scheduler.state.records.get(task)
            slices = [(s, s.story[-3:]) for s in record.slices if not s.state.ended] if record is not None else "gone"
            return f"items {kept.open_items} of {task} have not ended: {slices}"
    for task, submission in history.referee.submissions.items():
        if submission.client.alive and not submission.resolved:
            known = "kept" if task in history.referee.ledger.tasks else "not kept"
            ends = ["" if end is None else end.state.value for end in submission.ended]
            return f"{submission.client.name} has no end of {task} ({known}): {ends}"
    for place, hub in enumerate(history.hubs):
        if not hub.alive:
            return f"{hub.name} has left"
        if hub.pool.busy:
            runs = [w.run for w in hub.pool.workers.values() if w.run is not None]
            return f"a worker of {hub.name} is still at {[(r.task, r.first, r.attempt) for r in runs]}"
        if hub.open_ends:
            return f"{hub.name} still holds the ends {hub.open_ends}"
        if wrong := _wrong_number(history.groups[place], hub):
            return wrong
    for known_hub in scheduler.state.hubs.values():
        if known_hub.in_flight:
            return f"the core thinks {known_hub.name} has {list(known_hub.in_flight)}"
    return ""


def _wrong_number(groups: Sequence[Group], hub: SimulatedHub) -> str:
    """Describes a group whose number of workers is wrong; "" if there is none."""
    for number, group in enumerate(groups):
        there = sum(worker.group == number and worker.ready for worker in hub.pool.workers.values())
        if there != group.workers:
            return f"{hub.name} has {there} workers in group {number}, and shall have {group.workers}"
    return ""


def check_all(history: History) -> None:
    """Raises Violation if a promise was broken; to be called only when everything is resolved."""
    for task, kept in history.referee.ledger.tasks.items():
        for item, state in enumerate(kept.states):
            allowed = _allowed(history.referee, kept, item)
            if state is not None and state not in allowed:
                names = sorted(each.value for each in allowed)
                raise Violation("right", f"{task}[{item}] ended {state}, and may only end {names}: {kept.ends}")
    _check_users(history.referee)
    _check_core(history)
    if history.gentle:
        _check_adoption(history.referee)


def _allowed(referee: Referee, kept: Kept, item: int) -> set[TaskState]:
    spec = kept.spec
    conduct = referee.conduct(spec.task)
    allowed = may_end(spec, conduct, item)
    if spec.task in referee.cancel_asked:
        allowed |= {CANCELLED}
        allowed |= may_end(spec, conduct, item, alone=True)
    if spec.deadline_s:
        allowed |= {FAILED}
    if spec.job in referee.ledger.limited:
        allowed |= {CANCELLED}
    if spec.task in referee.again:  # an item that is retried runs alone
        allowed |= may_end(spec, conduct, item, alone=True)
    if item < min(conduct.poison, default=0):  # its end may have been reported before the slice killed its worker
        allowed |= may_end(spec, conduct, item, alone=True)
    if spec.depends and (spec.task in referee.again or any(_was_not_done(referee, name) for name in spec.depends)):
        allowed |= {FAILED}
    if spec.cache:
        allowed |= {DONE}
    followed = referee.ledger.tasks.get(kept.follows.get(item, ""))
    if spec.task in referee.refused_waits or (followed is not None and followed.states[0] is not DONE):
        allowed |= {FAILED}
    parent = referee.ledger.tasks.get(spec.parent)
    if spec.parent and (parent is None or came_to_nothing(parent, spec)):
        allowed |= {CANCELLED}
    if spec.task in referee.kept_early:
        allowed |= {DONE, FAILED}
    if not spec.function and referee.withdrawn:
        allowed |= {FAILED}
    deaths = sum(referee.kills.get((spec.task, n), 0) for n in (range(spec.items) if not spec.split else (item,)))
    troubles = referee.worker_kills + referee.interruptions
    if deaths + troubles >= (history_limit(referee)):
        allowed |= {LOST}
    if spec.at_most_once and (troubles or conduct.fragile or conduct.poison):
        allowed |= {LOST}
    return allowed


def history_limit(referee: Referee) -> int:
    return referee.core.policy.max_crashes if referee.core is not None else 3


def _was_not_done(referee: Referee, name: str) -> bool:
    """True if the task, or the needed item of it, did not end as DONE, or may have been otherwise before."""
    task, _, item = name.partition(".")
    kept = referee.ledger.tasks.get(task)
    if kept is None:
        return True
    states = [kept.states[int(item)]] if item else kept.states
    if any(state is not DONE for state in states):
        return True
    return task in referee.cancel_asked or task in referee.again


def _check_adoption(referee: Referee) -> None:
    """Checks that running items were not run again, in histories where only the core failed."""
    for task, kept in referee.ledger.tasks.items():
        excused = task in referee.cancel_asked or task in referee.refused_waits  # a refused wait fails its call
        if referee.conduct(task).plain and not excused:
            for item, state in enumerate(kept.states):
                times = referee.begun.get((task, item), 0)
                if state is DONE and times > 1:
                    raise Violation("adopt", f"{task}[{item}] was begun {times} times, and only the core had failed")


def _check_users(referee: Referee) -> None:
    """Checks that every future shows the end that the journal has."""
    for task, submission in referee.submissions.items():
        kept = referee.ledger.tasks.get(task)
        for item, ended in enumerate(submission.ended):
            if ended is None or kept is None:
                continue
            state = kept.states[item]
            dropped = ended.state is DONE and state is CANCELLED  # cancelled after its end: pyLoadBalancer's rule
            given_up = kept.spec.job in referee.ledger.given_up  # what was in flight then is cancelled on both sides
            if ended.state is not state and not dropped and not given_up and task not in referee.again:
                raise Violation("I4", f"the user saw {task}[{item}] {ended.state}, the journal has {state}")


def _check_core(history: History) -> None:
    """Checks that the core has nothing left open and that its sums are zero."""
    scheduler = history.core.scheduler
    assert scheduler is not None
    state = scheduler.state
    for user in state.share.users.values():
        if user.occupied or user.waiting or user.single:
            sums = f"{user.occupied} occupied, {user.waiting} waiting, {user.single} single"
            raise Violation("left", f"nothing is open, and {user.name} has {sums}")
    for hub in state.hubs.values():
        for group in hub.groups:
            alive = sum(worker.group is group and not worker.stand_in for worker in hub.workers.values())
            if group.given or group.alive != alive:
                raise Violation("left", f"{hub.name}: {group.given} given, {group.alive} alive of {alive}")
    left = [name for name in history.referee.ledger.saved if not history.core.disk.forgets]
    if left:
        raise Violation("left", f"everything has ended, and these saved states are kept: {left}")
    if state.orphans:
        raise Violation("left", f"orphans: {list(state.orphans)}")
    pinned = [record.id for record in state.records.values() if record.pins]
    if pinned:
        raise Violation("left", f"the results of {pinned} are kept for dependents, but no task waits for them")
    history.referee.compare(scheduler, history.core)
