"""Samples of a cluster's resources, and a check that they do not grow."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from tests.chaos.rig import Rig

MIB = 2**20
WAL_MIB = 64.0  # nblb.broker.journal.journal.WAL_BYTES, beyond which a commit does not wait for an idle moment
LEAST_OF_A_LIFE = 4  # samples, below which nothing is said of it
WARM_UP = 0.2  # of the samples are not judged


@dataclass
class Sample:
    """One look at core, hub and disk."""

    at_s: float
    killed: str  # what is killed right after it
    core_mib: float
    core_fds: int
    hub_mib: float
    hub_fds: int
    journal_mib: float
    wal_mib: float
    blobs: int
    blobs_mib: float
    cpu: float  # cores in use since the last one, by whatever the cluster consists of now

    def row(self) -> str:
        return " ".join(f"{_shown(value):>{WIDTHS[name]}}" for name, value in dataclasses.asdict(self).items())


WIDTHS = {field.name: max(8, len(field.name)) for field in dataclasses.fields(Sample)}
HEADER = " ".join(f"{name:>{width}}" for name, width in WIDTHS.items())

# Which columns must be level: how much more the last third may show than the middle one, as a factor and beyond it.
LEVEL = {
    "core_mib": (1.1, 6.0),
    "core_fds": (1.1, 16.0),
    "hub_mib": (1.1, 6.0),
    "hub_fds": (1.1, 16.0),
    "journal_mib": (1.25, 4.0),
    "blobs": (1.5, 60.0),
    "blobs_mib": (1.5, 60.0),
}


def _shown(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


class Sampler:
    """Takes samples of a rig's cluster."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._spent: dict[int, float] = {}
        self._at_s = 0.0

    def take(self, at_s: float, killed: str) -> Sample:
        state = self.rig.parameters.state_dir
        blobs = [path.stat().st_size for path in _there(list((state / "blobs").iterdir()))]
        core, hub = (_of(self.rig.pids(role)) for role in ("core", "hub"))
        journal = state / "journal.sqlite"
        wal = state / "journal.sqlite-wal"
        return Sample(
            round(at_s, 1), killed, *core, *hub,
            journal_mib=journal.stat().st_size / MIB,
            wal_mib=wal.stat().st_size / MIB if wal.exists() else 0.0,
            blobs=len(blobs), blobs_mib=sum(blobs) / MIB, cpu=self._cores_in_use(at_s),
        )  # fmt: skip

    def _cores_in_use(self, at_s: float) -> float:
        spent: dict[int, float] = {}
        roots = [*self.rig.pids("core"), *self.rig.pids("hub"), *(client.pid for client in self.rig.clients)]
        for pid in roots:
            with contextlib.suppress(psutil.Error):
                for process in (root := psutil.Process(pid), *root.children(recursive=True)):
                    times = process.cpu_times()
                    spent[process.pid] = times.user + times.system
        used = sum(now - self._spent.get(pid, 0.0) for pid, now in spent.items())
        seconds, self._spent, self._at_s = at_s - self._at_s, spent, at_s
        return used / seconds if seconds > 0 else 0.0


def _there(paths: list[Any]) -> list[Any]:
    return [path for path in paths if path.exists()]


def _of(pids: list[int]) -> tuple[float, int]:
    """Memory and open files of the processes together."""
    mib, fds = 0.0, 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            mib += process.memory_info().rss / MIB
            fds += process.num_fds()
    return mib, fds


def lives(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples of each core between its start and its end, where there are enough to judge it by."""
    found: list[list[Sample]] = [[]]
    for sample in samples:
        found[-1].append(sample)
        if "core" in sample.killed or sample.killed == "all":
            found.append([])
    return [life for life in found if len(life) >= LEAST_OF_A_LIFE]


def not_level(samples: Sequence[Sample], ease: float = 1.0) -> list[str]:
    """What grew, in a sentence each; after the warm-up the last third is held against the one before it.

    A short soak has few samples, and needs so much ease.
    """
    warm = samples[int(len(samples) * WARM_UP) :]
    third = len(warm) // 3
    before, last = warm[third : 2 * third], warm[2 * third :]
    problems: list[str] = []
    for name, (factor, beyond) in LEVEL.items() if third else ():
        was, now = (max(getattr(sample, name) for sample in part) for part in (before, last))
        if now > factor * was + ease * beyond:
            problems.append(f"{name} grew: at most {was:.1f} in the middle third and {now:.1f} in the last")
    for life in lives(samples):
        half = len(life) // 2
        was, now = (max(sample.core_mib for sample in part) for part in (life[:half], life[half:]))
        factor, beyond = LEVEL["core_mib"]
        if now > factor * was + ease * beyond:
            problems.append(f"core_mib grew within a life: at most {was:.1f} in its first half and {now:.1f} later")
    wal = max(sample.wal_mib for sample in samples)
    if wal > 1.5 * WAL_MIB:
        problems.append(f"the WAL had {wal:.0f} MiB")
    return problems
