"""Starts hubs on other computers for the cluster whose core runs here, and collects what a stop could not end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nblb.errors import LoadBalancerUnreachable, NblbError
from nblb.launch import one_shot
from nblb.launch.notes import COMPLAINT
from nblb.launch.presence import SUFFIX, RoleLock, present
from nblb.launch.roles import RoleProcess, spawn, tail
from nblb.launch.ssh import probe
from nblb.launch.ssh.command import HostUnreachable, check_host
from nblb.launch.ssh.launcher import STOP_S
from nblb.launch.ssh.role import LEFT
from nblb.system.private_folder import runtime_folder

if TYPE_CHECKING:
    from nblb.launch.ssh.probe import Computer
    from nblb.parameters import Parameters

ROLE = "ssh"
READY_S = 60.0  # in which a hub on another computer must have its workers
STOP_GRACE_S = STOP_S + 3.0


class RemoteHubProcess(RoleProcess):
    """The process here that keeps a hub on another computer; `host` is that computer, `differences` how it differs.

    `terminate` ends the hub, too.
    """

    def __init__(self, process: RoleProcess, host: str, computer: Computer | None) -> None:
        super().__init__(process.role, process.pid, process.log, process.log_start)
        self.host = host
        self.differences = computer.differences if computer is not None else ()

    def __repr__(self) -> str:
        return f"<nblb hub on {self.host}, {'running' if self.is_alive() else 'ended'}, log {self.log}>"


def refuse_remote_core(parameters: Parameters, how: str = "--host") -> None:
    """Raise NblbError if the core runs on another computer: such hubs are started from the core's own."""
    if parameters.connection:
        by = "over ssh" if how == "--host" else "in Slurm"
        raise NblbError(
            f"the core of '{parameters.name}' runs on another computer, and a hub is started {by} only from the core's "
            f"own: run 'nblb hub {how} …' there, or join on the hub's computer and run 'nblb hub --cluster NAME'"
        )


def look(host: str, python: str = "", make_venv: bool = False) -> Computer:
    """Return what a hub on this computer would have; raises if it cannot be reached, or has no nblb."""
    return probe.look(check_host(host), python, make_venv)


def start(
    parameters: Parameters,
    host: str,
    workers: int | None,
    python: str,
    computer: Computer | None = None,
    only: Sequence[str] = (),
) -> RemoteHubProcess:
    """Start the process that keeps a hub there; it goes on trying if the computer cannot be reached.

    Parameters
    ----------
    parameters
        Those of the cluster.
    host
        The computer, as for ssh.
    workers
        The number of the hub's workers; None for WKHUB_WORKERS.
    python
        The command for its interpreter.
    computer
        What `look` has found; None if it was not asked.
    only
        The users whose tasks the hub runs; none for all.
    """
    number = 1
    while (lock := _place(parameters, host, number)) is None:
        number += 1  # the first place that no living process has: its hub may have outlived the process before
    return _spawned(parameters, host, workers, python, number, lock, computer, only)


def ensure_all(parameters: Parameters) -> list[RemoteHubProcess]:
    """Start the processes for the computers of WKHUB_HOSTS that have none; each compares versions by itself."""
    started, seen = [], list[str]()
    for entry in parameters.WKHUB_HOSTS:
        seen.append(entry.host)
        number = seen.count(entry.host)
        lock = _place(parameters, entry.host, number)
        if lock is not None:
            started.append(_spawned(parameters, entry.host, entry.workers, entry.python, number, lock))
    return started


def _place(parameters: Parameters, host: str, number: int) -> RoleLock | None:
    """Return the lock of the n-th hub on this computer; None if a living process has it."""
    lock = RoleLock(runtime_folder(parameters), ROLE)
    lock.path = runtime_folder(parameters) / f"{_place_name(host)}-{number}{SUFFIX}"
    return lock if lock.take(for_child=True) else None


