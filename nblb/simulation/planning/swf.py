"""Reads traces in the Standard Workload Format of the Parallel Workloads Archive.

A job of p processors becomes p calls of its run time: here each call has a worker for itself, and calls of one job may
start at different times. Jobs that have no run time, processors or submit time are left out.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from pathlib import Path

from nblb.errors import NblbError
from nblb.simulation.planning.arrivals import Arrival, Trace

FIELDS = 18
SUBMIT, RUN, ALLOCATED, REQUESTED, USER = 1, 3, 4, 7, 11
_size = re.compile(r";\s*MaxProcs:\s*(\d+)", re.IGNORECASE)


def read(path: Path, most_jobs: int = 0) -> Trace:
    """Return the jobs of a trace, from the time of the first one on.

    Parameters
    ----------
    path
        The file; one whose name ends with .gz is decompressed.
    most_jobs
        Take no more than the first so many jobs; 0 takes all.

    Returns
    -------
    Trace
        The jobs, and the processors of the machine, if the header has MaxProcs.

    Raises
    ------
    NblbError
        It cannot be read, or is no such trace; the message names the line.

    Examples
    --------
    >>> read(Path("CTC-SP2-1996-3.1-cln.swf.gz"), most_jobs=10_000).workers
    338
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
                return parse(lines, str(path), most_jobs)
        with path.open(encoding="utf-8", errors="replace") as lines:
            return parse(lines, str(path), most_jobs)
    except OSError as error:
        raise NblbError(f"the trace {path} cannot be read: {error.strerror or error}") from None


def parse(lines: Iterable[str], name: str, most_jobs: int = 0) -> Trace:
    """Return the jobs of the lines of a trace; see `read`."""
    found: list[tuple[float, Arrival]] = []
    workers = left_out = 0
    for number, line in enumerate(lines, 1):
        if match := _size.match(line):
            workers = int(match[1])
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise NblbError(f"line {number} of the trace {name} is no job: its fields must be numbers") from None
        if len(values) != FIELDS:
            raise NblbError(f"line {number} of the trace {name} has {len(values)} fields; a job has {FIELDS}")
        processors = int(values[ALLOCATED] if values[ALLOCATED] > 0 else values[REQUESTED])
        if values[SUBMIT] < 0 or values[RUN] <= 0 or processors <= 0:
            left_out += 1
            continue
        user = f"user{int(values[USER])}" if values[USER] >= 0 else "unknown"
        run_s = values[RUN]
        found.append((values[SUBMIT], Arrival(values[SUBMIT], user, processors, run_s, (run_s,) * processors)))
        if most_jobs and len(found) >= most_jobs:
            break
    if not found:
        raise NblbError(f"the trace {name} has no job with a run time")
    found.sort(key=lambda job: job[0])
    begin = found[0][0]
    arrivals = (Arrival(at - begin, job.user, job.items, job.seconds, job.lengths) for at, job in found)
    return Trace(tuple(arrivals), workers, left_out)
