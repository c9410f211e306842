"""start, connect and stop for all processes of a cluster together.

Rules: a second start finds the running processes. Of two starters at the same time one waits for the other (a lock in
the runtime folder), and the core's lock on the state folder has the final say. A process that dies at its start is an
error with the end of its log. A stop leaves no process, socket or file of the runtime folder behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb import parameters as parameters_module
from nblb import task_api
from nblb.errors import LoadBalancerUnreachable, NblbError
from nblb.launch import elsewhere, notes, one_shot
from nblb.launch.monitor_links import link_for, monitor_url, owners_link
from nblb.launch.presence import RunningRole, await_end_of_stray_core, lock_file, present
from nblb.launch.readiness import START_DEADLINE_S, CoreGone, StateFolderInUse, wait_for
from nblb.launch.roles import SETTINGS, RoleProcess, spawn, started_with, write_log
from nblb.parameters import PROCESSES
from nblb.system.core_file import CoreFile, find_core_file, former_runtime_folders
from nblb.system.pids import end, is_alive, wait_gone
from nblb.system.private_folder import runtime_folder, with_connection
from nblb.system.processes import is_of_this_computer
from nblb.system.state_mark import is_ours

if TYPE_CHECKING:
    from typing import TypeAlias

    from nblb.client.cluster import Cluster
    from nblb.launch.dashboard import Dashboard
    from nblb.parameters import Parameters

    Source: TypeAlias = "str | Path | Mapping[str, Any] | Parameters | None"

STOP_GRACE_S = 5.0
OTHER_CORE_S = 10.0  # how long another core may lock the state folder without answering
TRIES = 3
CONNECTED = "connected to the Load Balancer"  # in the log of a hub (hub/slots/slots.py)
CHANGE_SHOWN_S = 20.0  # how long the notes of a cluster have what its start has changed


class StartWarning(UserWarning):
    """A warning that a start did not do what was asked; the cluster's `notes` have the same sentences."""


class StopWarning(UserWarning):
    """A warning that a stop could not end a hub on another computer."""


