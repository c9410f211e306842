"""Starts hubs as jobs of a batch system for the cluster whose core runs here, and cancels what a stop has left."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nblb.access import connection_file
from nblb.access.private_file import make_private_folder, write_private
from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.batch.launcher import BatchLauncher
from nblb.launch.batch.role import JOBS, BatchHubs, known_jobs
from nblb.launch.batch.slurm import Slurm
from nblb.launch.presence import SUFFIX, RoleLock, present
from nblb.launch.roles import RoleProcess, spawn
from nblb.launch.ssh.hosts import refuse_remote_core
from nblb.parameters import BatchOptions
from nblb.protocol.messages import OfferHubs
from nblb.system import isolated_python
from nblb.system.private_folder import runtime_folder
from nblb.system.state_mark import claim

if TYPE_CHECKING:
    from nblb.parameters import Parameters

ROLE = "batch"
LAUNCHER = "slurm"  # in a group of WKHUB_WORKERS
FOLDER = "batch"  # in the state folder: keys, settings and ids of jobs
KEY_SUFFIX = ".hub.json"
INVITED_S = 60.0


@dataclass(frozen=True)
class BatchRequest:
    """What hubs to have in the batch system: the options of sbatch, how many hubs, and how many of them may wait."""

    options: str
    hubs: int = 1
    backlog: int = BatchOptions().backlog
    workers: int | None = None  # of each; None for WKHUB_WORKERS
    group: int | None = None  # the group of WKHUB_WORKERS that asks for them
    only: tuple[str, ...] = ()  # the users whose tasks they run; none for all

    def words(self) -> list[str]:
        """Return the options of `nblb hub` that ask for the same."""
        words = [f"--slurm={self.options}", "--hubs", str(self.hubs), "--backlog", str(self.backlog)]
        words += ["--workers", str(self.workers)] if self.workers is not None else []
        words += ["--only", ",".join(self.only)] if self.only else []
        return words + (["--group", str(self.group)] if self.group is not None else [])

    @property
    def place(self) -> str:
        """The start of the names of its files: equal requests have equal ones."""
        text = json.dumps([self.options, self.workers, self.group, self.only])
        return f"{LAUNCHER}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


class BatchHubsProcess(RoleProcess):
    """The process here that keeps hubs in the batch system; `terminate` cancels their jobs, too."""

    def __init__(self, process: RoleProcess, request: BatchRequest, answer: str) -> None:
        super().__init__(process.role, process.pid, process.log, process.log_start)
        self.request = request
        self.answer = answer  # of the dry run

    def __repr__(self) -> str:
        number = f"{self.request.hubs} hub{'s' * (self.request.hubs != 1)}"
        return f"<nblb {number} in Slurm, {'running' if self.is_alive() else 'ended'}, log {self.log}>"


def check(parameters: Parameters, request: BatchRequest) -> str:
    """Check that such hubs can be submitted and can reach the core; return Slurm's answer to the dry run.

    Raises
    ------
    NblbError
        The core runs elsewhere, or listens for this computer only; or Slurm refuses such a job.
    """
    refuse_remote_core(parameters, "--slurm")
    if request.hubs < 1 or request.backlog < 1:
        raise NblbError(
            f"{request.hubs} hubs with a backlog of {request.backlog} make no sense; both must be 1 or more"
        )
    system = Slurm(request.options, parameters.state_dir)
    system.load()
    _, core = one_shot.find(parameters)  # knows best why there is none
    if core is None or not core.addresses.get("hubs_remote"):
        raise NblbError(
            f"the core of '{parameters.name}' listens for this computer only, and hubs in Slurm run on others: stop "
            "it, and start it with LB_IP set to an address that the nodes reach, or with 'nblb start --listen ADDRESS'"
        )
    return system.check()


def start(parameters: Parameters, request: BatchRequest, answer: str = "") -> BatchHubsProcess:
    """Start the process that keeps these hubs in the batch system; it does not wait until they run."""
    number = 1
    while (lock := _lock(parameters, request, number)) is None:
        number += 1
    return _spawned(parameters, request, lock, number, answer)


def ensure_all(parameters: Parameters, note: Callable[[str], object]) -> list[BatchHubsProcess]:
    """Start the processes for the groups of WKHUB_WORKERS whose launcher is "slurm" and that have none.

    `note` gets a sentence for each group that cannot be started.
    """
    started = []
    for index, group in enumerate(parameters.WKHUB_WORKERS):
        if group.launcher != LAUNCHER:
            continue
        request = request_of(parameters, index)
        lock = _lock(parameters, request, 1)
        if lock is not None:
            try:
                answer = check(parameters, request)
            except NblbError as problem:
                lock.leave()
                note(f"no hub in Slurm for WKHUB_WORKERS[{index}]: {problem}")
                continue
            started.append(_spawned(parameters, request, lock, 1, answer))
    return started


def request_of(parameters: Parameters, index: int) -> BatchRequest:
    """Return what a group of WKHUB_WORKERS with a launcher asks for."""
    given = parameters.batch_options(index)
    return BatchRequest(given.sbatch, given.hubs, given.backlog, group=index)


def keep(parameters: Parameters, request: BatchRequest, presence: RoleLock) -> BatchHubs:
    """Return the loop that keeps these hubs; first make the key and the settings with which they connect."""
    system = Slurm(request.options, parameters.state_dir / "logs")
    system.load()
    number = presence.path.name.removesuffix(SUFFIX).rpartition("-")[2] if presence.path.name.startswith(ROLE) else "1"
    name = f"{request.place}-{number}"
    folder = make_private_folder(claim(parameters.state_dir) / FOLDER)
    make_private_folder(parameters.state_dir / "logs")
    key = _key(parameters, folder / f"{name}{KEY_SUFFIX}", name)
    settings = folder / f"{name}.json"
    write_private(settings, json.dumps(_settings_there(parameters, request)).encode())
    words = ["hub", "--connect", str(key), "--parameters", str(settings), "--lives", "auto"]
    words += ["--workers", str(request.workers)] if request.workers is not None else []
    words += ["--only", ",".join(request.only)] if request.only else []
    command = f"exec {shlex.join(isolated_python.command('nblb', words))}"
    launcher = BatchLauncher(system.name, request.hubs, request.backlog, parameters.LB_ORPHAN_S)
    offer = OfferHubs(place=name, hubs=request.hubs, workers=_workers_of_each(parameters, request))
    return BatchHubs(parameters, system, launcher, command, folder / f"{name}{JOBS}", presence, offer)


def _workers_of_each(parameters: Parameters, request: BatchRequest) -> int:
    """Return the number of workers of such a hub; "auto" is taken as on this computer, since the node is not known."""
    there = parameters.of_group(request.group) if request.group is not None else parameters.here()
    return sum(group.workers for group in there.groups(request.workers))


def troubles(parameters: Parameters) -> list[str]:
    """Return a sentence for each set of hubs that waits in the batch system, or cannot be submitted."""
    there = present(parameters.runtime_dir, ROLE)
    return [str(one.about["trouble"]) for one in there if one.about.get("trouble")]


def cancel_left(parameters: Parameters) -> list[str]:
    """Cancel the jobs whose process here has been killed; return a sentence for each that could not be cancelled.

    The process itself cancels its jobs and removes their file, so a file that is left is that of a killed one.
    """
    folder, sentences = parameters.state_dir / FOLDER, []
    for file in sorted(folder.glob(f"*{JOBS}")):
        jobs = known_jobs(file)
        try:
            Slurm("", folder).cancel(jobs)
        except NblbError as problem:
            sentences.append(f"the jobs {', '.join(jobs)} may still be there: {problem}")
        else:
            file.unlink(missing_ok=True)
    return sentences


def _lock(parameters: Parameters, request: BatchRequest, number: int) -> RoleLock | None:
    """Return the lock of the n-th process with this request; None if a living one has it."""
    lock = RoleLock(runtime_folder(parameters), ROLE)
    lock.path = runtime_folder(parameters) / f"{ROLE}-{request.place}-{number}{SUFFIX}"
    return lock if lock.take(for_child=True) else None


def _spawned(
    parameters: Parameters, request: BatchRequest, lock: RoleLock, number: int, answer: str
) -> BatchHubsProcess:
    name = "hub-slurm" if number == 1 else f"hub-slurm-{request.place[-4:]}-{number}"
    process = spawn(ROLE, parameters, [*request.words(), "--checked"], log_name=name, lock=lock)
    return BatchHubsProcess(process, request, answer)


def _key(parameters: Parameters, path: Path, name: str) -> Path:
    """Return the connection file of these hubs, with a key that the core knows; it is made if there is none."""
    from nblb.transport.curve import enrol

    address, core = one_shot.find(parameters)
    valid = {row["key"] for row in one_shot.administer(address, "parties", {"of": "hubs"}) if row["state"] == "valid"}
    port = core.addresses.get("hubs_remote", "").rpartition(":")[2] if core is not None else ""
    try:
        known = connection_file.read(path)
        if known.public_key in valid and str(known.hubs) == port:
            return path
    except NblbError:
        pass  # there is none yet, or it is damaged
    said = one_shot.administer(address, "invite", {"name": name, "role": "hub", "lives_s": INVITED_S})
    return enrol.enrolled(enrol.invitation(said["line"])).save(path).path


def _settings_there(parameters: Parameters, request: BatchRequest) -> dict[str, object]:
    """Return the settings of such a hub: those of hubs, with the one group that asks for it, if it is one."""
    groups = parameters.WKHUB_WORKERS
    if request.group is not None:
        groups = (msgspec.structs.replace(groups[request.group], launcher="", options={}),)
    else:
        groups = tuple(group for group in groups if not group.launcher)
    settings = msgspec.structs.replace(parameters, WKHUB_WORKERS=groups, WKHUB_HOSTS=()).as_dict()
    return {key: value for key, value in settings.items() if key.startswith("WKHUB_") or key == "LB_ORPHAN_S"}
