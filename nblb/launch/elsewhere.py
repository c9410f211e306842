"""Hubs on other computers, whichever way they get there: over ssh, or as jobs of a batch system."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.batch import hubs as batch
from nblb.launch.ssh import hosts, probe
from nblb.launch.ssh.command import check_host
from nblb.parameters import DASK, PROCESSES, BatchOptions
from nblb.system.pids import end
from nblb.user_text import user_names

if TYPE_CHECKING:
    from nblb.launch.roles import RoleProcess
    from nblb.parameters import Parameters

ROLES = (hosts.ROLE, batch.ROLE)  # of processes here that keep a hub elsewhere, and end it when they are ended
STOP_GRACE_S = hosts.STOP_GRACE_S


@dataclass(frozen=True)
class HubOptions:
    """The options of `cluster.add_hub`."""

    workers: int | None = None
    host: str = ""
    python: str = ""
    make_venv: bool = False
    slurm: str | None = None
    hubs: int = 1
    backlog: int = BatchOptions().backlog
    only: tuple[str, ...] = ()
    engine: str = ""
    engine_options: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> tuple[str, ...]:
        """Return the options of `nblb hub` for the users and the engine."""
        only = ("--only", ",".join(self.only)) if self.only else ()
        if not self.engine:
            return only
        return (*only, f"--engine={self.engine}", f"--engine-options={json.dumps(dict(self.engine_options))}")

    @property
    def is_elsewhere(self) -> bool:
        return bool(self.host) or self.slurm is not None


def checked(options: Mapping[str, Any]) -> HubOptions:
    """Return the options of `cluster.add_hub`; None stands for a default.

    Raises
    ------
    TypeError
        There is no such option, or two of them exclude each other.
    NblbError
        There is no such engine, or its options cannot be sent to its hub.
    """
    known = [field.name for field in dataclasses.fields(HubOptions)]
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise TypeError(f"add_hub() has no option {unknown!r}; it has {', '.join(known[:-1])} and {known[-1]}")
    given = {
        name: value for name, value in options.items() if value is not None and (name != "make_venv" or value is True)
    }
    if "only" in given:
        given["only"] = user_names(given["only"])
    if "engine" in given:
        given |= _engine(given["engine"], given.get("engine_options", {}))
    elif "engine_options" in given:
        raise TypeError("add_hub(): engine_options are for an engine, which engine= names")
    found = HubOptions(**given)
    if not found.host and (found.python or found.make_venv):
        raise TypeError("add_hub(): python and make_venv are for a hub on another computer, which host= names")
    if found.host and found.slurm is not None:
        raise TypeError("add_hub(): host and slurm exclude each other: Slurm chooses the computers itself")
    if found.slurm is None and ("hubs" in given or "backlog" in given):
        raise TypeError("add_hub(): hubs and backlog are for hubs in Slurm; slurm= has the options of sbatch")
    if found.engine and found.is_elsewhere:
        raise TypeError("add_hub(): an engine has computers of its own, so host and slurm exclude it")
    return found


def _engine(engine: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and options of an engine, which may be a Dask Cluster object or client."""
    address = getattr(engine, "scheduler_address", None) or getattr(getattr(engine, "scheduler", None), "address", None)
    if not isinstance(engine, str) and isinstance(address, str):
        engine, options = DASK, {"address": address, **options}
    if not isinstance(engine, str) or (engine not in (PROCESSES, DASK) and ":" not in engine):
        raise NblbError(
            f"there is no engine {engine!r}; there are 'processes', 'dask' (or a Dask Cluster object), and "
            "'module:callable' for what returns a concurrent.futures.Executor"
        )
    try:
        json.dumps(dict(options))
    except (TypeError, ValueError) as error:
        raise NblbError(f"the options of the engine {engine!r} must be JSON: {error}") from None
    return {"engine": "" if engine == PROCESSES else engine, "engine_options": options}


def add(parameters: Parameters, options: HubOptions) -> RoleProcess:
    """Start the process that keeps such a hub: the hub itself is there at the return, or, in Slurm, is submitted."""
    return _in_slurm(parameters, options) if options.slurm is not None else _on_host(parameters, options)


def _on_host(parameters: Parameters, options: HubOptions) -> RoleProcess:
    """Compares the other computer with this one, prints the difference, and starts a hub there."""
    host, workers = check_host(options.host), options.workers
    hosts.refuse_remote_core(parameters)
    parameters.groups(workers)  # raises for a wrong number before anything is started
    one_shot.find(parameters)  # knows best why there is no core
    computer = hosts.look(host, options.python, options.make_venv)
    print(probe.summary(computer), flush=True)
    process = hosts.start(parameters, host, workers, computer.python, computer, options.only)
    try:
        hosts.wait(process, parameters)
    except BaseException:
        end([process.pid], hosts.STOP_GRACE_S)
        raise
    return process


def _in_slurm(parameters: Parameters, options: HubOptions) -> RoleProcess:
    parameters.groups(options.workers)
    request = batch.BatchRequest(options.slurm or "", options.hubs, options.backlog, options.workers, only=options.only)
    answer = batch.check(parameters, request)
    if answer:
        print(answer, flush=True)
    return batch.start(parameters, request, answer)


def ensure_all(parameters: Parameters, note: Callable[[str], object]) -> list[RoleProcess]:
    """Start the processes for the computers of WKHUB_HOSTS and for the groups with a launcher that have none.

    `note` gets a sentence for each that cannot be started.
    """
    return [*hosts.ensure_all(parameters), *batch.ensure_all(parameters, note)]


def troubles(parameters: Parameters) -> list[str]:
    """Return a sentence for each hub on another computer that is not connected, waits, or lacks something."""
    return [*hosts.troubles(parameters), *batch.troubles(parameters)]


def not_ended(parameters: Parameters, folders: Sequence[Path]) -> list[str]:
    """Cancel what killed processes have left in the batch system; return a sentence for each hub that is left."""
    return [*hosts.not_ended(folders), *batch.cancel_left(parameters)]