@dataclass
class Started:
    """The processes that one call of start has started; a Cluster's Launcher (client/cluster.py)."""

    parameters: Parameters
    processes: list[RoleProcess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # sentences on what was asked and not done
    changes: list[str] = field(default_factory=list)  # sentences on what the start has changed in a running cluster
    changed_at: float = 0.0

    def note(self, *sentences: str) -> None:
        """Adds those of the sentences that are not empty."""
        self.notes += filter(None, sentences)

    def note_change(self, sentence: str) -> None:
        """Adds a sentence that is shown for CHANGE_SHOWN_S only, for later it is no news."""
        self.changes.append(sentence)
        self.changed_at = time.monotonic()

    def stop(self) -> None:
        """Ends the whole cluster on this machine."""
        stop(self.parameters)

    def leave(self) -> None:
        """Ends the processes started here: the whole cluster if its core is one of them."""
        core = find_core_file(self.parameters)
        if core is not None and not core.stale and core.pid in self._pids("core"):
            stop(self.parameters)
        else:
            self.give_up()

    def give_up(self) -> None:
        """Ends the processes started here and no other, after a start that failed."""
        kept = [pid for role in elsewhere.ROLES for pid in self._pids(role)]
        end([pid for pid in self._pids() if pid not in kept], STOP_GRACE_S)
        end(kept, elsewhere.STOP_GRACE_S)

    def _pids(self, role: str = "") -> list[int]:
        return [process.pid for process in self.processes if role in ("", process.role)]

    def add_hub(self, **options: Any) -> RoleProcess:
        """Starts one more hub, here or elsewhere (elsewhere.HubOptions); it also ends with the `with` block."""
        chosen = elsewhere.checked(options)
        if chosen.is_elsewhere:
            process = elsewhere.add(with_connection(self.parameters), chosen)
        else:
            process = add_hub(self.parameters, chosen.workers, chosen.arguments())
        self.processes.append(process)
        return process

    def monitor_url(self) -> str:
        return monitor_url(self.parameters)

    def owners_link(self) -> str:
        return owners_link(self.parameters)

    def monitor_link(self, **options: Any) -> str:
        return link_for(self.parameters, **options)

    def dashboard(self) -> Dashboard:
        """Starts the dashboard with these parameters, or finds the running one."""
        from nblb.launch.dashboard import dashboard

        source = Path(self.parameters.source)
        return dashboard(source if source.is_file() else self.parameters.runtime_dir / SETTINGS)

    def monitor_trouble(self) -> str:
        return notes.monitor_trouble(self.parameters)

    def hub_troubles(self) -> list[str]:
        """A sentence for each hub on another computer that is away or lacks something."""
        return elsewhere.troubles(self.parameters)

    def later_notes(self) -> list[str]:
        """What has turned out since the start: hubs elsewhere that lack something, a Monitor that had to move."""
        moved = notes.monitor_moved(self.parameters)
        changes = self.changes if time.monotonic() < self.changed_at + CHANGE_SHOWN_S else []
        return [*changes, *self.hub_troubles(), *([moved] if moved and moved not in self.notes else [])]


def start(
    parameters: Source = None, workers: int | None = None, monitor: bool = True, name: str | None = None
) -> Cluster:
    """Start core, Health Check, Monitor and a hub on this machine, or find them running, and connect.

    Parameters
    ----------
    parameters
        A path to a parameters.json, a mapping of some of its keys, or None for the defaults.
    workers
        How many workers the hub here shall have in all; the groups of WKHUB_WORKERS share them in proportion to
        their sizes, and keep their bands and limits. 0 starts no hub.
    monitor
        True serves the Monitor's page.
    name
        Another name than LB_NAME: clusters of different names never meet.

    Returns
    -------
    Cluster
        The cluster; at the end of a `with` it stops what this call has started.

    Raises
    ------
    ParametersError
        A parameter is wrong; the message names the file, the key and what is allowed.
    NblbError
        A process did not start; the message ends with its log.

    Examples
    --------
    >>> with lb.start(workers=4) as cluster:
    ...     cluster.status()
    """
    chosen = settle(parameters, name)
    chosen.groups(workers)  # raises for a wrong number or engine before anything is started
    chosen = one_shot.let_in(chosen)
    started = Started(chosen)
    if chosen.connection:
        return _join_remote(chosen, workers, started)
    if workers is None and chosen.WKHUB_WORKERS and all(group.is_apart for group in chosen.WKHUB_WORKERS):
        workers = 0  # all its groups have hubs of their own
    try:
        with only_one_starter(chosen):
            for left in reversed(range(TRIES)):  # the core that was found may be about to end
                try:
                    _ensure_all(chosen, workers, monitor, started)
                    break
                except CoreGone:
                    if not left:
                        raise
        for sentence in (*started.notes, *started.changes):
            warnings.warn(sentence, StartWarning, stacklevel=2)
        return join(chosen, started)
    except BaseException:
        started.give_up()
        raise


def connect(parameters: Source = None) -> Cluster:
    """Connect to a running cluster.

    Parameters
    ----------
    parameters
        A path to a parameters.json, a mapping of some of its keys, or None for the defaults.

    Returns
    -------
    Cluster
        The cluster, to which tasks go from now on.

    Raises
    ------
    LoadBalancerUnreachable
        No core answers; the message names the address and what to run.

    Examples
    --------
    >>> cluster = lb.connect("parameters.json")
    """
    chosen = one_shot.let_in(settle(parameters))
    one_shot.find(chosen)  # knows best why there is none
    return join(chosen, Started(chosen, notes=list(filter(None, [notes.security(chosen)]))))


def _join_remote(parameters: Parameters, workers: int | None, started: Started) -> Cluster:
    """Connects to a core on another computer; nothing is started here but the hub that `workers` asks for."""
    if workers:
        hub = with_connection(parameters, "hub")  # raises if this account has joined as a person only
        if not present(hub.runtime_dir, "hub"):
            start_hub(hub, workers, started)
    return join(parameters, started)


def stop(parameters: Source = None) -> bool:
    """Ends a cluster's processes on this machine, also when its core is dead; False if there was nothing to end.

    A core on another computer is asked to end, which only an administrator may.
    """
    chosen = with_connection(settle(parameters))
    if chosen.connection:
        one_shot.stop_remote(chosen)
        return True
    if not is_ours(chosen.state_dir):  # no cluster's, or one that has been removed while its cluster ran
        unlisted = started_with([chosen.runtime_dir / SETTINGS])
        end(unlisted, STOP_GRACE_S)
        return bool(unlisted)
    with only_one_starter(chosen):
        core = find_core_file(chosen)
        folders = _runtime_folders(chosen, core)
        found = bool(_processes(folders))
        if core is not None and not core.stale:
            found = True
            _stop_core(core, chosen)
        # Only processes started for a role: a hub or a core may also run in a thread of a user's notebook.
        _end_all(chosen, folders)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)  # no process uses it any more
    return found