def _place_name(host: str) -> str:
    """Return the start of the names of the lock files for hubs on this computer."""
    return f"{ROLE}-{hashlib.blake2b(check_host(host).encode(), digest_size=4).hexdigest()}"


def _spawned(
    parameters: Parameters,
    host: str,
    workers: int | None,
    python: str,
    number: int,
    lock: RoleLock,
    computer: Computer | None = None,
    only: Sequence[str] = (),
) -> RemoteHubProcess:
    words = ["--host", host, "--python", python, *(["--checked"] if computer is not None else [])]
    words += ["--workers", str(workers)] if workers is not None else []
    words += ["--only", ",".join(only)] if only else []
    name = f"hub-{_as_name(host)}" + (f"-{number}" if number > 1 else "")
    return RemoteHubProcess(spawn(ROLE, parameters, words, log_name=name, lock=lock), host, computer)


def wait(process: RemoteHubProcess, parameters: Parameters) -> None:
    """Wait until the hub is registered with the core and has its workers.

    Raises
    ------
    NblbError
        It has ended, or takes too long; the message has the end of its log.
    """
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if not process.is_alive():
            raise NblbError(f"the hub on {process.host} has ended; the log {process.log} ends with:\n{process.tail()}")
        if _is_ready(process, parameters):
            return
        time.sleep(0.05)
    raise NblbError(
        f"the hub on {process.host} was not ready within {READY_S:g} s; the log "
        f"{process.log} ends with:\n{process.tail()}"
    )


def _is_ready(process: RemoteHubProcess, parameters: Parameters) -> bool:
    mine = [one for one in present(parameters.runtime_dir, ROLE) if one.pid == process.pid]
    name = mine[0].about.get("hub") if mine else None
    if name is None:
        return False
    try:
        address, _ = one_shot.find(parameters)
        rows = [row for row in one_shot.ask(address, "hubs") if row["name"] == name]
    except LoadBalancerUnreachable:
        return False
    groups = rows[-1]["groups"] if rows else []
    return bool(rows) and sum(group["alive"] for group in groups) >= sum(group["workers"] for group in groups)


def troubles(parameters: Parameters) -> list[str]:
    """Return a sentence for each hub on another computer that is not connected, or differs, or has no process here."""
    there = present(parameters.runtime_dir, ROLE)
    sentences = [str(one.about["trouble"]) for one in there if one.about.get("trouble")]
    kept = {one.path.name.rpartition("-")[0] for one in there}
    for host in dict.fromkeys(entry.host for entry in parameters.WKHUB_HOSTS):
        if _place_name(host) not in kept:
            log = parameters.state_dir / "logs" / f"hub-{_as_name(host)}.log"
            sentences.append(f"no hub on {host}: {_last_reason(tail(log))}")
    return sentences


def _last_reason(log: str) -> str:
    """Return why a process has ended, from the end of its log."""
    lines = [line for line in log.splitlines() if line.startswith((COMPLAINT, "WKHUB - "))]
    return lines[-1].removeprefix(COMPLAINT).removeprefix("WKHUB - ") if lines else "it has not been started"


def patient_look(host: str, python: str, report: Callable[[str], None], pause: Callable[[], bool]) -> Computer | None:
    """Return what `look` finds, trying until the computer can be reached.

    Parameters
    ----------
    host, python
        As for `look`.
    report
        Gets the reason each time that it cannot be reached.
    pause
        Waits between two attempts, and returns True if there shall be no other.

    Returns
    -------
    Computer or None
        None if `pause` has ended the attempts.
    """
    while True:
        try:
            return look(host, python)
        except HostUnreachable as problem:
            report(str(problem))
            if pause():
                return None


def not_ended(folders: Iterable[Path]) -> list[str]:
    """Return a sentence for each hub on another computer that a stop could not end."""
    return [path.read_text() for folder in folders for path in sorted(folder.glob(f"*{LEFT}"))]


def _as_name(host: str) -> str:
    """Return the host as a part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "@.-_" else "_" for letter in host)[:60]
