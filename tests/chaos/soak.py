"""A steady load for a long time, with a kill each period: `python -m tests.chaos.soak --minutes 30`.

Prints a row each period and, at the end, whether memory, descriptors, journal, WAL and files were level, and what
the referee of tests.chaos says of every task.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from nblb.parameters import Parameters, load
from tests.chaos.play import Played, through
from tests.chaos.rig import Rig
from tests.chaos.samples import HEADER, Sample, Sampler, not_level

TURNS = ("worker", "client", "hub", "worker", "client", "core")


@dataclass
class Soaked:
    """What came of it."""

    played: Played
    samples: list[Sample]
    problems: list[str]


def soak(
    parameters: Parameters, folder: Path, periods: int, period_s: float, seed: int = 1, ease: float = 1.0
) -> Soaked:
    """So many periods with a kill at the end of each."""
    parameters = parameters.changed(LB_MAX_CRASHES=1000)
    rig = Rig(parameters, folder, seed, "tests.chaos.soak_client", number=1)
    samples: list[Sample] = []

    def chaos(rig: Rig) -> None:
        sampler, begun = Sampler(rig), time.monotonic()
        print(HEADER, flush=True)
        for number, kind in zip(range(1, periods + 1), cycle(TURNS)):
            time.sleep(max(0.0, begun + number * period_s - time.monotonic()))
            samples.append(sampler.take(time.monotonic() - begun, kind))
            print(samples[-1].row(), flush=True)
            rig.kill(kind)

    played = through(rig, chaos, seed)
    return Soaked(played, samples, [*played.verdict.problems, *not_level(samples, ease), *not_needed(parameters)])


def not_needed(parameters: Parameters) -> list[str]:
    """Files of payloads that no row of the stopped core's journal names."""
    state = parameters.state_dir
    journal = sqlite3.connect(state / "journal.sqlite")
    try:
        rows = [
            names
            for query in ("SELECT files FROM tasks", "SELECT files FROM ends", "SELECT file FROM blobs")
            for (names,) in journal.execute(query)
            if names
        ]
    finally:
        journal.close()
    named = {name for row in rows for name in row.split()}
    found = {path.name for path in (state / "blobs").iterdir()}
    return [f"{len(found)} files of payloads are left, and {len(named)} are in use"] if found != named else []


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=30)
    options.add_argument("--period", type=float, default=60, help="seconds from kill to kill")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbs"))
    os.environ["NBLB_RUNTIME_DIR"] = str(folder / "run")
    settings = {"LB_NAME": "soak", "LB_STATE_DIR": str(folder / "state"), "WKHUB_WORKERS": [{"nWorkers": 2}]}
    periods = int(chosen.minutes * 60 / chosen.period)
    soaked = soak(load(settings), folder / "play", periods, chosen.period, chosen.seed)
    print(soaked.played.summary())
    for problem in soaked.problems[:50]:
        print(f"  {problem}")
    if soaked.problems:
        print(f"  everything is kept in {folder}")
        return 1
    print("memory, descriptors, journal, WAL and files were level, and every file left is in use")
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