def _runtime_folders(parameters: Parameters, core: CoreFile | None) -> list[Path]:
    """The folders with files of this cluster's processes: more than one if they differ in NBLB_RUNTIME_DIR or nblb."""
    folders = [parameters.runtime_dir, *former_runtime_folders(parameters)]
    if core is not None:
        folders.append(core.runtime_dir)
    return [folder for folder in dict.fromkeys(folders) if folder.is_absolute()]


def _processes(folders: Sequence[Path]) -> list[int]:
    """The cluster's processes on this computer, also those whose lock files somebody has removed."""
    listed = [one.pid for folder in folders for one in present(folder)]
    return list(dict.fromkeys([*listed, *started_with([folder / SETTINGS for folder in folders])]))


def _end_all(parameters: Parameters, folders: Sequence[Path]) -> None:
    """Ends the cluster's processes on this computer, and warns of hubs elsewhere that could not be ended."""
    kept = [one.pid for folder in folders for role in elsewhere.ROLES for one in present(folder, role)]
    end([pid for pid in _processes(folders) if pid not in kept], STOP_GRACE_S)
    end(kept, elsewhere.STOP_GRACE_S)
    for sentence in elsewhere.not_ended(parameters, folders):
        warnings.warn(sentence, StopWarning, stacklevel=3)


def _refuse_elsewhere(core: CoreFile) -> None:
    """Raises if this core, which does not answer, is another computer's."""
    if core.is_on_another_computer:
        raise LoadBalancerUnreachable(
            f"the core {core.about.get('name')!r} (pid {core.pid}) runs on the computer "
            f"{core.about.get('host')}, which has the same state folder; run this there"
        )


def add_hub(parameters: Source = None, workers: int | None = None, arguments: tuple[str, ...] = ()) -> RoleProcess:
    """Starts one more hub on this machine, with these options; returns when it is registered with the core."""
    chosen = with_connection(settle(parameters))
    if chosen.connection:
        chosen = with_connection(chosen, "hub")
    else:
        one_shot.find(chosen)  # knows best why there is none
    started = Started(chosen)
    try:
        return start_hub(chosen, workers, started, arguments)
    except BaseException:
        started.give_up()
        raise


def _ensure_all(parameters: Parameters, workers: int | None, monitor: bool, started: Started) -> None:
    """Finds or starts core, Health Check, Monitor and hub."""
    ahead: list[RoleProcess] = []
    started.notes[:] = filter(None, [notes.address(parameters), *notes.differences(parameters)])
    address = ensure_core(parameters, started, lambda: ahead.extend(_while_core_starts(parameters, workers, started)))
    started.note(notes.security(parameters))
    started.note(notes.lost_entries(parameters))
    ensure_alone("health", parameters, started)
    if monitor:
        ensure_monitor(parameters, started)
    for hub in ahead:
        _wait_for_hub(hub, parameters, workers)
    if workers != 0 and not ahead:
        ensure_hub(parameters, address, workers, started)
    started.processes += elsewhere.ensure_all(parameters, started.note)
    _ensure_engines(parameters, started)
    if not _is_there(parameters):
        raise CoreGone(f"the core at {address} has just ended")


# ── the parts ───────────────────────────────────────────────────────────────────────────────────────────────


def settle(parameters: Source, name: str | None = None) -> Parameters:
    """Loads and checks the parameters; `name`, if given, replaces LB_NAME."""
    chosen = parameters_module.load(parameters)
    return chosen.changed(LB_NAME=name) if name else chosen


def join(parameters: Parameters, started: Started) -> Cluster:
    """Connects a new Cluster, which becomes the current one of this process."""
    if task_api.parent is not None:
        from nblb.client import nested

        if nested.is_own(parameters):
            return nested.cluster(task_api.parent)
    from nblb.client.cluster import Cluster  # imports pickling code, which query commands do not need

    return Cluster(parameters, started)


