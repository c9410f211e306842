"""A journal on a small full disk: no promise without space, nothing lost, and work resumes by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nblb as lb
from nblb import launch
from nblb.system import pids
from tests.waiting import all_accepted, wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, where this account may mount one; of 8 MiB if the test says nothing else."""
    size = getattr(request, "param", "8m")
    if os.getuid() != 0:
        pytest.skip(f"only root can mount a file system of {size}")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "nblb-test", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def settings(settings: dict[str, Any], small_disk: Path) -> dict[str, Any]:
    return settings | {"LB_STATE_DIR": str(small_disk / "state")}


@lb.task
def size_of(data: bytes) -> int:
    return len(data)


@lb.task
def wait_for(path: str, size: int) -> bytes:
    """Runs until there is a file of this name."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return bytes(size)


def test_a_full_disk_refuses_keeps_and_goes_on(
    cluster: Cluster, parameters: Parameters, small_disk: Path, tmp_path: Path
) -> None:
    running = wait_for.submit(str(tmp_path / "go"), 100_000)
    wait_until((tmp_path / "go.begun").exists, 20, "a task to run")
    wait_until(lambda: all_accepted(cluster), 20, "it to be accepted")
    with (small_disk / "filler").open("wb") as filler:
        left = os.statvfs(small_disk)
        filler.write(bytes(left.f_bavail * left.f_frsize - 1_500_000))
    futures = [size_of.submit(b"%06d" % n + bytes(1000)) for n in range(100)]  # for which there is room
    wait_until(lambda: all_accepted(cluster), 20, "the first to be accepted")
    futures += [size_of.submit(b"%06d" % n + bytes(1000)) for n in range(100, 3500)]
    wait_until(lambda: any(future.done() and future.exception() for future in futures), 30, "a refusal")
    with pytest.raises(lb.JournalFull):  # it is still full, and says so at once
        size_of.submit(bytes(100_000)).result(60)
    (tmp_path / "go").touch()  # what runs goes on, and its result waits for room at its hub
    time.sleep(0.2)
    pid = cluster.status().core.pid
    (small_disk / "filler").unlink()
    assert len(running.result(60)) == 100_000
    ends = [future.exception(30) for future in futures]
    assert {type(error) for error in ends} == {type(None), lb.JournalFull}
    assert {future.result() for future, error in zip(futures, ends, strict=True) if error is None} == {1006}
    assert "is full" in str(next(error for error in ends if error is not None))
    wait_until(lambda: size_of.submit(b"again").exception(10) is None, 20, "tasks to be accepted again")
    assert cluster.status().core.pid == pid  # without a restart

    kept = size_of.map([bytes(n) for n in range(50)], job="kept")
    wait_until(lambda: all_accepted(cluster), 20, "the job to be accepted")
    os.kill(pid, signal.SIGKILL)
    assert pids.wait_gone([pid], 5) == []
    launch.start(parameters, monitor=False).close()
    assert kept.results(60) == list(range(50))
    assert cluster.attach("kept").results(60) == list(range(50))


def fill(path: Path) -> None:
    """Take all room that there is."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as filler:
        for size in (65536, 4096):
            with contextlib.suppress(OSError):
                while filler.write(bytes(size)) == size:
                    pass


@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_the_reserve_keeps_what_runs(
    cluster: Cluster, parameters: Parameters, small_disk: Path, tmp_path: Path
) -> None:
    reserve = small_disk / "state" / "reserve"
    whole = reserve.stat().st_size
    assert 400_000 < reserve.stat().st_blocks * 512 == whole < 700_000  # a hundredth of what was free
    workers = len(cluster.workers())
    running = wait_for.map([str(tmp_path / f"go{n}") for n in range(workers)], [50_000] * workers, job="running")
    for n in range(workers):
        wait_until((tmp_path / f"go{n}.begun").exists, 20, f"task {n} to run")
    waiting = wait_for.map([str(tmp_path / "end")] * 4 * workers, [10] * 4 * workers, job="waiting", chunksize=1)
    wait_until(lambda: all_accepted(cluster), 20, "all to be accepted")
    fill(small_disk / "filler")
    with pytest.raises(lb.JournalFull):
        size_of.submit(bytes(100_000)).result(60)
    for n in range(workers):
        (tmp_path / f"go{n}").touch()
    assert [len(result) for result in running.results(60)] == [50_000] * workers
    assert reserve.stat().st_size < whole  # that is where they are
    wait_until(lambda: "disk is full" in waiting[-1].why(), 10, "tasks that wait to wait for room")
    pid = cluster.status().core.pid
    os.kill(pid, signal.SIGKILL)
    assert pids.wait_gone([pid], 5) == []

    fill(small_disk / "filler")  # somebody else takes what was given up and not used: there is more
    again = launch.start(parameters, monitor=False)
    wait_until(lambda: cluster.connected, 20, "the kernel to find the core that came back")
    pid = cluster.status().core.pid
    assert [len(result) for result in cluster.attach("running").results(60)] == [50_000] * workers
    with pytest.raises(lb.JournalFull):
        size_of.submit(bytes(100_000)).result(60)
    (small_disk / "filler").unlink()
    (tmp_path / "end").touch()
    assert waiting.results(60) == [bytes(10)] * 4 * workers
    wait_until(lambda: size_of.submit(b"again").exception(10) is None, 20, "tasks to be accepted again")
    wait_until(lambda: reserve.stat().st_size >= whole * 0.8, 20, "room to be set aside again")
    assert cluster.status().core.pid == pid
    again.close()
