"""Reads the jobs of a cluster's own journal as a trace: who submitted what when, and how long each call took."""

from __future__ import annotations

from pathlib import Path

from nblb.broker.journal.blob_files import BlobFiles
from nblb.broker.journal.examine import Examination, Payloads
from nblb.broker.journal.rows import SPAN
from nblb.broker.journal.seal import contents
from nblb.errors import NblbError
from nblb.simulation.planning.arrivals import Arrival, Trace


def read(folder: Path) -> Trace:
    """Return the submissions in the journal of a state folder whose calls have ended.

    Parameters
    ----------
    folder
        The state folder of a cluster that does not run.

    Returns
    -------
    Trace
        The submissions, with the length of each call; those without an end are left out.

    Raises
    ------
    NblbError
        There is no journal, a core uses it, or none of its calls has ended.

    Examples
    --------
    >>> len(read(Path("~/.local/state/nblb/lab-5700").expanduser()).arrivals)
    """
    examination = Examination(folder)
    try:
        payloads = Payloads(BlobFiles(folder / "blobs", sync=False))
        ran: dict[int, list[float]] = {}
        for row in examination.rows("ends"):
            end = payloads.end(contents(row[-1]))
            if end is not None and end.duration_s > 0.0:
                one_s = end.duration_s / max(1, end.items)
                ran.setdefault(row[0] // SPAN, []).extend([one_s] * (end.items - len(end.holes)))
        found, left_out = [], 0
        for row in examination.rows("tasks"):
            task = payloads.task(contents(row[-1]))
            lengths = ran.get(row[0])
            if task is None or not lengths:
                left_out += 1
                continue
            user, mean = task.spec.user or "unknown", sum(lengths) / len(lengths)
            found.append(Arrival(task.at, user, len(lengths), mean, tuple(lengths)))
    finally:
        examination.close()
    if not found:
        raise NblbError(f"no call in the journal in {folder} has ended with a measured time")
    found.sort(key=lambda arrival: arrival.at)
    begin = found[0].at
    moved = (Arrival(one.at - begin, one.user, one.items, one.seconds, one.lengths) for one in found)
    return Trace(tuple(moved), 0, left_out)
