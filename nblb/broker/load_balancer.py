"""The Load Balancer's process: doors -> scheduler -> journal -> doors, one turn after another.

A turn hands all arrived messages to the scheduler, gathers its commands, commits all journal entries in one
transaction, and only then sends. Nothing that depends on an uncommitted entry is sent. A message that causes an
exception affects nothing else: the turn goes on with the next message.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from nblb._version import __version__
from nblb.broker import kept_settings, queries
from nblb.broker.access.bulk_process import BulkProcess
from nblb.broker.access.gate import Gate
from nblb.broker.access.key_changes import KeyChanges
from nblb.broker.access.limit_changes import LimitChanges
from nblb.broker.access.rights import refusal_of
from nblb.broker.dead_hubs import DeadHubs
from nblb.broker.discovery import Discovery
from nblb.broker.forged_blobs import forgery
from nblb.broker.full_disk import FullDisk
from nblb.broker.history import UsageHistory
from nblb.broker.job_end_hook import JobEndHook
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.lost_files import without_lost
from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.json_door import handle_json
from nblb.broker.outgoing import Backpressure, Outgoing
from nblb.broker.output_delivery import OutputDelivery
from nblb.broker.output_folder import OutputFolder
from nblb.broker.policy import policy
from nblb.broker.task_list import TaskPages
from nblb.errors import JournalError
from nblb.host import account
from nblb.parameters import Parameters, Source, load
from nblb.protocol.commands import (
    Command,
    Drop,
    Halt,
    KeepOutput,
    KeepSetting,
    Log,
    NameFiles,
    Record,
    Send,
    TellOutput,
)
from nblb.protocol.journal_entries import TaskForgotten
from nblb.protocol.messages import Answer, CallTold, Failure, PutBlob, Refused, TaskEnded, TaskState
from nblb.scheduling.scheduler import Scheduler
from nblb.shared_files import transfer
from nblb.system.console import Console
from nblb.system.machine import allow_many_files, slept_s
from nblb.system.private_folder import place_of_sockets
from nblb.system.processes import has_ended
from nblb.transport.curve.addresses import listening_address
from nblb.transport.curve.keys import slowness
from nblb.transport.door import Arrived
from nblb.transport.doors import Doors

MAINTENANCE_S = 0.02  # between two rounds of maintenance while messages arrive
STILL_S = 1.0  # a turn that takes longer is not the hubs' silence


class LoadBalancer:
    """The core of a cluster: it schedules and journals tasks; `startLB` serves until `stop`.

    Parameters
    ----------
    parametersfile
        Path of a parameters.json, a dict of its keys, or nothing for the defaults.
    queues
        Of pyLoadBalancer, which did not use it either.

    Examples
    --------
    >>> LB = lb.LoadBalancer('parameters.json')
    >>> LB.startLB()
    """

    def __init__(self, parametersfile: Source = None, queues: object = None) -> None:
        self.parameters: Parameters = load(parametersfile)
        self.queues = queues  # the seed's second argument, which it never used
        self.ready = threading.Event()  # set while the doors are open
        self.faults = 0  # exceptions caused by messages
        self.console = Console()
        self.doors = Doors(self.parameters)
        self.journal: Journal | MemoryJournal
        self.scheduler: Scheduler
        self._out = Outgoing()
        self._stopping = threading.Event()
        self._again = False  # the next turn must not wait for a message
        self._changed = True  # since the last maintenance
        self._maintain_at = self._idle_until = 0.0
        self._disk: FullDisk
        self._backpressure = Backpressure()
        self._opened_at = 0.0  # by the monotonic clock
        self._account = ""
        self._pages = TaskPages()
        self._history = UsageHistory(None)
        self._hook = JobEndHook("", Path(), self.console.write)
        self._gate: Gate | None = None  # for parties on other computers
        self._bulk: BulkProcess | None = None  # moves their large buffers

    # ── the seed's names ──

    def startLB(self) -> None:
        """Serve until `stop` is called or a client asks for the end; blocks.

        Raises
        ------
        NblbError
            When the state folder or a port is in use (the message names by whom), or the journal fails.
        """
        self._open()
        try:
            self._serve()
        finally:
            self._close()

    run = startLB

    def stop(self) -> None:
        """Make `startLB` close down and return; may be called from any thread or signal handler."""
        self._stopping.set()
        self.doors.wake()

    # ── opening and closing ──

    def _open(self) -> None:
        parameters = self.parameters
        self._opened_at = monotonic()
        self._account = account()
        folder = parameters.state_dir
        if parameters.LB_DURABILITY == "none":
            self.journal = MemoryJournal(folder, parameters.name)
        else:
            self.journal = Journal(folder, parameters.LB_DURABILITY, parameters.name)
        try:
            self.console.write_settings(self.parameters, self.journal.warning)
            self._outputs = OutputFolder(folder, self.journal.core)
            self._gate = self._guarded()
            now = monotonic()
            self.scheduler = Scheduler(
                policy(parameters, self.journal, self._outputs.path, self._bulk.port if self._bulk else 0), self._answer
            )
            if self._gate is not None:
                self._gate.scheduler, self._gate.ports = self.scheduler, self._remote_ports
            self._limits = LimitChanges(folder, self.scheduler, self._gate)
            keys = KeyChanges(self._gate, self._limits) if self._gate is not None else self._limits
            self.scheduler.administer = keys.perform
            judge = self._gate.refusal if self._gate is not None else partial(refusal_of, self.scheduler.state)
            self.scheduler.judge = judge
            self.scheduler.state.clock.begin(time.time() - now, slept_s(now))
            self._perform(self.scheduler.restore(self.journal.replay(), now))
            self.journal.is_maintained = True
            self._report_damage(now)
            self._outputs.sweep(self.scheduler.state.records)
            self._history = UsageHistory(folder if parameters.LB_DURABILITY != "none" else None)
            self._history.load(self.scheduler.state)
            self._hook = JobEndHook(parameters.LB_ON_JOB_END, folder, self.console.write)
            self._dead_hubs = DeadHubs(self.scheduler)
            self._disk = FullDisk(
                self.journal, self.scheduler, self._out, self.console.write, self._safely, self._outputs.make_room
            )
            self._delivery = OutputDelivery(
                self._outputs, self.journal.claims, self._out, parameters.LB_OUTPUT_MB, parameters.LB_OUTPUT_TOTAL_MB
            )
            self.doors.share(self.journal.claims.find, self.journal.claims.refers)
            self.doors.open()
            self._discovery = Discovery(parameters, self.journal.folder, self.doors, self._about, self.console.write)
            self._discovery.publish()
            self.console.write("info", place_of_sockets(parameters))
        except BaseException:
            self.doors.close()
            self._close_gate()
            self.journal.close()
            raise
        self.ready.set()

    def _guarded(self) -> Gate | None:
        """Return the gate for other computers, if LB_IP is an address that they can reach."""
        ip = listening_address(self.parameters.LB_IP)
        if not ip or self.parameters.LB_SECURITY != "on":
            return None
        gate = Gate(self.parameters, ip)
        if self.journal.claims.offered:
            log = self.parameters.state_dir / "logs" / "bulk.log"
            self._bulk = BulkProcess(self.parameters.state_dir, ip, self.parameters.WKHUB_LBPORT, log)
            if self._bulk.trouble:
                self.console.write("error", f"LB - WARNING : {self._bulk.trouble}")
        self.doors.admit_remote(gate.guard)
        allow_many_files()  # each half-open connection takes a descriptor
        if slow := slowness():
            self.console.write("warning", f"LB - WARNING : {slow}")
        return gate

    def _close_gate(self) -> None:
        if self._bulk is not None:
            self._bulk.close()
            self._bulk = None
        if self._gate is not None:
            self._gate.close()
            self._gate = None

    def _remote_ports(self) -> tuple[int, int]:
        addresses = self.doors.addresses
        clients, hubs = (addresses[door].rpartition(":")[2] for door in ("clients_remote", "hubs_remote"))
        return int(clients), int(hubs)

    def _report_damage(self, now: float) -> None:
        """Report what the journal has lost, and end what must not run again."""
        damage = self.journal.damage
        for sentence in damage.sentences:
            self.console.write("error", f"LB - JOURNAL DAMAGED : {sentence}")
        if damage.lost_orders:
            self._perform(self.scheduler.lost_entries("the journal has lost entries", now))

    def _about(self) -> dict[str, Any]:
        """Return this core's addresses and identity, for its connection file and for status queries."""
        return {
            "name": self.parameters.name,
            "core": self.journal.core,
            "epoch": self.journal.epoch,
            "pid": os.getpid(),
            "process": transfer.process_name(),
            "host": socket.gethostname(),
            "started_at": self.scheduler.state.wall(self._opened_at),
            "python": list(sys.version_info[:2]),
            "nblb": __version__,
            "addresses": self.doors.addresses,
            "security": self.parameters.LB_SECURITY,
            "state_dir": str(self.parameters.state_dir),
            "runtime_dir": str(self.doors.folder),
            "durability": self.parameters.LB_DURABILITY,
            "lost": self.journal.damage.sentences[:5],
        }

    def _close(self) -> None:
        self.ready.clear()
        self._stopping.clear()
        self._discovery.withdraw()
        self.doors.close()
        self._hook.close()
        self._history.save(self.scheduler.state)
        self._limits.close()
        self._close_gate()
        self.journal.close()
        self.console.write("info", "EXITED Load Balancer")

    # ── the loop ──

    def _serve(self) -> None:
        now = monotonic()
        while not self._stopping.is_set():
            begun = monotonic()
            wait_s = self._wait_s(begun)
            arrived = self.doors.receive(wait_s)
            if not arrived and not self._changed:
                self.journal.rest()
            before, now = now, monotonic()
            overslept_s = max(0.0, now - begun - wait_s)
            if begun - before + overslept_s > STILL_S:  # a disk that stalls, a stopped process
                self.scheduler.stood_still(begun - before + overslept_s)
            self.scheduler.update_clocks(now, time.time(), slept_s(now))
            is_due = now >= self._maintain_at
            for each in arrived:
                self._take(each, now)
            if is_due:
                self._check_peers(now)
            self._perform(self._safely(self.scheduler.tick, now))
            self._commit_and_speak(now)
            self._take_troubles(now)
            self.journal.claims.end_turn()
            self._changed = True
            if is_due:
                self._maintain(now)

    def _wait_s(self, now: float) -> float:
        """Return how many seconds the loop may wait for messages."""
        if self._again:
            self._again = False
            return 0.0
        deadline = self._maintain_at if self._changed else max(self._maintain_at, self._idle_until)
        for at in (self.scheduler.next_deadline(), self._disk.deadline(), self._out.deadline()):
            if at is not None and at < deadline:
                deadline = at
        return max(0.0, deadline - now)

    # ── maintenance: what need not follow each message at once ──

    def _check_peers(self, now: float) -> None:
        """Handle the hubs whose process has ended, and the connections whose key is no longer valid."""
        self._perform(self._safely(self._dead_hubs.check, now))
        if self._gate is not None:
            self._perform(self._safely(self._gate.tick, now))

    def _maintain(self, now: float) -> None:
        """Update what lies beside the journal; at most every MAINTENANCE_S, and once more after the last message."""
        self.journal.update_witness()
        self.journal.claims.rest(now)
        self._observe(now)
        if reason := self._discovery.keep(now):
            raise JournalError(f"The core ends, because {reason}, and the journal with it.")
        self._changed = False
        self._maintain_at = now + MAINTENANCE_S
        deadlines = (
            self._discovery.deadline,
            self._dead_hubs.deadline(),
            self.journal.deadline(),
            self._history.deadline(),
            self._hook.deadline(now),
            self._gate.deadline() if self._gate is not None else None,
        )
        self._idle_until = min(at for at in deadlines if at is not None)

    def _observe(self, now: float) -> None:
        """Add to the history, and report ended jobs; an exception in it is logged like that of a message."""
        try:
            ended, self.scheduler.state.ended_jobs = self.scheduler.state.ended_jobs, []
            self._hook.add(queries.ended_job(self.scheduler, job, now) for job in ended)
            self._hook.poll(now)
            self._delivery.rest(now)
            self._history.sample(self.scheduler.state, now, self.journal.commits, self.journal.commit_s)
        except Exception:
            self._fault()

    def _take(self, arrived: Arrived, now: float) -> None:
        if arrived.key and self._gate is not None:
            try:
                arrived, said = self._gate.screen(arrived, now)
            except Exception:  # what could not be judged is dropped
                self._fault()
                return
            self._perform(said)
        sender, messages = arrived.sender, arrived.messages
        if messages is not None:
            if self.journal.claims.has_lost:
                messages, said = without_lost(self.scheduler, sender, messages)
                self._perform(said)
            for message in messages:
                if self._disk.reason and self._disk.refuse(sender, message):
                    continue
                if type(message) is PutBlob and (reason := forgery(self.scheduler, message)):
                    self._refuse_forged(sender, message, reason)
                    continue
                self._perform(self._safely(self.scheduler.handle, sender, message, now))
        elif sender.startswith("json-"):
            self._take_json(sender, arrived, now)
        elif arrived.error is not None and "another version" in str(arrived.error):
            self._out.add(sender, Refused(kind="ProtocolError", reason=str(arrived.error)))

    def _refuse_forged(self, sender: str, message: PutBlob, reason: str) -> None:
        """Refuse a blob and what its sender has waiting for it; the log, and with keys the audit log, name the user."""
        self._perform(self.scheduler.blob_forged(sender, message.hash, reason))
        client = self.scheduler.state.clients.get(sender)
        user = client.user if client is not None else sender
        self.console.write("warning", f"LB - WARNING : refused from {user} : {reason}")
        if self._gate is not None:
            self._gate.audit.refused(time.monotonic(), user, "PutBlob", reason=reason)

    def _take_json(self, sender: str, arrived: Arrived, now: float) -> None:
        if arrived.error is not None:
            self._out.reply(sender, {"error": f"{str(arrived.error)[:1].upper()}{str(arrived.error)[1:]}."})
            return
        request = arrived.json
        user = self._account
        if arrived.key and self._gate is not None:
            try:
                user, refusal = self._gate.screen_json(arrived, now)
            except Exception:
                self._fault()
                refusal = "The core could not judge this request; its log says why."
            if refusal:
                self._out.reply(sender, {"error": refusal})
                return
        if sender.startswith("json-hubs"):
            self._out.reply(sender, {"error": "This is the hubs' port; clients ask at LB_CLIENTPULLPORT."})
            return
        if self._disk.reason and self._disk.refuse_json(request):
            self._out.reply(sender, {"error": self._disk.reason})
            return
        try:
            value, commands, task = handle_json(self.scheduler, request, now, str(uuid.uuid4()), user)
        except Exception:
            self._fault()
            self._out.reply(sender, {"error": "The core could not handle this request; its log says why."})
            return
        self._perform(commands)
        self._out.reply(sender, value, task)

    def _safely(self, decide: Callable[..., list[Command]], *event: Any) -> list[Command]:
        """Return the scheduler's commands; an exception in it costs this event, not the cluster."""
        try:
            return decide(*event)
        except Exception:
            self._fault()
            return []

    def _fault(self) -> None:
        self.faults += 1
        self.console.write("error", "Unexpected error in main LB LOOP")
        self.console.write("error", traceback.format_exc())

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            kind = type(command)
            if kind is Send:
                if not command.to.startswith("json-"):  # type: ignore[attr-defined]
                    self._out.add(command.to, command.message)  # type: ignore[attr-defined]
            elif kind is Record:
                entry = command.entry  # type: ignore[attr-defined]
                self.journal.append(entry)
                if type(entry) is TaskForgotten:
                    self._outputs.drop(entry.task)
            elif isinstance(command, Log):
                self.console.write(command.level, command.text)
            elif isinstance(command, NameFiles):
                refer = self._gate.refer(command.address, self.journal.claims.refers) if self._gate else None
                self.doors.name_files_to(command.address, refer)
            elif isinstance(command, KeepOutput):
                self._delivery.keep(command.message)
            elif isinstance(command, TellOutput):
                self._delivery.answer(command.address, command.message, monotonic())
            elif isinstance(command, Drop):
                self.doors.drop(command.address)
            elif isinstance(command, KeepSetting):
                self._keep_setting(command)
            elif isinstance(command, Halt):
                self.console.write("info", f"LB - STOPPING : {command.reason}")
                self._stopping.set()

    def _keep_setting(self, command: KeepSetting) -> None:
        try:
            kept_settings.keep(self.parameters.state_dir, command.name, command.value)
        except OSError as error:
            self.console.write("error", f"LB - CANNOT KEEP THE SETTING {command.name} : {error}")

    # ── the commit ──

    def _commit_and_speak(self, now: float) -> None:
        if not self._disk.keep(now):
            self._out.flush_unbound(self.doors)
            return
        for entry, problem in self.journal.unkept:
            self.console.write("error", f"LB - CANNOT KEEP {type(entry).__name__} : {problem}")
        self.journal.unkept.clear()
        self._out.flush(self.doors, None if self._stopping.is_set() else now)
        self.journal.unload_sent()

    # ── peers that are gone or slow ──

    def _take_troubles(self, now: float) -> None:
        doors = self.doors
        if self._backpressure:
            self._send_withheld(now)
        doors.drained.clear()  # it only ended the wait, so that _send_withheld runs
        if doors.unsayable:
            self._note_unsayable(now)
        if not doors.gone and not doors.untaken:
            return
        self._again = True
        gone, doors.gone = dict.fromkeys(doors.gone), []
        untaken, doors.untaken = doors.untaken, []
        for address in gone:
            self._backpressure.drop(address)
            self._out.forget(address)
            if self._gate is not None:
                self._gate.forget(address)
            self._perform(self._safely(self.scheduler.gone, address, now, self._has_ended(address)))
        for address, message in untaken:
            if address in gone:
                continue
            if getattr(message, "payload", None) is None:
                self.console.write("error", f"LB - CANNOT SEND {type(message).__name__} TO {address}")
                continue
            if self._backpressure.add(address, message):
                self.console.write("warning", f"LB - {address} IS SLOW : its results wait until it has read others")

    def _note_unsayable(self, now: float) -> None:
        """Let the scheduler end what can no longer be read, so that nobody waits for it for ever."""
        unsayable, self.doors.unsayable = self.doors.unsayable, []
        for address, message, error in unsayable:
            self.console.write("error", f"LB - CANNOT SEND {type(message).__name__} TO {address} : {error}")
            self._perform(self._safely(self.scheduler.unreadable, address, message, str(error), now))
            if isinstance(message, TaskEnded) and message.payload is not None:
                lost = Failure(kind="TaskLost", message=f"its result is lost: {error}")
                end = msgspec.structs.replace(message, state=TaskState.LOST, payload=None, failure=lost, holes=())
                self._out.add(address, end)
            elif isinstance(message, CallTold):
                answer = Answer(request=message.request, error=f"the call cannot be read: {error}", kind="NblbError")
                self._out.add(address, answer)
            self._again = True

    def _send_withheld(self, now: float) -> None:
        for address, wish in self._backpressure.take(self.doors.is_slow):
            self._again = True
            self._perform(self._safely(self.scheduler.handle, address, wish, now))

    def _has_ended(self, address: str) -> bool:
        """Return True if the hub runs on this computer and its process has ended."""
        hub = self.scheduler.state.hubs.get(address)
        return hub is not None and has_ended(hub.hello.hub)

    def _answer(self, scheduler: Scheduler, topic: str, about: dict[str, Any], now: float) -> Any:
        if topic == "page":
            row = partial(queries.call_row, scheduler, now=now)
            return self._pages.page(scheduler.state, about, now, row)
        if topic == "history":
            return self._history.answer(about, scheduler.state.wall(now))
        value = queries.answer(scheduler, topic, about, now)
        if topic == "users":
            return self._limits.with_keys(value)
        if topic == "status":
            uptime_s = scheduler.state.clock.passed_s(self._opened_at, now)
            journal = {"commits": self.journal.commits, "commit_s": self.journal.commit_s}
            seen = {
                "garbage": self.doors.garbage,
                "faults": self.faults,
                "journal": journal,
                "disk": self._folder_sizes(),
            }
            return {**self._about(), "version": __version__, "uptime_s": uptime_s, **seen, **value}
        return value

    def _folder_sizes(self) -> dict[str, int]:
        """Return the size of the journal's database, and the size and the free space of its disk, in bytes."""
        folder = self.parameters.state_dir
        try:
            disk = os.statvfs(folder)
            size = sum(path.stat().st_size for path in folder.glob("journal*"))
        except OSError:
            return {}
        return {"journal": size, "free": disk.f_bavail * disk.f_frsize, "total": disk.f_blocks * disk.f_frsize}
