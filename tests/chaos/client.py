"""A client that may be killed at any moment: it submits jobs, and logs what was acknowledged and received.

Run as `python -m tests.chaos.client SETTINGS FOLDER NAME SEED`. Everything that the referee must know stands in
files, for what a killed process knew is gone: NAME.log has a line of JSON for each

    ["job", name, items]          about to be submitted
    ["acked", name, first, items] the core has acknowledged these
    ["seen", name, item, token]   this result was shown to the user
    ["wrong", name, item, error]  an item ended in another way
    ["forgets", name]             all its ends are noted, and it is about to be forgotten

and each run of an item appends its token to a file of the item, before and after its work.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import nblb as lb

STUCK_S = 90.0  # a future without an end for so long is stuck


def work(folder: str, item: int, seconds: float, size: int) -> tuple[int, str, bytes]:
    """A task with side effects that outlive whoever runs it."""
    token = os.urandom(8).hex()
    path = Path(folder) / str(item)
    with path.open("a") as file:
        file.write(f"{token} begins\n")
    time.sleep(seconds)
    with path.open("a") as file:
        file.write(f"{token} ends\n")
    return item, token, bytes(size)


class Client:
    """Submits one job after another until there is a file named `stop`."""

    sizes: tuple[int, ...] = (0, 0, 0, 40_000, 200_000, 600_000)  # of the results

    def __init__(self, settings: dict[str, Any], folder: Path, name: str, seed: int) -> None:
        self.cluster = lb.connect(settings)
        self.folder, self.name = folder, name
        self.chance = random.Random(seed)
        self.log = (folder / f"{name}.log").open("a", buffering=1)

    def note(self, *words: Any) -> None:
        self.log.write(json.dumps(words) + "\n")

    def run(self) -> None:
        number = 0
        while not (self.folder / "stop").exists():
            self.job(f"{self.name}-{number}")
            number += 1
        self.note("finished")

    def job(self, name: str) -> None:
        chance = self.chance
        items = chance.choice((1, 8, 40))
        once = chance.random() < 0.25
        folder = self.folder / "runs" / f"{name}{'-once' if once else ''}"
        folder.mkdir(parents=True)
        self.note("job", name, items)
        seconds = [chance.choice((0.0, 0.01, 0.1)) for _ in range(items)]
        size = chance.choice(self.sizes)
        task = lb.task(at_most_once=once)(work)
        job = task.map([str(folder)] * items, range(items), seconds, [size] * items, job=name)
        acked: set[str] = set()
        until = time.monotonic() + STUCK_S
        while not job.done():
            self.note_acked(job, acked)
            if time.monotonic() > until:
                self.note("stuck", name, job.counts())
                return
            job.wait(0.01)
        for item in range(items):
            note_end(self.note, job, item)

    def note_acked(self, job: lb.Job, acked: set[str]) -> None:
        """There is no public word for an acknowledgement of a map's part, so the session's books are read."""
        session = self.cluster.connection.session
        for record in list(job._ledger.records.values()):
            if record.task not in acked and record.task in session.records and record.task not in session.unaccepted:
                acked.add(record.task)
                self.note("acked", job.name, record.index, record.items)


def note_end(note: Any, job: lb.Job, item: int) -> None:
    """How an item ended, as the public API tells it."""
    try:
        number, token, _ = job[item].result(STUCK_S)
    except Exception as error:
        note("wrong", job.name, item, type(error).__name__, str(error)[:300])
    else:
        note("seen" if number == item else "mixed up", job.name, item, token)


if __name__ == "__main__":
    Client(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run()
