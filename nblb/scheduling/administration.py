"""Requests about hubs and priorities: scaling, draining, removing and restarting a hub, and changing a priority."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec

from nblb.protocol.commands import Record
from nblb.protocol.equipment import Needs
from nblb.protocol.journal_entries import PriorityKept
from nblb.protocol.messages import (
    AdaptWorkers,
    Answer,
    DrainHub,
    OfferHubs,
    RemoveHub,
    ScaleHub,
    SetPriority,
    StopHub,
    TaskState,
)
from nblb.scheduling.adapting.adaptation import Adaptation
from nblb.scheduling.hubs import Assignment, Hub
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import ConnectedClient, State
from nblb.scheduling.submission import Submission


class Administration:
    """Handles the requests of its `handlers`, by the type of the message."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._removed: dict[str, StopHub] = {}  # by id of the hub: the order that follows when nothing runs on it
        self.adaptation = Adaptation(state, self.end_when_idle, self.keep)
        self.handlers: dict[type, Callable[[ConnectedClient, Any, float], None]] = {
            ScaleHub: self.scale_hub,
            DrainHub: self.drain_hub,
            RemoveHub: self.remove_hub,
            SetPriority: self.set_priority,
            AdaptWorkers: self.adaptation.adapt,
            OfferHubs: self.adaptation.offer,
        }

    # ── hubs ──

    def scale_hub(self, client: ConnectedClient, message: ScaleHub, _now: float) -> None:
        hub = self._hub(client, message.hub, message.request)
        if hub is None:
            return
        if message.workers < 0:
            self._refuse(client, message.request, "workers must be 0 or more")
            return
        self.adaptation.end(f"{client.user} has scaled the hub {hub.name}")
        self.state.send(hub.address, message)
        self.state.send(client.address, Answer(request=message.request, value=message.workers))

    def drain_hub(self, client: ConnectedClient, message: DrainHub, _now: float) -> None:
        hub = self._hub(client, message.hub, message.request)
        if hub is None:
            return
        self._drain(hub, message.drain)
        if not message.drain:
            self._removed.pop(hub.id, None)
        self.state.log(
            "info", f"LB - HUB {hub.name} {'IS DRAINED' if message.drain else 'WORKS AGAIN'} : {client.user}"
        )
        self.state.send(client.address, Answer(request=message.request, value=len(hub.in_flight)))

    def remove_hub(self, client: ConnectedClient, message: RemoveHub, _now: float) -> None:
        hub = self._hub(client, message.hub, message.request)
        if hub is None:
            return
        self._drain(hub, True)
        what = "restarted" if message.restart else "removed"
        self._removed[hub.id] = StopHub(reason=f"{what} by {client.user}", restart=message.restart)
        self.state.send(client.address, Answer(request=message.request, value=len(hub.in_flight)))

    def end_when_idle(self, hub: Hub, reason: str) -> None:
        """Drain a hub, and stop it for this reason when nothing runs on it."""
        self._drain(hub, True)
        self._removed.setdefault(hub.id, StopHub(reason=reason))

    def keep(self, hub: Hub, reason: str) -> None:
        """Take `end_when_idle` for this reason back; a hub that people have removed or drained stays so."""
        order = self._removed.get(hub.id)
        if order is not None and order.reason == reason:
            del self._removed[hub.id]
            self._drain(hub, False)

    def tick(self, _now: float) -> None:
        """Stop the removed hubs on which nothing runs any more."""
        if not self._removed:
            return
        hubs = {hub.id: hub for hub in self.state.hubs.values()}
        for name, order in list(self._removed.items()):
            hub = hubs.get(name)
            if hub is None:
                del self._removed[name]
            elif not hub.in_flight:
                del self._removed[name]
                self.state.send(hub.address, order)

    def _drain(self, hub: Hub, drain: bool) -> None:
        """Give the hub no new work, and call back what it has not begun; or let it work again."""
        hub.draining, hub.ran = drain, None
        self.state.send(hub.address, DrainHub(hub=hub.id, drain=drain))
        if drain:
            for held in hub.in_flight.values():
                if not held.started_at and not held.recalled:
                    held.recalled = True
                    self.state.stop(held, "recall")
            return
        for user in self.state.share.users.values():  # they were passed over where only this hub has workers
            for priority in user.priorities:
                self.state.share.line_changed(user, priority)
        self.state.dispatch_due = True

    def _hub(self, client: ConnectedClient, name: str, request: int) -> Hub | None:
        """Return the hub with this name or id; answer the request if there is none."""
        hub = next((hub for hub in self.state.hubs.values() if name in (hub.id, hub.name)), None)
        if hub is None:
            known = ", ".join(hub.name for hub in self.state.hubs.values()) or "none"
            self._refuse(client, request, f"no hub {name!r} here (there are: {known})")
        return hub

    def _refuse(self, client: ConnectedClient, request: int, reason: str) -> None:
        self.state.send(client.address, Answer(request=request, error=reason, kind="NblbError"))

    # ── priorities ──

    def set_priority(self, client: ConnectedClient, message: SetPriority, now: float) -> None:
        state = self.state
        if not isfinite(message.priority):
            self._refuse(client, message.request, f"a priority must be a finite number, not {message.priority}")
            return
        job = state.jobs.get(message.job) if message.job else None
        if job is None and message.task not in state.records:
            self._refuse(client, message.request, _unknown(message))
            return
        records = list(job.records.values()) if job is not None else [state.records[message.task]]
        changed = 0
        for record in records:
            if record.unended and record.spec.priority != message.priority:
                self._change(record, message.priority, now)
                changed += record.unended
        state.send(client.address, Answer(request=message.request, value=changed, committed=True))

    def _change(self, record: Submission, priority: float, now: float) -> None:
        """Move the waiting slices of the submission to the lines of its new priority."""
        state = self.state
        moved = taken_out(state, record)
        record.change_priority(priority)
        self._call_back(record)
        state.out.append(Record(PriorityKept(record.id, priority)))
        for task in moved:
            state.enqueue(task)
            state.notice(task, now)
        state.dispatch_due = True

    def _call_back(self, record: Submission) -> None:
        """Recall slices that have not begun and were sent ahead to workers that take no such priority."""
        for held in dict.fromkeys(task.held for task in record.slices if task.held is not None):
            if not held.started_at and not held.recalled and not held.group.band.takes(record.spec.priority):
                held.recalled = True
                self.state.stop(held, "recall")


