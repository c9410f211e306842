"""The process of a hub: the loop that connects the core, the slots and the pool of workers.

    core ── Line ──► Slots.handle ──► commands ──► pool (GiveTask, Interrupt, …), Line (Send)
    workers ── ProcessPool.read ──► Slots.handle ──► …

All events that have arrived are handled in one turn, whose messages are sent as one; between turns the hub sleeps
until the next deadline.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import cloudpickle
import msgspec

from nblb._version import __version__
from nblb.access import connection_file
from nblb.engines.loading import load as load_engine
from nblb.errors import NblbError
from nblb.host import cores, numpy_version
from nblb.hub import admission, equipment, gpus
from nblb.hub.engine_pool import EnginePool
from nblb.hub.pool.output_store import OutputStore
from nblb.hub.pool.process_pool import ProcessPool
from nblb.hub.probes import Probes
from nblb.hub.slots.slots import CORE, Slots, SlotSettings
from nblb.hub.worker_usage import WorkerUsage
from nblb.parameters import PROCESSES, Parameters, load
from nblb.payload import blob_name, dump_constant, dump_function
from nblb.protocol.commands import (
    AskForItems,
    Command,
    ForgetBlob,
    GiveTask,
    Halt,
    HandBack,
    Interrupt,
    KillWorker,
    Log,
    RefuseWait,
    ResumeWorker,
    RetireWorker,
    Send,
    StartWorker,
    Steer,
    TakeBack,
)
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    BlobMissing,
    FilesSeen,
    HoldBlob,
    HubHello,
    Message,
    Refused,
    Welcome,
    core_to_hub,
    hub_to_core,
)
from nblb.shared_files.transfer import Folder, has_ended, is_of_this_boot
from nblb.system import batch_job, machine
from nblb.system.console import printable
from nblb.system.core_file import find_core_file
from nblb.system.private_folder import runtime_folder, with_connection
from nblb.system.processes import new_name
from nblb.transport.dialing import Dialled, dial, local_address
from nblb.transport.local_line import SCHEME
from nblb.user_text import clean_name
from nblb.worker.settings import WorkerSettings

INFINITY = float("inf")
FIND_S = 1.0  # between two looks for the core's address, while there is no connection
SLEPT_S = 1.0  # a shorter sleep is drift between two clocks
CORE_LOOK_S = 0.5  # between two looks at the core's process, if it runs on this computer
COLOURS = {"info": "\033[94m", "good": "\033[92m", "warning": "\033[93m", "error": "\033[91m"}


class WorkerHub:
    """A hub of workers for the Load Balancer that the parameters name.

    Parameters
    ----------
    parametersfile
        Path of a parameters.json, a dict of its keys, or nothing for the defaults.
    workers
        How many workers to have in all; the groups of WKHUB_WORKERS share them in proportion to their sizes.
    core
        The address of the core's door for hubs, if it is not the one that follows from the parameters: the end of a
        tunnel to another computer, for example.
    lives_s
        The seconds after which it hands back what runs, and ends, because its batch job ends then; 0 for no end.
    engine, engine_options
        The engine that runs the tasks, "dask" or "module:callable", and its options; "" for processes of its own.

    Examples
    --------
    >>> hub = lb.WorkerHub('parameters.json')
    >>> hub.addTask('HELLO', hello)
    >>> hub.startWKHUB()
    """

    def __init__(
        self,
        parametersfile: Any = None,
        workers: int | None = None,
        core: str = "",
        lives_s: float = 0.0,
        engine: str = "",
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        given = load(parametersfile)
        self.parameters: Parameters = given if core else with_connection(given, "hub")
        self._core_address = core
        self._ends_at = monotonic() + lives_s if lives_s > 0.0 else INFINITY
        self.refusal = ""  # why the core has refused this hub
        self.hub = new_name()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._refuse_engines()
        self.parameters = self.parameters.here()
        self._groups = self.parameters.groups(workers)
        admission.check(self.parameters)
        self._gpus = gpus.HubGpus()
        self._engine = load_engine(engine, engine_options or {}) if engine not in ("", "processes") else None
        if self._engine is not None:
            self._groups = tuple(msgspec.structs.replace(group, engine=engine) for group in self._groups)
        else:
            self._groups, self._gpus = gpus.divided(self.parameters, self._groups, workers is not None)
            self._groups = equipment.with_shares(self._groups, equipment.total_memory_mb())
        self._tasks: dict[str, tuple[tuple[str, Payload], tuple[str, Payload]]] = {}
        self._tasks_changed = True
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = -1, -1
        self._stop_reason: str | None = None
        self._halted = False
        self._core_seen_at = 0.0  # when this hub last saw that the process lives
        self._core_process = ""  # its name, with a mark of its computer
        self._find_at = 0.0
        self._connections = 0
        self._was_connected = False
        self._slept_s = machine.slept_s(monotonic())  # this computer, since its start
        self._outgoing: list[Message] = []
        self._folder: Folder | None = None  # the shared folder for large buffers
        self._shares_files = False
        self._output_folder = ""  # for output, of a hub that sees no folder of the core's
        self.restarts = False  # the core has asked for a new start of this process, after its end
        self._usage = WorkerUsage()
        self.bugs = 0  # number of events that raised; read by tests

    def _refuse_engines(self) -> None:
        """Raise if all groups have engines: each has a hub of its own, and nothing is left for this one."""
        groups = self.parameters.WKHUB_WORKERS
        if groups and all(group.engine != PROCESSES for group in groups):
            raise NblbError(
                f"WKHUB_WORKERS[0].engine is {groups[0].engine!r}, so 'nblb start' starts a hub of its own for it, and "
                "no group is left for this hub. 'nblb hub --engine NAME' starts a hub with an engine."
            )

    # ── the seed's methods ──

    def addTask(self, name: str, funct: Callable[..., Any], **arguments: Any) -> None:
        """Let tasks of a name run a function.

        Parameters
        ----------
        name
            The name of the tasks.
        funct
            Called as funct(task=<the dict that was sent>, arguments=<the arguments below>).
        **arguments
            Given to each call.

        Examples
        --------
        >>> hub.addTask('HELLO', hello, greeting='Hello')
        """
        self._add(name, dump_function(funct), arguments)

    def add_packed(self, name: str, function: Payload) -> None:
        """Let tasks of a name run a function that was packed elsewhere, whose modules this process need not have.

        Parameters
        ----------
        name
            The name of the tasks.
        function
            The pickled function.

        Examples
        --------
        >>> hub.add_packed("HELLO", payload)
        """
        self._add(name, (blob_name(function.buffers), function), {})

    def _add(self, name: str, function: tuple[str, Payload], arguments: dict[str, Any]) -> None:
        name, blobs = clean_name(name), (function, dump_constant(arguments))
        with self._lock:
            if name in self._tasks:
                print(f"TASK {name} ALREADY EXISTS, SKIPPING addTask")
                return
            self._tasks[name] = blobs
            self._tasks_changed = True
        self._wake()

    def rmvTask(self, name: str) -> None:
        """Take a task's name back; tasks of it that wait are refused.

        Parameters
        ----------
        name
            The name of the tasks.

        Examples
        --------
        >>> hub.rmvTask('HELLO')
        """
        with self._lock:
            self._tasks.pop(clean_name(name), None)
            self._tasks_changed = True
        self._wake()

    def startWKHUB(self) -> None:
        """Serve; blocks until `stop` is called, Ctrl-C, or the Load Balancer stops its hubs."""
        try:
            self.run()
        except KeyboardInterrupt:
            self._log("info", "EXITING Worker Hub")

    # ── life ──

    def run(self) -> None:
        """Serve until `stop`; this is the main function of `nblb hub`."""
        try:
            self._open()
            while not self._halted:
                self._turn()
        finally:
            self._close()

    def stop(self, reason: str = "stopped") -> None:
        """End the hub in good order; from any thread or signal handler, any number of times.

        Parameters
        ----------
        reason
            What its log and the core are told.

        Examples
        --------
        >>> hub.stop()
        """
        self._stop_reason = reason
        self._wake()

    def _wake(self) -> None:
        if self._wake_write >= 0:
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"w")

    def _open(self) -> None:
        parameters = self.parameters
        self._halted = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        machine.allow_many_files()
        self._pool = self._made_pool()
        self._store = self._pool.printing.store = OutputStore(
            parameters.LB_OUTPUT_MB, parameters.LB_OUTPUT_TOTAL_MB, parameters.LB_DURABILITY == "full", self._log
        )
        self._probes = Probes(parameters, self.hub, self._states)
        settings = SlotSettings(
            heartbeat_s=parameters.LB_HEARTBEAT_S,
            suspect_s=parameters.LB_SUSPECT_S,
            lease_s=parameters.lease_s,
            grace_s=parameters.LB_CANCEL_GRACE_S,
            prefetch_s=0.0 if self._engine is not None else parameters.LB_PREFETCH_MS / 1000.0,
            most_waits=parameters.WKHUB_MAX_STANDINS,
            orphan_s=parameters.LB_ORPHAN_S,
            results_s=parameters.LB_JOB_TTL_S,
            ends_at=self._ends_at,
        )
        refusal = admission.HubAdmission().refusal
        self._slots = Slots(self._hello(), settings, lambda: f"worker_{uuid.uuid4().hex[:8]}", refusal)
        self._slots.most_workers = self._gpus.most_workers
        self._perform(self._slots.start(monotonic()))  # the workers start while the line is dialed
        self._line = self._dialled(self._address())
        self._fds = (self._pool.fileno, self._wake_read, self._probes.fileno())
        machine.load()

    def _made_pool(self) -> ProcessPool | EnginePool:
        if self._engine is None:
            return ProcessPool(self._worker_settings(), self._log, self._gpus.pins)
        return EnginePool(self._engine, sum(group.workers for group in self._groups), self._log)

    def _hello(self) -> HubHello:
        return HubHello(
            hub=self.hub,
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            python=sys.version_info[:2],
            cloudpickle=cloudpickle.__version__,
            groups=self._groups,
            address=self._probes.address if not self._core_address else "",  # through a tunnel it cannot be probed
            ip=self.parameters.WKHUB_IP,
            numpy=numpy_version(),
            lb_port=self.parameters.WKHUB_LBPORT,
            hc_port=self._probes.port if not self._core_address else 0,
            parent=os.getppid(),
            nblb=__version__,
            batch_job=batch_job.name(),
            started_with=sum(group.workers for group in self._groups),
        )

    def _worker_settings(self) -> list[WorkerSettings]:
        """Return the settings of each group's worker processes.

        Workers of other accounts get no settings that are secrets of this one.
        """
        max_processes = machine.most_processes()
        threads = max(1, cores() // max(1, sum(group.workers for group in self._groups)))
        return [
            WorkerSettings(
                niceness=group.processP,
                threads=threads,
                max_message_mb=self.parameters.LB_MAX_MESSAGE_MB,
                env=group.env,
                memory_mb=group.memory_mb,
                max_rss_mb=group.max_rss_mb,
                max_processes=max_processes,
                run_as=group.run_as,
                account="",
                parameters=self.parameters if group.run_as == "hub" else self.parameters.without_secrets(),
            )
            for group in self.parameters.worker_groups()
        ]

    def _address(self) -> str:
        """Return the core's address for hubs; the core need not be there yet."""
        if self._core_address:
            return self._core_address
        if self.parameters.connection:
            return connection_file.read(Path(self.parameters.connection)).address()
        address = local_address(runtime_folder(self.parameters), "hubs")
        if os.environ.get("NBLB_RUNTIME_DIR") or Path(address.removeprefix(SCHEME)).exists():
            return address
        core = find_core_file(self.parameters)  # perhaps it runs with another NBLB_RUNTIME_DIR
        known = "" if core is None or core.stale or core.is_on_another_computer else core.addresses.get("hubs_local")
        return known or address

    def _dialled(self, address: str) -> Dialled:
        line = dial(address, hub_to_core, core_to_hub, self.parameters.LB_MAX_MESSAGE_MB)
        if self._core_address:  # the end of a dead tunnel takes connections; a core here that is silent stands still
            line.longest_silence_s = self.parameters.LB_SUSPECT_S
        return line

    def _dial_again(self, now: float) -> None:
        """Dial another address if the core has one by now, while there is no connection."""
        if now < self._find_at:
            return
        self._find_at = now + FIND_S
        with contextlib.suppress(NblbError):  # the state folder is gone: a new core will make another
            address = self._address()
            if address != self._line.address:
                self._line.close()
                self._connections = 0
                self._line = self._dialled(address)

    def _close(self) -> None:
        if hasattr(self, "_pool"):
            self._pool.close()
            del self._pool
        if hasattr(self, "_line"):
            self._line.close()
            del self._line
        if hasattr(self, "_probes"):
            self._probes.close()
            del self._probes
        if self._folder is not None:
            self._folder.close()
            self._folder = None
        if self._output_folder:
            shutil.rmtree(self._output_folder, ignore_errors=True)
            self._output_folder = ""
        if self._wake_read >= 0:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1

    def _states(self) -> dict[str, int]:
        return self._slots.states()

    # ── the loop ──

    def _turn(self) -> None:
        slots, pool, line = self._slots, self._pool, self._line
        now = monotonic()
        deadline = min(slots.next_deadline() or INFINITY, pool.next_deadline() or INFINITY)
        if slots.misses_core:
            deadline = min(deadline, self._core_seen_at + CORE_LOOK_S)
        wait_s = (
            0.0
            if pool.has_events or self._probes.has_more
            else None
            if deadline == INFINITY
            else max(0.0, deadline - now)
        )
        messages = line.receive(wait_s, self._fds)
        now = monotonic()
        if line.connections != self._connections or line.connected != self._was_connected:
            self._note_line(now)
        for message in messages:
            if type(message) is HoldBlob:
                message = self._kept(message)
            elif type(message) is Welcome:
                # A proxy or tunnel hides which of its ends is silent: then even a core here proves nothing by living.
                is_direct = not self._core_address and line.peer_pid == message.pid
                self._core_process = message.process if is_direct else ""
                self._share_files(message)
                self._store.open(message.output, self._own_output, self._folder if self._shares_files else None)
            elif type(message) is Refused and message.kind == "NotAllowed":
                self.refusal = message.reason
            self._handle(CORE, message, now)
        if line.ready or self._probes.has_more:
            self._read_requests()
        for sender, event in pool.read(now, pool.fileno in line.ready):
            self._handle(sender, event, now)
        if self._tasks_changed or self._stop_reason is not None or not line.connected:
            self._on_request(now)
        if now >= self._core_seen_at + CORE_LOOK_S:
            self._note_sleep(now)
            self._look_at_core(now)
        if slots.is_heartbeat_due(now):
            self._probes.keep(now)
            slots.load, slots.memory, slots.disk = machine.load(), machine.memory(), machine.disk()
            slots.usage = self._usage.measure(pids := pool.pids())
            self._perform(self._gpus.look(slots, pids, now, pool.kill, self._log))
        self._perform(slots.tick(now))
        if self._outgoing:
            line.send(self._outgoing)
            self._outgoing = []

    def _note_sleep(self, now: float) -> None:
        """Count this computer's sleep, unless the core is on it and has slept too."""
        before, self._slept_s = self._slept_s, machine.slept_s(now)
        if self._slept_s - before >= SLEPT_S and not self._core_process:
            self._slots.slept(self._slept_s - before, now)

    def _handle(self, sender: str, message: Message, now: float) -> None:
        """Handle one event; an exception is logged and does not stop later events."""
        try:
            self._perform(self._slots.handle(sender, message, now))
        except Exception:
            self.bugs += 1
            self._log("error", f"a bug met {type(message).__name__} from {sender}:\n{traceback.format_exc()}")

    def _note_line(self, now: float) -> None:
        """Notify the slots when the line to a core, perhaps a new one, is connected or cut."""
        self._was_connected = self._line.connected
        if self._line.connections != self._connections:
            self._connections = self._line.connections
        if self._was_connected:
            self._slots.line_up(now)
        else:
            self._slots.line_down(now)

    def _share_files(self, welcome: Welcome) -> None:
        """Pass large buffers through files if the core and this hub see the same folder."""
        folder = Folder.seen(welcome.files, welcome.token) if welcome.files else None
        self._shares_files = folder is not None
        if folder is None:
            self._line.share(None, None)
            return
        if self._folder is None or self._folder.token != folder.token:
            self._folder = folder
            self._pool.hand_to(folder)
        self._line.share(self._folder.find, self._folder.refers)
        self._outgoing.append(FilesSeen(token=welcome.token))

    def _own_output(self) -> str:
        """Return a folder for the output of tasks, on the file system of the one for large buffers; "" without one."""
        if self._shares_files and self._folder is not None:
            path = Path(self._folder.root) / "output"  # of a mirror, which is removed as a whole
        else:
            # In the folder of the agent of a hub over ssh, which removes it even if this hub is killed.
            place = os.environ.get("NBLB_RUNTIME_DIR") or None
            self._output_folder = self._output_folder or tempfile.mkdtemp(prefix="nblb-output-", dir=place)
            path = Path(self._output_folder)
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, exist_ok=True)
            return str(path)
        return ""

    def _read_requests(self) -> None:
        if self._wake_read in self._line.ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if self._fds[2] in self._line.ready or self._probes.has_more:
            self._probes.answer()

    def _on_request(self, now: float) -> None:
        """Handle requests of other threads, and check whether a core that went away is dead."""
        if self._tasks_changed:
            with self._lock:
                self._tasks_changed = False
                tasks = dict(self._tasks)
            for blobs in tasks.values():
                for blob, payload in blobs:
                    self._pool.store_blob(HoldBlob(hash=blob, payload=payload))
            self._slots.set_functions({name: (f[0], a[0]) for name, (f, a) in tasks.items()}, now)
        if self._stop_reason is not None:
            self._perform(self._slots.stop(self._stop_reason, now))
            self._stop_reason = None
        if not self._line.connected and self._core_process and has_ended(self._core_process):
            self._core_process = ""
            self._slots.core_ended()
        if not self._line.connected:
            self._dial_again(now)

    def _look_at_core(self, now: float) -> None:
        """Keep the lease while a core on this computer lives: it may stand still, as on a disk that stalls."""
        self._core_seen_at = now
        if self._line.connected and is_of_this_boot(self._core_process) and not has_ended(self._core_process):
            self._slots.core_lives(now)

    def _kept(self, message: HoldBlob) -> HoldBlob | BlobMissing:
        """Store a blob for the workers, and return the event for the slots."""
        if self._slots.wants(message):
            try:
                self._pool.store_blob(message)
            except OSError as error:
                self._log("error", f"there is no memory for a blob of {message.payload.nbytes:,} bytes: {error}")
                return BlobMissing(hash=message.hash)
        return message

    def _perform(self, commands: list[Command]) -> None:
        pool = self._pool
        for command in commands:
            kind = type(command)
            if kind is Send:
                self._outgoing.append(command.message)  # type: ignore[attr-defined]
            elif kind is GiveTask:
                pool.give(command.worker, command.run)  # type: ignore[attr-defined]
            else:
                self._perform_rare(command)

    def _perform_rare(self, command: Command) -> None:
        pool = self._pool
        match command:
            case StartWorker(worker, group, not_before):
                pool.start_worker(worker, group, not_before, monotonic())
            case Interrupt(worker, task, attempt, first):
                pool.interrupt(worker, (task, first, attempt))
            case Steer():
                pool.steer(command)
            case KillWorker(worker, why):
                pool.kill(worker, why)
            case TakeBack(worker):
                pool.take_back(worker)
            case AskForItems(worker):
                pool.ask_for_items(worker)
            case HandBack(worker, task, attempt, first):
                pool.hand_back(worker, (task, first, attempt))
            case ResumeWorker(worker):
                pool.resume(worker)
            case RefuseWait(worker):
                pool.refuse_wait(worker)
            case RetireWorker(worker, why):
                pool.retire(worker, why)
            case ForgetBlob(blob):
                pool.drop_blob(blob)
            case Log(level, text):
                self._log(level, text)
            case Halt():
                self._halted, self.restarts = True, self._slots.restarts
            case _:
                raise AssertionError(f"a hub cannot perform {command!r}")

    @staticmethod
    def _log(level: str, text: str) -> None:
        line = printable(f"WKHUB - {text}")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the console may be closed
            print(f"{COLOURS.get(level, '')}{line}\033[0m" if sys.stdout.isatty() else line, flush=True)
