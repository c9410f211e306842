"""The process that keeps hubs in a batch system: it submits their jobs, watches them, and cancels them at its end.

It is started like the roles of the cluster (launch/roles.py), or as `nblb hub --slurm` in a terminal. The ids of its
jobs are in a file, so that the next process of the same place goes on with them, and a stop of the cluster cancels all.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from nblb.access.private_file import write_private
from nblb.errors import NblbError
from nblb.launch import one_shot
from nblb.launch.batch.launcher import (
    AskBatchSystem,
    AskCore,
    BatchCommand,
    BatchLauncher,
    BatchNote,
    CancelJobs,
    FinishBatch,
    Submit,
    Summary,
)
from nblb.launch.roles import tail
from nblb.launch.ssh.role import LEFT
from nblb.protocol.messages import OfferHubs

if TYPE_CHECKING:
    from nblb.launch.batch.slurm import Slurm
    from nblb.launch.presence import RoleLock
    from nblb.parameters import Parameters

JOBS = ".jobs"  # suffix of the file with the ids of jobs
LONGEST_END = 300  # characters of the end of a job's log


class BatchHubs:
    """The shell of a BatchLauncher: the loop that performs its commands.

    Parameters
    ----------
    parameters
        Those of the cluster, whose core runs on this computer.
    system
        The batch system.
    launcher
        The state machine.
    command
        The command line of a hub, for a shell.
    jobs_file
        The file with the ids of the jobs.
    presence
        The lock of this role, beside which the file LEFT is written.
    offer
        What the core is offered, so that it may adapt the number of hubs.
    """

    def __init__(
        self,
        parameters: Parameters,
        system: Slurm,
        launcher: BatchLauncher,
        command: str,
        jobs_file: Path,
        presence: RoleLock,
        offer: OfferHubs,
    ) -> None:
        self._offer = offer
        self._parameters, self._system, self._launcher = parameters, system, launcher
        self._command, self._jobs_file, self._presence = command, jobs_file, presence
        self._finish: FinishBatch | None = None
        self._wants_stop = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)

    def stop(self) -> None:
        """Cancel all jobs and end this loop; from a signal handler."""
        self._wants_stop = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"s")

    def run(self) -> FinishBatch:
        """Keep the hubs until `stop`, or until the core is gone; return how that went."""
        launcher = self._launcher
        self._perform(launcher.start(known_jobs(self._jobs_file), monotonic()))
        while self._finish is None:
            self._wait(launcher.next_deadline() - monotonic())
            if self._wants_stop and not launcher.stopping:
                self._perform(launcher.stop(monotonic()))
            self._perform(launcher.tick(monotonic()))
        with contextlib.suppress(OSError):
            left = self._presence.path.with_suffix(LEFT)
            if self._finish.left:
                left.write_text(self._finish.left)
            else:
                left.unlink(missing_ok=True)
                self._jobs_file.unlink(missing_ok=True)
        return self._finish

    def _wait(self, seconds: float) -> None:
        select.select([self._wake_read], [], [], max(0.0, seconds))
        with contextlib.suppress(OSError):
            os.read(self._wake_read, 64)

    def _perform(self, commands: list[BatchCommand]) -> None:
        for command in commands:
            match command:
                case Submit():
                    self._submit()
                case CancelJobs(jobs):
                    self._cancel(jobs)
                case AskBatchSystem(jobs):
                    self._ask(jobs)
                case AskCore():
                    self._ask_core()
                case BatchNote(text):
                    print(f"WKHUB - {text}", flush=True)
                case Summary(text):
                    self._presence.say(trouble=text)
                case FinishBatch():
                    self._finish = command

    def _submit(self) -> None:
        try:
            number = self._system.submit(self._command)
        except NblbError as problem:
            self._perform(self._launcher.refused(str(problem), monotonic()))
            return
        write_private(self._jobs_file, json.dumps([*self._launcher.jobs, number]).encode())
        self._perform(self._launcher.submitted(number, monotonic()))
        self._presence.say(jobs=list(self._launcher.jobs))

    def _cancel(self, jobs: tuple[str, ...]) -> None:
        try:
            self._system.cancel(jobs)
        except NblbError as problem:
            print(f"WKHUB - {problem}", flush=True)

    def _ask(self, jobs: tuple[str, ...]) -> None:
        try:
            reports = self._system.reports(jobs)
        except NblbError as problem:
            self._perform(self._launcher.not_reported(str(problem), monotonic()))
            return
        why = {job: end_of_log(self._system.log(job)) for job in jobs if job not in reports}
        self._perform(self._launcher.reported(reports, monotonic(), why))
        write_private(self._jobs_file, json.dumps(list(self._launcher.jobs)).encode())
        self._presence.say(jobs=list(self._launcher.jobs))

    def _ask_core(self) -> None:
        prefix = f"{self._system.name.lower()} "
        try:
            address, _ = one_shot.find(self._parameters)
            rows = one_shot.ask(address, "hubs")
            tasks_wait = one_shot.ask(address, "status")["queued"] > 0
            jobs = tuple(f"{prefix}{number}" for number in self._launcher.jobs)
            wanted = one_shot.order(address, msgspec.structs.replace(self._offer, jobs=jobs, request=1))
        except NblbError:
            return
        connected = {row["batch_job"].removeprefix(prefix) for row in rows if row["batch_job"].startswith(prefix)}
        self._perform(self._launcher.core_reported(connected, tasks_wait, monotonic(), wanted))


def known_jobs(jobs_file: Path) -> list[str]:
    """Return the ids of the jobs in a file; none if there is no such file."""
    try:
        found = json.loads(jobs_file.read_bytes())
    except (OSError, ValueError):
        return []
    return [job for job in found if isinstance(job, str)] if isinstance(found, list) else []


def end_of_log(log: Path) -> str:
    """Return the last line of a job's log."""
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return lines[-1].strip()[-LONGEST_END:] if lines else f"it wrote nothing to {log}"