def need_more_memory(state: State, held: Assignment) -> int:
    """Raise the memory that a submission needs, whose attempt has ended for memory; return it, or 0 if it stays.

    It is `memory_retry` times what the worker had, but at most what the largest worker for the submission has.
    """
    record, group = held.record, held.group
    factor = record.spec.memory_retry
    had_mb = group.spec.has.memory_mb or group.spec.share_mb
    if factor <= 1.0 or not had_mb:
        return 0
    needs = msgspec.structs.replace(record.spec.needs or Needs(), memory_mb=1)
    most_mb = max(
        (
            each.spec.has.memory_mb or each.spec.share_mb
            for band, groups in state.placement.by_band.items()
            if band.takes(record.spec.priority) and band.admits(record.user) and band.has.takes(needs)
            for each in groups
            if each.alive
        ),
        default=0,
    )
    wanted_mb = min(int(had_mb * factor), most_mb)
    if wanted_mb <= max(had_mb, record.spec.needs.memory_mb if record.spec.needs else 0):
        return 0
    moved = taken_out(state, record)
    record.need_memory(wanted_mb)
    for task in moved:
        state.enqueue(task)
    return wanted_mb


def taken_out(state: State, record: Submission) -> list[Slice]:
    """Take the waiting slices of a submission out of their lines; return copies in their places, which wait nowhere."""
    return [_replaced(state, record, task) for task in list(record.slices) if state.is_in_line(task)]


def _replaced(state: State, record: Submission, task: Slice) -> Slice:
    """Return a copy that takes the slice's place; a line drops the old one, which is no longer QUEUED."""
    twin = record.replace(task)
    state.changed.pop(task, None)
    task.state = TaskState.CANCELLED
    user = state.share.user(record.user)
    user.cancelled(task)
    state.share.line_changed(user, record.spec.priority)
    return twin


def _unknown(message: SetPriority) -> str:
    return f"the core knows no {f'job {message.job!r}' if message.job else f'task {message.task!r}'}"