@contextlib.contextmanager
def only_one_starter(parameters: Parameters) -> Iterator[None]:
    """Locks out other starts and stops of this cluster on this machine."""
    await_end_of_stray_core(parameters, START_DEADLINE_S)  # before the next line makes a state folder
    path = runtime_folder(parameters) / "start.lock"
    until = time.monotonic() + 2 * START_DEADLINE_S
    while (file := lock_file(path)) is None:
        if time.monotonic() > until:
            raise NblbError(f"another start or stop of '{parameters.name}' has been going on for a minute ({path})")
        time.sleep(0.02)
    try:
        yield
    finally:
        os.close(file)


def _while_core_starts(parameters: Parameters, workers: int | None, started: Started) -> list[RoleProcess]:
    """Starts the hub while the core starts: it dials until there is a core, and its workers start meanwhile."""
    wanted = workers != 0 and not _plain_hubs(parameters)
    hubs = [_spawn_hub(parameters, workers, started)] if wanted else []
    import nblb.client.cluster  # noqa: F401  # slow, and needed next

    return hubs


def ensure_core(parameters: Parameters, started: Started, meanwhile: Callable[[], object] = lambda: None) -> str:
    """Returns the address of a running or newly started core; calls `meanwhile()` while a new one starts.

    A core that is about to end may still have its file, or the lock of its state folder: the new one waits for it.
    """
    until = time.monotonic() + OTHER_CORE_S
    while True:
        core = find_core_file(parameters)
        if core is not None and not core.stale:
            if address := _address_of(core, parameters):
                return address
            continue
        if core is not None:
            core.path.unlink(missing_ok=True)
        process = spawn("core", parameters)
        started.processes.append(process)
        meanwhile()
        meanwhile = _nothing
        try:
            address, pid = wait_for(process, "core", lambda: _core_answers(parameters))
        except StateFolderInUse:  # by a closing core, or one that starts without our lock (LoadBalancer().startLB())
            if time.monotonic() > until:
                raise
            started.processes.remove(process)
            time.sleep(0.05)
            continue
        if pid != process.pid:  # another core was faster: ours ends by itself
            started.processes.remove(process)
            wait_gone([process.pid], STOP_GRACE_S)
        return address


def _plain_hubs(parameters: Parameters) -> list[RunningRole]:
    """The running hubs here that are not those of a group with an engine."""
    return [one for one in present(parameters.runtime_dir, "hub") if one.about.get("group") is None]


def _nothing() -> None:
    pass


def _address_of(core: CoreFile, parameters: Parameters) -> str:
    """The address of a living core once it answers; "" if it has ended meanwhile."""
    try:
        address, _ = one_shot.find(parameters)
        one_shot.ask(address, "status")
    except LoadBalancerUnreachable as error:
        now = find_core_file(parameters)
        if now is None or now.stale or now.about != core.about:
            return ""
        _refuse_elsewhere(core)
        raise LoadBalancerUnreachable(
            f"core pid {core.pid} is alive but does not answer; end it with 'nblb stop' ({error})"
        ) from error
    return address


def _is_there(parameters: Parameters) -> bool:
    core = find_core_file(parameters)
    return core is not None and not core.stale


def _core_answers(parameters: Parameters) -> tuple[str, int] | None:
    core = find_core_file(parameters)
    if core is None or core.stale:
        return None
    address, _ = one_shot.find(parameters)
    one_shot.ask(address, "status")
    return address, core.pid


def ensure_alone(role: str, parameters: Parameters, started: Started) -> None:
    """Starts the Health Check or the Monitor unless it runs, without waiting for it."""
    if not present(parameters.runtime_dir, role):
        started.processes.append(spawn(role, parameters))


def ensure_monitor(parameters: Parameters, started: Started) -> None:
    """Starts the Monitor unless it runs or is refused; notes each difference from the parameters."""
    if present(parameters.runtime_dir, "monitor"):
        return
    refused = notes.monitor_refused(parameters)
    if refused:
        started.note(refused)
        write_log(parameters, "monitor", f"{notes.COMPLAINT}{refused}")
        return
    port, sentence = notes.monitor_port(parameters)
    started.note(sentence)
    started.processes.append(spawn("monitor", parameters, ("--port", str(port))))


