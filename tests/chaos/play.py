"""One play, from the first kill to the verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from nblb import launch
from nblb.parameters import Parameters
from tests.chaos.referee import Referee, Verdict, check_journal
from tests.chaos.rig import Rig
from tests.chaos.troubles import LEASE_S, TroubledRig
from tests.waiting import wait_until

HEAL_S = 120.0
MARK = "NBLB_CHAOS"  # inherited by every process that the play starts, so that those left behind are found


@dataclass
class Played:
    kills: int
    seed: int
    verdict: Verdict
    by_kind: dict[str, int]
    slowest_start_s: float
    seconds: float

    def summary(self) -> str:
        v = self.verdict
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.by_kind.items()))
        return (
            f"chaos seed {self.seed}: {self.kills} kills ({kinds}) in {self.seconds:.0f} s; {v.jobs} jobs, "
            f"{v.acked} tasks acknowledged, {v.seen} results seen, {v.ran_again} ran again, "
            f"{v.lost_by_design} at_most_once lost as told, slowest start {self.slowest_start_s:.1f} s; "
            f"{len(v.problems)} problems"
        )


def play(parameters: Parameters, folder: Path, kills: int, seed: int, troubles: bool = False) -> Played:
    """Kill `kills` times, heal, and look at everything; with `troubles` half of the strikes are no kills."""
    # Each kill of a worker counts against its task; chaos must not make a poisoned one of an innocent.
    parameters = parameters.changed(LB_MAX_CRASHES=1000)

    def strike(rig: Rig) -> None:
        while rig.kills.total() < kills:
            rig.strike()

    if troubles:
        parameters = parameters.changed(LB_HEARTBEAT_S=0.5, LB_SUSPECT_S=1.5, LB_LEASE_S=LEASE_S)
    rig = (TroubledRig if troubles else Rig)(parameters, folder, seed)
    return through(rig, strike, seed)


def through(rig: Rig, chaos: Callable[[Rig], None], seed: int) -> Played:
    """Start, let `chaos` rage, heal, and look at everything."""
    parameters, folder = rig.parameters, rig.folder
    os.environ[MARK] = str(folder)
    begun = time.monotonic()
    referee = Referee(folder)
    try:
        rig.start()
        rig.start_clients()
        chaos(rig)
        late = rig.end_clients(HEAL_S)
        if late:
            referee.problem(f"{late} clients did not come to an end")
        cluster = launch.connect(parameters)
        verdict = referee.judge(cluster)
        cluster.close()
    finally:
        rig.close()
    if (said := check_journal(parameters)) != "ok":
        verdict.problems.append(f"the journal is damaged: {said}")
    verdict.problems += left_behind(parameters, folder)
    os.environ.pop(MARK, None)
    return Played(rig.kills.total(), seed, verdict, dict(rig.kills), rig.slowest_start_s, time.monotonic() - begun)


def left_behind(parameters: Parameters, folder: Path) -> list[str]:
    """Processes that carry the play's mark, and files of a running cluster."""

    def processes() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == str(folder)
                if marked and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    try:
        wait_until(lambda: not processes(), 5, every_s=0.1)
    except AssertionError:
        pass
    left = [f"left behind: process {process.pid} {process.cmdline()}" for process in processes()]
    if parameters.runtime_dir.exists():
        left += [f"left behind: {path}" for path in parameters.runtime_dir.iterdir()]
    return left
