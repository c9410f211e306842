"""Sentences for the owner of a task about its state at a hub, and about silent hubs; pure."""

from __future__ import annotations

from collections.abc import Sequence

from nblb.protocol.messages import TaskState
from nblb.quantities import duration
from nblb.scheduling.hubs import Assignment, GroupOfWorkers, Hub
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State


def describe(state: State, task: Slice, item: int, now: float) -> str:
    """Return why a call does not run yet, or where it runs; `task` is its slice, which is not QUEUED."""
    held = task.held
    if held is None and task.orphan is not None:
        return "waits for its hub, which may still be running it, to come back to the restarted core"
    if held is None:
        failure = task.ended.failure if task.state is TaskState.CANCELLED and task.ended is not None else None
        return f"does not wait: it is {task.state}{f': {failure.message}' if failure is not None else ''}"
    hub = held.group.hub
    if hub.suspect:
        return _at_silent_hub(state, task, hub, now)
    if task.state is TaskState.CANCELLING:
        return f"is being cancelled: hub {hub.name} has still to confirm that it has ended"
    if task.state is TaskState.ASSIGNED:
        return _behind(held, now)
    at = task.first + min(int(task.progress * task.items / 100.0), task.items - 1)
    if item > at:
        place, of = item - held.first + 1, held.items
        return (
            f"waiting: its worker on hub {hub.name} makes {of:,} calls one after the other and is at number "
            f"{at - held.first + 1:,}; this is number {place:,}"
        )
    since = f" for {_about(now - held.started_at)}" if held.started_at else ""
    return f"does not wait: it is {task.state} on hub {hub.name}{since}"


def _at_silent_hub(state: State, task: Slice, hub: Hub, now: float) -> str:
    """Describe a slice whose hub is silent: no other hub may begin it before the lease is over."""
    left = _about(hub.lease_from + state.policy.lease_s - now)
    verb = "runs it" if task.state is TaskState.RUNNING else "has been given it"
    after = "it becomes LOST (at_most_once)" if task.record.spec.at_most_once else "it waits for another hub"
    if task.state is TaskState.CANCELLING:
        verb, after = "has still to confirm its cancel", "it counts as cancelled"
    return f"waiting: hub {hub.name}, which {verb}, has been silent for {_silence(hub, now)}; in {left} {after}"


def _behind(held: Assignment, now: float) -> str:
    """Describe a slice that was sent ahead by what its group's workers run."""
    group, hub = held.group, held.group.hub
    if not group.alive:
        return f"waiting: hub {hub.name} has been given it, and its workers are starting"
    running = [
        other for other in hub.in_flight.values() if other.group is group and other.started_at and other is not held
    ]
    if not running:
        return f"waiting: hub {hub.name} has just been given it"
    longest = min(running, key=lambda other: other.started_at)
    busy = "its worker is" if group.alive == 1 else f"{min(len(running), group.alive)} of its {group.alive} workers are"
    return (
        f"waiting: hub {hub.name} has been given it, and {busy} busy; "
        f"{longest.record.spec.name} has run there for {_about(now - longest.started_at)}"
    )


def silent(takers: Sequence[GroupOfWorkers], now: float) -> str:
    """Describe a slice that only silent hubs could run."""
    hubs = list(dict.fromkeys(group.hub for group in takers))
    if len(hubs) == 1:
        return f"waiting: hub {hubs[0].name}, the only one that takes it, has been silent for {_silence(hubs[0], now)}"
    latest = max(hubs, key=lambda hub: hub.received_at)
    return f"waiting: all {len(hubs)} hubs that take it have been silent, for {_silence(latest, now)} at least"


def too_late(takers: Sequence[GroupOfWorkers], item_s: float | None, now: float) -> str:
    """Describe a slice that is longer than the time that the batch jobs of all hubs for it have left."""
    latest = max((group.hub for group in takers), key=lambda hub: hub.ends_at)
    takes = f"it takes about {duration(item_s)}" if item_s else "it would be cut off"
    return (
        f"waiting: {takes}, and the batch job of hub {latest.name} ends in {duration(latest.ends_at - now)}; a new "
        "job, or one with more time, can run it"
    )


def _silence(hub: Hub, now: float) -> str:
    return _about(now - hub.received_at)


def _about(seconds: float) -> str:
    """Return a length of time in whole seconds."""
    return duration(max(1, round(seconds)))
