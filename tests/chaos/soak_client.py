"""A client with a steady load that cleans up: it attaches to each job that it has read, and drops it.

Run as `python -m tests.chaos.soak_client SETTINGS FOLDER NAME SEED`; it writes what tests.chaos.client writes. What
a killed client has left, the next one brings to its end. So a cluster that has had this load for hours holds no
more than after minutes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.chaos.client import STUCK_S, Client, note_end

KEPT = 3  # jobs of one's own before the oldest is forgotten
JOBS_PER_S = 2.0
GONE_S = 60.0


class SoakClient(Client):
    """One job after another at an even pace, each attached and forgotten later."""

    sizes = (0, 0, 1_000, 40_000, 200_000, 200_000, 2_000_000)

    def run(self) -> None:
        for job in self.cluster.jobs():
            self.forget(job.name)
        number = 0
        while not (self.folder / "stop").exists():
            begun = time.monotonic()
            self.job(f"{self.name}-{number}")
            if number >= KEPT:
                self.forget(f"{self.name}-{number - KEPT}")
            number += 1
            time.sleep(max(0.0, begun + 1 / JOBS_PER_S - time.monotonic()))
        self.leave_nothing()
        self.note("finished")

    def forget(self, name: str) -> None:
        """Read it again, as the next day's notebook would, then drop it."""
        job = self.cluster.attach(name)
        if not job.wait(STUCK_S):
            self.note("stuck", name, job.counts())
            return
        for item in range(len(job)):
            note_end(self.note, job, item)
        self.note("forgets", name)
        job.forget()

    def leave_nothing(self) -> None:
        """Forgetting is not acknowledged, so it may be lost with a core: until none is left."""
        until = time.monotonic() + GONE_S
        while jobs := self.cluster.jobs():
            if time.monotonic() > until:
                self.note("stuck", jobs[0].name, "is not forgotten")
                return
            for job in jobs:
                self.forget(job.name)
            time.sleep(0.1)


if __name__ == "__main__":
    SoakClient(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])).run()
