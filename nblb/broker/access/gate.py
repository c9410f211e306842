"""The core's gate for parties on other computers: who may connect, as whom they act, and what they may say.

    handshake ── ZAP ──► admits(key) ──► RemoteDoor: each message has its sender's key
    messages ──► screen: verdict on the key ──► rights of its role ──► the scheduler, in the name of the key

Parties on the core's own computer do not pass here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nblb.access.audit_log import AuditLog
from nblb.access.key_file import KeyFile
from nblb.access.key_store import Verdict, key_mark
from nblb.access.tickets import ticket
from nblb.broker.access import rights
from nblb.broker.access.rights import Judged, Who
from nblb.errors import NblbError
from nblb.host import boot_mark
from nblb.parameters import Parameters
from nblb.protocol.commands import Command, Log, Send
from nblb.protocol.framing import Part
from nblb.protocol.messages import (
    Answer,
    CancelTask,
    Enrol,
    Enrolled,
    FetchTask,
    Hello,
    HubHello,
    Message,
    Refused,
    SubmitTask,
    TaskRejected,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import ConnectedClient
from nblb.shared_files.transfer import FilePart
from nblb.transport.curve.keys import KeyPair, new_pair
from nblb.transport.curve.remote_door import PREFIX, Guard
from nblb.transport.door import Arrived

LOOK_S = 0.5  # between two checks that the keys of connected parties are still valid


class PeerConnection(NamedTuple):
    """A connected party: its key, and its connection."""

    key: str
    who: Who
    fd: int
    name: tuple[object, ...]  # of the connection's other end, which tells whether the descriptor is still this one's


class Gate:
    """The keys of one core, and the parties that are connected with them; the scheduler is set after its making."""

    def __init__(self, parameters: Parameters, ip: str) -> None:
        self.parameters, self.ip = parameters, ip
        self.file = KeyFile(parameters.state_dir)
        public, secret = self.file.server_pair(new_pair)
        self.guard = Guard(KeyPair(public, secret), ip, self._admits)
        self.audit = AuditLog(self.file.folder)
        self.peers: dict[str, PeerConnection] = {}
        self.scheduler: Scheduler
        self.ports: Callable[[], tuple[int, int]] = lambda: (0, 0)  # of the clients' and the hubs' doors
        self._tickets = self.file.ticket_key()
        self._submitted: dict[str, dict[str, Any]] = {}  # by user, since the last line about it in the audit log
        self._look_at = 0.0

    # ── handshakes ──

    def _admits(self, key: str, ip: str) -> bool:
        """Let in the known, the invited, and those who are to be told why they are refused."""
        if self._verdict(key).state != "unknown":
            return True
        self.audit.refused(time.monotonic(), "unknown key", ip, key=key)
        return False

    def _verdict(self, key: str) -> Verdict:
        return self.file.store.verdict(key, time.time())

    # ── messages ──

    def screen(self, arrived: Arrived, now: float) -> tuple[Arrived, list[Command]]:
        """Return the messages that this party may say, in its own name, and the commands that refuse the others."""
        sender, verdict = arrived.sender, self._verdict(arrived.key)
        if arrived.messages is None:
            return arrived, []
        if verdict.state == "invited":
            return arrived._replace(messages=[]), self._enrol(arrived)
        if verdict.state != "known":
            reason = verdict.reason or "the core does not know this key any more; ask for a new invitation"
            self.audit.refused(now, verdict.name, verdict.state, reason=reason)
            return arrived._replace(messages=[]), self._turn_away(sender, reason, now)
        who, out = Who(verdict.name, verdict.role, key_mark(arrived.key)), list[Command]()
        allowed: list[Message] = []
        for message in arrived.messages:
            judged = self._judge(arrived, who, message)
            if judged.message is None:
                out += self._deny(sender, who, message, judged.reason, now)
                continue
            if judged.acts_for:
                self.audit.note("act-for", by=who.name, user=judged.acts_for, what=type(message).__name__,
                                id=getattr(message, "task", ""))  # fmt: skip
            allowed.append(judged.message)
        self._record(who, allowed)
        return arrived._replace(messages=allowed), out

    def screen_json(self, arrived: Arrived, now: float) -> tuple[str, str]:
        """Return the user of a JSON request, and why it is refused; "" if it is not."""
        verdict = self._verdict(arrived.key)
        if verdict.state != "known":
            return "", verdict.reason or "This key may not send requests; run 'nblb join LINE' with an invitation."
        who = Who(verdict.name, verdict.role)
        refusal = rights.of_json(self.scheduler.state, who, arrived.json)
        if refusal:
            self.audit.refused(now, who.name, "JSON", reason=refusal)
        elif isinstance(arrived.json, dict) and arrived.json.get("toLB") in ("NEWTASK", "CANCELTASK"):
            event = "submit" if arrived.json["toLB"] == "NEWTASK" else "cancel"
            self.audit.note(event, user=who.name, name=str(arrived.json.get("taskname", "")),
                            task=str(arrived.json.get("taskid", "")))  # fmt: skip
        return who.name, refusal

    def _judge(self, arrived: Arrived, who: Who, message: Message) -> Judged:
        state, sender = self.scheduler.state, arrived.sender
        if not sender.startswith(f"{PREFIX}hub"):
            judged = rights.of_client(state, who, message)
            if type(message) is Hello and judged.message is not None:
                self._meet(arrived, who)
            return judged
        judged = rights.of_hub(state, state.hubs.get(sender), who, message)
        if isinstance(message, HubHello) and judged.message is not None:
            peer = self._meet(arrived, who)
            ip = str(peer.name[0]) if peer.name else ""
            return Judged(rights.as_hub(who, key_mark(arrived.key), message, ip, state))
        return judged

    def refusal(self, client: ConnectedClient, message: Message) -> str:
        """Return why a connection whose Hello has a role may not send a message, and record what it does."""
        refusal = rights.refusal_of(self.scheduler.state, client, message)
        about = {key: value for key in ("task", "job", "hub") if (value := getattr(message, key, ""))}
        if refusal:
            self.audit.refused(time.monotonic(), client.user, type(message).__name__, reason=refusal)
        elif not isinstance(message, rights.FOR_ALL):
            self.audit.note("act-for", by=self.parameters.name, user=client.user, what=type(message).__name__, **about)
        return refusal

    def _meet(self, arrived: Arrived, who: Who) -> PeerConnection:
        """Record the connection of a party that says hello, so that it can be ended."""
        name: tuple[object, ...] = ()
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(arrived.fd)) as connection:
            name = tuple(connection.getpeername())
        if arrived.sender not in self.peers:
            self.audit.note("connect", name=who.name, role=who.role, ip=str(name[0]) if name else "")
        peer = self.peers[arrived.sender] = PeerConnection(arrived.key, who, arrived.fd, name)
        return peer

    def _deny(self, sender: str, who: Who, message: Message, reason: str, now: float) -> list[Command]:
        """Answer a message that its sender may not send, so that it waits for nothing."""
        self.audit.refused(now, who.name, type(message).__name__, reason=reason)
        request = getattr(message, "request", 0)
        if isinstance(message, (SubmitTask, FetchTask)) and message.task:
            return [Send(sender, TaskRejected(task=message.task, kind="NotAllowed", reason=reason))]
        if request:
            return [Send(sender, Answer(request=request, error=reason, kind="NotAllowed"))]
        if isinstance(message, (Hello, HubHello)):
            return [Send(sender, Refused(reason=reason))]
        return []

    def _record(self, who: Who, messages: Iterable[Message]) -> None:
        """Write to the audit log what was submitted and cancelled."""
        for message in messages:
            if isinstance(message, SubmitTask):
                first = {"first": message.task, "name": message.name, "function": message.function}
                about = self._submitted.setdefault(who.name, {"tasks": 0, "items": 0, "bytes": 0, **first})
                about["tasks"] += 1
                about["items"] += message.items
                about["bytes"] += message.payload.nbytes
            elif isinstance(message, CancelTask):
                self.audit.note("cancel", by=who.name, task=message.task, job=message.job)

    # ── joining ──

    def _enrol(self, arrived: Arrived) -> list[Command]:
        """Put the party's own key in the place of its invitation."""
        message = next((message for message in arrived.messages or () if isinstance(message, Enrol)), None)
        if message is None:
            reason = "this is an invitation's key, with which nothing can be done but to join; run 'nblb join LINE'"
            return [Send(arrived.sender, Refused(reason=reason))]
        try:
            party = self.file.store.enrol(arrived.key, message.key, time.time(), taken=(boot_mark(),))
        except NblbError as error:
            return [Send(arrived.sender, Refused(reason=str(error)))]
        self.file.save()
        self.audit.note("join", name=party.name, role=party.role, key=party.key)
        clients, hubs = self.ports()
        policy = self.scheduler.policy
        answer = Enrolled(
            cluster=self.parameters.name,
            core=policy.core,
            name=party.name,
            role=party.role,
            clients=clients,
            hubs=hubs,
        )
        return [Log("good", f"LB - {party.role} {party.name!r} HAS JOINED"), Send(arrived.sender, answer)]

    # ── connections ──

    def forget(self, address: str) -> None:
        """Drop a connection that is gone."""
        self.peers.pop(address, None)

    def _turn_away(self, sender: str, reason: str, now: float) -> list[Command]:
        self.peers.pop(sender, None)
        return [Send(sender, Refused(reason=reason)), *self.scheduler.gone(sender, now)]

    def recheck(self) -> None:
        """Make the next `tick` look at once, since keys have changed."""
        self._look_at = 0.0

    def deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        return self._look_at if self.peers else None

    def tick(self, now: float) -> list[Command]:
        """End the connections of keys that are no longer valid."""
        if now < self._look_at or not self.peers:
            return []
        self._look_at = now + LOOK_S
        self._note_submitted()
        out: list[Command] = []
        for address, peer in list(self.peers.items()):
            if not _is_open(peer):
                del self.peers[address]
                continue
            verdict = self._verdict(peer.key)
            if verdict.state == "known" and (verdict.name, verdict.role) == peer.who[:2]:
                continue
            _cut(peer)  # it dials again, and its hello is answered with the reason
            out.append(Log("warning", f"LB - {peer.who.role} {peer.who.name!r} IS CUT OFF : {verdict.reason}"))
            out += self._turn_away(address, verdict.reason or "the role of this key has changed: connect again", now)
        return out

    # ── files ──

    def refer(self, address: str, refers: Callable[[Part], bool | str]) -> Callable[[Part], bool | str] | None:
        """Return how files are named to this party: with a ticket for the bulk door."""
        peer = self.peers.get(address)
        if peer is None:
            return None
        key, secret = peer.key, self._tickets

        def named(part: Part) -> bool | str:
            if isinstance(part, FilePart) and refers(part):
                return f"{part.name}.{ticket(secret, key, part.name)}"
            return False

        return named

    def _note_submitted(self) -> None:
        submitted, self._submitted = self._submitted, {}
        for user, about in submitted.items():
            self.audit.note("submit", user=user, **about)

    def close(self) -> None:
        """Close the audit log."""
        self._note_submitted()
        self.audit.close()


def _is_open(peer: PeerConnection) -> bool:
    """Return True if the connection still stands; its descriptor may be another one's by now."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(peer.fd)) as connection:
        return tuple(connection.getpeername()) == peer.name
    return False


def _cut(peer: PeerConnection) -> None:
    """End a connection, if its descriptor is still the one."""
    if _is_open(peer):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(peer.fd)) as connection:
            connection.shutdown(socket.SHUT_RDWR)
