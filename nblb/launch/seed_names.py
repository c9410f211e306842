"""startAll and startWorkerHub, with the interface that pyLoadBalancer documents."""

from __future__ import annotations

import atexit
import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nblb.errors import ParametersError
from nblb.launch import cluster_processes, notes, one_shot
from nblb.launch.presence import present
from nblb.launch.roles import Echo, RoleProcess, spawn, write_private
from nblb.system.core_file import find_core_file
from nblb.system.pids import is_alive
from nblb.system.private_folder import with_connection

if TYPE_CHECKING:
    from nblb.launch.cluster_processes import Source
    from nblb.parameters import Parameters

ROLES = ("core", "health", "monitor")
FIRST_CHECK_S = 5.0


def startAll(pfile: Source = None, returnStartFct: bool = False) -> list[Any]:
    """Start Load Balancer, Health Check and Monitor, or find them running, and show their console messages.

    Parameters
    ----------
    pfile
        A path to a parameters.json, a mapping of some of its keys, or None for the defaults.
    returnStartFct
        True returns the functions that start them again, too.

    Returns
    -------
    list
        [LB, HC, Monitor], each with pid, is_alive(), terminate(), join(timeout); with `returnStartFct`
        [[LB, HC, Monitor], [functions that start them again]]. They go on when this process ends: `nblb stop`.

    Examples
    --------
    >>> lb.startAll('parameters.json')
    """
    parameters = cluster_processes.settle(pfile)
    if with_connection(parameters).connection:
        raise ParametersError(
            f"{parameters.source}: LB_IP is {parameters.LB_IP!r}, another computer's, so nothing is started here; "
            "lb.connect() uses the cluster there"
        )
    started = cluster_processes.Started(parameters)
    try:
        with cluster_processes.only_one_starter(parameters):
            started.note(notes.address(parameters), *notes.differences(parameters))
            cluster_processes.ensure_core(parameters, started)
            started.note(notes.security(parameters))
            cluster_processes.ensure_alone("health", parameters, started)
            cluster_processes.ensure_monitor(parameters, started)
            processes = [_process(role, parameters, started) for role in ROLES]
    except BaseException:
        started.give_up()
        raise
    for sentence in started.notes:
        print(f"LB - WARNING : {sentence}")
    echoes = [Echo(process) for process in started.processes]
    atexit.register(_flush, echoes)
    _await_first_check(parameters, processes[1])
    _flush(echoes)
    return [processes, [_starter(role, parameters) for role in ROLES]] if returnStartFct else processes


def startWorkerHub(
    pfile: Source = None, tasks: Mapping[str, Callable[..., Any]] | None = None, returnStartFct: bool = False
) -> Any:
    """Start a hub that runs functions by name; returns when the Load Balancer knows it.

    Parameters
    ----------
    pfile
        A path to a parameters.json, a mapping of some of its keys, or None for the defaults.
    tasks
        {name: function}, called as function(task=<dict>, arguments={}).
    returnStartFct
        True returns the function that starts it again, too.

    Returns
    -------
    RoleProcess
        With pid, is_alive(), terminate(), join(timeout); with `returnStartFct` [process, function that starts it].

    Examples
    --------
    >>> lb.startWorkerHub('parameters.json', {'HELLO': hello})
    """
    parameters = cluster_processes.settle(pfile)

    def start() -> RoleProcess:
        one_shot.find(parameters)  # knows best why there is none
        started = cluster_processes.Started(parameters)
        functions = _hand_over_functions(parameters, dict(tasks or {}))
        try:
            process = cluster_processes.start_hub(parameters, None, started, ("--tasks", str(functions)))
        except BaseException:
            started.give_up()
            raise
        echo = Echo(process)
        atexit.register(_flush, [echo])
        return process

    process = start()
    return [process, start] if returnStartFct else process


def _hand_over_functions(parameters: Parameters, tasks: dict[str, Callable[..., Any]]) -> Path:
    """Writes the functions to a private file; those of __main__, lambdas and closures are pickled by value."""
    from nblb.payload import dump_function

    packed = {name: dump_function(function)[1].tobytes() for name, function in tasks.items()}
    return write_private(parameters.runtime_dir, f"tasks-{uuid.uuid4().hex[:8]}", msgspec.msgpack.encode(packed))


def _process(role: str, parameters: Parameters, started: cluster_processes.Started) -> RoleProcess:
    """Returns the handle of a role, also of one that another process started."""
    for process in started.processes:
        if process.role == role:
            return process
    log = parameters.state_dir / "logs" / f"{role}.log"
    if role == "core":
        core = find_core_file(parameters)
        return RoleProcess(role, core.pid if core else 0, log)
    there = present(parameters.runtime_dir, role)
    return RoleProcess(role, there[0].pid if there else 0, log)


def _starter(role: str, parameters: Parameters) -> Callable[[], RoleProcess]:
    def start_again() -> RoleProcess:
        if role == "core":
            started = cluster_processes.Started(parameters)
            with cluster_processes.only_one_starter(parameters):
                cluster_processes.ensure_core(parameters, started)
            return _process(role, parameters, started)
        return spawn(role, parameters)

    start_again.__name__ = f"start_{role}"
    return start_again


def _await_first_check(parameters: Parameters, health: RoleProcess) -> None:
    """Waits for the first round of the Health Check, whose warning the documentation announces."""
    until = time.monotonic() + FIRST_CHECK_S
    while time.monotonic() < until and is_alive(health.pid):
        if any(one.about.get("checked") for one in present(parameters.runtime_dir, "health")):
            return
        time.sleep(0.02)


def _flush(echoes: list[Echo]) -> None:
    for echo in echoes:
        with contextlib.suppress(Exception):  # the interpreter may be going down
            echo.flush()
