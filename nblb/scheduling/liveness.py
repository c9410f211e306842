"""Liveness of hubs and clients: hellos, heartbeats, silence, and attempts that outlived a core.

A hub that sends nothing for suspect_s gets no new work. The core counts its lease from when the last answered
heartbeat arrived, the hub from when it sent that heartbeat (hub/slots/lease.py), so a hub has stopped its attempts
before the core assigns them again. After a restart of the core, attempts that hubs had are orphans: a hub that returns
with them keeps them, and any that no hub claims within adopt_s runs again.
"""

from __future__ import annotations

from collections import deque

from nblb.protocol.foreign_names import with_clean_names
from nblb.protocol.messages import (
    EndCommitted,
    Heartbeat,
    Hello,
    HubGone,
    HubHello,
    HubLeaves,
    Refused,
    Running,
    StopTask,
    TaskState,
    Welcome,
    WorkerStarted,
)
from nblb.scheduling.attempt_reports import AttemptReports
from nblb.scheduling.hubs import GroupOfWorkers, Hub, end_of
from nblb.scheduling.nesting import waits
from nblb.scheduling.state import ConnectedClient, State

DEAF = 3  # hellos in a row, after which a hub counts as not receiving our messages
MOST_KERNELS = 50  # remembered per notebook
UNKNOWN, NEVER = float("-inf"), float("inf")
SHORTEST_KERNEL_S = 0.5  # a client connected for less than that was a command, not a kernel


