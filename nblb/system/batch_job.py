"""The batch job in which this process runs, if it runs in one: its name, and the time and the cores that it has."""

from __future__ import annotations

import os
import re
import subprocess

ASK_S = 15.0  # in which the batch system must answer
RESERVE_S = 10.0  # before the end of the job, for handing back what runs; less in a short job
SHARE = 0.2  # of the time left, which the reserve takes at most
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)$")


def name() -> str:
    """Return the system and the id of this process's batch job, such as "slurm 17"; "" outside of one."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return f"slurm {job}" if job.isdecimal() else ""


def lives_s() -> float:
    """Return the seconds after which a hub in this batch job hands back its work; 0 if the end is not known."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        return 0.0
    try:
        answer = subprocess.run(
            ["squeue", "--noheader", "--jobs", job, "--format", "%L"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0.0
    left_s = seconds(answer.stdout.strip())
    return left_s - min(RESERVE_S, SHARE * left_s)


def seconds(text: str) -> float:
    """Return a length of time as Slurm writes it ("9:58", "1-02:03:04") in seconds; 0 for one that has no end."""
    found = _TIME.match(text)
    if found is None:
        return 0.0
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
