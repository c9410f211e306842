"""The limits of a container or batch job: of its own group and those above, in both versions."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from nblb import cgroup, host
from nblb.hub.pool import cause_of_death


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    return tmp_path


def put(groups: Path, own: str, **files: str) -> None:
    (groups / "own").write_text(own)
    for name, text in files.items():
        path = groups / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": ""}, math.inf),
        ("0::/\n", {"cpu.max": "no number\n"}, math.inf),
        ("0::/\n", {"cpu.max": "100000 0\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "100000 100000"}, 1.0),
        ("0::/a/b\n", {"a/b/cpu.max": "", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/docker/abc\n", {"cpu.max": "200000 100000"}, 2.0),  # the computer's path, seen in the container
        ("0::/../x\n", {"cpu.max": "200000 100000"}, 2.0),
        ("4:cpu,cpuacct:/job\n", {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
                                  "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 2.5),
        ("4:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("4:cpu:/job\n", {"cpu/job/cpu.cfs_quota_us": "100000\n"}, math.inf),
        ("nonsense\n", {"cpu.max": "100000 100000"}, math.inf),
    ],
)  # fmt: skip
def test_cores(groups: Path, own: str, files: dict[str, str], cores: float) -> None:
    put(groups, own, **files)
    assert cgroup.cores() == cores
    mine = len(os.sched_getaffinity(0))
    assert host.cores() == (mine if cores == math.inf else min(mine, max(1, math.ceil(cores))))


def test_without_proc(groups: Path) -> None:
    assert cgroup.cores() == math.inf
    assert cgroup.memory_bytes() == math.inf
    assert host.cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1048576"}, 2.0**20),
        ("0::/a/b\n", {"a/b/memory.max": "", "a/memory.max": "max"}, math.inf),
        ("0::/docker/abc\n", {"memory.max": "2097152"}, 2.0**21),
        ("9:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712"}, math.inf),
        ("9:memory:/x\n", {"memory/memory.limit_in_bytes": "4194304"}, 2.0**22),
    ],
)
def test_memory(groups: Path, own: str, files: dict[str, str], limit: float) -> None:
    put(groups, own, **files)
    assert cgroup.memory_bytes() == limit
    assert cause_of_death.memory_limit_mb() <= limit / 2**20