def ensure_hub(parameters: Parameters, address: str, workers: int | None, started: Started) -> None:
    """Finds or starts a hub on this machine."""
    known = _hubs_here(address)
    until = time.monotonic() + OTHER_CORE_S
    while workers is not None and not known and present(parameters.runtime_dir, "hub") and time.monotonic() < until:
        time.sleep(0.04)  # it outlived its core, and will connect to this one
        known = _hubs_here(address)
    if known or present(parameters.runtime_dir, "hub"):
        if workers is not None:
            _rescale(address, known, workers, started)
        return
    start_hub(parameters, workers, started)


def _hubs_here(address: str) -> list[Mapping[str, Any]]:
    """The hubs of this computer that are registered with the core."""
    return [hub for hub in one_shot.ask(address, "hubs") if is_of_this_computer(hub["hub"]) and is_alive(hub["pid"])]


def _ensure_engines(parameters: Parameters, started: Started) -> None:
    """Starts a hub for each group with an engine that has none; one that cannot be started is a note."""
    there = {one.about.get("group") for one in present(parameters.runtime_dir, "hub")}
    for index, group in enumerate(parameters.WKHUB_WORKERS):
        if group.engine == PROCESSES or index in there:
            continue
        process = _spawn_hub(parameters, None, started, ("--group", str(index)))
        try:
            _wait_for_hub(process, parameters.of_group(index), None)
        except NblbError as problem:
            started.note(f"no hub for WKHUB_WORKERS[{index}], whose engine is {group.engine!r}: {problem}")


def _rescale(address: str, hubs: Sequence[Mapping[str, Any]], workers: int, started: Started) -> None:
    """Gives the running hub the requested number of workers; changes none of several hubs."""
    has = sum(hub["workers"] for hub in hubs)
    if len(hubs) != 1:
        if has != workers:
            started.note(
                f"{len(hubs)} hubs with {has} workers run here already, so none got the {workers} requested workers; "
                "cluster.scale(N, hub=NAME) gives one of them N"
            )
        return
    if has != workers:
        one_shot.scale_hub(address, hubs[0]["hub"], workers)
        started.note_change(f"the hub that runs here (pid {hubs[0]['pid']}) had {has} workers, and gets {workers}")


def start_hub(
    parameters: Parameters, workers: int | None, started: Started, arguments: tuple[str, ...] = ()
) -> RoleProcess:
    """Starts a hub here and waits until it is registered with the core and has its workers."""
    process = _spawn_hub(parameters, workers, started, arguments)
    _wait_for_hub(process, parameters, workers)
    return process


def _spawn_hub(
    parameters: Parameters, workers: int | None, started: Started, arguments: tuple[str, ...] = ()
) -> RoleProcess:
    number = len(present(parameters.runtime_dir, "hub"))
    if workers is not None:
        arguments = ("--workers", str(workers), *arguments)
    process = spawn("hub", parameters, arguments, log_name=f"hub-{number + 1}" if number else "hub")
    started.processes.append(process)
    return process


def _wait_for_hub(process: RoleProcess, parameters: Parameters, workers: int | None) -> None:
    if parameters.connection:  # its own log says so: this account may have no key with which to ask
        wait_for(process, "hub", lambda: CONNECTED in process.tail())
        return
    wanted = sum(group.workers for group in parameters.here().groups(workers))

    def known() -> bool | None:
        if not _is_there(parameters):
            raise CoreGone("the core has ended while its hub started")
        address, _ = one_shot.find(parameters)
        rows = [row for row in _hubs_here(address) if row["pid"] == process.pid]
        return bool(rows) and rows[0]["workers"] >= wanted

    wait_for(process, "hub", known)


def _stop_core(core: CoreFile, parameters: Parameters) -> None:
    """Stops a living core and its hubs, and waits for its end; a hanging core is left to be killed."""
    try:
        one_shot.stop_core(core, hubs=True)
    except (NblbError, KeyError):
        _refuse_elsewhere(core)
        return
    until = time.monotonic() + STOP_GRACE_S
    while _is_there(parameters) and time.monotonic() < until:
        time.sleep(0.005)
