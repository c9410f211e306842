"""Slurm as the launcher of hubs needs it: a dry run, submit, the states of jobs, and cancel."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from nblb.errors import NblbError
from nblb.launch.batch.launcher import JobReport

ANSWER_S = 30.0  # in which each command of Slurm must answer
ENDED = frozenset({"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
                   "PREEMPTED", "REVOKED", "TIMEOUT"})  # fmt: skip
WAITS = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
JOB_NAME = "nblb-hub"
LOG = "hub-slurm-%j.log"
NOT_OURS = ["-n 1", "--cpus-per-task=", "--mem=", "-t "]  # directives that dask-jobqueue adds for a Dask worker
INSTALL = "pip install 'nblb[slurm]'"


class BatchSystemError(NblbError):
    """Raised when a batch system refuses a request or does not answer; the message has its own words."""


class Slurm:
    """The Slurm of this computer, reached by its commands."""

    name = "Slurm"

    def __init__(self, options: str, folder: Path) -> None:
        self.options = split_options(options)
        self._folder = folder  # of the scripts and logs of jobs

    def check(self) -> str:
        """Ask Slurm whether it would take such a job, without submitting one; return its answer.

        Raises
        ------
        BatchSystemError
            It would not: the account or the partition is wrong, for example.
        """
        words = ["sbatch", "--test-only", *self.options, "--job-name", JOB_NAME, "--wrap", "true"]
        answer = run(words, f"Slurm refuses such a job ({shlex.join(['sbatch', '--test-only', *self.options])})")
        return answer.stderr.strip().removeprefix("sbatch: ")

    @staticmethod
    def load() -> Any:
        """Return the module that writes and submits jobs.

        Raises
        ------
        BatchSystemError
            It is not installed.
        """
        try:
            return import_module("dask_jobqueue.slurm")
        except ImportError as error:
            raise BatchSystemError(f"hubs in Slurm need the package dask-jobqueue ({error}): {INSTALL}") from None

    def submit(self, command: str) -> str:
        """Submit a job whose last line is this command; return the job's id.

        Raises
        ------
        BatchSystemError
            Slurm refuses it.
        """
        base: Any = self.load().SLURMJob

        class HubJob(base):  # type: ignore[misc]
            """A job of dask-jobqueue that runs a hub in place of a Dask worker."""

            def job_script(self) -> str:
                """Return the script up to our command: the command of the Dask worker follows it."""
                script: str = super().job_script()
                return script[: script.index(command) + len(command)] + "\n"

        directives = [*self.options, f"--output={self._folder / LOG}"]
        job = HubJob(scheduler="tcp://127.0.0.1:0", name=JOB_NAME, job_name=JOB_NAME, cores=1, memory="1GB",
                     log_directory=None, job_script_prologue=[command], job_directives_skip=NOT_OURS,
                     job_extra_directives=joined_directives(directives))  # fmt: skip
        try:
            asyncio.run(asyncio.wait_for(job.start(), ANSWER_S))
        except (RuntimeError, OSError, asyncio.TimeoutError) as error:
            raise BatchSystemError(_refusal(str(error)) or f"sbatch does not answer within {ANSWER_S:g} s") from None
        return str(job.job_id)

    def reports(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """Return the states of those jobs that have not ended."""
        if not jobs:
            return {}
        words = ["squeue", "--noheader", "--states", "all", "--jobs", ",".join(jobs), "--format", "%i|%T|%r|%S"]
        try:
            answer = run(words, "squeue fails").stdout
        except BatchSystemError as error:
            if "Invalid job id" in str(error):  # the one job that was asked for is no longer known
                return {}
            raise
        return _reports(answer, datetime.now().astimezone())

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel these jobs; those that have ended are no error."""
        if jobs:
            run(["scancel", "--quiet", *jobs], "scancel fails")

    def log(self, job: str) -> Path:
        """Return the path of a job's log."""
        return self._folder / LOG.replace("%j", job)


def split_options(options: str) -> list[str]:
    """Return the options of sbatch as words; raise BatchSystemError if they are not balanced, or have a script."""
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise BatchSystemError(f"the sbatch options {options!r} cannot be split into words: {error}") from None
    if words and not words[0].startswith("-"):
        raise BatchSystemError(
            f"the sbatch options {options!r} must begin with '-', such as --partition=main --time=60"
        )
    return words


def joined_directives(words: Sequence[str]) -> list[str]:
    """Return the words of a command line as directives of a script: one for each option, with its value."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not found:
            found.append([word])
        else:
            found[-1].append(word)
    return [shlex.join(each) for each in found]


def _refusal(message: str) -> str:
    """Return what sbatch has written, from an error of dask-jobqueue."""
    _, _, stderr = message.partition("stderr:")
    return in_words(stderr or message)


def run(words: Sequence[str], failure: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm; raise BatchSystemError with `failure` and its words if it fails."""
    try:
        answer = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except FileNotFoundError:
        raise BatchSystemError(
            f"the command {words[0]!r} is not on this computer's PATH; hubs are submitted from a computer with Slurm's "
            "commands, such as a login node"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BatchSystemError(f"{failure}: {words[0]} does not answer ({error})") from None
    if answer.returncode:
        raise BatchSystemError(f"{failure}: {in_words(answer.stderr) or f'exit code {answer.returncode}'}")
    return answer


def in_words(stderr: str) -> str:
    """Return what a command of Slurm has written, as one sentence without its prefixes."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))


def _reports(answer: str, today: datetime) -> dict[str, JobReport]:
    found = {}
    for line in answer.splitlines():
        job, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        reason, _, start = rest.rpartition("|")
        if not job or state in ENDED:
            continue
        if state in WAITS:
            found[job] = JobReport(False, "" if reason == "None" else reason, clock_time(start, today))
        else:  # RUNNING, COMPLETING, SUSPENDED, …
            found[job] = JobReport(True)
    return found


def clock_time(start: str, today: datetime) -> str:
    """Return "2026-12-01T14:10:00" as "14:10", on another day as "Dec 1 14:10"; "" for a time that is not known."""
    try:
        at = datetime.fromisoformat(start)
    except ValueError:
        return ""
    return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%b} {at.day} {at:%H:%M}"