class Liveness:
    """Handles hellos and heartbeats, and detects their absence."""

    def __init__(self, state: State, outcome: AttemptReports) -> None:
        self.state = state
        self.outcome = outcome
        self._deaf: set[str] = set()  # addresses of hubs given up because they do not receive our messages
        # A lower bound of the next due time: a message received or sent only moves due times later, so a turn need not
        # check every party. UNKNOWN once something may have become due earlier.
        self._due_at = UNKNOWN

    # ── clients ──

    def hello(self, sender: str, message: Hello, now: float) -> ConnectedClient:
        self._due_at = UNKNOWN
        message = with_clean_names(message, "client", "user", "host", "notebook")
        client = ConnectedClient(sender, message.user, now)
        client.name, client.role, client.submits = message.client, message.role, bool(message.cloudpickle)
        client.host, client.pid, client.notebook = message.host, message.pid, message.notebook
        if message.here_s >= 0.0:
            client.since = now - message.here_s
        elif message.since:
            client.since = message.since - self.state.wall_offset
        self.state.clients[sender] = client
        self.state.send(sender, self._welcome(message.user))
        return client

    def _welcome(self, user: str = "", echo: float = 0.0) -> Welcome:
        policy = self.state.policy
        return Welcome(
            core=policy.core,
            epoch=policy.epoch,
            name=policy.name,
            user=user,
            durability=policy.durability,
            pid=policy.pid,
            heartbeat_s=policy.heartbeat_s,
            echo=echo,
            output=policy.output,
            files=policy.files,
            token=policy.token,
            process=policy.process,
            lease_s=policy.lease_s,
            suspect_s=policy.suspect_s,
            bulk=policy.bulk,
        )

    def stranger(self, sender: str) -> None:
        """Refuse a party that has not sent a hello to this incarnation of the core."""
        self.state.send(sender, Refused(kind="UnknownParty", reason="this core does not know you: send a hello first"))

    def client_gone(self, address: str) -> None:
        """Remove a client that has left. It submits again what waits for a blob that it has not sent."""
        state = self.state
        client = state.clients.pop(address, None)
        if client is None:
            return
        until = client.received_at
        if until - client.since > SHORTEST_KERNEL_S:
            state.presence.setdefault(client.notebook, deque(maxlen=MOST_KERNELS)).append((client.since, until))
        if not state.parked_on:
            return
        for blob, waiting in list(state.parked.items()):
            left = [(other, spec) for other, spec in waiting if other != address]
            for other, spec in waiting:
                if other == address:
                    state.parked_on.pop(spec.task, None)
            if left:
                state.parked[blob] = left
            else:
                del state.parked[blob]

    # ── hubs ──

    def hub_hello(self, sender: str, message: HubHello, now: float) -> None:
        state = self.state
        self._due_at = UNKNOWN
        message = with_clean_names(message, "name", "host", "ip")
        same = next((hub for hub in state.hubs.values() if hub.id == message.hub), None)
        if sender in state.hubs and state.hubs[sender] is not same:
            self.hub_lost(sender, "another hub has connected from its address", now)
        if same is not None:
            self._returns(same, sender, message, now)
            return
        state.send(sender, self._welcome(echo=message.said_at))
        hub = Hub(sender, message, now)
        if sender in self._deaf:  # gets no work before it has answered
            hub.greetings, hub.suspect, hub.received_at = DEAF, True, now - state.policy.suspect_s
        for number, spec in enumerate(message.groups):
            band = state.share.band(spec.minP, spec.maxP, spec.only, spec.has)
            hub.groups.append(GroupOfWorkers(hub, number, spec, band))
        state.hubs[sender] = hub
        state.versions.add((message.python, hub.numpy))
        state.placement.add(hub)
        state.log("info", f"LB - HUB {hub.name} ({message.host}, pid {message.pid}) IS HERE")
        self._meet(hub, message, now)

    def _returns(self, hub: Hub, sender: str, message: HubHello, now: float) -> None:
        """Handle another hello of a known incarnation, after its connection broke or it received nothing."""
        state = self.state
        del state.hubs[hub.address]
        if not hub.greetings or sender != hub.address:
            hub.greetings, hub.greeted_at = 0, now
        hub.greetings += 1
        if hub.greetings < DEAF:
            hub.received_at, hub.suspect = now, False
        else:  # it has received nothing for suspect_s, and stops its work after lease_s
            hub.received_at = min(hub.received_at, hub.greeted_at - state.policy.suspect_s)
        hub.address, hub.hello = sender, message
        hub.functions, hub.ran, hub.leaves = frozenset(message.functions), None, message.leaves or hub.leaves
        hub.draining, hub.ends_at = message.draining, end_of(message, now)
        hub.holds.clear()
        state.hubs[sender] = hub
        if message.leased_at and message.said_at > hub.stamp:  # not leased_at: it may not receive our answer
            hub.leased_at = min(hub.leased_at, now - (message.said_at - message.leased_at))
            hub.stamp = message.leased_at
        state.send(sender, self._welcome(echo=hub.stamp))
        claimed = {(r.task, r.first, r.attempt) for r in self._claims(message)}
        hub.unclaimed = tuple(fence for fence in hub.in_flight if fence not in claimed)
        hub.unclaimed_until = now + state.policy.heartbeat_s  # reports about them may follow right behind the hello
        alive = {worker for worker, _ in message.workers}
        for worker in [w for w in hub.workers.values() if w.id not in alive]:
            del hub.workers[worker.id]
            if not worker.stand_in:
                worker.group.workers_changed(-1)
        self._meet(hub, message, now)

    def _meet(self, hub: Hub, message: HubHello, now: float) -> None:
        pids = message.pids if len(message.pids) == len(message.workers) else (0,) * len(message.workers)
        for (worker, group), pid in zip(message.workers, pids, strict=True):
            started = WorkerStarted(worker=worker, group=group, pid=pid, stand_in=worker in message.stand_ins)
            self.outcome.worker_started(hub, started, now)
        for running in self._claims(message):
            self._claimed(hub, running, now)
        for orphan in self.state.orphans.values():
            if orphan.hub == hub.id:  # it has not received the order, or not yet
                self._call_back(hub, *orphan.fence)
        self.state.dispatch_due = True

    def _claims(self, message: HubHello) -> tuple[Running, ...]:
        """Return the attempts that the hub keeps after our answer: it drops those of another core."""
        return message.running if message.core in ("", self.state.policy.core) else ()

    def _claimed(self, hub: Hub, running: Running, now: float) -> None:
        """Handle an attempt that the hub reports as its own."""
        fence = running.task, running.first, running.attempt
        held = hub.in_flight.get(fence)
        if held is not None:
            if all(task.state is TaskState.CANCELLING for task in held.tasks):
                self.state.stop(held, "cancel")  # it may not have received the first StopTask
        else:
            orphan = self.state.orphans.get(fence)
            if orphan is not None and orphan.hub == hub.id:
                held = self.outcome.adopt(hub, orphan, running, now)
        if held is not None:
            waits.claimed(self.state, held, running, now)
            return
        self.state.late_facts += 1
        self._disown(hub, running)

    def _disown(self, hub: Hub, running: Running) -> None:
        state = self.state
        state.send(hub.address, StopTask(task=running.task, attempt=running.attempt, first=running.first, why="cancel"))
        state.send(hub.address, EndCommitted(task=running.task, attempt=running.attempt, first=running.first))

    def hub_leaves(self, hub: Hub, _message: HubLeaves, _now: float) -> None:
        hub.leaves, hub.ran = True, None

    def hub_gone(self, sender: str, message: HubGone, now: float) -> None:
        self.hub_lost(sender, message.reason or "it was stopped", now)

    def hub_lost(self, address: str, reason: str, now: float, ended: bool = False) -> None:
        """Requeue the attempts of a hub whose lease is over; `ended`: its process has ended suddenly."""
        state = self.state
        hub = state.hubs.pop(address, None)
        if hub is None:
            return
        state.log("warning", f"LB - HUB {hub.name} IS GONE: {reason}")
        for worker in hub.workers.values():
            state.log("warning", f"LB - Worker {worker.id} is DOWN. Removing it")
        text = f"hub {hub.name} on {hub.hello.host} is gone: {reason}"
        if ended and not hub.leaves:
            self.outcome.hub_ended(list(hub.in_flight.values()), [], text, now)
        for held in list(hub.in_flight.values()):
            self.outcome.attempt_lost(held, "HubSilent", text, now)
        state.placement.remove(hub)

    def heartbeat(self, hub: Hub, message: Heartbeat, now: float) -> None:
        hub.load, hub.memory, hub.disk = message.load, message.memory, message.disk
        hub.usage, hub.cards = {use.worker: use for use in message.workers}, message.cards
        for group, wanted in zip(hub.groups, message.wanted, strict=False):
            group.wanted = wanted
        if hub.way_measured(message.way_s):
            self.state.dispatch_due = True
        if message.at:
            hub.leased_at, hub.stamp, hub.said_at = now, message.at, now
            self.state.send(hub.address, Heartbeat(at=self.state.wall(now), echo=message.at))

    def note_message(self, hub: Hub, now: float) -> None:
        hub.received_at, hub.greetings = now, 0
        self._deaf.discard(hub.address)
        if hub.suspect:
            hub.suspect = False
            self._due_at = UNKNOWN
            self.state.dispatch_due = True

    def unreachable(self, address: str, now: float, dead: bool) -> None:
        """Handle a party to which nothing can be sent; `dead`: the shell knows that the process has ended."""
        self._due_at = UNKNOWN
        self.client_gone(address)
        self._deaf.discard(address)
        hub = self.state.hubs.get(address)
        if hub is None:
            return
        if dead:
            self.hub_lost(address, "its process has ended", now, ended=True)
            return
        hub.suspect = True
        hub.received_at = min(hub.received_at, now - self.state.policy.suspect_s)

    def hub_dead(self, name: str, now: float) -> None:
        """Requeue all attempts of an incarnation whose process has ended, including those of an earlier core."""
        for address in [hub.address for hub in self.state.hubs.values() if hub.id == name]:
            self.hub_lost(address, "its process has ended", now, ended=True)
        orphans = [orphan for orphan in self.state.orphans.values() if orphan.hub == name]
        if orphans:
            self.outcome.hub_ended([], orphans, "its hub's process has ended", now)

    # ── time ──

    def stood_still(self, seconds: float) -> None:
        """Handle that this core received nothing for so long by its own fault: hubs and clients are not silent.

        A hub may have stopped its attempts meanwhile, by its own count; the core then only waits longer for it.
        """
        self._due_at = UNKNOWN
        for hub in self.state.hubs.values():
            hub.received_at += seconds
            hub.leased_at += seconds
        for client in self.state.clients.values():
            client.received_at += seconds
        for orphan in self.state.orphans.values():
            orphan.until += seconds

    def tick(self, now: float) -> None:
        if now < self._due_at:
            return
        self._due_at = UNKNOWN
        state, policy = self.state, self.state.policy
        for address, hub in list(state.hubs.items()):
            if now >= hub.lease_from + policy.lease_s:
                deaf = hub.greetings >= DEAF
                if deaf:
                    self._deaf.add(address)
                silent = "it has received none of our messages" if deaf else "silent"
                self.hub_lost(address, f"{silent} for {now - hub.lease_from:.0f} s", now)
                continue
            hub.suspect = now >= hub.received_at + policy.suspect_s
            if now >= hub.said_at + policy.heartbeat_s:
                hub.said_at = now
                state.send(address, Heartbeat(at=state.wall(now)))
            if hub.unclaimed and now >= hub.unclaimed_until:
                self._call_back_unclaimed(hub)
        for address, client in list(state.clients.items()):
            if now >= client.received_at + policy.client_silence_s:
                self.client_gone(address)
        for orphan in [orphan for orphan in state.orphans.values() if now >= orphan.until]:
            self.outcome.orphan_lost(orphan, "its hub did not come back with it", now)

    def _call_back_unclaimed(self, hub: Hub) -> None:
        """Recall unclaimed attempts, whose orders are lost or still on their way.

        The hub hands back what it has not begun or never received. Until it has answered, or its lease is over, no
        other hub may begin them.
        """
        unclaimed, hub.unclaimed = hub.unclaimed, ()
        for fence in unclaimed:
            if fence in hub.in_flight:
                self._call_back(hub, *fence)

    def _call_back(self, hub: Hub, task: str, first: int, attempt: int) -> None:
        self.state.send(hub.address, StopTask(task=task, attempt=attempt, first=first, why="recall"))

    def next_deadline(self) -> float | None:
        if self._due_at == UNKNOWN:
            self._due_at = self._earliest()
        return self._due_at if self._due_at < NEVER else None

    def _earliest(self) -> float:
        state, policy = self.state, self.state.policy
        times = [hub.said_at + policy.heartbeat_s for hub in state.hubs.values()]
        times += [hub.received_at + policy.suspect_s for hub in state.hubs.values() if not hub.suspect]
        times += [hub.lease_from + policy.lease_s for hub in state.hubs.values()]
        times += [client.received_at + policy.client_silence_s for client in state.clients.values()]
        times += [hub.unclaimed_until for hub in state.hubs.values() if hub.unclaimed]
        times += [orphan.until for orphan in state.orphans.values()]
        return min(times, default=NEVER)
